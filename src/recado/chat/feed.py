"""The readers over HTTP, and what wakes them: a second `ports.Broker` beside the one for MQTT.

A commit wakes the listeners of its recipients and no others, and gives them no more than a conversation's name and a
seq. Nothing here has a thread, a task or a timer of its own: a listener is read for by the coroutine that waits on it,
and all deadlines are on one wheel.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

from recado.chat.errors import Forbidden, RateLimited, Unavailable, no_such_conversation
from recado.chat.event import CONVERSATION_ERASED, Committed, count_within, encode_event
from recado.chat.ids import check_id
from recado.chat.listener import Kind, Listener
from recado.chat.membership import MembershipCache
from recado.chat.policy import FeedLimits
from recado.chat.principal import Principal
from recado.chat.wheel import Wheel
from recado.ports import Conversations

Entries = Sequence[tuple[int, bytes]]  # (seq, the event's JSON)
Recent = Callable[[str, int, int], tuple[Entries, int] | None]
_UNKNOWN_END = -1
_PAST_EVERY_LOG = 2**53
_RETRY_AFTER_S = 5
_YEAR_9999_S = 253_402_300_799  # a token may say what no clock can count to


class LogPage(NamedTuple):
    """Entries in order of seq, and the last seq of the whole log."""

    entries: Entries
    last_seq: int


class Stopping(Unavailable):
    """The server stops: come again."""


class Feed:
    """`recent` answers (conversation, after, limit) from memory, or None if the store must be asked; it is up to date
    when `publish` is called. The counts are what operators are told."""

    def __init__(
        self,
        store: Conversations,
        members: MembershipCache,
        limits: FeedLimits,
        now_ms: Callable[[], int],
        recent: Recent = lambda conversation, after, limit: None,
    ) -> None:
        self.store = store
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel(self.loop)
        self._members = members
        self._now_ms = now_ms
        self._recent = recent
        self._listeners: dict[str, set[Listener]] = {}
        self._ends: OrderedDict[str, int] = OrderedDict()
        self._readings = count(1)
        self._caught_up_at: OrderedDict[str, int] = OrderedDict()
        self._is_closed = False
        self.counts: dict[Kind, int] = {"poll": 0, "sse": 0, "ws": 0}
        self.refused: dict[str, int] = {"held_polls_per_user_max": 0, "streams_per_user_max": 0, "streams_max": 0}
        self.signals_dropped = 0
        self.delivered: dict[Kind, int] = {"poll": 0, "sse": 0, "ws": 0}

    # recado.ports.Broker

    def publish(self, committed: Sequence[Committed]) -> None:
        ends, caught_up_at, listeners = self._ends, self._caught_up_at, self._listeners
        for entry in committed:
            if entry.conversation in ends:
                ends[entry.conversation] = entry.event.seq
            if entry.event.type == CONVERSATION_ERASED:
                ends.pop(entry.conversation, None)
            closed_to = entry.closed_to()
            for user in entry.recipients:
                caught_up_at.pop(user, None)
                for listener in listeners.get(user, ()):
                    if user in closed_to:
                        listener.close_conversation(entry)
                    else:
                        listener.tell(entry)

    def signal(self, conversation: str, recipients: frozenset[str], payload: bytes) -> None:
        for user in recipients:
            for listener in self._listeners.get(user, ()):
                if listener.is_stream and listener.follows(conversation):
                    self.signals_dropped += not listener.signal(conversation, payload)

    async def disconnect(self, user: str) -> None:
        for listener in self._listeners.get(user, ()):
            listener.end(Forbidden("the host application ended your sessions"))

    # Listeners

    def listen(self, principal: Principal, kind: Kind) -> Listener:
        """One more reader of the user's, until `leave`. Raises RateLimited, Unavailable; Invalid if the host names no
        user."""
        user = principal.require_user()
        if self._is_closed:
            raise Stopping("the server is stopping; try again")
        mine = self._listeners.get(user)
        self._check_room(kind, mine or set())
        listener = Listener(self, user, kind, self.expiry(principal))
        if mine is None:
            self._listeners[user] = {listener}
        else:
            mine.add(listener)
        self.counts[kind] += 1
        if listener.is_stream:
            listener.watch()
        return listener

    def _check_room(self, kind: Kind, mine: set[Listener]) -> None:
        limits = self.limits
        is_stream = kind != "poll"
        limit = "streams_per_user_max" if is_stream else "held_polls_per_user_max"
        most = limits.streams_per_user_max if is_stream else limits.held_polls_per_user_max
        if len(mine) >= most and sum((each.is_stream) == is_stream for each in mine) >= most:
            self.refused[limit] += 1
            what = "streams open" if is_stream else "requests held"
            raise RateLimited(f"a user may have {most} {what} at a time", _RETRY_AFTER_S)
        if is_stream and self.counts["sse"] + self.counts["ws"] >= limits.streams_max:
            self.refused["streams_max"] += 1
            raise Unavailable("the server has as many streams open as it may; try again later")

    def leave(self, listener: Listener) -> None:
        self.wheel.clear(listener)
        mine = self._listeners[listener.user]
        mine.discard(listener)
        if not mine:
            del self._listeners[listener.user]
        self.counts[listener.kind] -= 1

    def expiry(self, principal: Principal) -> float:
        """When the caller's token expires, in the loop's time."""
        if principal.expires_at_s is None:
            return float("inf")
        return self.loop.time() + min(principal.expires_at_s, _YEAR_9999_S) - self._now_ms() / 1000

    def close(self) -> None:
        """Everybody is answered now: the server stops."""
        self._is_closed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.end(Stopping("the server is stopping; connect again"))
        self.wheel.close()

    # Reading

    async def read(self, user: str, conversation: str, after: int, limit: int) -> LogPage:
        """The first entries past a seq, of one page. Raises NotFound for who is no member, Unavailable."""
        check_id(conversation, "conversation id")
        if user not in await self._members.members(conversation):
            raise no_such_conversation(conversation)
        if (recent := self._recent(conversation, after, limit)) is not None:
            return self._within_page_bytes(*recent)
        if 0 <= (end := self._ends.get(conversation, _UNKNOWN_END)) <= after:
            self._ends.move_to_end(conversation)
            return LogPage((), end)
        reading = self._note_reading(conversation)
        try:
            page = await self.store.events(conversation, user, after, None, limit)
        except BaseException:
            if reading < 0 and self._ends.get(conversation) == reading:
                del self._ends[conversation]
            raise
        if reading < 0 and self._ends.get(conversation) == reading:
            self._ends[conversation] = page.last_seq
        return self._within_page_bytes([(event.seq, encode_event(event)) for event in page.events], page.last_seq)

    def _note_reading(self, conversation: str) -> int:
        """The log's end, or a number below 0 for the read that is to find it: a commit meanwhile puts the end in its
        place, and if it is forgotten and another read begins, that has another number."""
        reading = self._ends.setdefault(conversation, -next(self._readings))
        while len(self._ends) > self.limits.feed_cache_entries_max:
            self._ends.popitem(last=False)
        return reading

    def _within_page_bytes(self, entries: Entries, last_seq: int) -> LogPage:
        sizes = (len(payload) for _, payload in entries)
        return LogPage(entries[: count_within(sizes, self.limits.stream_page_bytes_max)], last_seq)

    async def last_seq(self, user: str, conversation: str) -> int:
        """Raises NotFound for who is no member, Unavailable."""
        return (await self.read(user, conversation, _PAST_EVERY_LOG, 1)).last_seq

    def in_memory(self, conversation: str, first: int, end: int) -> Entries:
        """The entries from a seq on and before another, if all are in memory and go into one page; else none."""
        recent = self._recent(conversation, first - 1, end - first) if end > first else None
        entries = self._within_page_bytes(*recent).entries if recent is not None else ()
        return entries if len(entries) == end - first else ()

    def is_caught_up(self, user: str, cursor: int) -> bool:
        """Whether it is known that nothing came for the user since that cursor."""
        return self._caught_up_at.get(user) == cursor

    def note_caught_up(self, user: str, cursor: int) -> None:
        """Nothing is past that cursor for the user: there is a listener of its own, which was told of nothing."""
        self._caught_up_at[user] = cursor
        if len(self._caught_up_at) > self.limits.feed_cache_entries_max:
            self._caught_up_at.popitem(last=False)
