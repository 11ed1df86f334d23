"""What was erased, also gone from the write-ahead log: it is emptied soon after something was erased.

It is done in a thread, on a connection of its own. Who is in the way is not waited for: it is tried again a moment
later.
"""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import apsw

_BUSY_TIMEOUT_MS = 20  # writers wait as long
_log = logging.getLogger(__name__)


class Truncation:
    def __init__(self, path: Path, interval_s: float) -> None:
        self._path = path
        self._interval_s = interval_s
        self._db: apsw.Connection | None = None
        self._is_due = False
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def soon(self) -> None:
        """Empty the log now, or an interval after the last time."""
        self._is_due = True
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while self._is_due and not self._closing.is_set():
                self._is_due = False
                self._is_due = not await self._try() or self._is_due
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._interval_s)
        finally:
            self._task = None

    async def _try(self) -> bool:
        try:
            return await asyncio.to_thread(self.truncate)
        except Exception:  # the next one may go well: what was erased must not stay for ever
            _log.exception("%s: the write-ahead log could not be emptied", self._path)
            return False

    def truncate(self) -> bool:
        """False if something was in the way."""
        try:
            db = self._connection()
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)  # most of it, while others write
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.LockedError):
            return False
        except apsw.Error as error:
            _log.error("%s: the write-ahead log could not be emptied: %s", self._path, error)
            return False
        return True

    def _connection(self) -> apsw.Connection:
        if self._db is None:
            self._db = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
            self._db.set_busy_timeout(_BUSY_TIMEOUT_MS)
            self._db.pragma("schema_version")  # a connection that has read nothing knows of no log
        return self._db

    async def close(self) -> None:
        """Let go of the database. Who closes it last empties the log."""
        if self._task is not None:
            self._closing.set()
            await self._task
        if self._db is not None:
            await asyncio.to_thread(self._db.close)
