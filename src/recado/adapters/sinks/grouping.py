"""Many deliveries, one write: what comes while a write is under way goes into the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from recado.ports import TryLater

T = TypeVar("T")


class Grouping(Generic[T]):
    """`write` takes up to `most` things and says of each what went wrong, None for nothing; what it raises goes for all
    of them. Things are written in the order in which they came."""

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[Sequence[TryLater | None]]], most: int) -> None:
        self._write = write
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, thing: T) -> None:
        """Return once it is written. Raises TryLater."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((thing, written))
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write_all())
        await written

    async def close(self) -> None:
        """Finish what is under way."""
        if self._writing is not None:
            await self._writing

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # who comes in this turn of the loop goes along
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                _settle(batch, await self._outcomes([thing for thing, _ in batch]))
        finally:
            self._writing = None

    async def _outcomes(self, things: Sequence[T]) -> Sequence[Exception | None]:
        try:
            return await self._write(things)
        except Exception as error:  # each who waits is told
            return [error] * len(things)


def _settle(batch: Sequence[tuple[T, "asyncio.Future[None]"]], outcomes: Sequence[Exception | None]) -> None:
    for (_, written), error in zip(batch, outcomes, strict=True):
        if written.done():  # who waited has been cancelled
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)
