"""How far the clients of sessions that are kept have acknowledged each log, stored a moment later.

What was acknowledged and not stored yet is sent again after a crash, as QoS 1 allows. At QoS 2 the position is stored
with the packet id, before the publish is sent; saying it once more changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from recado.broker.publication import Place
from recado.broker.storage import Change, InFlight, SaveCursor
from recado.mqtt.session import Session

if TYPE_CHECKING:
    from recado.broker.server import Server

_CHANGES_AT_ONCE = 500


class Cursors:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._moved: dict[Session, dict[str, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def moved(self, session: Session, topic_name: str, position: int) -> None:
        """The client of a kept session has acknowledged this position, or is not to get it."""
        topics = self._moved.get(session)
        if topics is None:
            topics = self._moved[session] = {}
            if self._timer is None:
                delay_s = self._server.limits.cursor_delay_ms / 1000
                self._timer = asyncio.get_running_loop().call_later(delay_s, self._save)
        if topics.get(topic_name, 0) < position:
            topics[topic_name] = position

    def forget_unless(self, session: Session, is_read: Callable[[str], bool]) -> None:
        """The session reads some logs no longer: how far it was there does not count."""
        topics = self._moved.get(session, {})
        for topic_name in [each for each in topics if not is_read(each)]:
            del topics[topic_name]

    def forget(self, session: Session, topic_name: str) -> None:
        """The session goes back in this log: what was acknowledged of it before does not count."""
        self._moved.get(session, {}).pop(topic_name, None)

    def _save(self) -> None:
        self._timer = None
        moved: list[tuple[Session, Change]] = []
        for session in list(self._moved):
            moved += [(session, change) for change in self.take(session)]
            if len(moved) >= _CHANGES_AT_ONCE:
                self._store(moved)
                moved = []
        if moved:
            self._store(moved)

    def _store(self, moved: list[tuple[Session, Change]]) -> None:
        self._server.store(*(change for _, change in moved), done=partial(self._stored, moved))

    def _stored(self, moved: list[tuple[Session, Change]], is_stored: bool) -> None:
        """What could not be stored is tried again, for the sessions that have their connection still."""
        for session, change in () if is_stored else moved:
            if isinstance(change, SaveCursor) and session.connection is not None:
                self.moved(session, change.topic_name, change.position)

    def take(self, session: Session) -> list[Change]:
        """What there is to store for a session: as far as nothing before it is in flight or unread."""
        topics = self._moved.pop(session, None)
        if topics is None or not session.key:
            return []
        for place in session.inflight.values():
            if isinstance(place, Place) and place.position is not None:
                unacknowledged = place.position
                if topics.get(place.topic_name, 0) >= unacknowledged:
                    topics[place.topic_name] = unacknowledged - 1
        for topic_name, cursor in session.cursors.items():
            if topics.get(topic_name, 0) > cursor.sent:
                topics[topic_name] = cursor.sent
        return [SaveCursor(session.key, topic_name, position) for topic_name, position in topics.items()]


def in_flight(session: Session) -> list[Change]:
    """What of logs is in flight at QoS 1, for the next connection to send again under the same packet ids."""
    return [
        InFlight(session.key, packet_id, place.topic_name, place.position, 1)
        for packet_id, place in session.inflight.items()
        if packet_id not in session.exactly_once and isinstance(place, Place) and place.position is not None
    ]
