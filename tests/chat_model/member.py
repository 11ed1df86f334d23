"""A correct MQTT client of a conversation's member, without a socket: every byte goes through when a rule says so.

`Line` is the server's end. It reads what the server writes in the moment in which it does, for `Expectations` to judge,
and has a small buffer: beyond it the client has not read enough, and the connection falls behind.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recado.broker.holds import CLOSING, CONGESTED
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
from recado.mqtt.properties import Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.model.peer import Wire
from tests.chat_model.expectations import Expectations, Life, Stream, Wanted
from tests.chat_model.logs import Log

BUFFER_BYTES_MAX = 160
OUTGOING_MAX = 5
_EXPECTED_ENDS = {
    ReasonCode.SESSION_TAKEN_OVER,
    ReasonCode.SERVER_BUSY,
    ReasonCode.SERVER_SHUTTING_DOWN,
    ReasonCode.KEEP_ALIVE_TIMEOUT,
    ReasonCode.ADMINISTRATIVE_ACTION,
}


@dataclass
class Asked:
    """A SUBSCRIBE on its way, and how the membership stood."""

    topic_filter: str
    wanted: Wanted
    after: dict[str, int]
    turns: int
    is_member: bool | None


class Line(Wire):
    """`asked` are the SUBSCRIBEs and UNSUBSCRIBEs that the client has sent on it, by packet id."""

    def __init__(self, server: Server, listener: Listener, clock: Callable[[], int], expected: Expectations) -> None:
        super().__init__(server, listener, clock)
        self.expected = expected
        self.life: Life | None = None
        self.name = self.user = ""
        self.is_kept = self.is_clean = False
        self.asked: dict[int, Asked | str] = {}
        self.streams: dict[str, Stream] = {}
        self.topics_told: dict[int, str] = {}

    def stream(self, conversation: str) -> Stream:
        return self.streams.setdefault(conversation, Stream())

    def begin(self, name: str, user: str, level: int, is_kept: bool, is_clean: bool) -> None:
        self.name, self.user, self.is_kept, self.is_clean = name, user, is_kept, is_clean
        self.judge = Decoder(packet_bytes_max=1_000_000, role="client", protocol_level=level)
        self.expected.lines.append(self)
        self.expected.connects(self)

    def write(self, data: bytes) -> None:
        super().write(data)
        self.judge.receive(data)
        while (packet := self.judge.next_packet()) is not None:
            try:
                self._judge(packet)
            except AssertionError as error:  # the server would take it for its own
                self.expected.broken.append(error)
        if len(self.to_client) > BUFFER_BYTES_MAX and not self.held & CONGESTED:
            self.congest()

    def read(self, count: int) -> bytes:
        """The client reads some of what was written."""
        data = bytes(self.to_client[:count])
        del self.to_client[:count]
        return data

    def drain(self) -> None:
        if self.held & CONGESTED and not (self.held & CLOSING or self.is_lost) and len(self.to_client) < 40:
            self.writable()

    def shut(self) -> None:
        super().shut()
        self.expected.gone(self)

    def _judge(self, packet: Packet) -> None:
        match packet:
            case Connack():
                if packet.reason_code is ReasonCode.SUCCESS:
                    self.expected.greeted(self, packet.session_present)
            case Publish():
                alias = packet.properties.get(PropertyId.TOPIC_ALIAS)
                if alias is not None:
                    packet.topic_name = self.topics_told.setdefault(alias, packet.topic_name)
                self.expected.written(self, packet)
            case Suback():
                asked = self.asked[packet.packet_id]
                assert isinstance(asked, Asked)
                self._judge_suback(asked, packet.reason_codes[0])
            case Unsuback():
                topic_filter = self.asked[packet.packet_id]
                assert isinstance(topic_filter, str)
                self.expected.unsubscribed(self, topic_filter)

    def _judge_suback(self, asked: Asked, code: int) -> None:
        if code == asked.wanted[0]:
            assert asked.is_member is not False or asked.turns != self.turns(asked.topic_filter), asked
            self.expected.subscribed(self, asked.topic_filter, asked.wanted, asked.after)
        else:
            assert code in (ReasonCode.NOT_AUTHORIZED, ReasonCode.UNSPECIFIED_ERROR)
            assert asked.is_member is not True or asked.turns != self.turns(asked.topic_filter), asked
            assert asked.topic_filter.startswith(("c/x", "c/y", "c/z")), "a wildcard follows the membership"
            self.expected.refused(self, asked.topic_filter, asked.wanted)

    def turns(self, topic_filter: str) -> int:
        log = self.expected.logs.get(topic_filter.split("/")[1] if "/" in topic_filter else "")
        return -1 if log is None else log.turns + 1000 * log.is_erased


@dataclass
class Outgoing:
    conversation: str
    id: str
    body: str
    qos: int
    is_known: bool = True
    is_released: bool = False
    is_again: bool = False

    @property
    def payload(self) -> bytes:
        return json.dumps({"id": self.id, "body": self.body}).encode()


@dataclass(eq=False)
class Member:
    """`must_start_clean` is set once it has thrown its state away and no CONNACK has said that the server did too."""

    name: str
    user: str
    expected: Expectations
    level: int = MQTT_5
    line: Line | None = None
    is_connected: bool = False
    is_kept: bool = False
    must_start_clean: bool = True
    outgoing: dict[int, Outgoing] = field(default_factory=dict)
    received: set[int] = field(default_factory=set)
    answers: list[Packet] = field(default_factory=list)
    unanswered: set[int] = field(default_factory=set)
    receive_maximum: int = 65_535
    last_packet_id: int = 0
    aliases: dict[int, str] = field(default_factory=dict)

    # What it sends

    def send(self, packet: Packet) -> None:
        assert self.line is not None
        self.line.to_server += encode(packet, self.level)

    def connect(self, line: Line, level: int, is_kept: bool, is_clean: bool, maximum: int, aliases: int) -> None:
        self.line, self.level, self.is_kept = line, level, is_kept
        self.receive_maximum = maximum if level == MQTT_5 else 65_535
        self.decoder = Decoder(packet_bytes_max=1_000_000, role="client", protocol_level=level)
        if is_clean:
            self.forget()
            self.must_start_clean = True
        line.begin(self.name, self.user, level, is_kept, is_clean)
        properties: Properties = {}
        if level == MQTT_5:
            properties = {
                PropertyId.SESSION_EXPIRY_INTERVAL: 0xFFFF_FFFF if is_kept else 0,
                PropertyId.RECEIVE_MAXIMUM: maximum,
                PropertyId.TOPIC_ALIAS_MAXIMUM: aliases,
            }
        password = self.user.encode()
        self.send(Connect(self.name, level, is_clean, 0, None, self.user, password, properties))

    def forget(self) -> None:
        self.outgoing.clear()
        self.received.clear()

    def lose(self) -> None:
        """The connection is gone, or given up; what it had not answered is not answered."""
        self.line = None
        self.is_connected = False
        self.answers.clear()
        self.unanswered.clear()
        self.aliases.clear()
        if not self.is_kept:
            self.forget()

    def packet_id(self) -> int:
        assert self.line is not None
        taken = self.outgoing.keys() | self.line.asked.keys()
        while True:
            self.last_packet_id = self.last_packet_id % 9 + 1 if len(taken) < 9 else self.last_packet_id + 1
            if self.last_packet_id not in taken:
                return self.last_packet_id

    def publish(self, outgoing: Outgoing) -> None:
        packet_id = self.packet_id() if outgoing.qos else 0
        if packet_id:
            self.outgoing[packet_id] = outgoing
        self.send(Publish(f"c/{outgoing.conversation}", outgoing.payload, outgoing.qos, packet_id=packet_id))

    def subscribe(self, topic_filter: str, qos: int, no_local: bool, after: dict[str, int], identifier: int) -> None:
        line = self.line
        assert line is not None
        assert line.life is not None
        conversation = topic_filter.split("/")[1] if topic_filter.startswith("c/") else "+"
        log = self.expected.logs.get(conversation)
        is_member = None
        if conversation not in "+#" and (log is None or log.told == len(log.entries)):
            is_member = log is not None and not log.is_erased and self.user in log.members
        if self.level != MQTT_5:
            no_local, after, identifier = False, {}, 0
        packet_id = self.packet_id()
        line.asked[packet_id] = Asked(topic_filter, (qos, no_local), after, line.turns(topic_filter), is_member)
        self.expected.subscribes(line.life, line, topic_filter, (qos, no_local), after)
        properties: dict[PropertyId, Any] = {}
        if after:
            properties = {PropertyId.USER_PROPERTY: [("after", f"{name}={seq}") for name, seq in after.items()]}
        if identifier:
            properties[PropertyId.SUBSCRIPTION_IDENTIFIER] = [identifier]
        self.send(Subscribe(packet_id, [SubscriptionRequest(topic_filter, qos, no_local)], properties))

    def unsubscribe(self, topic_filter: str) -> None:
        line = self.line
        assert line is not None
        assert line.life is not None
        packet_id = self.packet_id()
        line.asked[packet_id] = topic_filter
        self.expected.unsubscribes(line.life, topic_filter)
        self.send(Unsubscribe(packet_id, [topic_filter]))

    def waits_for(self, topic_filter: str) -> bool:
        """Whether a SUBACK or an UNSUBACK for this filter is still to come."""
        assert self.line is not None
        return any(getattr(each, "topic_filter", each) == topic_filter for each in self.line.asked.values())

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
        line = self.line
        assert line is not None
        self.decoder.receive(line.read(count))
        while self.line is line and (packet := self.decoder.next_packet()) is not None:
            assert self.is_connected or isinstance(packet, Connack), f"{packet} before CONNACK"
            _TAKE[type(packet)](self, packet)
        line.drain()

    def on_connack(self, connack: Connack) -> None:
        if connack.reason_code is ReasonCode.SERVER_UNAVAILABLE:
            return
        assert connack.reason_code is ReasonCode.SUCCESS, connack
        self.is_connected = True
        assert self.line is not None
        if self.line.is_clean:
            assert not connack.session_present  # [MQTT5-3.2.2-2]
            self.must_start_clean = False
        if not connack.session_present:
            self.forget()
            self.must_start_clean = False
        for packet_id, each in self.outgoing.items():
            if each.is_released:
                self.send(Pubrel(packet_id))
            else:
                each.is_again = True
                self.send(Publish(f"c/{each.conversation}", each.payload, each.qos, dup=True, packet_id=packet_id))

    def on_publish(self, publish: Publish) -> None:
        packet_id, qos = publish.packet_id, publish.qos
        alias = publish.properties.get(PropertyId.TOPIC_ALIAS)
        if alias is not None:
            publish.topic_name = self.aliases.setdefault(alias, publish.topic_name)
        if not qos:
            self._arrived(publish)
            return
        assert packet_id not in self.unanswered, "a packet id is used again before its flow is over"
        self.unanswered.add(packet_id)
        assert len(self.unanswered) <= self.receive_maximum, "more in flight than Receive Maximum"
        if qos == 1:
            self._arrived(publish)
            self.answers.append(Puback(packet_id))
            return
        if packet_id in self.received:
            assert publish.dup, "a new publish under a packet id that PUBREL has not freed"
        else:
            self.received.add(packet_id)
            self._arrived(publish)
        self.answers.append(Pubrec(packet_id))

    def _arrived(self, publish: Publish) -> None:
        assert self.line is not None
        assert self.line.life is not None
        self.expected.arrived(self.line.life, self.line, publish)

    def on_puback(self, puback: Puback) -> None:
        outgoing = self.outgoing.pop(puback.packet_id)
        assert outgoing.qos == 1
        self._settled(outgoing, puback.reason_code)

    def on_pubrec(self, pubrec: Pubrec) -> None:
        outgoing = self.outgoing.pop(pubrec.packet_id)
        assert outgoing.qos == 2
        self._settled(outgoing, pubrec.reason_code)
        if pubrec.reason_code < ReasonCode.UNSPECIFIED_ERROR:
            outgoing.is_released = True
            self.outgoing[pubrec.packet_id] = outgoing
            self.answers.append(Pubrel(pubrec.packet_id))

    def _settled(self, outgoing: Outgoing, code: ReasonCode) -> None:
        log = self.expected.logs.get(outgoing.conversation)
        if code is ReasonCode.NOT_AUTHORIZED:
            assert not self._may_send(outgoing, log), f"{outgoing} is refused"
            return
        assert code is ReasonCode.SUCCESS, code
        if log is not None and (self.user, outgoing.id) in log.ids:
            return
        is_dropped = self.level != MQTT_5 and outgoing.is_again  # what 3.1.1 cannot refuse
        assert is_dropped, f"{outgoing} is acknowledged and is not on disk"
        assert not self._may_send(outgoing, log), f"{outgoing} is dropped"

    def _may_send(self, outgoing: Outgoing, log: Log | None) -> bool:
        """Whether it could be sent all the time."""
        return outgoing.is_known and log is not None and not log.is_erased and log.always_member(self.user)

    def on_pubrel(self, pubrel: Pubrel) -> None:
        self.received.discard(pubrel.packet_id)
        self.answers.append(Pubcomp(pubrel.packet_id))

    def on_pubcomp(self, pubcomp: Pubcomp) -> None:
        assert self.outgoing.pop(pubcomp.packet_id).is_released

    def on_suback(self, suback: Suback) -> None:
        assert self.line is not None
        del self.line.asked[suback.packet_id]

    def on_unsuback(self, unsuback: Unsuback) -> None:
        assert self.line is not None
        del self.line.asked[unsuback.packet_id]

    def on_disconnect(self, disconnect: Disconnect) -> None:
        assert disconnect.reason_code in _EXPECTED_ENDS, disconnect


_TAKE: dict[type, Callable[[Member, Any], None]] = {
    Connack: Member.on_connack,
    Publish: Member.on_publish,
    Puback: Member.on_puback,
    Pubrec: Member.on_pubrec,
    Pubrel: Member.on_pubrel,
    Pubcomp: Member.on_pubcomp,
    Suback: Member.on_suback,
    Unsuback: Member.on_unsuback,
    Disconnect: Member.on_disconnect,
}
