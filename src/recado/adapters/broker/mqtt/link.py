"""One connection to the broker: bytes in, packets out, from CONNECT to its end. It never connects again."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from recado.mqtt.codec import Decoder, ProtocolError, encode
from recado.mqtt.packets import (
    MQTT_3_1_1,
    Connack,
    Connect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from recado.mqtt.reason_codes import ReasonCode

_FAILURE = 0x80  # reason codes from here on refuse
_SUBSCRIBE_ID = 1  # no publish of this connection is under way then


class NotMqtt(ConnectionError):
    """Who answers there is no broker, or breaks the protocol."""


class Receiver(Protocol):
    """Who the link belongs to."""

    def acknowledged(self, packet_id: int) -> None: ...

    def received(self, publish: Publish) -> None: ...

    def writable(self) -> None:
        """There is room in the buffer again."""


class Link(asyncio.Protocol):
    """`answer` is the CONNACK's or the SUBACK's reason code, of which one is waited for at a time; it and `ended` are
    over when the connection is."""

    def __init__(self, receiver: Receiver, packet_bytes_max: int, buffer_bytes_max: int) -> None:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[ReasonCode] = loop.create_future()
        self.ended: asyncio.Future[ConnectionError] = loop.create_future()
        self.heard_at = loop.time()
        self.is_congested = False
        self._loop = loop
        self._receiver = receiver
        self._buffer_bytes_max = buffer_bytes_max
        self._decoder = Decoder(packet_bytes_max=packet_bytes_max, role="client", protocol_level=MQTT_3_1_1)
        self._transport: asyncio.Transport | None = None
        self._end: ConnectionError = ConnectionError("the broker closed the connection")

    async def connect(self, connect: Connect) -> ReasonCode:
        """Raises ConnectionError if the connection ends instead."""
        return await self._ask(connect)

    async def subscribe(self, topic_filter: str) -> ReasonCode:
        """At QoS 0. Raises ConnectionError if the connection ends instead."""
        self.answer = self._loop.create_future()
        return await self._ask(Subscribe(_SUBSCRIBE_ID, [SubscriptionRequest(topic_filter)]))

    async def _ask(self, packet: Packet) -> ReasonCode:
        if self.ended.done():
            raise self.ended.result()
        self.write(encode(packet, MQTT_3_1_1))
        return await self.answer

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def ping(self) -> None:
        self.write(encode(Pingreq(), MQTT_3_1_1))

    def abort(self, why: ConnectionError) -> None:
        self._end = why
        if self._transport is not None:
            self._transport.abort()

    def close(self, farewell: bytes) -> None:
        """Let what was written leave."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(farewell)
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._buffer_bytes_max)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        self._decoder.receive(data)
        try:
            while (packet := self._decoder.next_packet()) is not None:
                self._handle(packet)
        except ProtocolError as error:
            self.abort(NotMqtt(f"what it sends is not MQTT 3.1.1: {error}"))

    def _handle(self, packet: Packet) -> None:
        match packet:
            case Puback(packet_id=packet_id):
                self._receiver.acknowledged(packet_id)
            case Publish():
                self._receiver.received(packet)
            case Connack(reason_code=reason_code) | Suback(reason_codes=[reason_code]):
                if not self.answer.done():
                    self.answer.set_result(reason_code)
            case Pingresp():
                pass
            case _:
                self.abort(NotMqtt("it sent a packet that no broker sends to this client"))

    def connection_lost(self, error: Exception | None) -> None:
        end = self._end if error is None else ConnectionError(str(error))
        self.ended.set_result(end)
        if not self.answer.done():
            self.answer.set_exception(end)
            self.answer.exception()  # it may be that nobody waits any more

    def pause_writing(self) -> None:
        self.is_congested = True

    def resume_writing(self) -> None:
        self.is_congested = False
        self._receiver.writable()


def is_refusal(reason_code: ReasonCode) -> bool:
    return reason_code >= _FAILURE
