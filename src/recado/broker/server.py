"""The MQTT server: its connections, its sessions, and the fan-out of publications to them.

Fan-out writes to transports and never waits for one. A session that fell behind is read on for by one task while there
is something to read and room to send it; there is no task, timer or thread for an idle connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine
from typing import Any

from recado.broker.connection import Connection
from recado.broker.counters import Counters
from recado.broker.deadlines import Deadlines
from recado.broker.hooks import Hooks, LogPage, Refused
from recado.broker.limits import BrokerLimits
from recado.broker.publication import Publication
from recado.mqtt.packets import MQTT_5, Connect, Publish
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.router import Router
from recado.mqtt.session import LogCursor, Session

_log = logging.getLogger(__name__)


class Server:
    def __init__(self, hooks: Hooks, limits: BrokerLimits) -> None:
        self.hooks = hooks
        self.limits = limits
        self.counters = Counters()
        self.deadlines = Deadlines()
        self.router = Router()
        self._connections: set[Connection] = set()
        self._sessions: dict[str, dict[str, Session]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._log_reads = asyncio.Semaphore(limits.log_reads_max)
        self._stopping = False
        self._emptied = asyncio.Event()
        self._ticker = asyncio.get_running_loop().call_later(1, self._tick)

    def _tick(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(1, self._tick)
        self.deadlines.advance()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a piece of work to its end; an error in it is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of the MQTT server failed", exc_info=error)

    # Connections and sessions

    def admit(self, connection: Connection) -> bool:
        """Whether a transport that has just opened may stay."""
        if self._stopping or len(self._connections) >= self.limits.connections_max:
            self.counters.refusals["SERVER_SHUTTING_DOWN" if self._stopping else "CONNECTIONS_MAX"] += 1
            return False
        self._connections.add(connection)
        self.counters.connections[connection.transport_name] += 1
        self.counters.connections_total[connection.transport_name] += 1
        return True

    def forget(self, connection: Connection) -> None:
        """The transport is gone, and with it the session: a client that comes back says what it has seen."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if self._stopping and not self._connections:
            self._emptied.set()
        self.counters.connections[connection.transport_name] -= 1
        self.end_session(connection)

    def end_session(self, connection: Connection) -> None:
        session = connection.session
        if session is not None and session.connection is connection:
            self._end(session)

    def client_id(self, connect: Connect) -> tuple[str, bool]:
        """The client id to go by, and whether the server made it. Raises Refused."""
        if connect.client_id:
            return connect.client_id, False
        if not connect.clean_start and connect.protocol_level < MQTT_5:  # [MQTT311-3.1.3-8]
            raise Refused(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "a session that is kept needs a client id")
        return f"auto-{secrets.token_urlsafe(12)}", True  # [MQTT5-3.1.3-6]

    def check_room_for(self, user: str, client_id: str) -> None:
        """Raises Refused if the user has as many sessions as one user may have; a take-over adds none."""
        own = self._sessions.get(user, {})
        if client_id not in own and len(own) >= self.limits.connections_per_user_max:
            text = f"one user may have {self.limits.connections_per_user_max} connections: close some first"
            raise Refused(ReasonCode.QUOTA_EXCEEDED, text)

    def attach(self, connection: Connection, session: Session) -> None:
        """Give the connection its session, and take over another connection with the same key."""
        former = self._sessions.get(session.user, {}).get(session.client_id)
        if former is not None:
            taken = former.connection
            if taken is not None:
                # [MQTT5-3.1.4-3] [MQTT311-3.1.4-2]
                taken.disconnect(ReasonCode.SESSION_TAKEN_OVER, "the same client id has connected again")
        session.connection = connection
        self._sessions.setdefault(session.user, {})[session.client_id] = session

    def _end(self, session: Session) -> None:
        session.connection = None
        self.router.remove(session)
        own = self._sessions[session.user]
        del own[session.client_id]
        if not own:
            del self._sessions[session.user]

    # Publications

    def publish(self, publication: Publication, audience: frozenset[str], origin: object = None) -> None:
        """Send a publication to the audience's sessions that subscribed to it. `origin` is the session it came from."""
        for session, subscription in self.router.matches(publication.topic_name, audience):
            if subscription.no_local and session is origin:  # [MQTT5-3.8.3-3]
                session.skip(publication.topic_name, publication.position, self.limits.own_positions_max)
                continue
            try:
                session.connection.deliver(session, publication, min(subscription.qos, publication.qos))
            except Exception:  # one connection's trouble is nobody else's
                _log.exception("a publication could not be delivered")
                session.connection.abort_transport()

    def settle(self, session: Session, publish: Publish, reason_code: ReasonCode, text: str = "") -> None:
        """A client's publish that the application took is over."""
        connection = session.connection
        if connection is not None:
            connection.settle(session, publish, reason_code, text)

    # Logs

    def stop_log(self, user: str, topic_name: str) -> None:
        """The user may not read this log any more: nothing more of it is read for any session of the user."""
        for session in self._sessions.get(user, {}).values():
            session.cursors.pop(topic_name, None)

    def read_on(self, connection: Connection) -> None:
        """Read on for a session that is behind, if there is room and nobody does so already."""
        session = connection.session
        if session is None or not session.cursors or connection.reading_log or connection.congested:
            return
        if session.next_behind() is not None and session.has_window():
            connection.reading_log = True
            self.spawn(self._read_logs(connection, session))

    async def _read_logs(self, connection: Connection, session: Session) -> None:
        try:
            while session.has_window() and (behind := session.next_behind()) is not None:
                async with self._log_reads:  # for one page: the others, in line, get their turn
                    if not await self._read_log(connection, session, *behind):
                        return
        finally:
            connection.reading_log = False

    async def _read_log(self, connection: Connection, session: Session, topic_name: str, cursor: LogCursor) -> bool:
        """Send one page of a log; False if there is no room for all of it, or it cannot be read now."""
        try:
            limit = min(self.limits.log_page, session.window())
            if limit < 1 or connection.congested:
                return False
            page = await self.hooks.read_log(session.user, topic_name, cursor.sent, limit)
        except Refused as refusal:
            self.counters.refusals[refusal.reason_code.name] += 1
            if refusal.reason_code is ReasonCode.SERVER_BUSY:
                connection.disconnect(refusal.reason_code, refusal.text)
                return False
            if session.cursors.get(topic_name) is cursor:
                del session.cursors[topic_name]
            return True
        if session.connection is not connection:
            return False
        if session.cursors.get(topic_name) is not cursor:
            return True
        return self._send_page(connection, session, topic_name, cursor, page)

    def _send_page(
        self, connection: Connection, session: Session, topic_name: str, cursor: LogCursor, page: LogPage
    ) -> bool:
        subscription = session.granted(topic_name)
        if subscription is None:
            del session.cursors[topic_name]
            return True
        for position, payload in page.entries:
            if position in cursor.own:
                cursor.own.discard(position)
                cursor.sent = position
                continue
            publication = Publication(topic_name, payload, 1, position)
            if not connection.deliver_from_log(session, publication, min(subscription.qos, 1)):
                return False
            cursor.sent = position
        if not page.entries:
            cursor.sent = page.last_position  # also for a cursor past the end: it goes on live from here
        if cursor.sent >= page.last_position:
            session.caught_up(topic_name)
        session.read_later(topic_name)
        return True

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
