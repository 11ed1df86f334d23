"""The numbers that bound the store. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqliteLimits:
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
    reader_threads: int
    """Threads that read; so many reads of one user run at the same time at most."""
    write_cache_bytes_max: int
    """Bytes of database pages that the writer keeps in memory; a message changes about four pages."""
    logs_in_memory_max: int
    """Conversations whose end and members the writer remembers."""
    unread_count_max: int
    """Events past a read cursor among which unread messages are counted."""
    page_bytes_max: int
    """Bytes of JSON in one page of events, one event at least; what is beyond comes with the next page."""
    erase_rows_max: int
    """Entries that one transaction erases, and jobs that it retries or drops, so that nobody else waits for long."""
    wal_truncate_interval_ms: int
    """At least so long from one emptying of the write-ahead log to the next."""
