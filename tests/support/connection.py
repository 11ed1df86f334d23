"""One MQTT connection, whichever client library makes it: what the interop and permission tests talk to.

A `Connection` is one user's, made by a client that someone else wrote. Answers are MQTT reason codes (of SUBACK: the
granted QoS). What the server delivers waits in a queue, so tests wait for the next event and never sleep.
"""

from __future__ import annotations

import json
import queue
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Version = Literal["3.1.1", "5"]
Transport = Literal["tcp", "websocket", "tls", "wss", "unix"]
ANSWER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Login:
    """Where and as whom to connect; without a user, as nobody. `trusted` is the file with the server's certificate."""

    tcp_port: int
    ws_url: str
    user: str = ""
    token: str = ""
    tls_port: int = 0
    wss_url: str = ""
    unix_socket: str = ""
    trusted: str = ""


@dataclass(frozen=True)
class Will:
    """Published at QoS 1 and retained."""

    topic: str
    payload: str


@dataclass(frozen=True)
class Session:
    """One that is kept when its connection ends."""

    client_id: str
    expiry_interval_s: int = 600


@dataclass(frozen=True)
class Delivery:
    topic: str
    qos: int
    payload: str
    retain: bool = False

    @property
    def event(self) -> dict[str, Any]:
        event = json.loads(self.payload)
        assert isinstance(event, dict), f"no JSON object: {self.payload}"
        return event


class Connection(Protocol):
    received: queue.SimpleQueue[Delivery]

    def connect(self) -> int:
        """Return CONNACK's code."""

    def subscribe(self, topic_filter: str, qos: int = 1, after: Iterable[str] = ()) -> int:
        """Return SUBACK's code; `after` are the values of the MQTT 5 user property of that name."""

    def publish(self, topic_name: str, payload: str, qos: int = 1, retain: bool = False) -> int:
        """Return PUBACK's code, 0 where the protocol has none."""

    def close(self) -> None: ...


def next_delivery(connection: Connection, timeout_s: float = ANSWER_TIMEOUT_S) -> Delivery:
    """Return the next thing that the server delivered, or fail."""
    try:
        return connection.received.get(timeout=timeout_s)
    except queue.Empty:
        raise AssertionError(f"nothing arrived within {timeout_s:.0f} s") from None


def next_event(connection: Connection) -> dict[str, Any]:
    return next_delivery(connection).event


def new_topic() -> str:
    """A topic of the test's own."""
    return f"t/{uuid.uuid4().hex}"


def new_client_id(user: str) -> str:
    return f"{user or 'nobody'}.{uuid.uuid4().hex[:8]}"
