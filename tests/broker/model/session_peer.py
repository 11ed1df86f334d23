"""The session model's peer: what it sends is a line of text, and `Expectations` hears of all that comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recado.mqtt.packets import MQTT_5, Publish, Subscribe, SubscriptionRequest
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.model.peer import Peer, Wire

if TYPE_CHECKING:
    from tests.broker.model.expectations import Expectations


@dataclass
class Outgoing:
    text: str
    topic_name: str
    qos: int
    is_released: bool = False

    @property
    def payload(self) -> bytes:
        return self.text.encode()


@dataclass(eq=False)
class SessionPeer(Peer[Wire, Outgoing]):
    expected: Expectations = field(kw_only=True)

    def subscribe(self, request: SubscriptionRequest, identifier: int) -> None:
        assert self.wire is not None
        packet_id = self.packet_id()
        self.wire.asked[packet_id] = request
        told = self.level == MQTT_5 and identifier
        properties: Properties = {PropertyId.SUBSCRIPTION_IDENTIFIER: [identifier]} if told else EMPTY_PROPERTIES
        self.send(Subscribe(packet_id, [request], properties))

    def greeted(self, is_present: bool) -> None:
        self.expected.connected(self, is_present)

    def sends_again(self, sending: Outgoing) -> None:
        self.expected.sent_again(sending.text)

    def settled(self, sending: Outgoing, code: ReasonCode) -> None:
        assert code < ReasonCode.UNSPECIFIED_ERROR
        self.expected.acknowledged(sending.text)

    def arrived(self, publish: Publish) -> None:
        self.expected.arrived(self, publish)

    def subscribed(self, asked: SubscriptionRequest, code: int) -> None:
        assert code == asked.qos
        self.expected.subscribed(self, asked)

    def unsubscribed(self, topic_filter: str) -> None:
        self.expected.unsubscribed(self, topic_filter)
