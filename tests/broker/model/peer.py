"""A correct MQTT client without a socket: what it must keep over its connections, and bytes that the test lets through.

It answers what the server sends when the test says so, in order. Its application hears of each publish through
`arrived`; what the server may never send is an assertion here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recado.broker.connection import Connection
from recado.broker.holds import CONGESTED
from recado.broker.listener import Listener
from recado.broker.server import Server
from recado.mqtt.codec import Decoder, encode
from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode

_EXPECTED_ENDS = {
    ReasonCode.SESSION_TAKEN_OVER,
    ReasonCode.SERVER_BUSY,
    ReasonCode.SERVER_SHUTTING_DOWN,
    ReasonCode.KEEP_ALIVE_TIMEOUT,
}
OUTGOING_MAX = 5


class Wire(Connection):
    """The server's end of a connection. `to_client` is what it wrote and the client has not got; `clock` tells when it
    let go of the session."""

    def __init__(self, server: Server, listener: Listener, clock: Callable[[], int]) -> None:
        super().__init__(server, listener)
        self.to_client = bytearray()
        self.to_server = bytearray()
        self.is_paused = self.is_shut = self.is_lost = False
        self.clock = clock
        self.ended_at: int | None = None

    def write(self, data: bytes) -> None:
        assert not self.is_shut, "nothing is written to a closed transport"
        self.to_client += data

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def close_transport(self) -> None:
        self.shut()

    def abort_transport(self) -> None:
        self.to_client.clear()
        self.shut()

    def shut(self) -> None:
        self.is_shut = True
        if self.ended_at is None:
            self.ended_at = self.clock()

    def buffered_bytes(self) -> int:
        return len(self.to_client)

    def pass_on(self, count: int) -> None:
        """Let so many of the client's bytes through, if the server reads."""
        if not (self.is_paused or self.is_lost):
            data = bytes(self.to_server[:count])
            del self.to_server[:count]
            if data and not self.is_shut:
                self.receive(data)

    def was_told_the_end(self) -> bool:
        """Whether the server took the last thing that it was sent, DISCONNECT, if it has not closed by itself."""
        return self.is_shut and not self.held & CONGESTED

    def drop(self) -> None:
        """The network is gone, with what was on its way."""
        if not self.is_lost:
            self.is_lost = True
            self.to_client.clear()
            self.to_server.clear()
            self.shut()
            self.lost()


@dataclass
class Outgoing:
    text: str
    topic_name: str
    qos: int
    is_released: bool = False


@dataclass(eq=False)
class Peer:
    """`must_start_clean` is set once it has thrown its state away and no CONNACK has said that the server did too."""

    name: str
    events: Any
    level: int = MQTT_5
    wire: Wire | None = None
    is_connected: bool = False
    must_start_clean: bool = False
    outgoing: dict[int, Outgoing] = field(default_factory=dict)
    received: set[int] = field(default_factory=set)
    subscribing: dict[int, SubscriptionRequest] = field(default_factory=dict)
    unsubscribing: dict[int, str] = field(default_factory=dict)
    answers: list[Packet] = field(default_factory=list)
    unanswered: set[int] = field(default_factory=set)
    receive_maximum: int = 65_535
    last_packet_id: int = 0
    aliases: dict[int, str] = field(default_factory=dict)

    # What it sends

    def send(self, packet: Packet) -> None:
        assert self.wire is not None
        self.wire.to_server += encode(packet, self.level)

    def connect(self, wire: Wire, level: int, clean_start: bool, properties: Properties, receive_maximum: int) -> None:
        self.wire, self.level = wire, level
        self.receive_maximum = receive_maximum if level == MQTT_5 else 65_535
        self.decoder = Decoder(packet_bytes_max=1_000_000, role="client", protocol_level=level)
        if clean_start:
            self.forget()
            self.must_start_clean = True
        self.send(Connect(self.name, level, clean_start, properties=properties if level == MQTT_5 else {}))

    def forget(self) -> None:
        self.outgoing.clear()
        self.received.clear()

    def lose(self) -> None:
        """The connection is gone, or given up; what it had not answered is not answered."""
        self.wire = None
        self.is_connected = False
        self.answers.clear()
        self.unanswered.clear()
        self.aliases.clear()
        self.subscribing.clear()
        self.unsubscribing.clear()

    def packet_id(self) -> int:
        taken = self.outgoing.keys() | self.subscribing.keys() | self.unsubscribing.keys()
        while True:
            self.last_packet_id = self.last_packet_id % 7 + 1 if len(taken) < 7 else self.last_packet_id + 1
            if self.last_packet_id not in taken:
                return self.last_packet_id

    def waits_for(self, topic_filter: str) -> bool:
        """Whether a SUBACK or an UNSUBACK for this filter is still to come."""
        asked = [request.topic_filter for request in self.subscribing.values()]
        return topic_filter in asked or topic_filter in self.unsubscribing.values()

    def publish(self, topic_name: str, text: str, qos: int) -> None:
        packet_id = self.packet_id() if qos else 0
        if qos:
            self.outgoing[packet_id] = Outgoing(text, topic_name, qos)
        self.send(Publish(topic_name, text.encode(), qos, packet_id=packet_id))

    def subscribe(self, request: SubscriptionRequest, identifier: int) -> None:
        packet_id = self.packet_id()
        self.subscribing[packet_id] = request
        told = self.level == MQTT_5 and identifier
        properties: Properties = {PropertyId.SUBSCRIPTION_IDENTIFIER: [identifier]} if told else EMPTY_PROPERTIES
        self.send(Subscribe(packet_id, [request], properties))

    def unsubscribe(self, topic_filter: str) -> None:
        packet_id = self.packet_id()
        self.unsubscribing[packet_id] = topic_filter
        self.send(Unsubscribe(packet_id, [topic_filter]))

    def answer(self, count: int) -> None:
        """Send the first of the acknowledgements that it owes."""
        for packet in self.answers[:count]:
            if isinstance(packet, Puback | Pubcomp):
                self.unanswered.discard(packet.packet_id)
            self.send(packet)
        del self.answers[:count]

    # What it gets

    def take(self, count: int) -> None:
        """Read so many bytes of what the server wrote."""
        wire = self.wire
        assert wire is not None
        data = bytes(wire.to_client[:count])
        del wire.to_client[:count]
        self.decoder.receive(data)
        while self.wire is wire and (packet := self.decoder.next_packet()) is not None:
            assert self.is_connected or isinstance(packet, Connack), f"{packet} before CONNACK"
            _TAKE[type(packet)](self, packet)

    def on_connack(self, connack: Connack) -> None:
        if connack.reason_code is ReasonCode.SERVER_UNAVAILABLE:
            return
        assert connack.reason_code is ReasonCode.SUCCESS
        self.is_connected = True
        assert not (self.must_start_clean and connack.session_present)  # [MQTT5-3.2.2-2]
        self.must_start_clean = False
        if not connack.session_present:
            self.forget()
        self.events.connected(self, connack.session_present)
        for packet_id, each in self.outgoing.items():
            if each.is_released:
                self.send(Pubrel(packet_id))
            else:
                self.events.sent_again(each.text)
                self.send(Publish(each.topic_name, each.text.encode(), each.qos, dup=True, packet_id=packet_id))

    def on_publish(self, publish: Publish) -> None:
        packet_id, qos = publish.packet_id, publish.qos
        self._resolve_alias(publish)
        if not qos:
            self.events.arrived(self, publish)
            return
        assert packet_id not in self.unanswered, "a packet id is used again before its flow is over"
        self.unanswered.add(packet_id)
        assert len(self.unanswered) <= self.receive_maximum, "more in flight than Receive Maximum"
        if qos == 1:
            self.events.arrived(self, publish)
            self.answers.append(Puback(packet_id))
            return
        if packet_id in self.received:
            assert publish.dup, "a new publish under a packet id that PUBREL has not freed"
        else:
            self.received.add(packet_id)
            self.events.arrived(self, publish)
        self.answers.append(Pubrec(packet_id))

    def _resolve_alias(self, publish: Publish) -> None:
        alias = publish.properties.get(PropertyId.TOPIC_ALIAS)
        if alias is not None:
            if publish.topic_name:
                self.aliases[alias] = publish.topic_name
            publish.topic_name = self.aliases[alias]

    def on_puback(self, puback: Puback) -> None:
        assert puback.reason_code < ReasonCode.UNSPECIFIED_ERROR
        outgoing = self.outgoing.pop(puback.packet_id)
        assert outgoing.qos == 1
        self.events.acknowledged(outgoing.text)

    def on_pubrec(self, pubrec: Pubrec) -> None:
        assert pubrec.reason_code < ReasonCode.UNSPECIFIED_ERROR
        outgoing = self.outgoing[pubrec.packet_id]
        assert outgoing.qos == 2
        outgoing.is_released = True
        self.outgoing[pubrec.packet_id] = self.outgoing.pop(pubrec.packet_id)  # PUBRELs in the order of the PUBRECs
        self.events.acknowledged(outgoing.text)
        self.answers.append(Pubrel(pubrec.packet_id))

    def on_pubrel(self, pubrel: Pubrel) -> None:
        self.received.discard(pubrel.packet_id)
        self.answers.append(Pubcomp(pubrel.packet_id))

    def on_pubcomp(self, pubcomp: Pubcomp) -> None:
        assert self.outgoing.pop(pubcomp.packet_id).is_released

    def on_suback(self, suback: Suback) -> None:
        request = self.subscribing.pop(suback.packet_id)
        assert suback.reason_codes == [request.qos]
        self.events.subscribed(self, request)

    def on_unsuback(self, unsuback: Unsuback) -> None:
        self.events.unsubscribed(self, self.unsubscribing.pop(unsuback.packet_id))

    def on_disconnect(self, disconnect: Disconnect) -> None:
        assert disconnect.reason_code in _EXPECTED_ENDS, disconnect


_TAKE: dict[type, Callable[[Peer, Any], None]] = {
    Connack: Peer.on_connack,
    Publish: Peer.on_publish,
    Puback: Peer.on_puback,
    Pubrec: Peer.on_pubrec,
    Pubrel: Peer.on_pubrel,
    Pubcomp: Peer.on_pubcomp,
    Suback: Peer.on_suback,
    Unsuback: Peer.on_unsuback,
    Disconnect: Peer.on_disconnect,
}
