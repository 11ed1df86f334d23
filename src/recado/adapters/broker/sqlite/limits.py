"""The numbers that bound the storage. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqliteStorageLimits:
    pending_transactions_max: int
    """Transactions and reads that wait for a commit, a message counted once for each session that it is for; one more
    fails. What makes room (acknowledgements, ends) has as much again."""
    pending_payload_bytes_max: int
    """Bytes of payloads, topics and properties in them, beyond which one more fails."""
    batch_transactions_max: int
    """Transactions and reads in one commit, counted likewise; the one that goes beyond it is its last."""
