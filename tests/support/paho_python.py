"""A Connection made by paho-mqtt, the Python client of Eclipse."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.support.connection import (
    ANSWER_TIMEOUT_S,
    Delivery,
    Login,
    Session,
    Transport,
    Version,
    Will,
    new_client_id,
)

PAHO_TRANSPORTS: dict[Transport, Literal["tcp", "websockets", "unix"]] = {
    "tcp": "tcp",
    "tls": "tcp",
    "websocket": "websockets",
    "wss": "websockets",
    "unix": "unix",
}


class PahoPython:
    """It never reconnects by itself: `disconnected` gets the reason when a connection ends."""

    def __init__(
        self,
        login: Login,
        version: Version = "5",
        transport: Transport = "tcp",
        will: Will | None = None,
        session: Session | None = None,
    ) -> None:
        self.received: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self.disconnected: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._connected: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._subscribed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._published: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._five = version == "5"
        self._session = session
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=session.client_id if session else new_client_id(login.user),
            clean_session=None if self._five else session is None,
            protocol=MQTTProtocolVersion.MQTTv5 if self._five else MQTTProtocolVersion.MQTTv311,
            transport=PAHO_TRANSPORTS[transport],
            reconnect_on_failure=False,
        )
        if login.user:
            self._client.username_pw_set(login.user, login.token)
        if transport in ("tls", "wss"):
            self._client.tls_set(login.trusted)
        if will is not None:
            self._client.will_set(will.topic, will.payload, 1, True)
        self._host, self._port = "127.0.0.1", login.tls_port if transport == "tls" else login.tcp_port
        if transport == "unix":
            self._host = login.unix_socket
        elif transport in ("websocket", "wss"):
            address = urlsplit(login.wss_url if transport == "wss" else login.ws_url)
            assert address.port is not None
            self._port = address.port
            self._client.ws_set_options(path=address.path)
        self._set_callbacks()

    def connect(self) -> int:
        if self._five and self._session is not None:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = self._session.expiry_interval_s
            self._client.connect(self._host, self._port, clean_start=False, properties=properties)
        else:
            self._client.connect(self._host, self._port)
        self._client.loop_start()
        return self._connected.get(timeout=ANSWER_TIMEOUT_S)

    def subscribe(self, topic_filter: str, qos: int = 1, after: Iterable[str] = ()) -> int:
        if self._five:
            properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
            for cursor in after:
                properties.UserProperty = ("after", cursor)
            self._client.subscribe(topic_filter, options=SubscribeOptions(qos=qos), properties=properties)
        else:
            self._client.subscribe(topic_filter, qos)
        return self._subscribed.get(timeout=ANSWER_TIMEOUT_S)

    def publish(self, topic_name: str, payload: str, qos: int = 1, retain: bool = False) -> int:
        self._client.publish(topic_name, payload, qos, retain)
        return self._published.get(timeout=ANSWER_TIMEOUT_S)

    def publish_unanswered(self, topic_name: str, payload: str) -> None:
        """Publish at QoS 1 what gets no PUBACK: 3.1.1 has none that refuses."""
        self._client.publish(topic_name, payload, 1)

    def subscribe_unanswered(self, topic_filter: str) -> None:
        """Subscribe where a refusal ends the connection."""
        self._client.subscribe(topic_filter, 1)

    def stop_reading(self) -> None:
        """Its socket stays open."""
        self._client.loop_stop()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _set_callbacks(self) -> None:
        # paho reports 3.1.1's return codes as the reason codes of 5 that mean the same.
        def on_connect(_c: Any, _u: Any, _flags: Any, code: ReasonCode, _p: Any) -> None:
            self._connected.put(code.value)

        def on_subscribe(_c: Any, _u: Any, _mid: int, codes: list[ReasonCode], _p: Any) -> None:
            self._subscribed.put(codes[0].value)

        def on_publish(_c: Any, _u: Any, _mid: int, code: ReasonCode, _p: Any) -> None:
            self._published.put(code.value)

        def on_message(_c: Any, _u: Any, message: paho.MQTTMessage) -> None:
            self.received.put(
                Delivery(message.topic, message.qos, message.payload.decode(errors="replace"), message.retain)
            )

        def on_disconnect(_c: Any, _u: Any, _flags: Any, code: ReasonCode, _p: Any) -> None:
            self.disconnected.put(code.value)

        self._client.on_connect = on_connect
        self._client.on_subscribe = on_subscribe
        self._client.on_publish = on_publish
        self._client.on_message = on_message
        self._client.on_disconnect = on_disconnect
