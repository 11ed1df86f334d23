"""Server-sent events: one answer that goes on. The `id` of an event is what Last-Event-ID resumes at: the seq in the
stream of one conversation, the cursor in that of all.

A stream that cannot go on says why in an event of the type `end`, and is over; the client opens it again.
"""

from collections.abc import Iterable

from starlette.types import Send

from recado.chat import actions
from recado.chat.errors import ChatError, Invalid
from recado.chat.following import Delivery
from recado.chat.listener import Listener
from recado.http.answer import JSON_HEADERS, encode_json
from recado.http.asked import Asked, read_headers
from recado.http.context import Door
from recado.http.listening import last_words, listening, parse_cursor
from recado.http.polling import placed
from recado.http.refusals import ErrorBody

_HEADERS = [(b"content-type", b"text/event-stream"), *JSON_HEADERS[1:], (b"x-accel-buffering", b"no")]
_KEEPALIVE = b":\n\n"
_CHUNK_BYTES = 32 * 1024


def wants_stream(asked: Asked[None]) -> bool:
    """Whether the client asks for events."""
    headers = read_headers(asked.scope)
    return asked.scope["method"] == "GET" and headers.get(b"accept", b"").startswith(b"text/event-stream")


class EventStream:
    """`conversation` None is all of them."""

    def __init__(self, door: Door, asked: Asked[None], conversation: str | None) -> None:
        for name in asked.query:
            if name not in ("after", "cursor"):
                raise Invalid(f"{name} does not go with an event stream")
        self._door = door
        self._asked = asked
        self._conversation = conversation

    async def run(self, send: Send) -> None:
        """Raises what a call may raise before anything was sent, and nothing later."""
        with listening(self._door, self._asked.principal, "sse", self._asked.scope) as listener:
            begins_at = await self._follow(listener)
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._write(send, b"retry: %d\nid: %d\n\n" % (self._door.settings.sse_retry_ms, begins_at))
            try:
                await self._deliver(listener, send)
            except ChatError as error:
                end = encode_json(ErrorBody(error.code, error.message))
                async with last_words(self._asked.scope):
                    await self._write(send, b"event: end\ndata: %b\n\n" % end, is_last=True)

    async def _follow(self, listener: Listener) -> int:
        asked = self._asked
        last_event_id = read_headers(asked.scope).get(b"last-event-id", b"").decode("latin-1")
        if self._conversation is None:
            cursor = last_event_id or asked.query.get("cursor")
            return await listener.follow_all(None if cursor is None else parse_cursor(cursor))
        after = parse_cursor(last_event_id) if last_event_id else asked.number("after")
        if after is not None:
            actions.check_seq(after, "after")
        last_seq = await listener.follow(self._conversation, after)
        return last_seq if after is None else min(after, last_seq)

    async def _deliver(self, listener: Listener, send: Send) -> None:
        loop, keepalive_s = self._door.feed.loop, self._door.settings.sse_keepalive_s
        while True:
            deliveries = await listener.next(loop.time() + keepalive_s)
            for chunk in self._chunks(listener, deliveries) if deliveries else (_KEEPALIVE,):
                listener.is_full = True
                await self._write(send, chunk)
                listener.is_full = False

    def _chunks(self, listener: Listener, deliveries: list[Delivery]) -> Iterable[bytes]:
        """In pieces of about 32 KiB: the next waits until this one is taken, so that a removal still stops it."""
        chunk = bytearray()
        for delivery in deliveries:
            if delivery.conversation not in listener.parted:
                chunk += self._block(delivery)
            if len(chunk) >= _CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
        if chunk:
            yield bytes(chunk)

    def _block(self, delivery: Delivery) -> bytes:
        if self._conversation is not None:
            if delivery.seq:
                return b"id: %d\ndata: %b\n\n" % (delivery.seq, delivery.payload)
            return b"event: signal\ndata: %b\n\n" % delivery.payload
        if not delivery.seq:
            data = b'{"conversation":"%b","signal":%b}' % (delivery.conversation.encode(), delivery.payload)
            return b"event: signal\ndata: %b\n\n" % data
        position = b"" if delivery.cursor is None else b"id: %d\n" % delivery.cursor
        return b"%bdata: %b\n\n" % (position, placed(delivery))

    async def _write(self, send: Send, chunk: bytes, *, is_last: bool = False) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": not is_last})
