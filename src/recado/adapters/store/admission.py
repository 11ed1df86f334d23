"""What a store lets in: so many writes and reads at a time, of everybody and of each user, and none once it stops.

What is let in is counted until it has ended. One user fills neither the writes nor the reads for the others.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from recado.adapters.store.read_turns import ReadTurns
from recado.chat.errors import ChatError, Unavailable

T = TypeVar("T")
Told = Callable[[Any, Exception | None], None]
"""Hears how a write ended: with what it returned, or why it failed."""


class AdmissionLimits(Protocol):
    @property
    def pending_writes_max(self) -> int: ...
    @property
    def pending_sends_per_user_max(self) -> int: ...
    @property
    def pending_reads_max(self) -> int: ...
    @property
    def pending_reads_per_user_max(self) -> int: ...


class Admission:
    """`read_turns` of one user's reads run at the same time. Make it inside the running event loop."""

    def __init__(self, limits: AdmissionLimits, read_turns: int) -> None:
        self.is_stopping = False
        """Nothing more is let in."""
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._writes = 0
        self._sends: dict[str, int] = {}
        self._reads = 0
        self._read_turns = ReadTurns(read_turns, limits.pending_reads_per_user_max)

    def write(self, sender: str | None = None) -> "tuple[asyncio.Future[Any], Told]":
        """Let a write in: what becomes of it, and who is to be told of its end. With a sender it is one of that user's
        messages, or a change of one. Raises Unavailable."""
        sends = 0
        if sender is not None:
            sends = self._sends.get(sender, 0)
            if sends >= self._limits.pending_sends_per_user_max:
                raise Unavailable("too many of your messages wait for the store; try again")
        self.check_open()
        if self._writes >= self._limits.pending_writes_max:
            raise Unavailable("the store is too busy; try again")
        self._writes += 1
        if sender is not None:
            self._sends[sender] = sends + 1
        future: asyncio.Future[Any] = self._loop.create_future()
        return future, partial(self._settle, future, sender)

    def _settle(self, future: "asyncio.Future[Any]", sender: str | None, result: Any, error: Exception | None) -> None:
        self._writes -= 1
        if sender is not None:
            self._sent(sender)
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, ChatError):
            future.set_exception(error)
        else:
            future.set_exception(Unavailable("the store cannot write now; try again"))

    def _sent(self, sender: str) -> None:
        left = self._sends[sender] - 1
        if left:
            self._sends[sender] = left
        else:
            del self._sends[sender]

    async def read(self, run: Callable[[], Awaitable[T]], user: str | None = None) -> T:
        """What a user reads waits for that user's turn; the host's reads and the server's own need none. Raises
        Unavailable."""
        self.check_open()
        if self._reads >= self._limits.pending_reads_max:
            raise Unavailable("the store is too busy; try again")
        self._reads += 1
        try:
            if user is None:
                return await run()
            async with self._read_turns.turn(user):
                return await run()
        finally:
            self._reads -= 1

    def check_open(self) -> None:
        """Raises Unavailable."""
        if self.is_stopping:
            raise Unavailable("the server is stopping; try again")
