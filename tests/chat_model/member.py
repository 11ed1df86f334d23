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
from recado.mqtt.codec import Decoder
from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Packet,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
)
from recado.mqtt.properties import Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.model.peer import Peer, Wire
from tests.chat_model.expectations import Expectations, Life, Stream, Wanted
from tests.chat_model.logs import Log

BUFFER_BYTES_MAX = 160


@dataclass
class Asked:
    """A SUBSCRIBE on its way, and how the membership stood."""

    topic_filter: str
    wanted: Wanted
    after: dict[str, int]
    turns: int
    is_member: bool | None


class Line(Wire):
    def __init__(self, server: Server, listener: Listener, clock: Callable[[], int], expected: Expectations) -> None:
        super().__init__(server, listener, clock)
        self.expected = expected
        self.life: Life | None = None
        self.name = self.user = ""
        self.is_kept = self.is_clean = False
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
            self.expected.refused(self, asked.topic_filter, asked.wanted, asked.after)

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
    def topic_name(self) -> str:
        return f"c/{self.conversation}"

    @property
    def payload(self) -> bytes:
        return json.dumps({"id": self.id, "body": self.body}).encode()


@dataclass(eq=False)
class Member(Peer[Line, Outgoing]):
    user: str = field(kw_only=True)
    expected: Expectations = field(kw_only=True)
    is_kept: bool = False
    must_start_clean: bool = True

    expected_ends = Peer.expected_ends | {ReasonCode.ADMINISTRATIVE_ACTION}

    # What it sends

    def connect(self, line: Line, level: int, is_kept: bool, is_clean: bool, maximum: int, aliases: int) -> None:
        self.is_kept = is_kept
        line.begin(self.name, self.user, level, is_kept, is_clean)
        properties: Properties = {}
        if level == MQTT_5:
            properties = {
                PropertyId.SESSION_EXPIRY_INTERVAL: 0xFFFF_FFFF if is_kept else 0,
                PropertyId.RECEIVE_MAXIMUM: maximum,
                PropertyId.TOPIC_ALIAS_MAXIMUM: aliases,
            }
        password = self.user.encode()
        self.connects(line, Connect(self.name, level, is_clean, 0, None, self.user, password, properties))

    def lose(self) -> None:
        super().lose()
        if not self.is_kept:
            self.forget()

    def subscribe(self, topic_filter: str, qos: int, no_local: bool, after: dict[str, int], identifier: int) -> None:
        line = self.wire
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
        assert self.wire is not None
        assert self.wire.life is not None
        self.expected.unsubscribes(self.wire.life, topic_filter)
        super().unsubscribe(topic_filter)

    # What it gets

    def take(self, count: int) -> None:
        line = self.wire
        assert line is not None
        super().take(count)
        line.drain()

    def sends_again(self, sending: Outgoing) -> None:
        sending.is_again = True

    def arrived(self, publish: Publish) -> None:
        assert self.wire is not None
        assert self.wire.life is not None
        self.expected.arrived(self.wire.life, self.wire, publish)

    def settled(self, sending: Outgoing, code: ReasonCode) -> None:
        log = self.expected.logs.get(sending.conversation)
        if code is ReasonCode.NOT_AUTHORIZED:
            assert not self._may_send(sending, log), f"{sending} is refused"
            return
        assert code is ReasonCode.SUCCESS, code
        if log is not None and (self.user, sending.id) in log.ids:
            return
        is_dropped = self.level != MQTT_5 and sending.is_again  # what 3.1.1 cannot refuse
        assert is_dropped, f"{sending} is acknowledged and is not on disk"
        assert not self._may_send(sending, log), f"{sending} is dropped"

    def _may_send(self, sending: Outgoing, log: Log | None) -> bool:
        """Whether it could be sent all the time."""
        return sending.is_known and log is not None and not log.is_erased and log.always_member(self.user)
