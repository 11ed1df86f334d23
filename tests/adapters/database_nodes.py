"""Nodes on one PostgreSQL database: stores as several processes have them, and what each of them was handed out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from recado.adapters.store.postgres.limits import PostgresLimits
from recado.adapters.store.postgres.store import PostgresStore
from recado.chat.errors import Unavailable
from recado.chat.event import Committed
from recado.ports import Sent, Sink
from tests.adapters.postgres import TIMEOUT_S
from tests.contracts.stores import POSTGRES_LIMITS, send

LIMITS = replace(POSTGRES_LIMITS, reconnect_interval_ms=50)


class Node:
    """A store, and everything that it handed out, in order."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.committed: list[Committed] = []
        self.refusals = 0
        self._news = asyncio.Event()
        store.on_committed = self._on_committed

    @classmethod
    async def open(cls, url: str, sinks: Sequence[Sink] = (), limits: PostgresLimits = LIMITS) -> Node:
        return cls(await PostgresStore.open(url, limits, sinks))

    def _on_committed(self, committed: Sequence[Committed]) -> None:
        self.committed.extend(committed)
        self._news.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until what was handed out makes it so."""
        async with asyncio.timeout(TIMEOUT_S):
            while not is_so():
                self._news.clear()
                await self._news.wait()

    async def has(self, count: int) -> None:
        await self.until(lambda: len(self.committed) >= count)

    def entries(self) -> list[tuple[str, int]]:
        """Which events it was handed out: (conversation, seq), in order."""
        return [(entry.conversation, entry.event.seq) for entry in self.committed]

    def recipients(self) -> dict[tuple[str, int], frozenset[str]]:
        return {(entry.conversation, entry.event.seq): entry.recipients for entry in self.committed}


async def acknowledged(node: Node, message_id: str, conversation: str = "c") -> Sent:
    """ana sends it as a client does: again, under the same id, while the store is away."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                return await send(node.store, "ana", message_id, conversation=conversation)
            except Unavailable:
                node.refusals += 1
                await asyncio.sleep(0.02)  # a client's backoff
