"""Who is online, and who is told of it.

A user is online from its first connection until `presence_grace_s` after its last one went, however that went: a page
that is reloaded is no news. What is to be told waits in one queue with one entry a user, and a few readers ask the
store whom to tell, so a storm of connections is no storm of reads; who comes and goes while it waits costs nothing. All
who are going wait on one timer, which exists only as long as somebody is.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, cast

from recado.chat.errors import Unavailable
from recado.chat.event import presence_signal
from recado.chat.membership import MembershipCache
from recado.chat.policy import ChatLimits
from recado.ports import Broker, Circle, Store

_RETRY_S = 1.0
_TURN_RECIPIENTS = 1_000  # are told before the loop's other work has its turn


class Timer(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    """What an event loop has of a clock."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer: ...


class _Going(NamedTuple):
    """A user whose last connection went at `last_seen` (ms since the epoch), and who is offline at `due`."""

    due: float
    last_seen: int


class Presence:
    """`announced` and `dropped` count what was told to conversations, and what was not because too much waited."""

    def __init__(
        self,
        store: Store,
        broker: Broker,
        members: MembershipCache,
        limits: ChatLimits,
        now_ms: Callable[[], int],
        timers: Timers,
    ) -> None:
        self._store = store
        self._broker = broker
        self._members = members
        self._limits = limits
        self._now_ms = now_ms
        self._timers = timers
        self._connections: dict[str, int] = {}
        self._going: OrderedDict[str, _Going] = OrderedDict()  # by `due`, which is their order of going
        self._timer: Timer | None = None
        self._news: OrderedDict[str, int | None] = OrderedDict()  # user to last_seen, None for who is online
        self._readers: set[asyncio.Task[None]] = set()
        self._retry: Timer | None = None
        self._is_closed = False
        self.announced = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Users who are online."""
        return len(self._connections) + len(self._going)

    def online(self, members: Iterable[str]) -> list[str]:
        """Those of the users who are online, in their order."""
        return [user for user in members if self._is_online(user)]

    def _is_online(self, user: str) -> bool:
        return user in self._connections or user in self._going

    def connected(self, user: str) -> None:
        """One more connection of the user."""
        count = self._connections.get(user, 0)
        self._connections[user] = count + 1
        if not count and self._going.pop(user, None) is None:
            self._announce(user, None)

    def disconnected(self, user: str) -> None:
        """One less."""
        count = self._connections[user] - 1
        if count:
            self._connections[user] = count
            return
        del self._connections[user]
        grace_s = self._limits.presence_grace_s
        self._going[user] = _Going(self._timers.time() + grace_s, self._now_ms())
        if self._timer is None and not self._is_closed:
            self._timer = self._timers.call_later(grace_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._timers.time()
        while self._going:
            user, going = next(iter(self._going.items()))
            if going.due > now:
                self._timer = self._timers.call_later(going.due - now, self._on_timer)
                return
            del self._going[user]
            self._announce(user, going.last_seen)

    def _announce(self, user: str, last_seen: int | None) -> None:
        if self._is_closed:
            return
        if user in self._news:
            del self._news[user]  # the contrary, which nobody has heard yet
            return
        self._news[user] = last_seen
        if len(self._news) > self._limits.presence_pending_max:
            self._news.popitem(last=False)
            self.dropped += 1
        self._read_more()

    def _read_more(self) -> None:
        if self._retry is not None:
            return
        for _ in range(min(len(self._news), self._limits.presence_reads_max - len(self._readers))):
            self._readers.add(asyncio.get_running_loop().create_task(self._read_news()))

    async def _read_news(self) -> None:
        try:
            while self._news and self._retry is None:
                await self._tell(*self._news.popitem(last=False))
        finally:
            self._readers.discard(cast(asyncio.Task[None], asyncio.current_task()))

    async def _tell(self, user: str, last_seen: int | None) -> None:
        limits = self._limits
        version = self._members.version
        try:
            circles = await self._store.circles(user, limits.presence_conversations_max, limits.receipt_members_max)
        except Unavailable:
            if self._retry is None and not self._is_closed:
                self._retry = self._timers.call_later(_RETRY_S, self._on_retry)
            self._announce(user, last_seen)
        else:
            await self._tell_circles(user, last_seen, circles, version)

    def _on_retry(self) -> None:
        self._retry = None
        self._read_more()

    async def _tell_circles(self, user: str, last_seen: int | None, circles: list[Circle], version: int) -> None:
        """Tell those members who are online themselves, as long as it is true."""
        payload = presence_signal(user, last_seen)
        turn = 0
        for conversation, members in circles:
            told = await self._members.without_removed(conversation, members, version)
            if self._is_online(user) == (last_seen is not None):
                return  # the contrary is on its way
            recipients = frozenset(each for each in told if each in self._connections and each != user)
            if not recipients or user not in told:
                continue
            self._broker.signal(conversation, recipients, payload)
            self.announced += 1
            turn += len(recipients)
            if turn >= _TURN_RECIPIENTS:
                turn = 0
                await asyncio.sleep(0)

    def close(self) -> None:
        """Tell nobody any more: the server stops, and everybody goes."""
        self._is_closed = True
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()
        for reader in self._readers:
            reader.cancel()
