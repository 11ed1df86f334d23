"""The store's face on the event loop.

Writes go to one thread, which commits whatever has arrived while its last commit ran: one fsync for all of them. When
a commit is done, one call on the loop hands out the events and settles the writes, so nothing is acknowledged or
delivered before it is on disk. Reads run on a few threads and see every write that was acknowledged.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from recado.adapters.store.sqlite import files
from recado.adapters.store.sqlite.group_commit import GroupCommit, Outcome
from recado.adapters.store.sqlite.limits import SqliteLimits
from recado.adapters.store.sqlite.reader import Reader
from recado.adapters.store.sqlite.writer import Writer
from recado.chat.conversation import ConversationView
from recado.chat.errors import ChatError, Unavailable
from recado.chat.event import Committed
from recado.ports import ConversationPage, EventPage, Membership, NewConversation, NewMessage, ReadMark, Sent

_log = logging.getLogger(__name__)
T = TypeVar("T")
_Ticket = asyncio.Future[Any]


class SqliteStore:
    """One SQLite file as a `recado.ports.Store`. Make it with `open`, inside the running event loop."""

    def __init__(self, path: Path, limits: SqliteLimits) -> None:
        self.on_committed: Callable[[Sequence[Committed]], None] = lambda committed: None
        self._path = path
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._lock = files.lock(path)
        try:
            self._db = files.open_writer(path, files.CONVERSATIONS)
        except BaseException:
            self._lock.close()
            raise
        self._pending_writes = 0
        self._pending_sends: dict[str, int] = {}
        self._pending_reads = 0
        self._closed = False
        self._readers = threading.local()
        self._reader_connections: list[apsw.Connection] = []
        self._reads = ThreadPoolExecutor(limits.reader_threads, "recado-read")
        self._writes: GroupCommit[Writer, _Ticket] = GroupCommit(
            Writer(self._db, limits.logs_in_memory_max),
            limits.batch_writes_max,
            self._settle,
            (ChatError,),
            name=str(path),
        )

    @classmethod
    def open(cls, path: Path, limits: SqliteLimits) -> "SqliteStore":
        """Raises files.DatabaseUnusable, or DatabaseInUse if another process holds the file."""
        return cls(path, limits)

    # Writes

    def append_message(self, message: NewMessage) -> Awaitable[Sent]:
        sender = message.sender
        pending = self._pending_sends.get(sender, 0)
        if pending >= self._limits.pending_sends_per_user_max:
            raise Unavailable("too many of your messages wait for the store; try again")
        future = self._write(lambda writer: writer.append_message(message))
        self._pending_sends[sender] = pending + 1
        future.add_done_callback(lambda _: self._sent(sender))
        return future

    def _sent(self, sender: str) -> None:
        self._pending_sends[sender] -= 1
        if not self._pending_sends[sender]:
            del self._pending_sends[sender]

    async def put_conversation(self, new: NewConversation) -> tuple[ConversationView, bool]:
        created: bool = await self._write(lambda writer: writer.put_conversation(new))
        return await self.conversation(new.id, None), created

    async def put_member(self, conversation: str, user: str, by: str | None, at: int, members_max: int) -> bool:
        return await self._write(lambda writer: writer.put_member(conversation, user, by, at, members_max))

    async def remove_member(self, conversation: str, user: str, by: str | None, at: int) -> bool:
        return await self._write(lambda writer: writer.remove_member(conversation, user, by, at))

    async def mark_read(self, conversation: str, user: str, seq: int) -> ReadMark:
        return await self._write(lambda writer: writer.mark_read(conversation, user, seq))

    def _write(self, run: Callable[[Writer], T]) -> "asyncio.Future[T]":
        if self._closed:
            raise Unavailable("the server is stopping; try again")
        if self._pending_writes >= self._limits.pending_writes_max:
            raise Unavailable("the store is too busy; try again")
        self._pending_writes += 1
        future: asyncio.Future[T] = self._loop.create_future()
        self._writes.put(run, future)
        return future

    def _settle(self, committed: list[Committed] | None, outcomes: list[Outcome[_Ticket]]) -> None:
        self._pending_writes -= len(outcomes)
        try:
            if committed:
                self.on_committed(committed)
        except Exception:  # it is on disk, whatever became of telling others: the senders must know
            _log.exception("committed events could not be handed out")
        for future, result, error in outcomes:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            elif isinstance(error, ChatError):
                future.set_exception(error)
            else:
                future.set_exception(Unavailable("the store cannot write now; try again"))

    # Reads

    async def unread_count(self, conversation: str, user: str, read_up_to: int) -> int:
        return await self._read(lambda reader: reader.unread_count(conversation, user, read_up_to))

    async def conversation(self, conversation: str, viewer: str | None) -> ConversationView:
        return await self._read(lambda reader: reader.conversation(conversation, viewer))

    async def conversations(self, user: str, cursor: str | None, limit: int) -> ConversationPage:
        return await self._read(lambda reader: reader.conversations(user, cursor, limit))

    async def events(
        self, conversation: str, viewer: str | None, after: int | None, before: int | None, limit: int
    ) -> EventPage:
        return await self._read(lambda reader: reader.events(conversation, viewer, after, before, limit))

    async def conversations_among(self, user: str, conversations: list[str]) -> list[str]:
        return await self._read(lambda reader: reader.conversations_among(user, conversations))

    async def membership(self, conversation: str) -> Membership:
        return await self._read(lambda reader: reader.membership(conversation))

    async def ping(self) -> None:
        await self._write(lambda writer: writer.touch())

    async def _read(self, run: Callable[[Reader], T]) -> T:
        if self._closed:
            raise Unavailable("the server is stopping; try again")
        if self._pending_reads >= self._limits.pending_reads_max:
            raise Unavailable("the store is too busy; try again")
        self._pending_reads += 1
        try:
            return await self._loop.run_in_executor(self._reads, self._run_read, run)
        finally:
            self._pending_reads -= 1

    def _run_read(self, run: Callable[[Reader], T]) -> T:
        reader: Reader | None = getattr(self._readers, "reader", None)
        try:
            if reader is None:
                db = files.open_reader(self._path)
                self._reader_connections.append(db)
                reader = self._readers.reader = Reader(db, self._limits)
            return run(reader)
        except apsw.Error as error:
            _log.error("the store could not read: %s", error)
            raise Unavailable("the store cannot be read now; try again") from error

    async def close(self) -> None:
        """Commit what was accepted, then close the files. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._writes.close()
        await asyncio.to_thread(self._reads.shutdown)
        for db in self._reader_connections:
            db.close()
        await asyncio.to_thread(self._db.close)  # the last one, so that everything ends up in the one file
        self._lock.close()
