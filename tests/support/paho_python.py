"""A Connection made by paho-mqtt, the Python client of Eclipse."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.support.connection import ANSWER_TIMEOUT_S, Delivery, Login, Transport, Version, new_client_id


class PahoPython:
    """It never reconnects by itself: `disconnected` gets the reason when a connection ends."""

    def __init__(self, login: Login, version: Version = "5", transport: Transport = "tcp") -> None:
        self.received: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self.disconnected: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._connected: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._subscribed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._published: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._five = version == "5"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=new_client_id(login.user),
            protocol=MQTTProtocolVersion.MQTTv5 if self._five else MQTTProtocolVersion.MQTTv311,
            transport="websockets" if transport == "websocket" else "tcp",
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(login.user, login.token)
        address = urlsplit(login.ws_url)
        self._port = address.port if transport == "websocket" and address.port else login.tcp_port
        if transport == "websocket":
            self._client.ws_set_options(path=address.path)
        self._set_callbacks()

    def connect(self) -> int:
        self._client.connect("127.0.0.1", self._port)
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

    def publish(self, topic_name: str, payload: str, qos: int = 1) -> int:
        self._client.publish(topic_name, payload, qos)
        return self._published.get(timeout=ANSWER_TIMEOUT_S)

    def publish_unanswered(self, topic_name: str, payload: str) -> None:
        """Publish at QoS 1 what gets no PUBACK: 3.1.1 has none that refuses."""
        self._client.publish(topic_name, payload, 1)

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
            self.received.put(Delivery(message.topic, message.qos, message.payload.decode()))

        def on_disconnect(_c: Any, _u: Any, _flags: Any, code: ReasonCode, _p: Any) -> None:
            self.disconnected.put(code.value)

        self._client.on_connect = on_connect
        self._client.on_subscribe = on_subscribe
        self._client.on_publish = on_publish
        self._client.on_message = on_message
        self._client.on_disconnect = on_disconnect
