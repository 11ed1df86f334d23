"""The storage's face on the event loop: changes and reads go to the conversations' writer, in order with its writes.

So an incoming message commits with the packet id under which it came, and what a session reads when it is resumed is as
of one moment: what was committed before is in it, and what is committed after is handed out after.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import apsw

from recado.adapters.broker.log_sessions import writer
from recado.adapters.store.sqlite import SqliteStore
from recado.broker.storage import Acknowledged, Change, EndSession, Forgotten, Released, Resumed, StorageFailed, Stored

_log = logging.getLogger(__name__)
T = TypeVar("T")
_MAKES_ROOM = (Acknowledged, Released, Forgotten, EndSession)


class LogSessions:
    """A `recado.broker.storage.Storage` in the database of a store. `pending_changes_max` changes and reads may wait
    for a commit; what makes room has as much again. `own_positions_max` bounds what a session is told of its own."""

    def __init__(self, store: SqliteStore, pending_changes_max: int, own_positions_max: int) -> None:
        self._store = store
        self._pending_max = pending_changes_max
        self._own_positions_max = own_positions_max
        self._pending = 0
        self._overflowing = False

    async def load(self) -> Stored:
        return await self._read(writer.load)

    def write(self, changes: Sequence[Change], done: Callable[[bool], None] | None = None) -> None:
        share = 2 if all(isinstance(change, _MAKES_ROOM) for change in changes) else 1
        if self._pending >= share * self._pending_max:
            self._refuse(done)
            return
        self._pending += len(changes)
        self._store.run(lambda db: writer.apply(db, changes), partial(self._written, len(changes), done), len(changes))

    def _refuse(self, done: Callable[[bool], None] | None) -> None:
        if not self._overflowing:
            self._overflowing = True
            _log.error("the storage is too busy to keep all that sessions acknowledge: some may get messages again")
        if done is not None:
            asyncio.get_running_loop().call_soon(done, False)

    def _written(self, changes: int, done: Callable[[bool], None] | None, _: object, error: Exception | None) -> None:
        self._pending -= changes
        self._overflowing = self._overflowing and self._pending >= self._pending_max
        if done is not None:
            done(error is None)

    async def resume(self, key: int) -> Resumed:
        return await self._read(lambda db: writer.resume(db, key, self._own_positions_max))

    async def _read(self, run: Callable[[apsw.Connection], T]) -> T:
        if self._pending >= self._pending_max:
            raise StorageFailed("the storage is too busy")
        self._pending += 1
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._store.run(run, partial(self._found, future))
        return await future

    def _found(self, future: "asyncio.Future[T]", result: T | None, error: Exception | None) -> None:
        self._pending -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # None only if T is
        else:
            future.set_exception(StorageFailed(f"the storage could not do it: {error}"))

    async def close(self) -> None:
        """The database is the store's: it closes it."""
