"""Many calls, one write: what comes while a write is under way goes into the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
Outcomes = Sequence[Exception | None] | None
"""What went wrong with each thing; None for nothing, of one or of all."""


class Grouping(Generic[T]):
    """`write` takes up to `most` things, in the order in which they came; what it raises goes for all of them."""

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[Outcomes]], most: int) -> None:
        self._write = write
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Things that no write has taken yet."""
        return len(self._waiting)

    def put(self, thing: T) -> "asyncio.Future[None]":
        """It resolves once the thing is written, or to what went wrong with it."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((thing, written))
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write_all())
        return written

    async def close(self) -> None:
        """Finish what is under way, and what waits."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # who comes in this turn of the loop goes along
                group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                outcomes = await self._outcomes([thing for thing, _ in group])
                for (_, written), error in zip(group, outcomes, strict=True):
                    _settle(written, error)
        finally:
            self._writing = None

    async def _outcomes(self, things: Sequence[T]) -> Sequence[Exception | None]:
        try:
            return await self._write(things) or [None] * len(things)
        except Exception as error:  # each who waits is told
            return [error] * len(things)


def _settle(written: "asyncio.Future[None]", error: Exception | None) -> None:
    if written.done():  # who waited has been cancelled
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)
