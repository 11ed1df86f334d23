"""A client that completes MQTT's flows when a test asks it to, at any protocol level and over any transport.

Whatever is delivered while it waits for an answer is kept for `receive`, in order. `publish_to` returns when the server
has taken the publish, at QoS 0 too: so what a test does next happens after it.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
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
    Unsuback,
    Unsubscribe,
    Will,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.client import PACKET_BYTES_MAX, Stream, TcpStream, WsStream
from tests.broker.client import Client as RawClient

P = TypeVar("P", bound=Packet)


class Client(RawClient):
    def __init__(self, stream: Stream, level: int = MQTT_5) -> None:
        super().__init__(stream, level)
        self.connack = Connack()
        self._kept: deque[Packet] = deque()

    # The connection

    async def connect_as(
        self,
        client_id: str,
        *,
        clean_start: bool = True,
        session_expiry: int | None = None,
        keep_alive: int = 0,
        will: Will | None = None,
        username: str | None = None,
        password: bytes | None = None,
        properties: Properties = EMPTY_PROPERTIES,
    ) -> Connack:
        """CONNECT, and the CONNACK that answers it. `session_expiry` is in seconds, MQTT 5 only."""
        if session_expiry is not None:
            properties = {PropertyId.SESSION_EXPIRY_INTERVAL: session_expiry, **properties}
        # So that a packet which is larger than the client said it takes is seen as the error that it is.
        self._decoder.packet_bytes_max = properties.get(PropertyId.MAXIMUM_PACKET_SIZE, PACKET_BYTES_MAX)
        await self.send(Connect(client_id, self.level, clean_start, keep_alive, will, username, password, properties))
        self.connack = await self.expect(Connack)
        return self.connack

    async def disconnect(
        self, reason_code: ReasonCode = ReasonCode.NORMAL_DISCONNECTION, properties: Properties = EMPTY_PROPERTIES
    ) -> None:
        """DISCONNECT, and wait until the server has closed."""
        await self.send(Disconnect(reason_code, properties))
        await self.rest()
        self.close()

    async def send_bytes(self, data: bytes) -> None:
        await self.stream.send(data)

    async def end(self) -> Disconnect | None:
        """What the server says before it closes, None if it just closes; anything else that comes is a failure."""
        said = await self.rest()
        assert len(said) <= 1, f"more than one packet before the end: {said}"
        assert all(isinstance(packet, Disconnect) for packet in said), f"no DISCONNECT: {said}"
        return said[0] if said else None  # type: ignore[return-value]

    async def next(self) -> Packet | None:
        return self._kept.popleft() if self._kept else await super().next()

    async def answer(self, kind: type[P]) -> P:
        """The next packet that is no PUBLISH; those are kept."""
        while isinstance(packet := await super().next(), Publish):
            self._kept.append(packet)
        assert isinstance(packet, kind), f"expected {kind.__name__}, got {packet}"
        return packet

    async def ping(self) -> None:
        await self.send(Pingreq())
        await self.answer(Pingresp)

    # Subscriptions

    async def subscribe_to(
        self,
        topic_filter: str,
        qos: int = 0,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        identifier: int = 0,
    ) -> ReasonCode:
        """Subscribe to one filter. Returns what was granted, or why not."""
        request = SubscriptionRequest(topic_filter, qos, no_local, retain_as_published, retain_handling)
        properties = {PropertyId.SUBSCRIPTION_IDENTIFIER: identifier} if identifier else EMPTY_PROPERTIES
        (reason_code,) = (await self.subscribe_all([request], properties)).reason_codes
        return reason_code

    async def subscribe_all(
        self, requests: list[SubscriptionRequest], properties: Properties = EMPTY_PROPERTIES
    ) -> Suback:
        packet_id = self.next_packet_id()
        await self.send(Subscribe(packet_id, requests, properties))
        suback = await self.answer(Suback)
        assert suback.packet_id == packet_id
        return suback

    async def unsubscribe_from(self, *topic_filters: str) -> Unsuback:
        packet_id = self.next_packet_id()
        await self.send(Unsubscribe(packet_id, list(topic_filters)))
        unsuback = await self.answer(Unsuback)
        assert unsuback.packet_id == packet_id
        return unsuback

    # Publishing

    async def publish_to(
        self,
        topic_name: str,
        payload: bytes = b"x",
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties = EMPTY_PROPERTIES,
    ) -> ReasonCode:
        """Publish and go through the flow to its end. Returns the reason code of PUBACK or PUBREC, 0 at QoS 0."""
        packet_id = self.next_packet_id() if qos else 0
        await self.send(Publish(topic_name, payload, qos, retain, False, packet_id, properties))
        if qos == 0:
            await self.ping()
            return ReasonCode.SUCCESS
        answer: Puback | Pubrec = await self.answer(Puback if qos == 1 else Pubrec)
        assert answer.packet_id == packet_id
        if qos == 2 and answer.reason_code < ReasonCode.UNSPECIFIED_ERROR:
            await self.send(Pubrel(packet_id))
            pubcomp = await self.answer(Pubcomp)
            assert pubcomp == Pubcomp(packet_id)
        return answer.reason_code

    async def answer_to_publish(self) -> Puback | Pubrec:
        packet = await self.next()
        assert isinstance(packet, Puback | Pubrec), f"expected PUBACK or PUBREC, got {packet}"
        return packet

    # Deliveries

    async def receive(self) -> Publish:
        """The next delivery, acknowledged to the end of its flow."""
        publish = await self.expect(Publish)
        if publish.qos == 1:
            await self.send(Puback(publish.packet_id))
        elif publish.qos == 2:
            await self.send(Pubrec(publish.packet_id))
            pubrel = await self.answer(Pubrel)
            assert pubrel == Pubrel(publish.packet_id)
            await self.send(Pubcomp(publish.packet_id))
        return publish

    async def receive_payloads(self, count: int) -> list[bytes]:
        return [(await self.receive()).payload for _ in range(count)]


__all__ = ["Client", "Stream", "TcpStream", "WsStream"]
