"""The storage's face on the event loop.

Transactions and reads go to one thread, which commits whatever has come while its last commit ran: one fsync for all of
them. When a commit is done, one call on the loop tells how each one ended, in the order in which they came.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from recado.adapters.broker.sqlite.limits import SqliteStorageLimits
from recado.adapters.broker.sqlite.writer import Writer
from recado.adapters.store.sqlite import files
from recado.adapters.store.sqlite.group_commit import GroupCommit, Outcome
from recado.broker.storage import (
    Acknowledged,
    Change,
    Claimed,
    EndSession,
    Enqueue,
    Expired,
    Forgotten,
    Released,
    Resumed,
    Retain,
    StorageFailed,
    Stored,
)

_log = logging.getLogger(__name__)
T = TypeVar("T")
_Done = Callable[[bool], None]
_Ticket = tuple["_Done | asyncio.Future[Any] | None", int, int]  # whom to tell, the rows, and the bytes
_MAKES_ROOM = (Acknowledged, Released, Forgotten, EndSession)


class SqliteStorage:
    """One SQLite file as a `recado.broker.storage.Storage`. Make it with `open`, inside the running event loop."""

    def __init__(self, path: Path | None, limits: SqliteStorageLimits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._lock = None if path is None else files.lock(path)
        try:
            self._db = files.open_writer(path, files.SESSIONS)
            writer = Writer(self._db)
        except BaseException:
            self._free()
            raise
        self._pending = 0
        self._pending_bytes = 0
        self._overflowing = False
        self._closed = False
        self._trying = False
        self.is_failing = False
        """Whether the last transaction could not be kept."""
        self._commits: GroupCommit[Writer, _Ticket] = GroupCommit(
            writer,
            limits.batch_transactions_max,
            self._settle,
            (StorageFailed,),
            name="memory" if path is None else str(path),
        )

    @classmethod
    def open(cls, path: Path | None, limits: SqliteStorageLimits) -> "SqliteStorage":
        """None is a database in memory. Raises files.DatabaseUnusable, or DatabaseInUse if another process has it."""
        return cls(path, limits)

    def write(self, changes: Sequence[Change], done: _Done | None = None) -> None:
        """One transaction. An acknowledgement is let in while others are refused: it makes room. A message that is for
        more sessions than may wait is let in when there is any room, or it could never be."""
        if not self._has_room(2 if all(isinstance(change, _MAKES_ROOM) for change in changes) else 1):
            self._refuse(done)
            return
        rows, size = _weight(changes)
        self._pending += rows
        self._pending_bytes += size
        self._commits.put(lambda writer: writer.apply(changes), (done, rows, size), rows)

    def _has_room(self, share: int) -> bool:
        return (
            not self._closed
            and self._pending < share * self._limits.pending_transactions_max
            and self._pending_bytes < share * self._limits.pending_payload_bytes_max
        )

    def _refuse(self, done: _Done | None) -> None:
        if done is not None:
            self._loop.call_soon(done, False)
        elif not (self._overflowing or self._closed):
            self._overflowing = True
            _log.error("the storage is too busy to keep acknowledgements: a restart may deliver some messages again")

    def try_again(self) -> None:
        """Write something that changes nothing, so that `is_failing` says how it is now, also if nobody writes."""
        if not self._trying and self._has_room(1):
            self._trying = True
            self._pending += 1
            self._commits.put(lambda writer: writer.touch(), (self._tried, 1, 0))

    def _tried(self, _: bool) -> None:
        self._trying = False

    async def load(self) -> Stored:
        now_ms = time.time_ns() // 1_000_000
        return await self._read(lambda writer: writer.load(now_ms))

    async def resume(self, key: int) -> Resumed:
        return await self._read(lambda writer: writer.resume(key))

    async def claim(self, key: int, packet_ids: Sequence[int], now_ms: int) -> Claimed:
        return await self._read(lambda writer: writer.claim(key, packet_ids, now_ms))

    async def forget_expired(self, key: int, now_ms: int) -> Expired:
        return await self._read(lambda writer: writer.forget_expired(key, now_ms))

    async def _read(self, run: Callable[[Writer], T]) -> T:
        if not self._has_room(1):
            raise StorageFailed("the storage is closed" if self._closed else "the storage is too busy")
        self._pending += 1
        future: asyncio.Future[T] = self._loop.create_future()
        self._commits.put(lambda writer: run(self._unless_closed(writer)), (future, 1, 0))
        return await future

    def _unless_closed(self, writer: Writer) -> Writer:
        """A stop does not wait for reads: nobody needs what they find. Raises StorageFailed."""
        if self._closed:
            raise StorageFailed("the storage is closed")
        return writer

    def _settle(self, committed: None, outcomes: list[Outcome[_Ticket]]) -> None:
        self._pending -= sum(rows for (_, rows, _), _, _ in outcomes)
        if self._pending < self._limits.pending_transactions_max:
            self._overflowing = False
        self.is_failing = any(error is not None for _, _, error in outcomes)
        for (told, _, size), result, error in outcomes:
            self._pending_bytes -= size
            if told is None:
                continue
            if isinstance(told, asyncio.Future):
                _settle_read(told, result, error)
                continue
            try:
                told(error is None)
            except Exception:  # the others must be told whatever one of them does with it
                _log.exception("the end of a transaction could not be told")

    async def close(self) -> None:
        """Commit what was written, then close the file. Reads that wait fail. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._commits.close()
        await asyncio.to_thread(self._db.close)
        self._free()

    def _free(self) -> None:
        if self._lock is not None:
            self._lock.close()


def _weight(changes: Sequence[Change]) -> tuple[int, int]:
    """The rows to write, at least 1, and the bytes of messages."""
    rows = size = 0
    for change in changes:
        if isinstance(change, Enqueue):
            rows += len(change.entries)
            size += change.publication.size
        else:
            rows += 1
            if isinstance(change, Retain):
                size += change.publication.size
    return max(rows, 1), size


def _settle_read(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(StorageFailed(f"the storage could not do it: {error}"))
