"""A page, or an application, that follows and sends by MQTT: subscribed to `c/+`, with a clean session.

In MQTT 5 both sides use a topic alias. PINGREQ goes every keep-alive in which nothing else was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from recado.bench import browser_headers
from recado.bench.failure import RunFailed
from recado.bench.ledger import decode_event
from recado.bench.tabs import OPEN_TIMEOUT_S, Repeating, Surroundings, User
from recado.bench.transports import Transport
from recado.bench.websocket_wire import BINARY, WebSocketWire
from recado.bench.wire import Wire
from recado.mqtt.codec import Decoder, encode, puback_bytes, pubcomp_bytes, pubrec_bytes, pubrel_bytes
from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId

_TOPIC_FILTER = "c/+"
_PACKET_BYTES_MAX = 128 * 1024
_ALIASES_MAX = 10
_ALIAS = 1
_PINGREQ = encode(Pingreq(), MQTT_5)


class MqttTab:
    def __init__(self, user: User, around: Surroundings, transport: Transport, client_id: str) -> None:
        self.wire = Wire(user.radio, around.failure)
        self._user = user
        self._around = around
        self._transport = transport
        self._client_id = client_id
        self._is_5 = transport.protocol_level == MQTT_5
        self._decoder = Decoder(
            packet_bytes_max=_PACKET_BYTES_MAX, role="client", protocol_level=transport.protocol_level
        )
        self._topic = f"c/{user.conversation}"
        self._has_alias = False
        self._topics: dict[int, str] = {}
        self._packet_id = 0
        self._received: set[int] = set()
        self._was_silent = True
        self._pinging: Repeating | None = None
        self._opened = asyncio.get_running_loop().create_future()
        self._write: Callable[[bytes], None] = self.wire.write
        if transport.kind == "mqtt-ws":
            self._ws = WebSocketWire(self.wire, BINARY, self._connect, self._receive)
            self._write = self._ws.send
        else:
            self.wire.receive = self._receive

    async def open(self) -> None:
        ports = self._around.ports
        if self._transport.kind == "mqtt-ws":
            await self.wire.connect(ports.ws)
            self.wire.write(browser_headers.upgrade("/mqtt", ports.http, ports.ws, "mqtt"))
        else:
            await self.wire.connect(ports.mqtt)
            self._connect()
        await self._around.failure.unless(self._opened, OPEN_TIMEOUT_S, "CONNECT and SUBSCRIBE")

    def rest(self) -> None:
        if self._pinging is not None:
            self._pinging.stop()

    def close(self) -> None:
        self.rest()
        self.wire.close()

    def send(self, message_id: str) -> None:
        qos, properties, topic = self._transport.qos, EMPTY_PROPERTIES, self._topic
        if self._is_5:
            properties = {PropertyId.TOPIC_ALIAS: _ALIAS}
            topic = "" if self._has_alias else topic
            self._has_alias = True
        if qos:
            self._around.ledger.answers.add()
            self._packet_id = self._packet_id % 65_535 + 1
        payload = msgspec.json.encode({"id": message_id, "body": self._around.ledger.body})
        publish = Publish(topic, payload, qos, packet_id=self._packet_id, properties=properties)
        self._send(encode(publish, self._transport.protocol_level))

    def _send(self, packet: bytes) -> None:
        self._was_silent = False
        self._write(packet)

    def _connect(self) -> None:
        properties: Properties = {PropertyId.TOPIC_ALIAS_MAXIMUM: _ALIASES_MAX} if self._is_5 else EMPTY_PROPERTIES
        connect = Connect(
            self._client_id,
            self._transport.protocol_level,
            keep_alive=self._around.interval_s,
            username=self._user.name,
            password=self._user.token.encode(),
            properties=properties,
        )
        self._write(encode(connect, self._transport.protocol_level))

    def _ping(self) -> None:
        if self._was_silent:
            self._write(_PINGREQ)
        self._was_silent = True

    def _receive(self, data: bytes) -> None:
        self._decoder.receive(data)
        while (packet := self._decoder.next_packet()) is not None:
            self._take(packet)

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self._arrived(packet)
        elif isinstance(packet, Pubrec):
            _check(packet, packet.reason_code)
            self._send(pubrel_bytes(packet.packet_id))
        elif isinstance(packet, Pubrel):
            self._received.discard(packet.packet_id)
            self._send(pubcomp_bytes(packet.packet_id))
            self._around.ledger.answers.came()
        elif isinstance(packet, Puback | Pubcomp):
            _check(packet, packet.reason_code)
            self._around.ledger.answers.came()
        elif not isinstance(packet, Pingresp):
            self._open_on(packet)

    def _open_on(self, packet: Packet) -> None:
        if isinstance(packet, Connack):
            _check(packet, packet.reason_code)
            request = SubscriptionRequest(_TOPIC_FILTER, self._transport.qos)
            self._write(encode(Subscribe(1, [request]), self._transport.protocol_level))
        elif isinstance(packet, Suback) and packet.reason_codes == [self._transport.qos]:
            self.handshake = self.wire.traffic()
            self._reader = self._around.ledger.reader(self._user.name, self._user.conversation)
            self._pinging = Repeating(self._around.interval_s, self._ping)
            self._opened.set_result(None)
        else:
            raise RunFailed(f"the server said {packet}")

    def _arrived(self, publish: Publish) -> None:
        topic = self._topic_of(publish)
        if publish.qos == 1:
            self._send(puback_bytes(publish.packet_id))
        elif publish.qos == 2:
            self._send(pubrec_bytes(publish.packet_id))
            if publish.packet_id in self._received:
                return
            self._received.add(publish.packet_id)
            self._around.ledger.answers.add()
        self._around.ledger.arrived(self._reader, topic.removeprefix("c/"), decode_event(publish.payload))

    def _topic_of(self, publish: Publish) -> str:
        alias = publish.properties.get(PropertyId.TOPIC_ALIAS)
        if alias is None:
            return publish.topic_name
        if publish.topic_name:
            self._topics[alias] = publish.topic_name
        return self._topics[alias]


def _check(packet: Packet, reason_code: int) -> None:
    if reason_code >= 0x80:
        raise RunFailed(f"the server refused: {packet}")
