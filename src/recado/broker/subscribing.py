"""SUBSCRIBE and UNSUBSCRIBE: what is granted, and the retained messages and logs that come with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recado.broker.hooks import Refused
from recado.broker.sending import send_waiting, wait
from recado.broker.sessions import subscription_of
from recado.broker.storage import Change, DeleteSubscription, SaveSubscription
from recado.mqtt.packets import Suback, Subscribe, SubscriptionRequest, Unsuback, Unsubscribe
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ProtocolError, ReasonCode
from recado.mqtt.session import Session
from recado.mqtt.subscription import Subscription
from recado.mqtt.topics import has_wildcard, split_share, validate_topic_filter

if TYPE_CHECKING:
    from recado.broker.connection import Connection
    from recado.broker.server import Stored


def on_subscribe(connection: Connection, subscribe: Subscribe) -> None:
    connection.ask(_subscribe(connection, subscribe))


async def _subscribe(connection: Connection, subscribe: Subscribe) -> None:
    session = connection.session
    assert session is not None
    hooks = connection.server.hooks
    try:
        user_properties = subscribe.properties.get(PropertyId.USER_PROPERTY, [])
        positions = await hooks.resume_positions(session, user_properties) if user_properties else {}
        granted = [await _authorize(connection, session, each) for each in subscribe.subscriptions]
    except Refused as refusal:
        connection.count_refusal(refusal.reason_code)
        connection.disconnect(refusal.reason_code, refusal.text)
        return
    if session.connection is connection:
        await _start(connection, session, subscribe, granted, positions)


async def _authorize(connection: Connection, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
    """The granted QoS, or why not. Raises Refused if that cannot be said now."""
    server = connection.server
    limits = server.limits
    try:
        parts = validate_topic_filter(
            subscription.topic_filter, bytes_max=limits.topic_bytes_max, levels_max=limits.topic_levels_max
        )
    except ProtocolError as error:
        return error.reason_code
    if parts.share_name is not None and not server.hooks.shared_subscriptions:
        return ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    return await server.hooks.authorize_subscription(session, subscription)


async def _start(
    connection: Connection,
    session: Session,
    subscribe: Subscribe,
    granted: list[ReasonCode],
    positions: dict[str, int],
) -> None:
    """Subscribe and start to replay, with nothing published in between: so there is no gap and no double."""
    server = connection.server
    if len(session.cursors) + len(positions) > server.limits.log_cursors_max:
        text = f"a session may be behind in {server.limits.log_cursors_max} logs"
        raise ProtocolError(ReasonCode.QUOTA_EXCEEDED, text)
    identifier: int = subscribe.properties.get(PropertyId.SUBSCRIPTION_IDENTIFIER, 0)
    changes: list[Change] = []
    stored: list[Stored] = []
    reason_codes = [
        _subscribe_to(connection, session, request, identifier, reason_code, changes, stored)
        for request, reason_code in zip(subscribe.subscriptions, granted, strict=True)
    ]
    for topic_name, position in positions.items():
        if server.router.granted(session, topic_name) is not None:
            session.start_after(topic_name, position)
    is_stored = not changes or await server.commit(changes)
    if not is_stored:
        connection.disconnect(ReasonCode.SERVER_BUSY, "the server cannot write now; connect again")
    if not connection.is_closing():
        suback = Suback(subscribe.packet_id, reason_codes)
        connection.send(suback)  # [MQTT5-3.8.4-1] [MQTT311-3.8.4-1]
    server.stored(stored, is_stored)
    if not connection.is_closing():
        send_waiting(connection, session)
        server.read_on(connection)


def _subscribe_to(
    connection: Connection,
    session: Session,
    request: SubscriptionRequest,
    identifier: int,
    granted: ReasonCode,
    changes: list[Change],
    stored: list[Stored],
) -> ReasonCode:
    server = connection.server
    if granted < ReasonCode.UNSPECIFIED_ERROR and not _has_room(connection, session, request.topic_filter):
        granted = ReasonCode.QUOTA_EXCEEDED
    if granted >= ReasonCode.UNSPECIFIED_ERROR:
        connection.count_refusal(granted)
        return granted
    request.qos = min(request.qos, granted)
    subscription = subscription_of(session, request, identifier)
    is_new = server.router.subscribe(subscription)
    if session.key:
        changes.append(SaveSubscription(session.key, request, identifier))
    if request.retain_handling == 0 or (request.retain_handling == 1 and is_new):
        _send_retained(
            connection, session, subscription, changes, stored
        )  # [MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11]
    return granted


def _has_room(connection: Connection, session: Session, topic_filter: str) -> bool:
    """Whether there is room for a subscription, which one that replaces another needs not, and for what it brings."""
    server = connection.server
    limits = server.limits
    # Retained messages may pass the queue's bound, once: what one filter brings is bounded by what there is.
    if session.queue and len(session.queue) >= limits.queue_messages_max + len(server.retained):
        return False
    if topic_filter in session.subscriptions:
        return True
    if has_wildcard(topic_filter) and server.router.wildcards(session) >= limits.wildcards_max:
        return False
    return len(session.subscriptions) < limits.subscriptions_max


def _send_retained(
    connection: Connection,
    session: Session,
    subscription: Subscription,
    changes: list[Change],
    stored: list[Stored],
) -> None:
    share_name, topic_filter = split_share(subscription.topic_filter)
    server = connection.server
    if share_name is not None or not len(server.retained):
        return
    now_ms = time.time_ns() // 1_000_000
    retained = [
        each
        for each in server.retained.matching(topic_filter)
        if not each.has_expired(now_ms) and server.may_receive(session, each.topic_name)
    ]
    if session.key and subscription.qos:
        kept = [each for each in retained if each.qos]
        stored += server.enqueue_retained(session, subscription, kept, changes)
        retained = [each for each in retained if not each.qos]
    for publication in retained:
        qos = min(subscription.qos, publication.qos)
        wait(connection, session, (publication, qos, True, subscription.identifiers), is_bounded=False)


def on_unsubscribe(connection: Connection, unsubscribe: Unsubscribe) -> None:
    session = connection.session
    assert session is not None
    server = connection.server
    found = [server.router.unsubscribe(session, topic_filter) for topic_filter in unsubscribe.topic_filters]
    reason_codes = [ReasonCode.SUCCESS if each else ReasonCode.NO_SUBSCRIPTION_EXISTED for each in found]
    unsuback = Unsuback(unsubscribe.packet_id, reason_codes)
    changes: list[Change] = []
    if session.key:
        changes += [DeleteSubscription(session.key, each) for each in unsubscribe.topic_filters]
    connection.ask(_unsubscribed(connection, changes, unsuback))


async def _unsubscribed(connection: Connection, changes: list[Change], unsuback: Unsuback) -> None:
    if changes and not await connection.server.commit(changes):
        connection.disconnect(ReasonCode.SERVER_BUSY, "the server cannot write now; connect again")
    if not connection.is_closing():
        connection.send(unsuback)  # [MQTT5-3.10.4-4] [MQTT311-3.10.4-4]
