"""The numbers that bound the store. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PostgresLimits:
    pending_writes_max: int
    """Writes that wait for a commit; one more is refused as unavailable."""
    pending_sends_per_user_max: int
    """One user's messages and changes of them among those, so that the others find room."""
    batch_writes_max: int
    """Writes in one commit."""
    pending_reads_max: int
    """Reads that run or wait; one more is refused as unavailable."""
    pending_reads_per_user_max: int
    """One user's among those, so that the others find room."""
    read_connections: int
    """Connections that read; so many reads of one user run at the same time at most."""
    logs_in_memory_max: int
    """Conversations whose members the store remembers."""
    unread_count_max: int
    """Events past a read cursor among which unread messages are counted."""
    page_bytes_max: int
    """Bytes of JSON in one page of events, one event at least; what is beyond comes with the next page."""
    erase_rows_max: int
    """Entries that one transaction erases, and jobs that it retries or drops, so that nobody else waits for long."""
    follow_page: int
    """Events of other processes that are read at a time."""
    follow_own_max: int
    """Events of this process, committed while others' before them cannot be read, that are remembered with where they
    came from."""
    due_jobs_looked_at: int
    """Due jobs of a sink among which those are sought that are first in their conversations; of more, the others are
    put aside."""
    connect_timeout_ms: int
    """How long a connection may take to be made."""
    statement_timeout_ms: int
    """How long one statement may take, with what it waits for."""
    idle_transaction_timeout_ms: int
    """How long the server lets a process that has stopped in the middle of a transaction hold its locks."""
    follow_interval_ms: int
    """After so long without a word from the server, it is asked what other processes have committed."""
    reconnect_interval_ms: int
    """From one try to reach a server that is away to the next."""
    erased_notice_s: int
    """How long other processes can still learn who was in a conversation that was erased."""
