"""The connections beside the one that writes: made when they are needed, at most so many, each used by one at a time.

asyncpg's own pool resets a connection after every use, which is one more round trip for each read of one statement, and
its connections cannot be made by `Database.connect`, with what that says once and for all.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from recado.adapters.store.postgres.database import Db

T = TypeVar("T")


class Pool:
    """Connections that the server has closed are forgotten when their turn comes."""

    def __init__(self, connect: Callable[[], Awaitable[Db]], connections_max: int) -> None:
        self._connect = connect
        self._connections_max = connections_max
        self._idle: list[Db] = []
        self._free = asyncio.Semaphore(connections_max)

    async def run(self, work: Callable[[Db], Awaitable[T]]) -> T:
        """Wait for a connection, and do the work on it."""
        async with self._free:
            db = self._take() or await self._connect()
            try:
                return await work(db)
            finally:
                if not db.is_closed():
                    self._idle.append(db)

    def _take(self) -> "Db | None":
        while self._idle:
            db = self._idle.pop()
            if not db.is_closed():
                return db
        return None

    async def close(self) -> None:
        """Let what runs end, then close them. Nothing can run afterwards."""
        for _ in range(self._connections_max):
            await self._free.acquire()
        for db in self._idle:
            db.terminate()
        self._idle.clear()
