"""The client: one connection after the other, and what outlives them: sends that wait, and the iterators.

One task keeps it up: it connects, pings, renews the token, and connects again. Everything else happens when something
comes or is asked for, without a task. Invariant: what `send` acknowledged is committed; what it did not acknowledge is
sent again, with the same id, until somebody gives up.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections import deque
from collections.abc import Mapping
from types import TracebackType

from recado.client.cursor import Cursor
from recado.client.errors import Closed, RecadoError, SendTimeout, Unreachable, refusal
from recado.client.keeper import Address, Keeper
from recado.client.limits import ClientLimits
from recado.client.link import Link
from recado.client.outbox import Outbox, Sending
from recado.client.reader import AllFeed, ConversationFeed, Delivery, Feed, Queued, Reader, SignalFeed, T
from recado.client.shapes import Event, Signal, check_id, encode_json, new_id
from recado.client.tokens import TokenProvider, Tokens
from recado.client.transports import check_url
from recado.mqtt.packets import Publish
from recado.mqtt.reason_codes import ReasonCode

_ALL = "c/+"
_log = logging.getLogger(__name__)


class Client:
    """Made by `connect`; `async with` opens and closes it. It belongs to one event loop."""

    def __init__(
        self,
        url: str,
        token: str | TokenProvider,
        session: str | None,
        qos: int,
        tls: ssl.SSLContext | None,
        limits: ClientLimits,
    ) -> None:
        check_url(url)
        self._tokens = Tokens(token, limits.renew_before_s)
        self._is_kept = session is not None
        self._qos = qos
        self._limits = limits
        address = Address(
            url=url,
            tls=tls,
            client_id=session or f"py-{secrets.token_hex(8)}",
            session_expiry_s=limits.session_expiry_s if session else None,
        )
        self._keeper = Keeper(self, address, self._tokens, limits)
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._error: BaseException | None = None
        self._outbox: Outbox[asyncio.Future[None]] = Outbox()
        self._room = asyncio.Semaphore(limits.pending_sends_max)
        self._feeds: dict[str, Feed] = {}
        self._asked: dict[int, tuple[Feed, list[Cursor]]] = {}
        self._unclaimed: deque[tuple[float, Delivery]] = deque()
        self._ignored: set[str] = set()

    # The surface

    @property
    def user(self) -> str | None:
        """Who the token says that this is."""
        return self._tokens.user

    @property
    def is_connected(self) -> bool:
        return self._link is not None

    async def __aenter__(self) -> Client:
        """Connect. Raises NotAuthenticated, Unreachable, or what the token provider raised."""
        if self._task is not None:
            raise RuntimeError("a client is opened once: make another one")
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name="recado client")
        try:
            async with asyncio.timeout(self._limits.opening_s) as opening:
                await self._first
        except TimeoutError:
            await self.close()
            if not opening.expired():
                raise  # the token provider's
            cause = self._keeper.last_error
            raise Unreachable(f"no connection within {self._limits.opening_s:g} s: {cause}") from cause
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect. Sends that wait and iterators raise Closed."""
        link, self._link = self._link, None
        if link is not None:
            link.say_goodbye()
        self._finish(Closed("the client was closed"))
        try:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait((self._task,))
            if link is not None:
                await link.close()
        finally:
            if link is not None:
                link.end(None, "closed")

    async def send(
        self,
        conversation: str,
        body: str,
        *,
        id: str | None = None,  # noqa: A002
        timeout_s: float | None = None,
    ) -> str:
        """Send a message; returns its id when it is committed, which is when the server acknowledged it.

        It is sent again with the same id, over any number of connections, until then. Raises Refused (NotAMember,
        TooLarge, Invalid) if the server said no, SendTimeout after `timeout_s`, Closed.
        """
        message_id = new_id() if id is None else check_id(id, "a message's id")
        payload = encode_json({"id": message_id, "body": body})
        topic_name = f"c/{check_id(conversation, 'a conversation')}"
        await self._deliver(topic_name, payload, timeout_s, message_id)
        return message_id

    async def mark_read(self, conversation: str, seq: int, *, timeout_s: float | None = None) -> None:
        """Its user has read everything up to `seq`; returns when that is stored. Raises as `send` does."""
        payload = encode_json({"type": "read", "seq": seq})
        await self._deliver(f"c/{check_id(conversation, 'a conversation')}/live", payload, timeout_s, None)

    async def typing(self, conversation: str) -> None:
        """Its user is writing: a hint for those who are there, not repeated, and dropped without a connection."""
        topic_name = f"c/{check_id(conversation, 'a conversation')}/live"
        self._check_open()
        if self._link is not None and self._link.has_room():
            self._link.publish(topic_name, encode_json({"type": "typing"}))

    def events(self, conversation: str, *, after: int | None = None) -> Reader[Event]:
        """Every event of a conversation after that seq (0: all of them; None: from now on), then live, for ever.

        In order of seq, each once. Ends with NotAMember or ConversationErased. One at a time for a conversation.
        """
        check_id(conversation, "a conversation")
        if _ALL in self._feeds:
            raise RuntimeError("events_of_all() is open, which brings this conversation too: use another client")
        return self._read(ConversationFeed(self, conversation, after, self._qos, self._limits.queue_max))

    def events_of_all(self, *, after: Mapping[str, int] | None = None) -> Reader[tuple[str, Event]]:
        """(conversation, event) of every conversation of its user, as membership changes: after the seq that is given
        for a conversation, from now on for the others."""
        if any(isinstance(feed, ConversationFeed) for feed in self._feeds.values()):
            raise RuntimeError("events() of a conversation is open, which this would bring too: use another client")
        positions = {check_id(conversation, "a conversation"): seq for conversation, seq in (after or {}).items()}
        if len(positions) > self._limits.resumed_max:
            raise ValueError(f"after has at most {self._limits.resumed_max} conversations, not {len(positions)}")
        return self._read(AllFeed(self, positions, self._qos, self._limits.queue_max, self._limits.resumed_max))

    def signals(self, conversation: str) -> Reader[Signal]:
        """Who types, reads, was delivered to, comes and goes; from now on, and not what was missed."""
        check_id(conversation, "a conversation")
        return self._read(SignalFeed(self, conversation, self._limits.signals_max))

    # Sending

    async def _deliver(self, topic_name: str, payload: bytes, timeout_s: float | None, message_id: str | None) -> None:
        self._check_open()
        try:
            async with asyncio.timeout(timeout_s), self._room:
                self._check_open()
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                sending = Sending(topic_name, payload, waiter)
                self._outbox.add(sending)
                self._pump()
                try:
                    await waiter
                except asyncio.CancelledError:
                    self._outbox.give_up(sending)
                    raise
        except TimeoutError:
            raise SendTimeout(message_id) from None

    def _pump(self) -> None:
        """Write what may be written now."""
        link = self._link
        while link is not None and link.has_room() and (item := self._outbox.next()) is not None:
            packet_id, sending, dup = item
            if link.publish_bytes(sending.topic_name, sending.payload) > link.packet_bytes_max:
                text = f"the server takes packets of {link.packet_bytes_max} bytes"
                self.on_answer(packet_id, ReasonCode.PACKET_TOO_LARGE, text)
                continue
            link.publish(sending.topic_name, sending.payload, packet_id, dup)

    def on_answer(self, packet_id: int, code: ReasonCode, text: str) -> None:
        waiter = self._outbox.acknowledged(packet_id)
        if waiter is not None and not waiter.done():
            if code >= ReasonCode.UNSPECIFIED_ERROR:
                waiter.set_exception(refusal(code, text))
            else:
                waiter.set_result(None)
        self._pump()

    def on_room(self) -> None:
        self._pump()

    # Reading

    def _read(self, feed: Queued[T]) -> Reader[T]:
        self._check_open()
        if feed.topic_filter in self._feeds:
            raise RuntimeError(f"there is an iterator of {feed.topic_filter} already")
        if len(self._feeds) >= self._limits.readers_max:
            raise RuntimeError(f"{self._limits.readers_max} iterators are open (readers_max)")
        reader = Reader(feed)
        self._feeds[feed.topic_filter] = feed
        self.ask(feed)
        self._offer_unclaimed()
        return reader

    def ask(self, feed: Feed) -> None:
        if self._link is None:
            return
        wanted = feed.wanted()
        positions = [(conversation, cursor.seq) for conversation, cursor in wanted.items() if cursor.seq is not None]
        packet_id = self._link.subscribe(feed.topic_filter, feed.qos, positions)
        self._asked[packet_id] = feed, list(wanted.values())
        for cursor in wanted.values():
            cursor.asked()

    def drop(self, feed: Feed) -> None:
        if self._feeds.get(feed.topic_filter) is feed:
            del self._feeds[feed.topic_filter]
            if self._link is not None:
                self._link.unsubscribe(feed.topic_filter)

    def leave(self, feed: Feed, unread: list[Delivery]) -> None:
        if not self._is_kept:
            self.drop(feed)
            for delivery in unread:
                delivery.acknowledge()
        elif self._feeds.get(feed.topic_filter) is feed:
            del self._feeds[feed.topic_filter]
            for delivery in unread:
                self._keep_unclaimed(delivery)

    def on_suback(self, packet_id: int, code: ReasonCode, text: str) -> None:
        if packet_id not in self._asked:
            return
        feed, cursors = self._asked.pop(packet_id)
        if code >= ReasonCode.UNSPECIFIED_ERROR:
            error = refusal(code, text or f"the subscription to {feed.topic_filter} was refused")
            feed.fail(error)
            if (signals := self._feeds.get(f"{feed.topic_filter}/live")) is not None:
                signals.fail(error)
            return
        feed.is_granted = True
        for cursor in cursors:
            cursor.answered()

    def has_doubts(self) -> bool:
        doubtful = (isinstance(feed, ConversationFeed) and feed.is_doubtful() for feed in self._feeds.values())
        return bool(self._unclaimed) or any(doubtful)

    def check(self) -> None:
        now = asyncio.get_running_loop().time()
        for feed in list(self._feeds.values()):
            if isinstance(feed, ConversationFeed):
                feed.check(now - self._limits.doubt_s)
        while self._unclaimed and self._unclaimed[0][0] <= now - self._limits.unclaimed_s:
            self._give_up_unclaimed()

    def on_publish(self, link: Link, publish: Publish) -> None:
        delivery = Delivery(publish.topic_name, publish.payload, link, publish.packet_id, publish.qos)
        feed = self._feed_of(publish.topic_name)
        if feed is not None:
            feed.deliver(delivery)
        elif self._is_kept and publish.qos:
            self._keep_unclaimed(delivery)
        else:
            delivery.acknowledge()

    def _feed_of(self, topic_name: str) -> Feed | None:
        feed = self._feeds.get(topic_name)
        return self._feeds.get(_ALL) if feed is None and topic_name.count("/") == 1 else feed

    def _keep_unclaimed(self, delivery: Delivery) -> None:
        """A kept session may bring events before the program has opened the iterator that they are for."""
        if delivery.topic_name in self._ignored:
            delivery.acknowledge()
            return
        if not self._unclaimed:
            delivery.link.nudge()
        self._unclaimed.append((delivery.link.now(), delivery))
        if len(self._unclaimed) > self._limits.unacknowledged_max:
            self._give_up_unclaimed()

    def _give_up_unclaimed(self) -> None:
        """Or what nobody reads would fill the window, and hold up what somebody does read."""
        _, delivery = self._unclaimed.popleft()
        delivery.acknowledge()
        if delivery.topic_name not in self._ignored:
            _log.warning("the session brings %s, which nobody reads: it is given up", delivery.topic_name)
            if len(self._ignored) >= self._limits.resumed_max:
                self._ignored.clear()
            self._ignored.add(delivery.topic_name)

    def _offer_unclaimed(self) -> None:
        self._ignored.clear()
        offered, self._unclaimed = self._unclaimed, deque()
        for at, delivery in offered:
            feed = self._feed_of(delivery.topic_name)
            if feed is None:
                self._unclaimed.append((at, delivery))
            else:
                feed.deliver(delivery)

    # Being connected

    async def _run(self) -> None:
        try:
            await self._keeper.run()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, RecadoError | OSError):
                _log.exception("the client ended")
            self._finish(error)

    def opened(self, link: Link, is_session_present: bool) -> None:
        self._link = link
        is_resumed = is_session_present and self._is_kept
        self._outbox.opened(min(link.receive_maximum, self._limits.pending_sends_max), is_resumed)
        for feed in list(self._feeds.values()):
            feed.reconnected(is_resumed)
            if not (is_resumed and feed.is_granted) or feed.wanted():
                self.ask(feed)
        if not self._first.done():
            self._first.set_result(None)
        self._pump()

    def lost(self) -> None:
        self._link = None
        self._outbox.lost()
        self._asked.clear()
        self._unclaimed.clear()
        self._ignored.clear()

    def _check_open(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)  # or it would grow with each time that it is raised
        if self._task is None:
            raise Closed("the client is not open yet: async with connect(...) as client")

    def _finish(self, error: BaseException) -> None:
        """Nothing goes on from here: whoever waits learns why."""
        if self._error is not None:
            return
        self._error = error
        for waiter in self._outbox.drain():
            if not waiter.done():
                waiter.set_exception(error)
        for feed in list(self._feeds.values()):
            feed.fail(error)
        if not self._first.done():
            self._first.set_exception(error)
