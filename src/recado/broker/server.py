"""The MQTT server: its connections, its sessions, and the fan-out of publications to them.

Fan-out writes to transports and never waits for one. What a session has no room for is read on for it (`reading`)
by one task while there is something to read and room to send it; there is no task, timer or thread for an idle
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, cast

from recado.broker import addressing, reading, receiving, sending
from recado.broker.connection import Connection
from recado.broker.counters import Counters
from recado.broker.cursors import Cursors
from recado.broker.deadlines import Deadlines
from recado.broker.forwarding import Forwarding
from recado.broker.holds import CONGESTED, TOO_FAST
from recado.broker.hooks import ROUTE, Hooks, Outcome, Refused
from recado.broker.limits import BrokerLimits
from recado.broker.publication import Frame, Publication
from recado.broker.queue_room import QueueRoom
from recado.broker.refusal_log import RefusalLog
from recado.broker.retaining import RetainedChange, Retaining
from recado.broker.sending import PendingDelivery
from recado.broker.sessions import Sessions
from recado.broker.storage import (
    Change,
    EndSession,
    Enqueue,
    Entry,
    QueueStorage,
    Received,
    Storage,
    StorageFailed,
)
from recado.broker.sys_topics import SysTopics
from recado.mqtt.packets import Publish, Will
from recado.mqtt.properties import EMPTY_PROPERTIES, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.router import Router
from recado.mqtt.session import Session
from recado.mqtt.subscription import Subscription

_log = logging.getLogger(__name__)
_NOT_FORWARDED = {
    PropertyId.TOPIC_ALIAS,
    PropertyId.MESSAGE_EXPIRY_INTERVAL,
    PropertyId.WILL_DELAY_INTERVAL,
}
_SUCCESS = Outcome(ReasonCode.SUCCESS)


class Server:
    """`storage` keeps sessions and retained messages; without one, no session outlives its connection."""

    def __init__(self, hooks: Hooks, limits: BrokerLimits, storage: Storage | None = None) -> None:
        self.hooks = hooks
        self.limits = limits
        self.storage = storage
        self.on_acknowledged = hooks.on_acknowledged
        self.counters = Counters()
        self.refusal_log = RefusalLog(limits.refusal_log_rate_max)
        self.deadlines = Deadlines()
        self.router = Router(limits.routes_max, limits.route_targets_max)
        self.router.may_receive = hooks.may_receive
        self.retained = Retaining(self)
        self.sessions = Sessions(self)
        self.queue_room = QueueRoom(self)
        self.reads = asyncio.Semaphore(limits.reads_max)
        self.cursors = Cursors(self)
        self.sys_topics = SysTopics(self)
        self.forwarding = Forwarding()
        self._last_position = 0
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._until_tick: list[Connection] = []
        self._connects_this_tick = 0
        self._stopping = False
        self._emptied = asyncio.Event()
        self._ticker = asyncio.get_running_loop().call_later(1, self._tick)

    async def start(self) -> None:
        """Take up what the storage has, before the first listener opens. Raises StorageFailed."""
        if self.storage is None:
            return
        stored = await self.storage.load()
        self._last_position = stored.last_position
        for publication in stored.retained:
            self.retained.load(publication)
        self.sessions.load(stored.sessions, stored.last_key)

    def _tick(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(1, self._tick)
        self._connects_this_tick = 0
        self.deadlines.advance()
        waiting, self._until_tick = self._until_tick, []
        for connection in waiting:
            if not connection.is_closing():
                connection.release(TOO_FAST)

    def wait_for_tick(self, connection: Connection) -> None:
        """Do not read the connection until the next second begins."""
        if not connection.held & TOO_FAST:
            self._until_tick.append(connection)
            connection.hold(TOO_FAST)

    def slow_down(self, session: Session) -> None:
        """For a hook that takes more than it would like: nothing more is read from the session's connection within this
        second, and nothing is lost."""
        connection: Connection | None = session.connection
        if connection is not None:
            self.wait_for_tick(connection)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a piece of work to its end; an error in it is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of the MQTT server failed", exc_info=error)

    # Connections

    def admit(self, connection: Connection) -> bool:
        """Whether a transport that has just opened may stay."""
        listener = connection.listener
        if self._stopping:
            refusal = "SERVER_SHUTTING_DOWN"
        elif len(self._connections) >= self.limits.connections_max:
            refusal = "CONNECTIONS_MAX"
        elif listener.connections >= listener.connections_max:
            refusal = "LISTENER_CONNECTIONS_MAX"
        else:
            self._connections.add(connection)
            listener.connections += 1
            self.counters.connections[listener.name] += 1
            self.counters.connections_total[listener.name] += 1
            return True
        self.counters.refusals[refusal] += 1
        self.refusal_log.of(connection, "connection_refused", refusal)
        return False

    def check_connection_rate(self) -> None:
        """Raises Refused if more than `connection_rate_max` CONNECTs came within this second."""
        self._connects_this_tick += 1
        if self._connects_this_tick > self.limits.connection_rate_max:
            text = f"more than {self.limits.connection_rate_max} clients connect in a second; try again"
            raise Refused(ReasonCode.CONNECTION_RATE_EXCEEDED, text)

    def forget(self, connection: Connection) -> None:
        """The transport is gone."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if self._stopping and not self._connections:
            self._emptied.set()
        connection.listener.connections -= 1
        self.counters.connections[connection.listener.name] -= 1
        self.sessions.detach(connection, None)

    def disconnect_user(self, user: str, reason_code: ReasonCode, text: str) -> None:
        """Cut off the connections of a user, at once."""
        for session in self.sessions.of(user):
            cut_off = session.connection or session.claimant
            if cut_off is not None:
                cut_off.disconnect(reason_code, text)

    async def end_sessions(self, user: str, reason_code: ReasonCode, text: str) -> None:
        """Cut off the connections of a user, and end the sessions that would outlive them: for good, when it returns.
        Raises StorageFailed if that could not be stored; it is tried again as long as the server runs."""
        self.disconnect_user(user, reason_code, text)
        for session in self.sessions.of(user):
            self.sessions.end(session)
        ending = [EndSession(key) for key in self.sessions.ending_keys(user)]
        if ending and not await self.commit(ending):
            raise StorageFailed("the end of the sessions could not be stored")

    def cut_off(self, connection: Connection, reason_code: ReasonCode, text: str) -> None:
        """Disconnect once the fan-out that is going on is over: it may not lose a session under its hands."""
        connection.count_refusal(reason_code, detail=text)
        asyncio.get_running_loop().call_soon(connection.disconnect, reason_code, text)

    # Permissions

    def may_receive(self, session: Session, topic_name: str) -> bool:
        return self.hooks.may_receive is None or self.hooks.may_receive(session, topic_name)

    def permissions_changed(self) -> None:
        """What `may_receive` said before does not hold any more."""
        self.router.forget_routes()

    # Storage

    @property
    def queues(self) -> QueueStorage:
        """The storage of a server whose hooks have publishes routed, and sessions queued for."""
        return cast(QueueStorage, self.storage)

    def store(self, *changes: Change, done: Callable[[bool], None] | None = None) -> None:
        """Write a transaction; see `Storage.write`."""
        assert self.storage is not None
        self.storage.write(changes, partial(self._written, done))

    async def commit(self, changes: Sequence[Change]) -> bool:
        """Write a transaction; True once it is durable, False if nothing of it was kept."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.store(*changes, done=partial(_set_result, stored))
        return await stored

    def _written(self, done: Callable[[bool], None] | None, is_stored: bool) -> None:
        if not is_stored:
            self.counters.storage_failures += 1
        if done is not None:
            done(is_stored)

    # Publications

    def publish_from(self, session: Session, publish: Publish, wire: Frame | None = None) -> Outcome | None:
        """Send a client's publish to whoever subscribed. None: it is answered once what it changes is durable.

        `wire` has its bytes, if others of its level may get them as they are."""
        if publish.properties or publish.topic_name not in self.forwarding.good:
            unwelcome = self.forwarding.refusal(publish.topic_name, publish.properties)
            if unwelcome is not None:
                return unwelcome
        publication = _publication_of(publish)
        if wire is not None:
            publication.use_wire(session.connection.protocol_level, wire)
        changes: list[Change] = []
        pending: list[Pending] = []
        waits = session.key != 0 and publish.qos == 2
        if waits:
            changes.append(Received(session.key, publish.packet_id))
        if publish.retain and (refusal := self.retained.retain(publication, changes, pending)) is not None:
            return refusal
        self._route(publication, session, changes, pending, waits)
        if not changes:
            return _SUCCESS
        answer = partial(receiving.answer_stored, session.connection, session, publish)
        self.store(*changes, done=partial(_settle_and_answer, pending, answer))
        return None

    def publish(self, publication: Publication, origin: Session | None = None) -> Outcome:
        """Send a publication to whoever subscribed, and retain it if it says so; returns why not, if so."""
        changes: list[Change] = []
        pending: list[Pending] = []
        if publication.retain and (refusal := self.retained.retain(publication, changes, pending)) is not None:
            return refusal
        self._route(publication, origin, changes, pending)
        if changes:
            self.store(*changes, done=partial(_settle, pending))
        return _SUCCESS

    def publish_of_its_own(self, publication: Publication) -> None:
        """Send and retain what the server says about itself, at QoS 0; it is no client's, and never in the storage."""
        self.retained.tell(publication)
        self._route(publication, None, [], [])

    def publish_will(self, session: Session, will: Will) -> None:
        """Publish a session's will, if its user may do so now."""
        publish = Publish(will.topic_name, will.payload, will.qos, will.retain, properties=will.properties)
        try:
            outcome = self.hooks.on_publish(session, publish)
            if outcome is ROUTE:
                outcome = self.publish(_publication_of(publish), session)
        except Exception:  # whoever ends a session goes on ending it
            _log.exception("a will could not be published")
            return
        if outcome is None or outcome.reason_code < ReasonCode.UNSPECIFIED_ERROR:
            self.counters.wills += 1
        else:
            self.counters.refusals[outcome.reason_code.name] += 1
            who = {"user": session.user, "client_id": session.client_id}
            self.refusal_log.log(
                "publish_refused", outcome.reason_code.name, **who, topic=will.topic_name, detail="will"
            )

    def _route(
        self,
        publication: Publication,
        origin: Session | None,
        changes: list[Change],
        pending: list[Pending],
        waits: bool = False,
    ) -> None:
        """Send a publication to those who have no storage, and add to `changes` and `pending` what the others get.

        If it `waits`, it goes to nobody before `changes` are durable: if they cannot be, it comes again, and is still
        new.
        """
        route = self.router.route(publication.topic_name)
        deliveries: list[PendingDelivery] = []
        counters = self.counters
        published_qos = publication.qos
        is_plain = not (publication.expires_at_ms or waits)
        level = qos = -1
        head = tail = b""
        for subscription in route.subscriptions:
            session = subscription.session
            connection = session.connection
            granted_qos = subscription.qos if subscription.qos < published_qos else published_qos
            try:
                # What most deliveries are, in line: no options, nothing to store, room to send. It does what `_send_to`
                # does, in a third of the time.
                if (
                    is_plain
                    and subscription.plain
                    and connection is not None
                    and connection.aliases is None
                    and not connection.held & CONGESTED
                    and not (session.key and published_qos)
                ):
                    if connection.protocol_level != level or granted_qos != qos:
                        level, qos = connection.protocol_level, granted_qos
                        head, tail = publication.frame(level, qos)
                    if len(head) + len(tail) + (2 if qos else 0) <= connection.packet_bytes_max:
                        if not qos:
                            counters.delivered += 1
                            connection.write(head)
                            continue
                        if not session.queue and len(session.inflight) < session.receive_maximum:
                            counters.delivered += 1
                            connection.write(head + session.sending(publication, qos).to_bytes(2) + tail)
                            continue
                self._send_to(subscription, publication, origin, deliveries, waits)
            except Exception:
                sending.failed_to_deliver(connection)
        for group in route.groups:
            member = group.next(_is_ready)
            if member is not None:
                try:
                    self._send_to(member, publication, None, deliveries, waits)
                except Exception:
                    sending.failed_to_deliver(member.session.connection)
        if deliveries:
            entries = [each.entry for each in deliveries if each.entry.key]
            if entries:
                changes.append(self._enqueued(publication, entries))
            pending += deliveries

    def _send_to(
        self,
        subscription: Subscription,
        publication: Publication,
        origin: Session | None,
        deliveries: list[PendingDelivery],
        waits: bool,
    ) -> None:
        session = subscription.session
        if session is origin:
            own = subscription.own()
            if own is None:
                return
            subscription = own
        qos = min(subscription.qos, publication.qos)  # [MQTT5-3.8.4-8] [MQTT311-3.8.4-6]
        retain = publication.retain and subscription.retain_as_published  # [MQTT5-3.3.1-12] [MQTT5-3.3.1-13]
        connection = session.connection
        if qos and session.key:
            self._keep(session, publication, qos, retain, subscription.identifiers, deliveries)
        elif waits:
            entry = Entry(0, 0, qos, retain, subscription.identifiers)
            deliveries.append(PendingDelivery(session, connection, publication, entry))
        elif connection is not None:
            sending.deliver(connection, session, publication, qos, retain, subscription.identifiers)

    def _keep(
        self,
        session: Session,
        publication: Publication,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...],
        deliveries: list[PendingDelivery],
    ) -> None:
        if not self.queue_room.has_room(session, publication.size):
            self.counters.queue_full += 1
            who = {"user": session.user, "client_id": session.client_id}
            self.refusal_log.log("queue_full", "queue_full", **who, topic=publication.topic_name)
            return
        entry = sending.entry_for(session, publication, qos, retain, identifiers)
        deliveries.append(PendingDelivery(session, session.connection, publication, entry))

    def _enqueued(self, publication: Publication, entries: list[Entry]) -> Enqueue:
        self._last_position += 1
        return Enqueue(self._last_position, publication, entries)

    def enqueue_retained(
        self,
        session: Session,
        subscription: Subscription,
        retained: list[Publication],
        changes: list[Change],
        pending: list[Pending],
    ) -> None:
        """Add retained messages to what a session that is kept gets."""
        for publication in retained:
            qos = min(subscription.qos, publication.qos)
            deliveries: list[PendingDelivery] = []
            self._keep(session, publication, qos, True, subscription.identifiers, deliveries)
            changes += [self._enqueued(publication, [each.entry]) for each in deliveries]
            pending += deliveries

    # Publications of logs

    def publish_to(self, publication: Publication, audience: frozenset[str], origin: object = None) -> int:
        """Send a publication to the audience's sessions that subscribed to it; returns to how many at once, for some
        have no room now. `origin` is the session it came from."""
        return addressing.publish_to(self, publication, audience, origin)

    def settling(self, session: Session, publish: Publish, is_kept_with_it: bool = False) -> Settle:
        """For a hook that takes a client's publish: what to call, once, when it is over. A will needs no answer.

        `is_kept_with_it`: what becomes of the publish is durable together with its packet id (QoS 2, a session that is
        kept), so nothing more must be stored."""
        connection: Connection | None = session.connection
        if connection is None:
            return _no_answer
        if publish.qos == 2 and session.key and not is_kept_with_it:
            return partial(receiving.store_and_settle, connection, session, publish)
        return partial(receiving.settle, connection, session, publish)

    def stop_log(self, user: str, topic_name: str) -> None:
        """The user may not read this log any more: nothing more of it goes to any session of the user."""
        self.sessions.stop_log(user, topic_name)

    def read_on(self, connection: Connection) -> None:
        """Send on what waited for room, if there is some."""
        reading.read_on(self, connection)

    # The end

    async def drain(self) -> None:
        """Tell every client that the server stops, let the buffers empty, and close."""
        self._stopping = True
        self._ticker.cancel()
        for connection in list(self._connections):
            connection.disconnect(ReasonCode.SERVER_SHUTTING_DOWN)
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), self.limits.drain_s)
        for connection in list(self._connections):
            connection.abort_transport()
        for task in list(self._tasks):
            task.cancel()
        self.refusal_log.close()


Pending = RetainedChange | PendingDelivery
Settle = Callable[[ReasonCode, str], None]


def _settle(pending: Sequence[Pending], is_stored: bool) -> None:
    for each in pending:
        try:
            each.settle(is_stored)
        except Exception:
            sending.failed_to_deliver(each.connection if isinstance(each, PendingDelivery) else None)


def _settle_and_answer(pending: Sequence[Pending], answer: Callable[[bool], None], is_stored: bool) -> None:
    _settle(pending, is_stored)
    answer(is_stored)


def _no_answer(reason_code: ReasonCode, text: str) -> None:
    pass


def _is_ready(session: Session) -> bool:
    """Whether a shared subscription's publication would be sent to it at once."""
    connection = session.connection
    return connection is not None and not connection.held & CONGESTED and session.has_window()


def _publication_of(publish: Publish) -> Publication:
    if not publish.properties:
        return Publication(publish.topic_name, publish.payload, publish.qos, None, publish.retain)
    properties = dict(publish.properties)
    for each in _NOT_FORWARDED:
        properties.pop(each, None)
    interval_s = publish.properties.get(PropertyId.MESSAGE_EXPIRY_INTERVAL)
    expires_at_ms = 0 if interval_s is None else time.time_ns() // 1_000_000 + interval_s * 1000
    return Publication(
        publish.topic_name,
        publish.payload,
        publish.qos,
        retain=publish.retain,
        properties=properties or EMPTY_PROPERTIES,
        expires_at_ms=expires_at_ms,
    )


def _set_result(future: asyncio.Future[bool], is_stored: bool) -> None:
    if not future.done():
        future.set_result(is_stored)
