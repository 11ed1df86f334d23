"""Who is online, and who is told of it.

A user is online from its first connection, or the first page that says so, until `presence_grace_s` after the last one
went, however that went: a page that is reloaded is no news. Connections are this process's own. Pages are in the store,
where every process sees them: a user whose page has gone here and speaks to another process is not offline.

What is to be told waits in one queue with one entry a user, and a few readers ask the store whom to tell, so a storm of
connections is no storm of reads; who comes and goes while it waits costs nothing. All pages and all who are going wait
on one timer, which exists only as long as there are any.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
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


class _Ending(NamedTuple):
    """Something that was last there at `last_seen` (ms since the epoch), and is over at `due`."""

    due: float
    last_seen: int


class Presence:
    """`announced` and `dropped` count what was told to conversations, and what was not because too much waited. With
    `is_broker_shared`, also members are told who are not connected here: the broker knows where they are."""

    def __init__(
        self,
        store: Store,
        broker: Broker,
        members: MembershipCache,
        limits: ChatLimits,
        now_ms: Callable[[], int],
        timers: Timers,
        *,
        is_broker_shared: bool = False,
    ) -> None:
        self._store = store
        self._broker = broker
        self._members = members
        self._limits = limits
        self._now_ms = now_ms
        self._timers = timers
        self._is_broker_shared = is_broker_shared
        self._connections: dict[str, int] = {}
        self._pages: OrderedDict[tuple[str, str], _Ending] = OrderedDict()  # by `due`, as the one below
        self._pages_of: dict[str, dict[str, None]] = {}  # in the same order
        self._going: OrderedDict[str, _Ending] = OrderedDict()
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._news: OrderedDict[str, int | None] = OrderedDict()  # user to last_seen, None for who is online
        self._readers: set[asyncio.Task[None]] = set()
        self._retry: Timer | None = None
        self._is_closed = False
        self.announced = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Users who are online, as far as this process knows."""
        return len(self._connections.keys() | self._pages_of.keys()) + len(self._going)

    async def online(self, users: Collection[str]) -> set[str]:
        """Those of the users who are online, with a page that any process knows of too. Raises Unavailable."""
        here = {user for user in users if user in self._connections or user in self._going}
        if len(here) == len(users):
            return here
        pages = await self._store.pages([user for user in users if user not in here], self._now_ms())
        return here | pages.keys()

    def is_connected(self, user: str) -> bool:
        """Whether the user has a connection to this process."""
        return user in self._connections

    def _is_online(self, user: str) -> bool:
        return user in self._connections or user in self._pages_of or user in self._going

    def connected(self, user: str) -> None:
        """One more connection of the user."""
        is_news = not self._is_online(user)
        self._connections[user] = self._connections.get(user, 0) + 1
        self._going.pop(user, None)
        if is_news:
            self._announce(user, None)

    def disconnected(self, user: str) -> None:
        """One less."""
        count = self._connections[user] - 1
        if count:
            self._connections[user] = count
            return
        del self._connections[user]
        self._leave(user, self._now_ms())

    async def report_page(self, user: str, page: str, *, visible: bool) -> None:
        """The user has this page open, for `presence_page_s` from now. Raises Unavailable."""
        limits, at = self._limits, self._now_ms()
        was_away = await self._is_away(user, at)
        if was_away:
            for closed in tuple(self._pages_of.get(user, ())):  # which another process was told
                self._forget_page(user, closed)
        until, most = at + limits.presence_page_s * 1000, limits.presence_pages_per_user_max
        await self._store.note_page(user, page, visible, at, until, most)
        is_news = was_away and not self._is_online(user)
        self._remember_page(user, page, at)
        self._going.pop(user, None)
        if is_news:
            self._announce(user, None)

    async def leave_page(self, user: str, page: str) -> None:
        """The user has closed it. Raises Unavailable."""
        at = self._now_ms()
        was_away = await self._is_away(user, at)
        await self._store.note_page(user, page, None, at, at, self._limits.presence_pages_per_user_max)
        self._forget_page(user, page)
        if not was_away:
            self._leave(user, at)

    async def _is_away(self, user: str, at: int) -> bool:
        """Whether nobody knows the user to be there: neither a connection here nor a page anywhere."""
        if user in self._connections or user in self._going:
            return False
        return user not in await self._store.pages([user], at)

    def _remember_page(self, user: str, page: str, at: int) -> None:
        self._forget_page(user, page)
        pages = self._pages_of.setdefault(user, {})
        if len(pages) >= self._limits.presence_pages_per_user_max:
            oldest = next(iter(pages))
            del pages[oldest], self._pages[user, oldest]
        pages[page] = None
        self._pages[user, page] = _Ending(self._timers.time() + self._limits.presence_page_s, at)
        if len(self._pages) > self._limits.presence_pages_max:
            self._end_first_page()
        self._set_timer()

    def _forget_page(self, user: str, page: str) -> None:
        if self._pages.pop((user, page), None) is not None:
            pages = self._pages_of[user]
            del pages[page]
            if not pages:
                del self._pages_of[user]

    def _end_first_page(self) -> None:
        (user, page), ending = next(iter(self._pages.items()))
        self._forget_page(user, page)
        self._leave(user, ending.last_seen)

    def _leave(self, user: str, last_seen: int) -> None:
        """The user is going, unless something else of it is there."""
        if not self._is_online(user):
            self._going[user] = _Ending(self._timers.time() + self._limits.presence_grace_s, last_seen)
            self._set_timer()

    def _set_timer(self) -> None:
        """One for what is over first."""
        dues = [next(iter(waiting.values())).due for waiting in (self._pages, self._going) if waiting]
        if self._is_closed or not dues:
            return
        due = min(dues)
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._timers.call_later(max(due - self._timers.time(), 0), self._on_timer)

    def _on_timer(self) -> None:
        now = self._timers.time()
        while self._pages and next(iter(self._pages.values())).due <= now:
            self._end_first_page()
        while self._going and next(iter(self._going.values())).due <= now:
            user, going = self._going.popitem(last=False)
            self._announce(user, going.last_seen)
        self._timer = None
        self._set_timer()

    def _announce(self, user: str, last_seen: int | None) -> None:
        if self._is_closed:
            return
        if user in self._news:
            if (self._news[user] is None) != (last_seen is None):
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
            if last_seen is not None and user in await self._store.pages([user], self._now_ms()):
                return  # it has told another process
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
        """Tell those members who can hear it, as long as it is true."""
        payload = presence_signal(user, last_seen)
        turn = 0
        for conversation, members in circles:
            told = await self._members.without_removed(conversation, members, version)
            if self._is_online(user) == (last_seen is not None):
                return  # the contrary is on its way
            recipients = self._who_can_hear(told) - {user}
            if not recipients or user not in told:
                continue
            self._broker.signal(conversation, recipients, payload)
            self.announced += 1
            turn += len(recipients)
            if turn >= _TURN_RECIPIENTS:
                turn = 0
                await asyncio.sleep(0)

    def _who_can_hear(self, members: frozenset[str]) -> frozenset[str]:
        return members if self._is_broker_shared else frozenset(each for each in members if each in self._connections)

    def close(self) -> None:
        """Tell nobody any more: the server stops, and everybody goes."""
        self._is_closed = True
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()
        for reader in self._readers:
            reader.cancel()
