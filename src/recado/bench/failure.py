"""The first thing that went wrong in a run. It ends the run, because what was measured then means nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class RunFailed(Exception):
    """The text says what was lost, refused or wrong."""


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose first failure is raised as it is; the others were cancelled for it."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


class Failure:
    def __init__(self) -> None:
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, text: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(RunFailed(text))

    async def unless(self, awaited: Awaitable[T], timeout_s: float, what: str) -> T:
        """The awaited, unless something fails before. Raises RunFailed."""
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait((task, self._failed), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            if not task.done():
                raise RunFailed(f"{what} took more than {timeout_s:g} seconds")
            return task.result()
        finally:
            task.cancel()
            if self._failed.done():
                self._failed.exception()  # was raised, here or by who waits too

    def check(self) -> None:
        """Raises RunFailed if something failed."""
        if self._failed.done():
            self._failed.result()
