"""Stores on one PostgreSQL database, and what a test does to that behind their backs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

TIMEOUT_S = 20


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test's own, in Recado's schema."""
    db = await asyncpg.connect(url, server_settings={"search_path": "recado"})
    try:
        yield db
    finally:
        await db.close()


class Behind:
    """A connection of the test's own to the database at `url`."""

    def __init__(self, url: str, db: asyncpg.Connection[asyncpg.Record]) -> None:
        self.url = url
        self.db = db

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Behind]:
        async with connected(url) as db:
            yield cls(url, db)

    @asynccontextmanager
    async def locked(self, conversation: str = "c") -> AsyncIterator[None]:
        """Until the end of the block no store can write to the conversation."""
        async with self.db.transaction():
            await self.db.execute("SELECT 1 FROM conversations WHERE id = $1 FOR UPDATE", conversation)
            yield

    async def until_somebody_waits(self, count: int = 1) -> None:
        """Until so many of the stores' connections wait for a lock."""
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await until(lambda: self.db.fetchval(waiting), lambda found: found >= count)

    async def commits(self) -> int:
        """How many transactions wrote the events that are there."""
        found: int = await self.db.fetchval("SELECT count(DISTINCT xmin::text) FROM events")
        return found

    async def cut(self, pid: int) -> None:
        """End a connection of a store's, from the server's side."""
        await self.db.execute("SELECT pg_terminate_backend($1, $2)", pid, TIMEOUT_S * 1000)


async def until(ask: Callable[[], Any], is_it: Callable[[Any], bool]) -> None:
    """Ask again and again, until the answer is as it should be."""
    async with asyncio.timeout(TIMEOUT_S):
        while not is_it(await ask()):  # noqa: ASYNC110  # what is waited for is in the server
            await asyncio.sleep(0.01)
