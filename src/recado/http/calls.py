"""Every call of the HTTP door, in one table: `CALLS`. The routes and `/openapi.json` are made from it, so a call cannot
be served without being described.
"""

from contextlib import suppress
from typing import Any

from recado.chat import actions
from recado.chat.conversation import ConversationView
from recado.chat.errors import Forbidden, Invalid, Unavailable
from recado.chat.event import Event, encode_event
from recado.chat.ids import check_id
from recado.http import metrics
from recado.http.admin import ADMIN_CALLS
from recado.http.answer import Answer, json_answer
from recado.http.asked import Asked, Parameter
from recado.http.call import JSON_TEXT, NO_CONTENT, PLAIN_TEXT, Call
from recado.http.context import Door
from recado.http.metrics_access import check_may_read_metrics
from recado.http.people import PEOPLE_CALLS
from recado.http.polling import poll_all, poll_conversation
from recado.http.session import session_answer
from recado.http.shapes import (
    ConversationBody,
    ConversationsAnswer,
    DeliveredBody,
    EditBody,
    EventsAnswer,
    FeedAnswer,
    HealthAnswer,
    MessageBody,
    ReadAnswer,
    ReadBody,
    ReceiptAnswer,
    SessionAnswer,
    TokenAnswer,
    TokenBody,
)
from recado.http.streaming import EventStream, wants_stream


async def send_message(door: Door, asked: Asked[MessageBody]) -> Answer:
    draft = asked.body.draft()
    sent = await actions.send_message(door.chat, asked.principal, asked.path["conversation"], draft)
    return Answer(201 if sent.created else 200, encode_event(sent.event))


async def edit_message(door: Door, asked: Asked[EditBody]) -> Answer:
    conversation, seq = asked.path["conversation"], asked.path_number("seq")
    changed = await actions.edit_message(door.chat, asked.principal, conversation, seq, asked.body.body)
    return Answer(200, encode_event(changed.event))


async def delete_message(door: Door, asked: Asked[None]) -> Answer:
    conversation, seq = asked.path["conversation"], asked.path_number("seq")
    changed = await actions.delete_message(door.chat, asked.principal, conversation, seq)
    return Answer(200, encode_event(changed.event))


async def put_conversation(door: Door, asked: Asked[ConversationBody]) -> Answer:
    draft = asked.body.draft()
    view, created = await actions.put_conversation(door.chat, asked.principal, asked.path["conversation"], draft)
    return json_answer(201 if created else 200, view)


async def post_conversation(door: Door, asked: Asked[ConversationBody]) -> Answer:
    view, _ = await actions.put_conversation(door.chat, asked.principal, None, asked.body.draft())
    return json_answer(201, view)


async def list_conversations(door: Door, asked: Asked[None]) -> Answer:
    limit = asked.number("limit")
    page = await actions.list_conversations(door.chat, asked.principal, asked.query.get("cursor"), limit)
    return json_answer(200, ConversationsAnswer(page.conversations, page.next_cursor))


async def get_conversation(door: Door, asked: Asked[None]) -> Answer:
    return json_answer(200, await actions.read_conversation(door.chat, asked.principal, asked.path["conversation"]))


async def delete_conversation(door: Door, asked: Asked[None]) -> Answer:
    await actions.erase_conversation(door.chat, asked.principal, asked.path["conversation"])
    return NO_CONTENT


async def delete_user(door: Door, asked: Asked[None]) -> Answer:
    await actions.erase_user(door.chat, asked.principal, asked.path["user"])
    return NO_CONTENT


async def delete_sessions(door: Door, asked: Asked[None]) -> Answer:
    await actions.end_sessions(door.chat, asked.principal, asked.path["user"])
    return NO_CONTENT


async def put_member(door: Door, asked: Asked[None]) -> Answer:
    path = asked.path
    view, added = await actions.add_member(door.chat, asked.principal, path["conversation"], path["user"])
    return json_answer(201 if added else 200, view)


async def delete_member(door: Door, asked: Asked[None]) -> Answer:
    path = asked.path
    return json_answer(200, await actions.remove_member(door.chat, asked.principal, path["conversation"], path["user"]))


async def get_events(door: Door, asked: Asked[None]) -> Answer | EventStream:
    if wants_stream(asked):
        return EventStream(door, asked, asked.path["conversation"])
    if "wait" in asked.query:
        return await poll_conversation(door, asked)
    after, before, limit = (asked.number(name) for name in ("after", "before", "limit"))
    conversation = asked.path["conversation"]
    page = await actions.read_events(door.chat, asked.principal, conversation, after, before, limit)
    receipts = [
        ReceiptAnswer(each.user, each.delivered_up_to, each.read_up_to)
        for each in await actions.read_receipts(door.chat, asked.principal, conversation)
    ]
    return json_answer(200, EventsAnswer(page.events, page.last_seq, receipts or None))


async def get_feed(door: Door, asked: Asked[None]) -> Answer | EventStream:
    return EventStream(door, asked, None) if wants_stream(asked) else await poll_all(door, asked)


async def put_read(door: Door, asked: Asked[ReadBody]) -> Answer:
    mark = await actions.mark_read(door.chat, asked.principal, asked.path["conversation"], asked.body.seq)
    unread_count = await actions.count_unread(door.chat, asked.principal, asked.path["conversation"], mark.read_up_to)
    return json_answer(200, ReadAnswer(mark.read_up_to, unread_count))


async def put_delivered(door: Door, asked: Asked[DeliveredBody]) -> Answer:
    await actions.report_delivered(door.chat, asked.principal, asked.path["conversation"], asked.body.seq)
    return NO_CONTENT


async def post_typing(door: Door, asked: Asked[None]) -> Answer:
    await actions.signal_typing(door.chat, asked.principal, asked.path["conversation"])
    return NO_CONTENT


async def get_session(door: Door, asked: Asked[None]) -> Answer:
    if asked.principal.is_host:
        raise Forbidden("a session belongs to a user: use a user's token, from POST /v1/tokens")
    return json_answer(200, await session_answer(door.settings, asked.principal.require_user(), asked))


async def post_token(door: Door, asked: Asked[TokenBody]) -> Answer:
    asked.principal.require_host()
    user = check_id(asked.body.user, "user")
    ttl_s = door.settings.token_ttl_s_default if asked.body.ttl_s is None else asked.body.ttl_s
    if not 1 <= ttl_s <= door.settings.token_ttl_s_max:
        raise Invalid(f"ttl_s must be 1 to {door.settings.token_ttl_s_max}, not {ttl_s}")
    token, expires_at = door.access.mint(user, ttl_s)
    return json_answer(201, TokenAnswer(token, user, expires_at))


async def get_health(_door: Door, _asked: Asked[None]) -> Answer:
    return json_answer(200, HealthAnswer("ok"))


async def get_readiness(door: Door, _asked: Asked[None]) -> Answer:
    await actions.check_ready(door.chat)
    return json_answer(200, HealthAnswer("ready"))


async def get_metrics(door: Door, asked: Asked[None]) -> Answer:
    check_may_read_metrics(door.access, asked.scope, is_behind_proxy=door.settings.public_url is not None)
    with suppress(Unavailable):  # what this process counts is there without it
        metrics.show_jobs(await door.chat.store.count_jobs(), door.chat.now_ms())
    return metrics.render()


async def get_openapi(door: Door, _asked: Asked[None]) -> Answer:
    return Answer(200, door.openapi)


AFTER = Parameter("after", "seq", "Only events past this seq: the first `limit` of them.")
BEFORE = Parameter("before", "seq", "Only events before this seq: without `after`, the newest `limit` of them.")
LIMIT = Parameter("limit", "limit", "At most so many.")
WAIT = Parameter(
    "wait", "wait", "Hold the request for so many seconds, until there is something past `after` or `cursor`."
)
POSITION = Parameter("cursor", "text", "`cursor` of the answer before. Without it: where it is now, and no events.")
CURSOR = Parameter("cursor", "text", "`next_cursor` of the page before.")

_CONVERSATION = "/v1/conversations/{conversation}"
_MEMBER = _CONVERSATION + "/members/{user}"
_MESSAGE = _CONVERSATION + "/messages/{seq}"
_USER = "/v1/users/{user}"

# Routes are tried in this order: sending a message, which is most of the traffic, comes first.
CALLS: tuple[Call[Any], ...] = (
    Call(
        "POST",
        _CONVERSATION + "/messages",
        "sendMessage",
        "Send a message. 200 means that this sender had sent this id before: the first event comes back.",
        "member",
        send_message,
        MessageBody,
        {201: Event, 200: Event},
    ),
    Call(
        "GET",
        _CONVERSATION + "/events",
        "getEvents",
        "The log: history, and what was missed.",
        "member",
        get_events,
        None,
        {200: EventsAnswer, 204: None},
        (AFTER, BEFORE, LIMIT, WAIT),
        errors=("rate_limited",),
        streams=True,
    ),
    Call(
        "GET",
        "/v1/events",
        "getFeed",
        "What happens in all the caller's conversations, past one cursor.",
        "member",
        get_feed,
        None,
        {200: FeedAnswer, 204: None},
        (POSITION, WAIT),
        errors=("rate_limited",),
        streams=True,
    ),
    Call(
        "PATCH",
        _MESSAGE,
        "patchMessage",
        "Give a message another body: the sender for a while, the host acting as itself at any time.",
        "member",
        edit_message,
        EditBody,
        {200: Event},
        errors=("conflict",),
    ),
    Call(
        "DELETE",
        _MESSAGE,
        "deleteMessage",
        "Erase a message's body: the sender for a while, the host acting as itself at any time.",
        "member",
        delete_message,
        None,
        {200: Event},
        errors=("conflict",),
    ),
    Call(
        "PUT",
        _CONVERSATION + "/read",
        "putRead",
        "Move the caller's read cursor forward. It never goes back.",
        "member",
        put_read,
        ReadBody,
        {200: ReadAnswer},
        errors=("rate_limited",),
    ),
    Call(
        "PUT",
        _CONVERSATION + "/delivered",
        "putDelivered",
        "Say how far the log has reached one of the caller's devices. Connections of this server need not: it sees it.",
        "member",
        put_delivered,
        DeliveredBody,
        {204: None},
    ),
    Call(
        "POST",
        _CONVERSATION + "/typing",
        "postTyping",
        "Tell the members who are there that the caller is typing.",
        "member",
        post_typing,
        None,
        {204: None},
        errors=("rate_limited",),
    ),
    Call(
        "GET",
        "/v1/conversations",
        "listConversations",
        "The caller's conversations, newest activity first.",
        "member",
        list_conversations,
        None,
        {200: ConversationsAnswer},
        (LIMIT, CURSOR),
    ),
    Call(
        "POST",
        "/v1/conversations",
        "postConversation",
        "Create a conversation whose id the server makes.",
        "host",
        post_conversation,
        ConversationBody,
        {201: ConversationView},
    ),
    Call(
        "GET",
        _CONVERSATION,
        "getConversation",
        "One conversation, as the caller sees it.",
        "member",
        get_conversation,
        None,
        {200: ConversationView},
    ),
    Call(
        "PUT",
        _CONVERSATION,
        "putConversation",
        "Create the conversation, or bring its subject and metadata up to date. Idempotent.",
        "host",
        put_conversation,
        ConversationBody,
        {201: ConversationView, 200: ConversationView},
        errors=("conflict",),
    ),
    Call(
        "DELETE",
        _CONVERSATION,
        "deleteConversation",
        "Erase the conversation: its members, its log, everything but its id, which is never used again.",
        "host",
        delete_conversation,
        None,
        {204: None},
    ),
    Call(
        "PUT",
        _MEMBER,
        "putMember",
        "Add a member. 200 means that the user was one already.",
        "host",
        put_member,
        None,
        {201: ConversationView, 200: ConversationView},
        errors=("too_large",),
    ),
    Call(
        "DELETE",
        _MEMBER,
        "deleteMember",
        "Remove a member. From then on nothing of the conversation reaches the user.",
        "host",
        delete_member,
        None,
        {200: ConversationView},
    ),
    Call(
        "DELETE",
        _USER,
        "deleteUser",
        "Erase everything of a user: messages become deleted entries, memberships and sessions end.",
        "host",
        delete_user,
        None,
        {204: None},
    ),
    Call(
        "DELETE",
        _USER + "/sessions",
        "deleteSessions",
        "Cut off the user's connections now and end the sessions that would outlive them. It may connect again.",
        "host",
        delete_sessions,
        None,
        {204: None},
    ),
    Call(
        "GET",
        "/v1/session",
        "getSession",
        "How this user connects: URLs, MQTT credentials and topics.",
        "user",
        get_session,
        None,
        {200: SessionAnswer},
    ),
    Call(
        "POST",
        "/v1/tokens",
        "postToken",
        "Make a token for a user.",
        "host",
        post_token,
        TokenBody,
        {201: TokenAnswer},
    ),
    *PEOPLE_CALLS,
    *ADMIN_CALLS,
    Call("GET", "/healthz", "getHealth", "The process is alive.", "anyone", get_health, None, {200: HealthAnswer}),
    Call(
        "GET",
        "/readyz",
        "getReadiness",
        "The store takes writes.",
        "anyone",
        get_readiness,
        None,
        {200: HealthAnswer},
        errors=("unavailable",),
    ),
    Call(
        "GET",
        "/metrics",
        "getMetrics",
        "Metrics for Prometheus; from this machine, or with the API key.",
        "anyone",
        get_metrics,
        None,
        {200: PLAIN_TEXT},
        errors=("unauthenticated", "forbidden"),
    ),
    Call("GET", "/openapi.json", "getOpenapi", "This description.", "anyone", get_openapi, None, {200: JSON_TEXT}),
)
