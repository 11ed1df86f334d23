"""Users take turns at reading: what one of them asks for waits for that user's own reads, and holds up nobody else's.

As many reads of one user run, or wait for a thread, as there are turns. So who asks for one read waits for so many of
each other user who reads now, however many they have asked for.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from recado.chat.errors import Unavailable


class _Reader:
    """A user who reads now."""

    __slots__ = ("pending", "turns")

    def __init__(self, turns: int) -> None:
        self.pending = 0
        self.turns = asyncio.Semaphore(turns)


class ReadTurns:
    def __init__(self, turns: int, pending_max: int) -> None:
        self._turns = turns
        self._pending_max = pending_max
        self._readers: dict[str, _Reader] = {}

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncIterator[None]:
        """Wait for a turn of the user's, and have it inside the block. Raises Unavailable if too many wait already."""
        reader = self._readers.get(user) or self._readers.setdefault(user, _Reader(self._turns))
        if reader.pending >= self._pending_max:
            raise Unavailable("too many of your reads wait for the store; try again")
        reader.pending += 1
        try:
            async with reader.turns:
                yield
        finally:
            reader.pending -= 1
            if not reader.pending:
                del self._readers[user]
