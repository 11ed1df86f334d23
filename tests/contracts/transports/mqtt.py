"""MQTT 5 at QoS 1, over TCP and over WebSocket, by paho-mqtt. It resumes with `after` on SUBSCRIBE.

The reader has no thread: paho reads the socket when it is told to.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sized
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.contracts.transports.contract import ANSWER_TIMEOUT_S, Arrival, Refused, cut
from tests.support.connection import Login, new_client_id
from tests.support.connection import Transport as Door
from tests.support.paho_python import PahoPython
from tests.support.server import Server

QOS = 1
REFUSED_FROM = 0x80
CODES = {0x86: "unauthenticated", 0x87: "not_found", 0x98: "forbidden", 0xA0: "unauthenticated"}


class MqttReader:
    def __init__(self, server: Server, user: str, token: str, door: Literal["tcp", "websockets"]) -> None:
        self.token = token
        self._server = server
        self._user = user
        self._door = door
        self._name = "+"  # of the conversation that it follows
        self._seqs: dict[str, int] = {}
        self._arrivals: deque[Arrival] = deque()
        self._answers: deque[int] = deque()  # of CONNACK, SUBACK and UNSUBACK
        self._ended = 0
        self._client: paho.Client | None = None

    def follow(self, conversation: str, after: int | None = None) -> None:
        self._name = conversation
        if after is not None:
            self._seqs[conversation] = after
        self._open()

    def follow_all(self, cursor: str | None = None) -> None:
        assert cursor is None, "MQTT has a seq for each conversation"
        self._open()

    def next(self) -> Arrival:
        self._wait_for(self._arrivals)
        arrival = self._arrivals.popleft()
        if not arrival.is_signal:
            self._seqs[arrival.conversation] = arrival.content["seq"]
        return arrival

    def rest(self) -> list[Arrival]:
        self._connection.unsubscribe("nothing")
        self._answer()
        return [self.next() for _ in range(len(self._arrivals))]

    def drop(self) -> None:
        client, self._client = self._client, None
        if client is not None and (connection := client.socket()) is not None:
            with suppress(OSError):  # the server may be gone
                cut(connection.fileno())
            while client.loop() == paho.MQTT_ERR_SUCCESS:
                pass
        self._arrivals.clear()

    def resume(self) -> None:
        self.drop()
        self._open()

    def close(self) -> None:
        self.drop()

    @property
    def _connection(self) -> paho.Client:
        assert self._client is not None, "not connected"
        return self._client

    def _open(self) -> None:
        self._ended = 0
        self._answers.clear()
        self._client = self._new_client()
        self._client.connect("127.0.0.1", self._port)
        self._check(self._answer())
        properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
        for conversation, seq in self._seqs.items():
            properties.UserProperty = ("after", f"{conversation}={seq}")
        options = SubscribeOptions(QOS)
        filters = [(f"c/{self._name}", options), (f"c/{self._name}/live", options)]
        self._client.subscribe(filters, properties=properties)
        self._check(self._answer())

    @property
    def _port(self) -> int:
        return self._server.mqtt_port if self._door == "tcp" else self._server.ws_port

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=new_client_id(self._user),
            protocol=MQTTProtocolVersion.MQTTv5,
            transport=self._door,
            reconnect_on_failure=False,
        )
        client.username_pw_set(self._user, self.token)
        client.ws_set_options(path=urlsplit(self._server.ws_url).path)
        client.on_connect = lambda _c, _u, _flags, code, _p: self._answers.append(code.value)
        client.on_subscribe = lambda _c, _u, _mid, codes, _p: self._answers.append(max(each.value for each in codes))
        client.on_unsubscribe = lambda _c, _u, _mid, codes, _p: self._answers.append(codes[0].value)
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        _, conversation, *live = message.topic.split("/")
        self._arrivals.append(Arrival(conversation, json.loads(message.payload), bool(live)))

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, code: ReasonCode, _p: Any) -> None:
        self._ended = code.value

    def _answer(self) -> int:
        self._wait_for(self._answers)
        return self._answers.popleft()

    def _wait_for(self, queue: Sized) -> None:
        """Let paho read the socket until there is something in it."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not queue:
            assert time.monotonic() < deadline, "nothing arrived"
            if self._connection.loop() != paho.MQTT_ERR_SUCCESS and not queue:
                if self._ended in CODES:
                    raise Refused(CODES[self._ended])
                raise ConnectionError(f"the connection ended: {self._ended:#x}")

    def _check(self, code: int) -> None:
        if code >= REFUSED_FROM:
            raise Refused(CODES[code])


class MqttSender:
    def __init__(self, server: Server, user: str, token: str, door: Door) -> None:
        self._connection = PahoPython(Login(server.mqtt_port, server.ws_url, user, token), "5", door)
        assert self._connection.connect() == 0

    def send(self, conversation: str, body: str, message_id: str) -> int | None:
        code = self._connection.publish(f"c/{conversation}", json.dumps({"id": message_id, "body": body}), QOS)
        if code >= REFUSED_FROM:
            raise Refused(CODES[code])
        return None

    def close(self) -> None:
        self._connection.close()
