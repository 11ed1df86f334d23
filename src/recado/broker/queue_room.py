"""Room in the storage's queues: a queue that is full gets rid of what has expired in it, before anything is dropped.

What a queue holds is only in the storage, so that takes a commit; until then the queue may grow to twice its bounds.
The sessions wait for it in one line, and each is served at most once a second: a queue is looked at as a whole, in the
thread that writes for everybody.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recado.broker.storage import StorageFailed
from recado.mqtt.session import Session

if TYPE_CHECKING:
    from recado.broker.server import Server

_UNKNOWN = 1  # long ago: something may have expired


class QueueRoom:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._line: dict[Session, None] = {}
        self._served: set[Session] = set()
        self._tick = 0

    def has_room(self, session: Session, size: int) -> bool:
        """Whether a message of so many bytes may be queued for a session that is kept."""
        return self._fits(session, size, 1) or (self._makes_room(session) and self._fits(session, size, 2))

    def _fits(self, session: Session, size: int, share: int) -> bool:
        limits = self._server.limits
        if session.queued >= share * limits.queue_messages_max:
            return False
        return not session.queued or session.queued_bytes + size <= share * limits.queue_bytes_max

    def _makes_room(self, session: Session) -> bool:
        """Whether something of the session's queue has expired, and is being dropped now."""
        if session in self._line:
            return True
        if self._tick != self._server.deadlines.tick:
            self._tick = self._server.deadlines.tick
            self._served.clear()
        expires_at_ms = session.queue_expires_at_ms
        if not expires_at_ms or session in self._served or expires_at_ms > time.time_ns() // 1_000_000:
            return False
        self._line[session] = None
        self._served.add(session)
        if len(self._line) == 1:
            self._server.spawn(self._serve())
        return True

    async def _serve(self) -> None:
        while self._line:
            session = next(iter(self._line))
            try:
                await self._forget_expired(session)
            finally:
                del self._line[session]

    async def _forget_expired(self, session: Session) -> None:
        session.queue_expires_at_ms = 0  # what comes from here on says when it expires
        try:
            expired = await self._server.queues.forget_expired(session.key, time.time_ns() // 1_000_000)
        except StorageFailed:
            session.queue_expires_at_ms = _UNKNOWN
            return
        session.queued -= expired.removed
        session.queued_bytes -= expired.removed_bytes
        self._server.counters.expired += expired.removed
        expires_at_ms = (session.queue_expires_at_ms, expired.next_ms)
        session.queue_expires_at_ms = min((each for each in expires_at_ms if each), default=0)
