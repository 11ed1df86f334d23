"""A correct MQTT client without a socket: what it must keep over its connections, and bytes that the test lets through.

It answers what the server sends when the test says so, in order; what the server may never send is an assertion here.
Each model has a peer of its own, which says what is sent and hears of what comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

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
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode

OUTGOING_MAX = 5
_PACKET_IDS = 9  # few, so that they are used again soon


class Wire(Connection):
    """The server's end of a connection. `to_client` is what it wrote and the client has not got; `clock` tells when it
    let go of the session. `asked` has by packet id what the client has asked for on it and has no answer to: at an
    UNSUBSCRIBE the topic filter, at a SUBSCRIBE something that has a `topic_filter`."""

    def __init__(self, server: Server, listener: Listener, clock: Callable[[], int]) -> None:
        super().__init__(server, listener)
        self.to_client = bytearray()
        self.to_server = bytearray()
        self.is_paused = self.is_shut = self.is_lost = False
        self.clock = clock
        self.ended_at: int | None = None
        self.asked: dict[int, Any] = {}

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

    def read(self, count: int) -> bytes:
        """The client reads some of what was written."""
        data = bytes(self.to_client[:count])
        del self.to_client[:count]
        return data

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


class Sending(Protocol):
    """A publish at QoS 1 or 2 that is not over."""

    is_released: bool

    @property
    def topic_name(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def qos(self) -> int: ...


AnyWire = TypeVar("AnyWire", bound=Wire)
AnySending = TypeVar("AnySending", bound=Sending)


@dataclass(eq=False)
class Peer(Generic[AnyWire, AnySending]):
    """`must_start_clean` is set once it has thrown its state away and no CONNACK has said that the server did too."""

    name: str
    level: int = MQTT_5
    wire: AnyWire | None = None
    is_connected: bool = False
    starts_clean: bool = False
    must_start_clean: bool = False
    outgoing: dict[int, AnySending] = field(default_factory=dict)
    received: set[int] = field(default_factory=set)
    answers: list[Packet] = field(default_factory=list)
    unanswered: set[int] = field(default_factory=set)
    receive_maximum: int = 65_535
    last_packet_id: int = 0
    aliases: dict[int, str] = field(default_factory=dict)

    expected_ends: ClassVar[frozenset[ReasonCode]] = frozenset(
        {
            ReasonCode.SESSION_TAKEN_OVER,
            ReasonCode.SERVER_BUSY,
            ReasonCode.SERVER_SHUTTING_DOWN,
            ReasonCode.KEEP_ALIVE_TIMEOUT,
        }
    )

    # What a model hears

    def greeted(self, is_present: bool) -> None:
        """CONNACK came; what was not over is sent again after this."""

    def sends_again(self, sending: AnySending) -> None: ...

    def settled(self, sending: AnySending, code: ReasonCode) -> None:
        """PUBACK or PUBREC came."""
        raise NotImplementedError

    def arrived(self, publish: Publish) -> None:
        raise NotImplementedError

    def subscribed(self, asked: Any, code: int) -> None: ...

    def unsubscribed(self, topic_filter: str) -> None: ...

    # What it sends

    def send(self, packet: Packet) -> None:
        assert self.wire is not None
        self.wire.to_server += encode(packet, self.level)

    def connects(self, wire: AnyWire, connect: Connect) -> None:
        self.wire, self.level = wire, connect.protocol_level
        self.receive_maximum = connect.properties.get(PropertyId.RECEIVE_MAXIMUM, 65_535)
        self.decoder = Decoder(packet_bytes_max=1_000_000, role="client", protocol_level=self.level)
        self.starts_clean = connect.clean_start
        if self.starts_clean:
            self.forget()
            self.must_start_clean = True
        self.send(connect)

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

    def packet_id(self) -> int:
        assert self.wire is not None
        taken = self.outgoing.keys() | self.wire.asked.keys()
        while True:
            few = self.last_packet_id % _PACKET_IDS
            self.last_packet_id = few + 1 if len(taken) < _PACKET_IDS else self.last_packet_id + 1
            if self.last_packet_id not in taken:
                return self.last_packet_id

    def waits_for(self, topic_filter: str) -> bool:
        """Whether a SUBACK or an UNSUBACK for this filter is still to come."""
        assert self.wire is not None
        return any(getattr(each, "topic_filter", each) == topic_filter for each in self.wire.asked.values())

    def publish(self, sending: AnySending) -> None:
        packet_id = self.packet_id() if sending.qos else 0
        if packet_id:
            self.outgoing[packet_id] = sending
        self.send(Publish(sending.topic_name, sending.payload, sending.qos, packet_id=packet_id))

    def unsubscribe(self, topic_filter: str) -> None:
        assert self.wire is not None
        packet_id = self.packet_id()
        self.wire.asked[packet_id] = topic_filter
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
        self.decoder.receive(wire.read(count))
        while self.wire is wire and (packet := self.decoder.next_packet()) is not None:
            assert self.is_connected or isinstance(packet, Connack), f"{packet} before CONNACK"
            _TAKE[type(packet)](self, packet)

    def on_connack(self, connack: Connack) -> None:
        if connack.reason_code is ReasonCode.SERVER_UNAVAILABLE:
            return
        assert connack.reason_code is ReasonCode.SUCCESS, connack
        self.is_connected = True
        if self.starts_clean:
            assert not connack.session_present  # [MQTT5-3.2.2-2]
            self.must_start_clean = False
        if not connack.session_present:
            self.forget()
            self.must_start_clean = False
        self.greeted(connack.session_present)
        for packet_id, each in self.outgoing.items():
            if each.is_released:
                self.send(Pubrel(packet_id))
            else:
                self.sends_again(each)
                self.send(Publish(each.topic_name, each.payload, each.qos, dup=True, packet_id=packet_id))

    def on_publish(self, publish: Publish) -> None:
        packet_id, qos = publish.packet_id, publish.qos
        self._resolve_alias(publish)
        if not qos:
            self.arrived(publish)
            return
        assert packet_id not in self.unanswered, "a packet id is used again before its flow is over"
        self.unanswered.add(packet_id)
        assert len(self.unanswered) <= self.receive_maximum, "more in flight than Receive Maximum"
        if qos == 1:
            self.arrived(publish)
            self.answers.append(Puback(packet_id))
            return
        if packet_id in self.received:
            assert publish.dup, "a new publish under a packet id that PUBREL has not freed"
        else:
            self.received.add(packet_id)
            self.arrived(publish)
        self.answers.append(Pubrec(packet_id))

    def _resolve_alias(self, publish: Publish) -> None:
        alias = publish.properties.get(PropertyId.TOPIC_ALIAS)
        if alias is not None:
            if publish.topic_name:
                self.aliases[alias] = publish.topic_name
            publish.topic_name = self.aliases[alias]

    def on_puback(self, puback: Puback) -> None:
        sending = self.outgoing.pop(puback.packet_id)
        assert sending.qos == 1
        self.settled(sending, puback.reason_code)

    def on_pubrec(self, pubrec: Pubrec) -> None:
        sending = self.outgoing.pop(pubrec.packet_id)
        assert sending.qos == 2
        self.settled(sending, pubrec.reason_code)
        if pubrec.reason_code < ReasonCode.UNSPECIFIED_ERROR:
            sending.is_released = True
            self.outgoing[pubrec.packet_id] = sending  # PUBRELs in the order of the PUBRECs
            self.answers.append(Pubrel(pubrec.packet_id))

    def on_pubrel(self, pubrel: Pubrel) -> None:
        self.received.discard(pubrel.packet_id)
        self.answers.append(Pubcomp(pubrel.packet_id))

    def on_pubcomp(self, pubcomp: Pubcomp) -> None:
        assert self.outgoing.pop(pubcomp.packet_id).is_released

    def on_suback(self, suback: Suback) -> None:
        assert self.wire is not None
        (code,) = suback.reason_codes
        self.subscribed(self.wire.asked.pop(suback.packet_id), code)

    def on_unsuback(self, unsuback: Unsuback) -> None:
        assert self.wire is not None
        self.unsubscribed(self.wire.asked.pop(unsuback.packet_id))

    def on_disconnect(self, disconnect: Disconnect) -> None:
        assert disconnect.reason_code in self.expected_ends, disconnect


_TAKE: dict[type, Callable[[Peer[Any, Any], Any], None]] = {
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
