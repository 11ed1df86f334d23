"""A user's client at an external broker, as docs/external-brokers.md asks for one: it reads there over MQTT 3.1.1,
tells events apart by their seq, reads what is missing over HTTP, and goes to another node when its own is gone."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.support.api import Api, JsonObject
from tests.support.connection import Delivery

_RETRY_S = 0.1
_WAIT_TIMEOUT_S = 60.0
Address = tuple[Literal["tcp", "websockets"], int]


class BrokerReader:
    """It follows one conversation. `events` is what the application sees: each once, in order. `repeats` came twice on
    the wire, `read` came over HTTP."""

    def __init__(
        self,
        user: str,
        password: str,
        api: Api,
        conversation: str,
        addresses: Sequence[Address],
        username: str | None = None,
    ) -> None:
        """`username` is what the broker calls the user, if that is another name."""
        self.events: list[JsonObject] = []
        self.repeats = 0
        self.read = 0
        self.connected_at: list[float] = []
        self._user, self._password = user, password
        self._username = username or user
        self._api, self._conversation = api, conversation
        self._addresses = itertools.cycle(addresses)
        self._changed = threading.Condition()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_connected, name=f"reader-{user}")

    def start(self) -> BrokerReader:
        """Return once it is subscribed."""
        self._thread.start()
        self.wait_for(lambda: bool(self.connected_at), "a connection")
        return self

    def close(self) -> None:
        self._is_closed.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.events]

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = _WAIT_TIMEOUT_S) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), f"{what} did not come; it has {self.seqs[-3:]}"

    def wait_for_bodies(self, bodies: set[str], timeout_s: float = _WAIT_TIMEOUT_S) -> None:
        def has_all() -> bool:
            return bodies <= {event.get("body") for event in self.events}

        self.wait_for(has_all, f"all of {len(bodies)} messages", timeout_s)

    def _keep_connected(self) -> None:
        for transport, port in self._addresses:
            if self._is_closed.is_set():
                return
            self._connect_once(transport, port)
            self._is_closed.wait(_RETRY_S)

    def _connect_once(self, transport: Literal["tcp", "websockets"], port: int) -> None:
        """Until that connection ends."""
        ended = threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{self._user}.{uuid.uuid4().hex[:8]}",  # another for each connection: docs/external-brokers.md
            protocol=MQTTProtocolVersion.MQTTv311,
            transport=transport,
            reconnect_on_failure=False,
        )
        if transport == "websockets":
            client.ws_set_options(path="/mqtt")
        client.username_pw_set(self._username, self._password)
        client.on_connect = lambda *_: self._subscribe(client)
        client.on_subscribe = lambda *_: self._on_subscribed()
        client.on_message = lambda _client, _data, message: self._on_publish(message)
        client.on_disconnect = lambda *_: ended.set()
        try:
            client.connect("127.0.0.1", port)
        except OSError:
            return
        client.loop_start()
        while not ended.is_set() and not self._is_closed.is_set():
            ended.wait(0.05)
        client.disconnect()
        client.loop_stop()

    def _subscribe(self, client: paho.Client) -> None:
        client.subscribe(f"u/{self._user}/#", 1)

    def _on_subscribed(self) -> None:
        self._read_on()
        with self._changed:
            self.connected_at.append(time.monotonic())
            self._changed.notify_all()

    def _on_publish(self, message: Any) -> None:
        event = Delivery(message.topic, message.qos, message.payload.decode()).event
        if not message.topic.endswith(f"/c/{self._conversation}"):
            return
        last = self.seqs[-1] if self.events else 0
        if event["seq"] <= last:
            self.repeats += 1
        elif event["seq"] > last + 1:
            self._read_on()
        else:
            self._add([event])

    def _read_on(self) -> None:
        last = self.seqs[-1] if self.events else 0
        missed = [event for event in self._api.history_after(self._conversation, last) if event["seq"] > last]
        self.read += len(missed)
        self._add(missed)

    def _add(self, events: list[JsonObject]) -> None:
        with self._changed:
            self.events += events
            self._changed.notify_all()
