"""Users on paho-mqtt, Eclipse's client: each a thread that subscribes, publishes, drops its connection and comes back.

What a client is, MQTT version, session, QoS, is in its Kind. One that asks for a session that is kept and is not
granted one starts live again on each connection. paho keeps what it published until it is acknowledged and sends it
again on the next connection; it shows PUBACK and PUBCOMP, and no PUBREC.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.crash.history import Connection, Publish, Receiver, Sight, Trespass, now_ms
from tests.crash.members import Member
from tests.crash.phases import Phases
from tests.support.connection import Version

SESSION_EXPIRY_S = 600
CONNACK_TIMEOUT_S = 15.0
PENDING_MAX = 20
REFUSED_FROM = 0x80
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Kind:
    """`topics` are the filters it subscribes to; none: its conversations, by name. `window` is its Receive Maximum, if
    it names one: with a small one it is behind most of the time."""

    name: str
    version: Version
    qos: int
    kept: bool = False
    resumes: bool = False
    topics: tuple[str, ...] = ("c/+",)
    window: int = 0
    sends_per_s: float = 6.0
    is_stranger: bool = False


class _PahoClient(paho.Client):
    """paho 2.1 forgets that it has had a PUBREC if an attempt to connect fails, and publishes the message anew on the
    next one: after PUBREL that is another message. So each attempt starts from what the last connection left."""

    def _messages_reconnect_reset_out(self) -> None:
        with self._out_message_mutex:
            for message in self._out_messages.values():
                if message.state == paho.mqtt_ms_resend_pubrel:
                    message.state = paho.mqtt_ms_wait_for_pubcomp
        super()._messages_reconnect_reset_out()


class MqttMember(Member):
    """`keeps_sessions`: what a trial of the server showed. CONNACK of MQTT 5 tells what is granted; 3.1.1 has to
    believe."""

    def __init__(
        self,
        kind: Kind,
        user: str,
        token: str,
        port: int,
        sends_to: Sequence[str],
        keeps_sessions: bool,
        seed: str,
        phases: Phases,
    ) -> None:
        named = None if kind.topics else frozenset(sends_to)
        receiver = Receiver(f"{user}-{kind.name}", user, kind.qos, resumes=kind.resumes, conversations=named)
        super().__init__(receiver, sends_to, seed, phases)
        self.kind = kind
        self._keeps_sessions = keeps_sessions
        self._port = port
        self._five = kind.version == "5"
        self._client = self._new_client(token)
        self._connected = False
        self._was_connected = False
        self._subscribed = False
        self._awaited_subacks: dict[int, list[str]] = {}
        self._pending: dict[int, Publish] = {}
        self._began_ms = 0

    @property
    def is_there(self) -> bool:
        return self._connected and self._subscribed and not self._comes_back.is_set()

    @property
    def is_idle(self) -> bool:
        return self.is_there and not self._pending

    # The thread

    def _act(self) -> None:
        while not self._phases.over.is_set():
            if self._connect():
                self._stay()
            self._wait(self._random.uniform(0.02, 0.3))
        self._end_session()

    def _connect(self) -> bool:
        self._began_ms = now_ms()
        try:
            if self._was_connected:
                self._client.reconnect()
            elif self._five:
                self._client.connect("127.0.0.1", self._port, clean_start=not self.kind.kept, properties=self._asks())
            else:
                self._client.connect("127.0.0.1", self._port)
        except OSError:
            return False
        self._was_connected = True
        deadline = now_ms() + CONNACK_TIMEOUT_S * 1000
        while not self._connected and now_ms() < deadline and not self._phases.over.is_set():
            if self._client.loop(0.05) != paho.MQTT_ERR_SUCCESS:
                return False
        return self._connected

    def _asks(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S if self.kind.kept else 0
        if self.kind.window:
            properties.ReceiveMaximum = self.kind.window
        return properties

    def _stay(self) -> None:
        """Until the connection ends, by itself or by a drop."""
        drop_ms = now_ms() + self._random.uniform(300, 6000)
        send_ms = now_ms() + self._pause_ms()
        while self._connected and not self._phases.over.is_set():
            if self._client.loop(0.02) != paho.MQTT_ERR_SUCCESS:
                break
            breaking = self._phases.breaking.is_set()
            if (breaking and now_ms() > drop_ms) or self._comes_back.is_set():
                self._drop()
                break
            if breaking and self._random.random() < 0.001:
                self._wait(self._random.uniform(0.2, 2.0))  # reads nothing: falls behind
            if self._phases.sending.is_set() and now_ms() >= send_ms:
                send_ms = now_ms() + self._pause_ms()
                self._publish()

    def _pause_ms(self) -> float:
        return self._random.expovariate(self.kind.sends_per_s) * 1000

    def _drop(self) -> None:
        """Lose the connection without a DISCONNECT, half of the times with a reset; stay away for a while."""
        opened = self._client.socket()
        if isinstance(opened, socket.socket):  # else the server was quicker
            _break_off(opened, with_reset=self._random.random() < 0.5)
            self.drops += 1
        while self._client.loop(0.05) == paho.MQTT_ERR_SUCCESS:
            pass
        self._connected = False
        away_s = self._random.expovariate(1 / 0.7) if self._phases.breaking.is_set() else 0.0
        self._comes_back.clear()
        self._wait(min(away_s, 5.0))

    def _end_session(self) -> None:
        if self._connected and self._five:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
            self._client.disconnect(properties=properties)
        elif self._connected:
            self._client.disconnect()

    # Subscribing

    def _subscribe(self) -> None:
        self._subscribed = False
        self._awaited_subacks.clear()
        for topic_filter in self.kind.topics or tuple(f"c/{each}" for each in self._sends_to):
            if self._five:
                options = SubscribeOptions(qos=self.kind.qos)
                _, mid = self._client.subscribe(topic_filter, options=options, properties=self._resuming())
            else:
                _, mid = self._client.subscribe(topic_filter, self.kind.qos)
            if mid is not None:
                self._awaited_subacks[mid] = [topic_filter]

    def _resuming(self) -> Properties | None:
        if not self.kind.resumes:
            return None
        properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
        for conversation in self._sends_to:
            properties.UserProperty = ("after", f"{conversation}={self.seen_up_to(conversation)}")
        return properties

    # Publishing

    def _publish(self) -> None:
        if len(self._pending) >= PENDING_MAX:
            return
        qos = self._random.choice((0, 1, 1, 2, 2))
        # Without an id only the session can tell a QoS 2 publish that comes again from a new one.
        has_id = qos == 1 or (qos == 2 and not (self.receiver.kept and self._random.random() < 0.5))
        publish = self._new_publish("mqtt5" if self._five else "mqtt3", qos, has_id)
        payload = json.dumps({"id": publish.id, "body": publish.body}) if has_id else publish.body
        sent = self._client.publish(f"c/{publish.conversation}", payload, qos)
        if qos:
            self._pending[sent.mid] = publish

    def _answered(self, mid: int, code: ReasonCode) -> None:
        publish = self._pending.pop(mid, None)
        if publish is None:
            return
        publish.answered_ms = now_ms()
        publish.answered_connection = len(self.receiver.connections)
        # PUBCOMP 0x92 says that the packet id is not known any more: what became of the message is not said.
        publish.acknowledged = code.value < REFUSED_FROM
        publish.refused = code.value == 0x87
        if self.kind.is_stranger and self._five and publish.acknowledged:
            self._trespass(publish.conversation, "its publish was acknowledged")

    def _trespass(self, conversation: str, what: str) -> None:
        self.trespasses.append(Trespass(self.receiver.user, conversation, what))

    # paho's callbacks, on the thread

    def _new_client(self, token: str) -> paho.Client:
        client = _PahoClient(
            CallbackAPIVersion.VERSION2,
            client_id=self.name,
            clean_session=None if self._five else not self.kind.kept,
            protocol=MQTTProtocolVersion.MQTTv5 if self._five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.username_pw_set(self.receiver.user, token)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = lambda _c, _u, mid, code, _p: self._answered(mid, code)
        return client

    def _on_connect(self, _c: Any, _u: Any, flags: paho.ConnectFlags, code: ReasonCode, properties: Any) -> None:
        if code.value >= REFUSED_FROM:
            return
        granted_s = getattr(properties, "SessionExpiryInterval", SESSION_EXPIRY_S) if self._five else SESSION_EXPIRY_S
        self.receiver.kept = self.kind.kept and granted_s > 0 and self._keeps_sessions
        self.receiver.connections.append(Connection(self._began_ms, flags.session_present))
        self._connected = True
        if not (flags.session_present and self._subscribed):
            self._subscribe()

    def _on_disconnect(self, *_: Any) -> None:
        self._connected = False

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, codes: list[ReasonCode], _p: Any) -> None:
        for topic_filter, code in zip(self._awaited_subacks.pop(mid, []), codes, strict=False):
            granted = code.value < REFUSED_FROM
            if granted and self.kind.is_stranger and topic_filter.startswith("c/") and topic_filter[2:3] not in "+#":
                self._trespass(topic_filter[2:], "its subscription was granted")
            assert granted or self.kind.is_stranger, f"{self.name} may not subscribe to {topic_filter}: {code}"
        self._subscribed = not self._awaited_subacks

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        root, _, rest = message.topic.partition("/")
        conversation, _, below = rest.partition("/")
        if below and not self.kind.is_stranger:
            return  # a signal: nothing is promised
        event = json.loads(message.payload)
        connection = len(self.receiver.connections) - 1
        seq = 0 if below else event["seq"]
        where = conversation if root == "c" else message.topic
        was_there = message.qos == 2 and message.timestamp == 0  # paho resets it when a connection begins
        self.receiver.sights.append(Sight(where, seq, event, connection, now_ms(), message.qos, was_there))


def _break_off(opened: socket.socket, with_reset: bool) -> None:
    with suppress(OSError):  # it is broken already
        if with_reset:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        opened.shutdown(socket.SHUT_RDWR)
