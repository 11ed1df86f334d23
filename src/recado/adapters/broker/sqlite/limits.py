"""The numbers that bound the storage. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqliteStorageLimits:
    pending_transactions_max: int
    """Transactions and reads that wait for a commit; one more fails. Acknowledgements have room for as many again."""
    pending_payload_bytes_max: int
    """Bytes of payloads in them, beyond which one more fails."""
    batch_transactions_max: int
    """Transactions and reads in one commit."""
