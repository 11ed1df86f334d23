"""What a program iterates: a queue between the connection and one `async for`, with the place in each log.

Invariants: an item is acknowledged to the server when the next one is asked for, so one whose handling a crash cut
short is not; the queue is bounded; a cancelled `__anext__` loses nothing; events come in order of seq, each once, over
any number of connections. An iterator that nobody refers to any more ends itself: `break` is enough.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from recado.client.cursor import Cursor, Cursors, Verdict
from recado.client.errors import ConversationErased, EventMissing
from recado.client.link import Link
from recado.client.shapes import (
    CONVERSATION_ERASED,
    MEMBER_ADDED,
    MEMBER_REMOVED,
    Event,
    Signal,
    decode_event,
    decode_signal,
)

T = TypeVar("T")
_DOUBTFUL = 20  # events since the last check; a server that is not behind can have sent so many without an answer
_DOUBTFUL_EVENT_BYTES = 4096


class Delivery(NamedTuple):
    """One PUBLISH, and the connection that wants to know when it was taken; `qos` is 0 if it need not."""

    topic_name: str
    payload: bytes
    link: Link
    packet_id: int
    qos: int

    def acknowledge(self) -> None:
        self.link.acknowledge(self.packet_id, self.qos)


class Source(Protocol):
    """What a reader asks of its client."""

    @property
    def user(self) -> str | None: ...

    def ask(self, feed: Feed) -> None:
        """Subscribe (again), with the positions that the feed wants replays from."""

    def drop(self, feed: Feed) -> None:
        """Unsubscribe: nothing more is to be delivered."""

    def leave(self, feed: Feed, unread: list[Delivery]) -> None:
        """Its iterator was left. A kept session goes on without it: what is unread waits for the next iterator."""


class Feed:
    """One subscription: what the client knows of an iterator. `is_granted` while the server has it."""

    topic_filter: str
    qos: int

    def __init__(self, source: Source) -> None:
        self.source = source
        self.is_granted = False
        self.error: BaseException | None = None
        self.on_change: Callable[[], None] = lambda: None

    def wanted(self) -> dict[str, Cursor]:
        """The conversations to replay, and after what."""
        return {}

    def reconnected(self, is_session_present: bool) -> None:
        """The connection that was asked is gone."""

    def deliver(self, delivery: Delivery) -> None:
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """What waits may still be read; then `error` is raised."""
        if self.error is None:
            self.error = error
            self.source.drop(self)
            self.on_change()


class Queued(Feed, Generic[T]):
    """A feed with items that wait to be read, at most `room` of them."""

    def __init__(self, source: Source, room: int) -> None:
        super().__init__(source)
        self._room = room
        self._items: deque[tuple[T, Delivery | None]] = deque()
        self._taken: tuple[T, Delivery | None] | None = None

    def has_items(self) -> bool:
        return bool(self._items)

    def take(self) -> T:
        self._taken = self._items.popleft()
        return self._taken[0]

    def acknowledge_taken(self) -> None:
        if self._taken is not None:
            if self._taken[1] is not None:
                self._taken[1].acknowledge()
            self._taken = None

    def emptied(self) -> None:
        """Everything was taken: there is room again."""

    def close(self) -> None:
        """Unsubscribe; nobody will take what waits, so give the server its window back."""
        self.fail(StopAsyncIteration())
        for delivery in self._unread():
            delivery.acknowledge()

    def leave(self) -> None:
        unread = self._unread()
        if self.error is None:
            self.error = StopAsyncIteration()
            self.source.leave(self, unread)
        else:
            for delivery in unread:
                delivery.acknowledge()

    def _unread(self) -> list[Delivery]:
        """What waits is handed back, with what was being handled."""
        queued = [*([self._taken] if self._taken is not None else []), *self._items]
        self._taken = None
        self._items.clear()
        return [delivery for _, delivery in queued if delivery is not None]


class EventFeed(Queued[T]):
    """Events, each once and in order; `_cursors` has the place in each conversation."""

    def __init__(self, source: Source, topic_filter: str, qos: int, room: int, cursors: Cursors) -> None:
        super().__init__(source, room)
        self.topic_filter = topic_filter
        self.qos = qos
        self._cursors = cursors
        self._is_behind = False

    def wanted(self) -> dict[str, Cursor]:
        return {conversation: cursor for conversation, cursor in self._cursors.items() if cursor.is_wanted()}

    def reconnected(self, is_session_present: bool) -> None:
        for cursor in self._cursors.values():
            cursor.reconnected(is_session_present)

    def deliver(self, delivery: Delivery) -> None:
        conversation = delivery.topic_name[2:]
        try:
            event = decode_event(delivery.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            delivery.acknowledge()
            self.fail(EventMissing(f"what came in {conversation} is no event: {delivery.payload[:80]!r}"))
            return
        cursor = self._cursors.of(conversation)
        verdict = self._place(event, cursor)
        if verdict is Verdict.NEW:
            self._items.append((self.item(conversation, event), delivery))
            self._follow(conversation, event, cursor)
            self.on_change()
        elif verdict is not Verdict.TWICE or not self._attach_again(event.seq, delivery):
            delivery.acknowledge()
        if verdict is Verdict.GAP:
            self.source.ask(self)
        elif verdict is Verdict.MISSING:
            due = (cursor.seq or 0) + 1
            self.fail(EventMissing(f"the server left out event {due} of {conversation}, and sent {event.seq}"))

    def _place(self, event: Event, cursor: Cursor) -> Verdict:
        is_last = event.type == CONVERSATION_ERASED  # it finds room, as it is in no log that could be read again
        if len(self._items) >= self._room and not is_last:
            cursor.put_off(event.seq)
            self._is_behind = True
        if event.type in (MEMBER_ADDED, MEMBER_REMOVED) and self._is_own(event):
            cursor.membership_changed(event.seq)
        return cursor.take(event.seq, is_last)

    def _is_own(self, event: Event) -> bool:
        return self.source.user in (None, event.user)

    def _attach_again(self, seq: int, delivery: Delivery) -> bool:
        """A kept session redelivers what waits here still: that stays unacknowledged until it was read."""
        if self._taken is not None and self._is_former(self._taken, seq, delivery):
            self._taken = self._taken[0], delivery
            return True
        for position, queued in enumerate(self._items):
            if self._is_former(queued, seq, delivery):
                self._items[position] = queued[0], delivery
                return True
        return False

    def _is_former(self, queued: tuple[T, Delivery | None], seq: int, delivery: Delivery) -> bool:
        item, former = queued
        return (
            former is not None
            and former.link is not delivery.link
            and former.topic_name == delivery.topic_name
            and self.seq_of(item) == seq
        )

    def emptied(self) -> None:
        if self._is_behind:
            self._is_behind = False
            for cursor in self._cursors.values():
                cursor.make_room()
            self.source.ask(self)

    def item(self, conversation: str, event: Event) -> T:
        raise NotImplementedError

    def seq_of(self, item: T) -> int:
        raise NotImplementedError

    def _follow(self, conversation: str, event: Event, cursor: Cursor) -> None:
        """An event may be the last."""


class ConversationFeed(EventFeed[Event]):
    """The events of one conversation.

    A removal acts at once, so it may come after a gap, which its user may not read any more: the client asks, as after
    any gap, and the answer is that its user is no member. To a client that is away, or behind at QoS 0, the server does
    not tell it. So after a lost connection, or many events and then none, the client asks once whether that was all.
    """

    def __init__(self, source: Source, conversation: str, after: int | None, qos: int, room: int) -> None:
        after_ = {} if after is None else {conversation: after}
        super().__init__(source, f"c/{conversation}", qos, room, Cursors(after_, 1))
        self._unchecked = 0
        self._heard_at = 0.0

    def deliver(self, delivery: Delivery) -> None:
        self._unchecked += 1 + len(delivery.payload) // _DOUBTFUL_EVENT_BYTES
        self._heard_at = delivery.link.now()
        super().deliver(delivery)

    def reconnected(self, is_session_present: bool) -> None:
        super().reconnected(is_session_present)
        self._unchecked = _DOUBTFUL

    def is_doubtful(self) -> bool:
        """Whether the server may have been behind with it."""
        return self._unchecked >= _DOUBTFUL

    def check(self, quiet_since: float) -> None:
        """Ask, if nothing came since then and everything was handled: to ask moves the place of a kept session."""
        if self.is_doubtful() and self._heard_at <= quiet_since and not self.has_items() and self._taken is None:
            self._unchecked = 0
            for cursor in self._cursors.values():
                cursor.want()
            self.source.ask(self)

    def item(self, conversation: str, event: Event) -> Event:
        return event

    def seq_of(self, item: Event) -> int:
        return item.seq

    def _follow(self, conversation: str, event: Event, cursor: Cursor) -> None:
        if event.type == CONVERSATION_ERASED:
            self.fail(ConversationErased(f"{conversation} was erased"))
        elif event.type == MEMBER_REMOVED and self._is_own(event):
            # It may be an old one, in a replay, and its subject a member again: the answer tells. If not, this was the
            # last event, and NotAMember ends the iteration.
            cursor.want()
            self.source.ask(self)


class AllFeed(EventFeed[tuple[str, Event]]):
    """The events of every conversation that its user is a member of, as (conversation, event)."""

    def __init__(self, source: Source, after: dict[str, int], qos: int, room: int, kept_max: int) -> None:
        super().__init__(source, "c/+", qos, room, Cursors(after, kept_max))

    def item(self, conversation: str, event: Event) -> tuple[str, Event]:
        return conversation, event

    def seq_of(self, item: tuple[str, Event]) -> int:
        return item[1].seq

    def _follow(self, conversation: str, event: Event, cursor: Cursor) -> None:
        if event.type == CONVERSATION_ERASED:
            self._cursors.forget(conversation)


class SignalFeed(Queued[Signal]):
    """The signals of one conversation: never stored, so the newest are worth more than the oldest."""

    qos = 0

    def __init__(self, source: Source, conversation: str, room: int) -> None:
        super().__init__(source, room)
        self.topic_filter = f"c/{conversation}/live"

    def deliver(self, delivery: Delivery) -> None:
        delivery.acknowledge()
        try:
            signal = decode_signal(delivery.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if len(self._items) >= self._room:
            self._items.popleft()
        self._items.append((signal, None))
        self.on_change()


class Reader(Generic[T]):
    """An async iterator; `async with` ends it at a moment of your choice, and so does leaving the `async for`."""

    def __init__(self, feed: Queued[T]) -> None:
        self._feed = feed
        self._waiter: asyncio.Future[None] | None = None
        reader = weakref.ref(self)  # or the feed would keep an iterator that nobody refers to
        feed.on_change = lambda: _wake(reader())

    def __aiter__(self) -> Reader[T]:
        return self

    async def __anext__(self) -> T:
        feed = self._feed
        feed.acknowledge_taken()
        while not feed.has_items():
            if feed.error is not None:
                raise feed.error.with_traceback(None)  # or it would grow with each time that it is raised
            feed.emptied()
            await self._change()
        return feed.take()

    async def __aenter__(self) -> Reader[T]:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._feed.leave()

    def __del__(self) -> None:
        self._feed.leave()

    def close(self) -> None:
        """Unsubscribe. What waited is not read any more, and a kept session forgets its place."""
        self._feed.close()

    async def _change(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("another task waits for the next item of this iterator")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


def _wake(reader: Reader[Any] | None) -> None:
    if reader is not None and reader._waiter is not None and not reader._waiter.done():
        reader._waiter.set_result(None)
