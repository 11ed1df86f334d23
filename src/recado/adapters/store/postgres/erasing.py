"""Erasing in chunks, each a small transaction of its own: everybody else's writes go in between.

What was begun stands in the table `erasures` until it is over, so what a crash interrupts can be finished, by any
process and by several at the same time. A chunk that changes a living conversation has locked it, like every write: no
edit brings back a body. Walks over all conversations go by ranges of their keys, so that no single read is long.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple, Protocol, TypeVar

from asyncpg import Record

from recado.adapters.store.postgres import people
from recado.adapters.store.postgres.batch import Batch, Log, Write
from recado.adapters.store.postgres.database import Db, rows_changed
from recado.adapters.store.postgres.statements import SQL
from recado.adapters.store.postgres.writes import take_out
from recado.adapters.store.rows import Detail
from recado.chat.errors import no_such_conversation
from recado.chat.event import USER_ERASED

_RANGE = 10_000  # conversations that are looked at in one read
T = TypeVar("T")


class WriteIt(Protocol):
    def __call__(self, write: Write[T]) -> Awaitable[T]: ...


class OnConnection(Protocol):
    def __call__(self, run: Callable[[Db], Awaitable[T]]) -> Awaitable[T]: ...


class _Found(NamedTuple):
    """A conversation."""

    key: int
    id: str


class Erasing:
    def __init__(self, write: WriteIt, on_connection: OnConnection, rows_max: int) -> None:
        self._write = write
        self._on_connection = on_connection
        self._rows_max = rows_max

    async def conversation(self, conversation: str, at: int) -> None:
        erase = partial(_erase_conversation, conversation=conversation, at=at)
        await self._clear_log(await self._write(Write(erase, (conversation,))))

    async def user(self, user: str, at: int) -> None:
        """First the name, and where to call; then out of all conversations, so that nothing reaches the user any more;
        then the messages."""
        await self._on_connection(partial(people.forget, user=user))
        found = [each async for each in self._walk("traces_of", user)]
        for start in range(0, len(found), self._rows_max):
            chunk = found[start : start + self._rows_max]
            begin = partial(_begin_user_erasures, user=user, conversations=chunk, at=at)
            await self._write(Write(begin, tuple(each.id for each in chunk), weight=self._rows_max))
        await self._execute("delete_departures_of", user)
        for each in found:
            await self._erase_messages(each, user, at)

    async def finish(self, at: int) -> None:
        for key, conversation, user in await self._fetch("erasures"):
            if user is None:
                await self._clear_log(key)
            else:
                await self._erase_messages(_Found(key, conversation), user, at)

    async def older(self, than: int) -> None:
        async for each in self._walk("overdue", than):
            erase = partial(_erase_older, conversation=each, than=than, rows_max=self._rows_max)
            while await self._write(Write(erase, (each.id,), weight=self._rows_max)):
                pass

    async def _walk(self, statement: str, wanted: str | int) -> AsyncIterator[_Found]:
        """The conversations that are found in any range of their keys."""
        ((last,),) = await self._fetch("last_key")
        for after in range(0, last, _RANGE):
            for row in await self._fetch(statement, wanted, after, after + _RANGE):
                yield _Found(*row)

    async def _clear_log(self, key: int) -> None:
        """Nobody appends to it any more, so no batch has to wait for this."""
        while await self._execute("delete_events", key, self._rows_max):
            pass
        ((is_left,),) = await self._fetch("has_events", key)
        if not is_left:  # else another process is at it, and ends it
            await self._execute("end_erasure", key, None)

    async def _erase_messages(self, conversation: _Found, user: str, at: int) -> None:
        after: str | None = ""
        while after is not None:
            erase = partial(
                _erase_messages, conversation=conversation, user=user, after=after, rows_max=self._rows_max, at=at
            )
            after = await self._write(Write(erase, (conversation.id,), weight=self._rows_max))

    async def _fetch(self, statement: str, *parameters: Any) -> "list[Record]":
        return await self._on_connection(lambda db: db.fetch(SQL[statement], *parameters))

    async def _execute(self, statement: str, *parameters: Any) -> int:
        """How many rows it has changed."""
        return rows_changed(await self._on_connection(lambda db: db.execute(SQL[statement], *parameters)))


async def _erase_conversation(batch: Batch, conversation: str, at: int) -> int:
    """Returns its key: its log goes afterwards."""
    log = batch.find(conversation)
    if log is None:
        rows = await batch.fetch("erased_key", conversation)
        if not rows:
            raise no_such_conversation(conversation)
        key: int = rows[0][0]
        return key
    await batch.execute("insert_erasure", log.key, None, log.last_seq)
    await batch.execute("delete_members", log.key)
    await batch.execute("delete_departures_from", log.key)
    await batch.end(log, at)
    await batch.execute("erase_conversation", log.key, at)
    return log.key


async def _begin_user_erasures(batch: Batch, user: str, conversations: list[_Found], at: int) -> None:
    """Take the user out of these conversations; its messages there go with `_erase_messages`."""
    for conversation in conversations:
        log = batch.find(conversation.id)
        if log is not None and await _has_traces(batch, log, user):
            await batch.execute("insert_erasure", log.key, user, log.last_seq)
            if user in log.members:
                await take_out(batch, log, user, None, at)


async def _has_traces(batch: Batch, log: Log, user: str) -> bool:
    """Nothing is left to do if another process was faster."""
    if user in log.members:
        return True
    ((has_messages,),) = await batch.fetch("has_messages", log.key, user)
    return bool(has_messages)


async def _erase_messages(
    batch: Batch, conversation: _Found, user: str, after: str, rows_max: int, at: int
) -> str | None:
    """Delete so many of a user's messages in a conversation, in the order of their ids and past one. Returns the id to
    go on from; None if that was all, which is told to the members."""
    log = batch.find(conversation.id)
    rows = await batch.fetch("messages_of", conversation.key, user, after, rows_max + 1)
    await batch.execute("delete_messages_at", conversation.key, [seq for _, seq in rows[:rows_max]])
    batch.has_erased = True
    if len(rows) > rows_max:
        position: str = rows[rows_max - 1][0]
        return position
    if await batch.execute("end_erasure", conversation.key, user) and log is not None:
        batch.append_detail(log, USER_ERASED, None, at, Detail(user=user), log.members)
    return None


async def _erase_older(batch: Batch, conversation: _Found, than: int, rows_max: int) -> bool:
    """Delete the messages among the next so many entries, up to the first that is not so old; True if there may be
    more."""
    if batch.find(conversation.id) is None:
        return False
    ((swept_up_to,),) = await batch.fetch("swept_up_to", conversation.key)
    times = await batch.fetch("times_after", conversation.key, swept_up_to, rows_max)
    old = [seq for seq, _ in takewhile(lambda row: row[1] < than, times)]
    if old:
        await batch.execute("delete_messages", conversation.key, swept_up_to, old[-1])
        await batch.execute("set_swept_up_to", conversation.key, old[-1])
        batch.has_erased = True
    return len(old) == rows_max
