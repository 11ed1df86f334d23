"""Long polling: a request that is held until there is something to answer, or its `wait` is over.

An answer of nothing is 204 without a body, as small as HTTP allows. That the server stops meanwhile is no error: the
client asks again, and goes on where it was.
"""

from recado.chat import actions
from recado.chat.errors import Invalid
from recado.chat.feed import Stopping
from recado.chat.following import Delivery
from recado.chat.listener import Listener
from recado.http.answer import JSON_HEADERS, Answer, json_answer
from recado.http.asked import Asked
from recado.http.context import Door
from recado.http.listening import listening, parse_cursor
from recado.http.shapes import EventsAnswer, FeedAnswer

NOTHING_NEW = Answer(204, None, ((b"cache-control", b"no-store"),), is_held=True)


async def poll_conversation(door: Door, asked: Asked[None]) -> Answer:
    """The first events past `after`, once there are any; without it the newest."""
    if asked.number("before") is not None:
        raise Invalid("before does not go with wait: what is before a seq does not grow")
    conversation, after = asked.path["conversation"], asked.number("after")
    size = actions.page_size(door.chat, asked.number("limit"))
    until = _until(door, asked)
    with listening(door, asked.principal, "poll", asked.scope) as listener:
        if after is None:
            page = await actions.read_events(door.chat, asked.principal, conversation, None, None, size)
            if page.events:
                return json_answer(200, EventsAnswer(page.events, page.last_seq))
            after = 0
        actions.check_seq(after, "after")
        last_seq = await listener.follow(conversation, after)
        if after > last_seq:  # of a log that is gone: the client is to see it now
            return json_answer(200, EventsAnswer([], last_seq))
        deliveries = await _next(listener, until)
    if not deliveries:
        return NOTHING_NEW
    events = b",".join(delivery.payload for delivery in deliveries[:size])
    return _answer(b'{"events":[%b],"last_seq":%d}' % (events, max(last_seq, deliveries[-1].seq)))


async def poll_all(door: Door, asked: Asked[None]) -> Answer:
    """The first events past the cursor in all the caller's conversations, once there are any; without a cursor where
    it is now, at once."""
    text = asked.query.get("cursor")
    cursor = None if text is None else parse_cursor(text)
    until = _until(door, asked)
    with listening(door, asked.principal, "poll", asked.scope) as listener:
        now = await listener.follow_all(cursor)
        if cursor is None:
            return json_answer(200, FeedAnswer([], str(now)))
        deliveries = await _next(listener, until)
        if not deliveries:
            return NOTHING_NEW
        listener.note_caught_up()  # so that the next poll, which comes at once, reads nothing
        events = b",".join(placed(delivery) for delivery in deliveries)
        return _answer(b'{"events":[%b],"cursor":"%d"}' % (events, listener.cursor()))


def placed(delivery: Delivery) -> bytes:
    """The event with its conversation, whose id needs no escaping."""
    return b'{"conversation":"%b","event":%b}' % (delivery.conversation.encode(), delivery.payload)


async def _next(listener: Listener, until: float) -> list[Delivery]:
    try:
        return await listener.next(until)
    except Stopping:
        return []


def _until(door: Door, asked: Asked[None]) -> float:
    wait_s, most = asked.number("wait") or 0, door.settings.wait_max_s
    if wait_s > most:
        raise Invalid(f"wait must be 0 to {most} seconds, not {wait_s}")
    return door.feed.loop.time() + wait_s


def _answer(body: bytes) -> Answer:
    return Answer(200, body, JSON_HEADERS, is_held=True)
