"""SUBSCRIBE and UNSUBSCRIBE: what is granted, and the retained messages and logs that come with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from recado.broker.hooks import Refused
from recado.broker.sending import forget_places, send_waiting, wait
from recado.broker.sessions import subscription_of
from recado.broker.storage import Change, DeleteSubscription, SaveSubscription, StartAfter
from recado.mqtt.packets import Suback, Subscribe, SubscriptionRequest, Unsuback, Unsubscribe
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ProtocolError, ReasonCode
from recado.mqtt.router import Router, levels_of
from recado.mqtt.session import Session
from recado.mqtt.subscription import Subscription
from recado.mqtt.topics import has_wildcard, split_share, validate_topic_filter

if TYPE_CHECKING:
    from recado.broker.connection import Connection
    from recado.broker.server import Pending, Server

_FILTERS_AT_ONCE = 20


def on_subscribe(connection: Connection, subscribe: Subscribe) -> None:
    connection.ask(_subscribe(connection, subscribe))


async def _subscribe(connection: Connection, subscribe: Subscribe) -> None:
    session = connection.session
    assert session is not None
    hooks = connection.server.hooks
    try:
        user_properties = subscribe.properties.get(PropertyId.USER_PROPERTY, [])
        positions = await hooks.resume_positions(session, user_properties) if user_properties else {}
        granted = []
        for count, each in enumerate(subscribe.subscriptions, 1):
            granted.append(await _authorize(connection, session, each))
            if count % _FILTERS_AT_ONCE == 0:
                await asyncio.sleep(0)  # the application may answer at once, and each answer may be dear
    except Refused as refusal:
        connection.count_refusal(refusal.reason_code, "subscribe_refused", detail=refusal.text)
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
    behind = {topic_name for topic_name, cursor in session.cursors.items() if cursor.behind} if positions else set()
    if len(behind | positions.keys()) > server.limits.log_cursors_max:
        text = f"a session may be behind in {server.limits.log_cursors_max} logs: ask for fewer at once"
        raise ProtocolError(ReasonCode.QUOTA_EXCEEDED, text)
    identifier: int = subscribe.properties.get(PropertyId.SUBSCRIPTION_IDENTIFIER, 0)
    step = _Step(connection, session)
    wanting: list[Subscription] = []
    reason_codes = [
        _subscribe_to(step, request, identifier, reason_code, wanting)
        for request, reason_code in zip(subscribe.subscriptions, granted, strict=True)
    ]
    for topic_name, position in positions.items():
        if server.router.granted(session, topic_name) is not None:
            session.start_after(topic_name, position)
            if session.key:
                server.cursors.forget(session, topic_name)
                forget_places(session, topic_name)
                step.changes.append(StartAfter(session.key, topic_name, position))
    step.answer = Suback(subscribe.packet_id, reason_codes)
    for subscription in wanting:  # with a turn for everybody else in between: to look through many topics takes time
        _add_retained(step, subscription)
        if not await step.done():
            return
        await asyncio.sleep(0)
        step = _Step(connection, session)
    await step.done()


class _Step:
    """One transaction of a SUBSCRIBE or UNSUBSCRIBE, and what is sent in the moment in which it is durable: its place
    among the publishes is the transaction's."""

    def __init__(self, connection: Connection, session: Session) -> None:
        self.connection = connection
        self.session = session
        self.answer: Suback | Unsuback | None = None
        self.changes: list[Change] = []
        self.pending: list[Pending] = []
        self.undo: list[Callable[[], object]] = []
        self._stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def done(self) -> bool:
        """Write it, if there is anything to write; False if there is no going on."""
        if self.changes:
            self.connection.server.store(*self.changes, done=self._settle)
        else:
            self._settle(True)
        is_stored = await self._stored
        return is_stored and self.session.connection is self.connection

    def _settle(self, is_stored: bool) -> None:
        connection, session = self.connection, self.session
        if not is_stored:
            for undo in self.undo:
                undo()
            connection.cannot_write()
        elif self.answer is not None and not connection.is_closing():
            connection.send(self.answer)  # [MQTT5-3.8.4-1] [MQTT311-3.8.4-1] [MQTT5-3.10.4-4] [MQTT311-3.10.4-4]
        for each in self.pending:
            each.settle(is_stored)
        if not connection.is_closing():
            send_waiting(connection, session)
            connection.server.read_on(connection)
        if not self._stored.done():
            self._stored.set_result(is_stored)


def _subscribe_to(
    step: _Step, request: SubscriptionRequest, identifier: int, granted: ReasonCode, wanting: list[Subscription]
) -> ReasonCode:
    connection, session = step.connection, step.session
    router = connection.server.router
    if granted < ReasonCode.UNSPECIFIED_ERROR and not _has_room(connection, session, request.topic_filter):
        granted = ReasonCode.QUOTA_EXCEEDED
    if granted >= ReasonCode.UNSPECIFIED_ERROR:
        connection.count_refusal(granted, "subscribe_refused", topic=request.topic_filter)
        return granted
    request.qos = min(request.qos, granted)
    former = session.subscriptions.get(request.topic_filter)
    subscription = subscription_of(session, request, identifier)
    is_new = router.subscribe(subscription)
    if session.key:
        step.changes.append(SaveSubscription(session.key, request, identifier))
        step.undo.append(partial(_restore, router, subscription, former))
    # [MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11]
    if request.retain_handling == 0 or (request.retain_handling == 1 and is_new):
        wanting.append(subscription)
    return granted


def _restore(router: Router, subscription: Subscription, former: Subscription | None) -> None:
    """The storage could not keep a subscription."""
    session = subscription.session
    if session.subscriptions.get(subscription.topic_filter) is not subscription:
        return
    if former is None:
        router.unsubscribe(session, subscription.topic_filter)
    else:
        router.subscribe(former)


def _has_room(connection: Connection, session: Session, topic_filter: str) -> bool:
    """Whether there is room for a subscription, which one that replaces another needs not, and for what it brings."""
    server = connection.server
    limits = server.limits
    # Retained messages may pass the queue's bound, once: what one filter brings is bounded by what there is.
    if session.queue and len(session.queue) >= limits.queue_messages_max + len(server.retained):
        return False
    if topic_filter in session.subscriptions:
        return True
    if has_wildcard(topic_filter) and (
        server.router.wildcards(session) >= limits.wildcards_max
        or server.router.wildcard_levels(session) + levels_of(topic_filter) > limits.wildcard_levels_max
    ):
        return False
    return len(session.subscriptions) < limits.subscriptions_max


def _add_retained(step: _Step, subscription: Subscription) -> None:
    connection, session = step.connection, step.session
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
        server.enqueue_retained(session, subscription, kept, step.changes, step.pending)
        retained = [each for each in retained if not each.qos]
    for publication in retained:
        qos = min(subscription.qos, publication.qos)
        wait(connection, session, (publication, qos, True, subscription.identifiers), is_bounded=False)


def on_unsubscribe(connection: Connection, unsubscribe: Unsubscribe) -> None:
    session = connection.session
    assert session is not None
    router = connection.server.router
    step = _Step(connection, session)
    reason_codes = []
    for topic_filter in unsubscribe.topic_filters:
        former = session.subscriptions.get(topic_filter)
        reason_codes.append(ReasonCode.NO_SUBSCRIPTION_EXISTED if former is None else ReasonCode.SUCCESS)
        if former is not None:
            router.unsubscribe(session, topic_filter)
            if session.key:
                step.changes.append(DeleteSubscription(session.key, topic_filter))
                step.undo.append(partial(_keep, connection.server, former))
    _leave_logs(connection.server, session)
    step.answer = Unsuback(unsubscribe.packet_id, reason_codes)
    connection.ask(_unsubscribed(step))


def _leave_logs(server: Server, session: Session) -> None:
    """In the logs that no subscription brings any more the session is nowhere."""

    def is_read(topic_name: str) -> bool:
        return server.router.granted(session, topic_name) is not None

    for topic_name in [each for each in session.cursors if not is_read(each)]:
        del session.cursors[topic_name]
    if session.key:
        server.cursors.forget_unless(session, is_read)


def _keep(server: Server, former: Subscription) -> None:
    """The storage could not forget a subscription: the session has it still, unless that has ended meanwhile."""
    if former.session in server.sessions:
        server.router.subscribe(former)


async def _unsubscribed(step: _Step) -> None:
    await step.done()
