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
from recado.broker.storage import Change, Claimed, Enqueue, Resumed, Retain, StorageFailed, Stored

_log = logging.getLogger(__name__)
T = TypeVar("T")
_Done = Callable[[bool], None]
_Ticket = tuple["_Done | asyncio.Future[Any] | None", int]  # whom to tell, and the bytes of payloads


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
        self._commits: GroupCommit[Writer, _Ticket] = GroupCommit(writer, limits.batch_transactions_max, self._settle)

    @classmethod
    def open(cls, path: Path | None, limits: SqliteStorageLimits) -> "SqliteStorage":
        """None is a database in memory. Raises files.DatabaseUnusable, or DatabaseInUse if another process has it."""
        return cls(path, limits)

    def write(self, changes: Sequence[Change], done: _Done | None = None) -> None:
        """One transaction. What has nobody to tell, an acknowledgement, is let in while others are refused: it makes
        room."""
        if not self._has_room(1 if done is not None else 2):
            self._refuse(done)
            return
        size = _payload_bytes(changes)
        self._pending += 1
        self._pending_bytes += size
        self._commits.put(lambda writer: writer.apply(changes), (done, size))

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

    async def load(self) -> Stored:
        now_ms = time.time_ns() // 1_000_000
        return await self._read(lambda writer: writer.load(now_ms))

    async def resume(self, key: int) -> Resumed:
        return await self._read(lambda writer: writer.resume(key))

    async def claim(self, key: int, packet_ids: Sequence[int], now_ms: int) -> Claimed:
        return await self._read(lambda writer: writer.claim(key, packet_ids, now_ms))

    async def _read(self, run: Callable[[Writer], T]) -> T:
        if not self._has_room(1):
            raise StorageFailed("the storage is closed" if self._closed else "the storage is too busy")
        self._pending += 1
        future: asyncio.Future[T] = self._loop.create_future()
        self._commits.put(run, (future, 0))
        return await future

    def _settle(self, _: None, outcomes: list[Outcome[_Ticket]]) -> None:
        self._pending -= len(outcomes)
        if self._pending < self._limits.pending_transactions_max:
            self._overflowing = False
        for (told, size), result, error in outcomes:
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
        """Commit what was written, then close the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._commits.close()
        await asyncio.to_thread(self._db.close)
        self._free()

    def _free(self) -> None:
        if self._lock is not None:
            self._lock.close()


def _payload_bytes(changes: Sequence[Change]) -> int:
    return sum(len(change.publication.payload) for change in changes if isinstance(change, Enqueue | Retain))


def _settle_read(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(StorageFailed(f"the storage could not do it: {error}"))
