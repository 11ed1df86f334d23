"""The calls about people: display names, muting, the pages that they have open, and where they want to be notified."""

from typing import Any

from recado.chat import people
from recado.http.answer import Answer, json_answer
from recado.http.asked import Asked, Parameter
from recado.http.call import NO_CONTENT, Call
from recado.http.context import Door
from recado.http.shapes import (
    PresenceAnswer,
    PresenceBody,
    PushAnswer,
    SubscriptionAnswer,
    SubscriptionBody,
    UserAnswer,
    UserBody,
)


async def put_user(door: Door, asked: Asked[UserBody]) -> Answer:
    user, name = asked.path["user"], asked.body.name
    await people.name_user(door.chat, asked.principal, user, name)
    return json_answer(200, UserAnswer(user, name))


async def put_mute(door: Door, asked: Asked[None]) -> Answer:
    await people.mute(door.chat, asked.principal, asked.path["conversation"], muted=True)
    return NO_CONTENT


async def delete_mute(door: Door, asked: Asked[None]) -> Answer:
    await people.mute(door.chat, asked.principal, asked.path["conversation"], muted=False)
    return NO_CONTENT


async def put_presence(door: Door, asked: Asked[PresenceBody]) -> Answer:
    await people.report_page(door.chat, asked.principal, asked.body.page, visible=asked.body.visible)
    return json_answer(200, PresenceAnswer(door.chat.limits.presence_renew_s))


async def delete_presence(door: Door, asked: Asked[None]) -> Answer:
    await people.leave_page(door.chat, asked.principal, asked.path["page"])
    return NO_CONTENT


async def get_push(door: Door, _asked: Asked[None]) -> Answer:
    terms = door.chat.push_terms
    return json_answer(200, PushAnswer(None if terms is None else terms.public_key))


async def put_subscription(door: Door, asked: Asked[SubscriptionBody]) -> Answer:
    body = asked.body
    keys = body.keys
    is_new = await people.subscribe(door.chat, asked.principal, body.endpoint, keys.p256dh, keys.auth)
    return json_answer(201 if is_new else 200, SubscriptionAnswer(body.endpoint))


async def delete_subscription(door: Door, asked: Asked[None]) -> Answer:
    await people.unsubscribe(door.chat, asked.principal, asked.query.get("endpoint"))
    return NO_CONTENT


_MUTE = "/v1/conversations/{conversation}/mute"
_SUBSCRIPTIONS = "/v1/push/subscriptions"
_ENDPOINT = Parameter("endpoint", "text", "The subscription's endpoint. Needed.")

PEOPLE_CALLS: tuple[Call[Any], ...] = (
    Call(
        "PUT",
        "/v1/users/{user}",
        "putUser",
        "Give a user a display name; null takes it back.",
        "host",
        put_user,
        UserBody,
        {200: UserAnswer},
    ),
    Call(
        "PUT",
        _MUTE,
        "putMute",
        "Do not notify the caller of this conversation any more.",
        "member",
        put_mute,
        None,
        {204: None},
    ),
    Call(
        "DELETE",
        _MUTE,
        "deleteMute",
        "Notify the caller of this conversation again.",
        "member",
        delete_mute,
        None,
        {204: None},
    ),
    Call(
        "PUT",
        "/v1/presence",
        "putPresence",
        "A page is open, and on the screen or not: the caller is there.",
        "member",
        put_presence,
        PresenceBody,
        {200: PresenceAnswer},
        errors=("rate_limited",),
    ),
    Call(
        "DELETE",
        "/v1/presence/{page}",
        "deletePresence",
        "The page has been closed.",
        "member",
        delete_presence,
        None,
        {204: None},
        errors=("rate_limited",),
    ),
    Call(
        "GET",
        "/v1/push",
        "getPush",
        "What a browser needs to subscribe to web push.",
        "member",
        get_push,
        None,
        {200: PushAnswer},
    ),
    Call(
        "PUT",
        _SUBSCRIPTIONS,
        "putSubscription",
        "Notify the caller at this browser of messages that it is not looking at.",
        "member",
        put_subscription,
        SubscriptionBody,
        {201: SubscriptionAnswer, 200: SubscriptionAnswer},
        errors=("conflict",),
    ),
    Call(
        "DELETE",
        _SUBSCRIPTIONS,
        "deleteSubscription",
        "Do not notify the caller there any more.",
        "member",
        delete_subscription,
        None,
        {204: None},
        (_ENDPOINT,),
    ),
)
