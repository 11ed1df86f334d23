"""Erasing in chunks, each a small transaction of its own: everybody else's writes go in between.

What was begun stands in the table `erasures` until it is over, so what a crash interrupts can be finished. Walks over
all conversations go by ranges of their keys, so that no single read is long.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from recado.adapters.store.sqlite import people
from recado.adapters.store.sqlite.reader import Reader
from recado.adapters.store.sqlite.writer import Writer

_RANGE = 10_000  # conversations that are looked at in one read
T = TypeVar("T")


class Write(Protocol):
    def __call__(self, run: Callable[[Writer], T], weight: int = 1) -> Awaitable[T]: ...


class Read(Protocol):
    def __call__(self, run: Callable[[Reader], T]) -> Awaitable[T]: ...


class Erasing:
    """`erased` is called after every chunk: bytes were deleted that should not stay in the write-ahead log. So is
    `changed`, if events read otherwise now that can still be read."""

    def __init__(
        self, write: Write, read: Read, rows_max: int, erased: Callable[[], None], changed: Callable[[], None]
    ) -> None:
        self._write = write
        self._read = read
        self._rows_max = rows_max
        self._erased = erased
        self._changed = changed

    async def conversation(self, conversation: str, at: int) -> None:
        key = await self._write(lambda writer: writer.erase_conversation(conversation, at))
        await self._clear_log(key)

    async def user(self, user: str, at: int) -> None:
        """First the name, and where to call; then out of all conversations, so that nothing reaches the user any more;
        then the messages."""
        await self._write(lambda writer: people.forget(writer.db, user))
        self._erased()
        found = [key async for key in self._walk(partial(Reader.traces_of, user=user))]
        for start in range(0, len(found), self._rows_max):
            keys = found[start : start + self._rows_max]
            await self._write(partial(Writer.begin_user_erasures, user=user, keys=keys, at=at), self._rows_max)
        await self._write(partial(Writer.forget_departures, user=user))
        for key in found:
            await self._erase_messages(key, user, at)

    async def finish(self, at: int) -> None:
        for key, user in await self._read(Reader.erasures):
            if user is None:
                await self._clear_log(key)
            else:
                await self._erase_messages(key, user, at)

    async def older(self, than: int) -> None:
        async for key in self._walk(partial(Reader.overdue, than=than)):
            erase = partial(Writer.erase_older, key=key, than=than, rows_max=self._rows_max)
            may_be_more = True
            while may_be_more:
                may_be_more = await self._write(erase, self._rows_max)
                self._erased()
                self._changed()

    async def _walk(self, find: Callable[..., list[int]]) -> AsyncIterator[int]:
        """The keys that are found in any range of the conversations."""
        last = await self._read(Reader.last_key)
        for after in range(0, last, _RANGE):
            for key in await self._read(partial(find, after=after, up_to=after + _RANGE)):
                yield key

    async def _clear_log(self, key: int) -> None:
        while await self._write(partial(Writer.clear_log, key=key, rows_max=self._rows_max), self._rows_max):
            self._erased()
        self._erased()

    async def _erase_messages(self, key: int, user: str, at: int) -> None:
        after: str | None = ""
        while after is not None:
            erase = partial(Writer.erase_messages, key=key, user=user, after=after, rows_max=self._rows_max, at=at)
            after = await self._write(erase, self._rows_max)
            self._erased()
            self._changed()
