"""The connections that read: made when they are needed, at most so many, and used by one read at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from asyncpg import Connection, Record

T = TypeVar("T")


class Pool:
    """Connections that the server has closed are forgotten when their turn comes."""

    def __init__(self, connect: Callable[[], "Awaitable[Connection[Record]]"], connections_max: int) -> None:
        self._connect = connect
        self._connections_max = connections_max
        self._idle: list[Connection[Record]] = []
        self._free = asyncio.Semaphore(connections_max)

    async def run(self, work: "Callable[[Connection[Record]], Awaitable[T]]") -> T:
        """Wait for a connection, and do the work on it."""
        async with self._free:
            db = self._take() or await self._connect()
            try:
                return await work(db)
            finally:
                if not db.is_closed():
                    self._idle.append(db)

    def _take(self) -> "Connection[Record] | None":
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
