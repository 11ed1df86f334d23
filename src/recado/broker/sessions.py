"""The sessions: which connection has which, when one ends, and when its will is published.

A session belongs to (user, client id): a client id never reaches another user's. One that is kept is in the storage
from its CONNECT on; without a connection only its subscriptions and the size of its queue are in memory.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple

from recado.broker import sending
from recado.broker.cursors import in_flight
from recado.broker.hooks import Refused
from recado.broker.storage import (
    Change,
    Delivery,
    EndSession,
    Resumed,
    SaveSession,
    StorageFailed,
    StoredSession,
)
from recado.mqtt.packets import MQTT_5, Connect, SubscriptionRequest
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import NEVER, RELEASED, Session
from recado.mqtt.subscription import Subscription

if TYPE_CHECKING:
    from recado.broker.connection import Connection
    from recado.broker.server import Server

_NOTHING = Resumed([], [])


class Opened(NamedTuple):
    """The session that a CONNECT gets, and its flows if it was there before."""

    session: Session
    is_present: bool
    flows: Resumed


class _Lapse:
    """What happens in time to a session whose connection ended: its will is published, and it ends."""

    __slots__ = ("deadline", "ended_at_ms", "ends_at", "session", "sessions", "will_at")

    def __init__(
        self, sessions: Sessions, session: Session, ended_at_ms: int, will_at: float | None, ends_at: float | None
    ) -> None:
        self.sessions = sessions
        self.session = session
        self.ended_at_ms = ended_at_ms
        self.will_at = will_at
        self.ends_at = ends_at
        self.deadline = 0

    def on_deadline(self, tick: int) -> None:
        self.sessions.on_lapse(self)


class _Ending:
    """The end of a kept session, on its way to the storage: it is tried until it is durable."""

    __slots__ = ("client_id", "deadline", "key", "server", "user")

    def __init__(self, server: Server, user: str, client_id: str, key: int) -> None:
        self.server = server
        self.user = user
        self.client_id = client_id
        self.key = key
        self.deadline = 0

    def store(self) -> None:
        self.server.store(EndSession(self.key), done=self._stored)

    def _stored(self, is_stored: bool) -> None:
        if is_stored:
            self.server.sessions.forget_ending(self)
        else:
            self.server.deadlines.set(self, 1)

    def on_deadline(self, tick: int) -> None:
        self.store()


def _is_publish(delivery: Delivery) -> bool:
    return delivery.publication is not None


def subscription_of(session: Session, request: SubscriptionRequest, identifier: int) -> Subscription:
    """A subscription as granted: `request.qos` is what the client gets."""
    identifiers = (identifier,) if identifier else ()
    return Subscription(
        session, request.topic_filter, request.qos, request.no_local, request.retain_as_published, identifiers
    )


class Sessions:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._by_user: dict[str, dict[str, Session]] = {}
        self._last_key = 0
        self._reading = asyncio.Semaphore(server.limits.reads_max)
        self._reads: dict[int, asyncio.Future[Resumed | None]] = {}  # by the key of the session
        # By user and client id: what is gone, and in the storage still.
        self._endings: dict[str, dict[str, set[_Ending]]] = {}
        self._outdated: set[Session] = set()  # what is being read of them may hold what they may not have any more
        self._kept_of: Counter[str] = Counter()  # by user, who has one
        self.kept = 0
        """Sessions that outlive their connection, now with one or without."""

    def __iter__(self) -> Iterator[Session]:
        for own in self._by_user.values():
            yield from own.values()

    def __contains__(self, session: Session) -> bool:
        return self._by_user.get(session.user, {}).get(session.client_id) is session

    def of(self, user: str) -> list[Session]:
        return list(self._by_user.get(user, {}).values())

    def load(self, stored: list[StoredSession], last_key: int) -> None:
        """Take up what a former run of the server has left. Who was connected then is not now."""
        self._last_key = last_key
        stored = self._not_replaced(stored)
        for saved, subscriptions, queued, queued_bytes in stored:
            session = Session(saved.user, saved.client_id, 1, saved.expiry_interval)
            session.key = saved.key
            session.will = saved.will
            session.queued = queued
            session.queued_bytes = queued_bytes
            session.queue_expires_at_ms = int(queued > 0)  # when, is in the storage alone
            self._by_user.setdefault(saved.user, {})[saved.client_id] = session
            self._count_kept(saved.user)
            for request, identifier in subscriptions:
                self._server.router.subscribe(subscription_of(session, request, identifier))
        now_ms = time.time_ns() // 1_000_000
        for saved, *_ in stored:  # when all are there: one's will may be for another
            session = self._by_user[saved.user][saved.client_id]
            if saved.ended_at_ms is None:
                self._save(session, now_ms)
            self._let_lapse(session, now_ms, saved.ended_at_ms or now_ms)

    def _not_replaced(self, stored: list[StoredSession]) -> list[StoredSession]:
        """Without those whose client has a newer session: their end could not be written."""
        newest: dict[tuple[str, str], StoredSession] = {}
        for each in sorted(stored, key=lambda each: each.saved.key):
            former = newest.get(whose := (each.saved.user, each.saved.client_id))
            newest[whose] = each
            if former is not None:
                self._store_end(*whose, former.saved.key)
        return list(newest.values())

    # CONNECT

    def client_id(self, connect: Connect) -> tuple[str, bool]:
        """The client id to go by, and whether the server made it. Raises Refused."""
        if connect.client_id:
            return connect.client_id, False
        if not connect.clean_start and connect.protocol_level < MQTT_5:  # [MQTT311-3.1.3-8]
            raise Refused(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "a session that is kept needs a client id")
        return f"auto-{secrets.token_urlsafe(12)}", True  # [MQTT5-3.1.3-6] [MQTT5-3.1.3-7]

    async def open(self, connection: Connection, connect: Connect, user: str, client_id: str) -> Opened | None:
        """The session for a CONNECT; takes it from another connection that has it [MQTT5-3.1.4-3] [MQTT311-3.1.4-2].

        None if the connection was lost, or a newer one took the session, before its flows were read. Raises Refused.
        """
        former = self._by_user.get(user, {}).get(client_id)
        self._make_room(user, former, connect)
        if former is not None:
            taken = former.connection or former.claimant
            if taken is not None:
                taken.disconnect(ReasonCode.SESSION_TAKEN_OVER, "the same client id has connected again")
        session = self._by_user.get(user, {}).get(client_id)  # one that is not kept ended with its connection
        if session is not None and not connect.clean_start and session.lapse is not None:
            return await self._resume(connection, connect, session)  # [MQTT5-3.1.2-5] [MQTT311-3.1.2-4]
        if session is not None:  # without a lapse it is one that was about to begin
            self.end(session)  # [MQTT5-3.1.2-4] [MQTT311-3.1.2-6]
        return await self._begin(connection, connect, user, client_id)

    async def _begin(self, connection: Connection, connect: Connect, user: str, client_id: str) -> Opened | None:
        """A new session. If it is kept, it is durable before CONNACK, and replaces what the client had before
        (`_not_replaced`). Else the end of that is, or a crash would bring back what the client was told is gone."""
        session = Session(user, client_id, 1, self._expiry_of(connect))
        self._by_user.setdefault(user, {})[client_id] = session
        changes: list[Change]
        if session.expiry_interval:
            self._last_key += 1
            session.key = self._last_key
            self._count_kept(user)
            changes = [SaveSession(session.key, user, client_id, session.expiry_interval, None, connect.will)]
        else:
            changes = [EndSession(each.key) for each in self._endings.get(user, {}).get(client_id, ())]
        if not changes:
            return Opened(session, False, _NOTHING)
        session.claimant = connection
        is_stored = await self._server.commit(changes)
        if session.claimant is not connection:
            return None  # a newer one has taken its place, and closed this one
        session.claimant = None
        if is_stored and not connection.is_closing():
            return Opened(session, False, _NOTHING)
        self.end(session)
        if connection.is_closing():
            return None
        raise Refused(ReasonCode.SERVER_UNAVAILABLE, "the session cannot be kept now; try again")

    async def _resume(self, connection: Connection, connect: Connect, session: Session) -> Opened | None:
        """The session that was there, in the storage already as this connection has it: its will, and when it ends."""
        assert self._server.storage is not None
        session.claimant = connection
        expiry_interval = self._expiry_of(connect)
        row = SaveSession(session.key, session.user, session.client_id, expiry_interval, None, connect.will)
        read = self._read(session)
        is_stored = await self._server.commit([row])
        flows = await asyncio.shield(read)
        if session.claimant is not connection:
            # A newer connection has taken it, and closed this one; or its time had come.
            if connection.is_closing():
                return None
            return await self.open(connection, connect, session.user, session.client_id)
        session.claimant = None
        if session in self._outdated and not connection.is_closing():
            self._outdated.discard(session)
            return await self.open(connection, connect, session.user, session.client_id)
        if flows is not None and is_stored and not connection.is_closing():
            if len(flows.behind) <= self._server.limits.log_cursors_max:
                return Opened(session, True, flows)
            self.end(session)  # its client reads the history anew, as it would if the session had expired
            return await self._begin(connection, connect, session.user, session.client_id)
        self._outdated.discard(session)
        session.cursors.clear()
        self._save(session, session.lapse.ended_at_ms)  # as it was
        if connection.is_closing():
            return None
        raise Refused(ReasonCode.SERVER_UNAVAILABLE, "the session cannot be read now; try again")

    def _read(self, session: Session) -> asyncio.Future[Resumed | None]:
        """The session's flows; None if they cannot be read.

        Who comes while they are being read, to take the session over, gets the same: nobody has sent or acknowledged
        anything meanwhile, and what is published to the session goes to its queue. However many connect, a session is
        read once at a time; and few sessions at the same time, as what is in flight may be large.
        """
        read = self._reads.get(session.key)
        if read is None:
            read = self._reads[session.key] = asyncio.get_running_loop().create_future()
            self._server.spawn(self._read_flows(session.key, read))
        return read

    async def _read_flows(self, key: int, read: asyncio.Future[Resumed | None]) -> None:
        assert self._server.storage is not None
        flows = None
        try:
            async with self._reading:
                flows = await self._server.storage.resume(key)
        except StorageFailed:
            pass
        finally:
            del self._reads[key]  # before anybody has the session, and changes it
            read.set_result(flows)

    def _make_room(self, user: str, former: Session | None, connect: Connect) -> None:
        """Raises Refused. A session that is there already, or is replaced, takes no more room."""
        limits = self._server.limits
        if former is None and user and len(self._by_user.get(user, ())) >= limits.connections_per_user_max:
            text = f"one user may have {limits.connections_per_user_max} connections: close some first"
            raise Refused(ReasonCode.QUOTA_EXCEEDED, text)
        if not self._expiry_of(connect) or (former is not None and former.key):
            return
        if user and self._kept_of[user] >= limits.sessions_per_user_max:
            self._end_longest_absent(user)
        if self.kept >= limits.sessions_max:
            raise Refused(ReasonCode.QUOTA_EXCEEDED, "as many sessions are kept as may be: use a clean one")

    def _end_longest_absent(self, user: str) -> None:
        """Room for one more kept session of a user, who has the most: those of devices that are not used any more would
        else lock out a new one. Raises Refused if too few are without a connection."""
        most = self._server.limits.sessions_per_user_max
        excess = self._kept_of[user] - most + 1  # more than one if the limit was higher in a former run
        absent = [each for each in self._by_user[user].values() if each.lapse is not None and each.claimant is None]
        if len(absent) < excess:
            text = f"one user may keep {most} sessions, and yours are connected: use a clean one, or close some"
            raise Refused(ReasonCode.QUOTA_EXCEEDED, text)
        for session in nsmallest(excess, absent, key=lambda each: (each.lapse.ended_at_ms, each.key)):
            self.end(session)

    def _count_kept(self, user: str) -> None:
        self._kept_of[user] += 1
        self.kept += 1

    def _uncount_kept(self, user: str) -> None:
        self._kept_of[user] -= 1
        self.kept -= 1
        if not self._kept_of[user]:
            del self._kept_of[user]

    def _expiry_of(self, connect: Connect) -> int:
        """The session expiry interval in seconds, at most what the server keeps."""
        if self._server.storage is None:
            return 0
        if connect.protocol_level == MQTT_5:
            asked: int = connect.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL, 0)
        else:
            asked = 0 if connect.clean_start else NEVER
        return min(asked, self._server.limits.session_expiry_max_s)

    def attach(self, connection: Connection, connect: Connect, opened: Opened) -> Session:
        """Give the connection its session."""
        session, _, flows = opened
        limits = self._server.limits
        asked: int = connect.properties.get(PropertyId.RECEIVE_MAXIMUM, limits.inflight_max)
        session.receive_maximum = min(limits.inflight_max, asked)
        session.expiry_interval = self._expiry_of(connect)
        session.will = connect.will  # [MQTT5-3.1.2-7] [MQTT5-3.1.3-9] [MQTT311-3.1.2-8]
        session.connection = connection
        self._server.router.attached(session)
        inflight = [
            (each.packet_id, RELEASED if each.publication is None else each.publication.held(), each.qos)
            for each in flows.inflight
        ]
        session.resume(inflight, flows.received)
        self._resume_logs(session, flows)
        # PUBRELs first: a publish waits for room in Receive Maximum, which PUBCOMP makes.
        redeliveries = sorted(map(self._as_subscribed(session), flows.inflight), key=_is_publish)
        connection.redeliveries = deque(redeliveries) if redeliveries else None
        connection.received_before = set(flows.received) if flows.received else None
        if session.lapse is not None:
            self._server.deadlines.clear(session.lapse)
            session.lapse = None
        return session

    def _as_subscribed(self, session: Session) -> Callable[[Delivery], Delivery]:
        """What comes from a log has the identifiers of the subscription as it is now."""

        def complete(delivery: Delivery) -> Delivery:
            publication = delivery.publication
            if publication is None or publication.position is None:
                return delivery
            granted = self._server.router.granted(session, publication.topic_name)
            return delivery if granted is None else delivery._replace(identifiers=granted.identifiers)

        return complete

    def _resume_logs(self, session: Session, flows: Resumed) -> None:
        """Read on in the logs where the session is behind. What was published since they were looked at, it has noted
        already (`missed`)."""
        again: dict[str, int] = {}
        for packet_id, publication in session.inflight.items():
            if packet_id not in session.exactly_once and publication.position is not None:  # of QoS 2, `had` says it
                again[publication.topic_name] = max(again.get(publication.topic_name, 0), publication.position)
        for topic_name, had, last, own in flows.behind:
            granted = self._server.router.granted(session, topic_name)
            if granted is not None and granted.qos:
                session.resume_log(topic_name, max(had, again.get(topic_name, 0)), last, own)

    def missed(self, session: Session, topic_name: str, position: int) -> None:
        """A publication of a log went past a session without a connection. If one is about to get it, the logs are just
        being looked at: what may not have been in them yet is noted, to be read from there."""
        if session.claimant is not None and session.admits(topic_name, position):
            session.fall_behind(topic_name, position)

    def stop_log(self, user: str, topic_name: str) -> None:
        """The user may not read this log any more: nothing more of it is read, or sent again, for any session."""
        for session in self.of(user):
            session.cursors.pop(topic_name, None)
            self._server.cursors.forget(session, topic_name)
            if session.connection is not None:
                sending.drop_log(session.connection, session, topic_name)
            elif session.claimant is not None:
                self._outdated.add(session)

    def _save(self, session: Session, ended_at_ms: int | None, *changes: Change) -> None:
        row = SaveSession(
            session.key, session.user, session.client_id, session.expiry_interval, ended_at_ms, session.will
        )
        self._server.store(*changes, row)

    # The end of a connection

    def detach(self, connection: Connection, reason_code: ReasonCode | None) -> None:
        """The connection is closing or lost. Its session ends with it, or waits for the next one."""
        session = connection.session
        if session is None or session.connection is not connection:
            return
        session.connection = None
        self._server.router.detached(session)
        flows = [*self._server.cursors.take(session), *in_flight(session)]
        session.let_go()
        self._server.hooks.on_disconnected(session, reason_code)
        if session.key and session.expiry_interval:  # [MQTT5-3.1.2-23]
            now_ms = time.time_ns() // 1_000_000
            self._save(session, now_ms, *flows)
            self._let_lapse(session, now_ms, now_ms)
        else:
            self.end(session)

    def _let_lapse(self, session: Session, now_ms: int, ended_at_ms: int) -> None:
        now = self._server.deadlines.tick
        gone_s = max(0, now_ms - ended_at_ms) / 1000
        ends_at = None if session.expiry_interval == NEVER else now + session.expiry_interval - gone_s
        will_at = None
        if session.will is not None:
            delay_s: int = session.will.properties.get(PropertyId.WILL_DELAY_INTERVAL, 0)
            will_at = now + max(0.0, delay_s - gone_s)
        lapse = session.lapse = _Lapse(self, session, ended_at_ms, will_at, ends_at)
        self._wait(lapse)

    def _wait(self, lapse: _Lapse) -> None:
        now = self._server.deadlines.tick
        if lapse.will_at is not None and lapse.will_at <= now:
            lapse.will_at = None
            self._publish_will(lapse.session)
            if lapse.session.claimant is None:  # it has saved it otherwise
                self._save(lapse.session, lapse.ended_at_ms)
        if lapse.ends_at is not None and lapse.ends_at <= now:
            self.end(lapse.session)
            return
        times = [at for at in (lapse.will_at, lapse.ends_at) if at is not None]
        if times:
            self._server.deadlines.set(lapse, min(times) - now)

    def on_lapse(self, lapse: _Lapse) -> None:
        if lapse.session.lapse is lapse:
            self._wait(lapse)

    def end(self, session: Session) -> None:
        """Nothing of the session is left; its will, if it has one still, is published now [MQTT5-3.1.2-8]."""
        own = self._by_user[session.user]
        del own[session.client_id]
        if not own:
            del self._by_user[session.user]
        if session.lapse is not None:
            self._server.deadlines.clear(session.lapse)
            session.lapse = None
        session.claimant = None
        self._outdated.discard(session)
        self._server.router.remove(session)
        self._publish_will(session)  # before its end is stored: a crash in between repeats it, and does not lose it
        if session.key:
            self._uncount_kept(session.user)
            self._store_end(session.user, session.client_id, session.key)

    def _store_end(self, user: str, client_id: str, key: int) -> None:
        ending = _Ending(self._server, user, client_id, key)
        self._endings.setdefault(user, {}).setdefault(client_id, set()).add(ending)
        ending.store()

    def forget_ending(self, ending: _Ending) -> None:
        """A session is gone from the storage too."""
        own = self._endings[ending.user]
        own[ending.client_id].discard(ending)
        if not own[ending.client_id]:
            del own[ending.client_id]
        if not own:
            del self._endings[ending.user]

    def ending_keys(self, user: str) -> list[int]:
        """The keys of the user's sessions that have ended, as long as that is not durable."""
        return [each.key for endings in self._endings.get(user, {}).values() for each in endings]

    def _publish_will(self, session: Session) -> None:
        will, session.will = session.will, None
        if will is not None:
            self._server.publish_will(session, will)
