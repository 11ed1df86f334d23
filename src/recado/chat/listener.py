"""One reader over HTTP: a held poll, an event stream or a WebSocket. It says what to send next, and waits for that.

Commits, signals and ends are told to it on the event loop, by calls that never wait; the coroutine of its request takes
what there is with `next`. Signals wait for it in a short list; events are read when they are taken (`following`).
"""

import asyncio
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Literal

from recado.chat.errors import Invalid, Unauthenticated, Unavailable
from recado.chat.event import Committed
from recado.chat.following import Delivery, Everything, Logs

if TYPE_CHECKING:
    from recado.chat.feed import Feed

Kind = Literal["poll", "sse", "ws"]
_EXPIRED = "the token has expired: get a new one"
_TOO_FAR_BEHIND = "you were removed from too many conversations since you read: go on where you are"


class Listener:
    """Made by `Feed.listen`. `is_full` is the transport's word: what it was given last is not taken yet. What is ended
    then is `cut`, as its transport waits for the client. `parted` are the conversations that were closed to the user
    since `next` returned: what it returned of them is not to be sent."""

    __slots__ = (
        "_expires_at",
        "_farewells",
        "_feed",
        "_following",
        "_signals",
        "_waiter",
        "cut",
        "ended",
        "is_full",
        "kind",
        "parted",
        "slot",
        "user",
    )

    def __init__(self, feed: "Feed", user: str, kind: Kind, expires_at: float) -> None:
        self.user = user
        self.kind = kind
        self.slot = 0
        self.is_full = False
        self.cut: Callable[[], None] | None = None
        self.ended: Exception | None = None
        self.parted: set[str] = set()
        self._feed = feed
        self._expires_at = expires_at
        self._following: Logs | Everything = Logs(feed, user)
        self._farewells: list[Delivery] = []
        self._signals: list[Delivery] = []
        self._waiter: asyncio.Future[None] | None = None

    # What is followed

    async def follow(self, conversation: str, after: int | None) -> int:
        """Follow a conversation, from past a seq on or from now on; returns the log's end. Raises NotFound,
        Unavailable; Invalid if it follows everything."""
        if isinstance(self._following, Everything):
            raise Invalid("it follows all conversations already")
        last_seq = await self._following.follow(conversation, after)
        self._wake()
        return last_seq

    async def follow_all(self, cursor: int | None) -> int:
        """Follow everything of the user, from past a cursor on or from now on; returns the cursor to begin with. Raises
        Unavailable, and Invalid if it follows something or nothing has reached that cursor yet."""
        if isinstance(self._following, Everything) or len(self._following):
            raise Invalid("it follows conversations already, by name or all of them")
        self._following = everything = Everything(self._feed, self.user)
        begins_at = await everything.begin(cursor)
        self._wake()
        return begins_at

    @property
    def is_stream(self) -> bool:
        """An event stream or a WebSocket: it goes on after what it was sent."""
        return self.kind != "poll"

    def follows(self, conversation: str) -> bool:
        return conversation in self._following

    @property
    def follows_count(self) -> int:
        """Conversations that it follows by name."""
        return len(self._following) if isinstance(self._following, Logs) else 0

    def cursor(self) -> int:
        """Of who follows everything: nothing up to here is missing of what `next` returned."""
        return self._following.cursor() if isinstance(self._following, Everything) else 0

    def note_caught_up(self) -> None:
        """Of who follows everything and leaves: it had all that there is, if that is so."""
        if isinstance(self._following, Everything):
            self._following.note_caught_up()

    # What the feed tells

    def tell(self, entry: Committed) -> None:
        if entry.conversation in self._following:
            self._following.tell(entry)
            self._wake()

    def close_conversation(self, entry: Committed) -> None:
        """From this event on, its last one, the conversation is closed to the user."""
        conversation = entry.conversation
        if self.ended is None and conversation in self._following:
            last = self._following.close_conversation(entry, has_room=not self.is_full)
            if last is None:
                return  # the page that is on its way is of after it
            self._farewells += last
            self._signals = [signal for signal in self._signals if signal.conversation != conversation]
            self.parted.add(conversation)
            self._wake()
            kept = max(len(self._farewells), len(self.parted), self._following.closed_count)
            if kept > self._feed.limits.stream_closed_max:
                self.end(Unavailable(_TOO_FAR_BEHIND))

    def signal(self, conversation: str, payload: bytes) -> bool:
        """False if there was no room for it."""
        if self.is_full or len(self._signals) >= self._feed.limits.stream_signals_max:
            return False
        self._signals.append(Delivery(conversation, payload, 0))
        self._wake()
        return True

    def end(self, error: Exception) -> None:
        """Nothing more is sent; who waits is told why."""
        if self.ended is None:
            self.ended = error
            self._wake()
            if self.is_full and self.cut is not None:
                self.cut()

    def renew(self, expires_at: float) -> None:
        """A newer token: it goes on until that one expires."""
        self._expires_at = expires_at
        self._wake()

    # What the transport takes

    async def next(self, until: float) -> list[Delivery]:
        """What is to be sent now; waits for it, and returns nothing at the moment `until` (the loop's time). Raises
        what ended it, and Unavailable if the store cannot be read now."""
        while True:
            self._check()
            self.parted.clear()
            if self._farewells:
                farewells, self._farewells = self._farewells, []
                self._feed.delivered[self.kind] += len(farewells)
                return farewells
            deliveries = await self._following.read_on()
            self._check()
            if deliveries:
                farewells, self._farewells = self._farewells, []  # of before what was read of the same conversation
                self._feed.delivered[self.kind] += len(farewells) + len(deliveries)
                return [*farewells, *deliveries]
            if self._farewells or self._following.has_more:
                continue
            if self._signals:
                signals, self._signals = self._signals, []
                return signals
            if self._feed.loop.time() >= until:
                return []
            await self._wait(until)

    def _check(self) -> None:
        if self._has_expired():
            self.end(Unauthenticated(_EXPIRED))
        if self.ended is not None:
            # A copy: its traceback has the transport's frames, and with them the page that was being sent and this
            # listener, so that raised itself all of them would stay until the garbage collector comes.
            raise copy(self.ended)

    async def _wait(self, until: float) -> None:
        self._waiter = self._feed.loop.create_future()
        self._feed.wheel.set(self, min(until, self._expires_at))
        try:
            await self._waiter
        finally:
            self._waiter = None

    def watch(self) -> None:
        """End it with its token, although its transport may be waiting for a client that does not read."""
        self._feed.wheel.set(self, self._expires_at)

    def on_deadline(self) -> None:
        if self._waiter is not None:
            self._wake()
        elif self._has_expired():
            self.end(Unauthenticated(_EXPIRED))
        else:
            self.watch()

    def _has_expired(self) -> bool:
        return self._feed.loop.time() >= self._expires_at

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
