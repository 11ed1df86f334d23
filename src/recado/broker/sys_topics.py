"""`$SYS`: what the server tells about itself, as retained messages that are brought up to date now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recado import __version__
from recado.broker.publication import Publication

if TYPE_CHECKING:
    from recado.broker.server import Server


class SysTopics:
    """Off until `start`. They are never in the storage, and do not count as retained messages that clients made."""

    deadline = 0

    def __init__(self, server: Server) -> None:
        self._server = server
        self._started_at = time.monotonic()
        self._told: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._told)

    def start(self) -> None:
        self.on_deadline(0)

    def on_deadline(self, tick: int) -> None:
        for name, value in self._values().items():
            payload = str(value).encode()
            if self._told.get(name) != payload:
                self._told[name] = payload
                self._server.publish_of_its_own(Publication(f"$SYS/broker/{name}", payload, 0, retain=True))
        self._server.deadlines.set(self, self._server.limits.sys_interval_s)

    def _values(self) -> dict[str, object]:
        server = self._server
        counters = server.counters
        connected = sum(1 for session in server.sessions if session.connection is not None)
        return {
            "version": f"Recado {__version__}",
            "uptime": int(time.monotonic() - self._started_at),
            "clients/connected": connected,
            "clients/disconnected": sum(1 for session in server.sessions if session.connection is None),
            "clients/total": sum(1 for _ in server.sessions),
            "connections/total": sum(counters.connections_total.values()),
            "publish/messages/received": counters.published,
            "publish/messages/sent": counters.delivered,
            "publish/messages/dropped": counters.dropped + counters.queue_full,
            "messages/stored": sum(session.queued for session in server.sessions),
            "retained messages/count": len(server.retained),
            "subscriptions/count": len(server.router),
            "wills/published": counters.wills,
        }
