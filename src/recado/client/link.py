"""One connection to the server: packets out and in, acknowledgements, keep-alive. It ends once; the next is another.

What is written in one turn of the loop leaves in one piece. Nothing is buffered here beyond that: the client asks
`has_room` before it writes messages. Deliveries are acknowledged by whoever took them, so those that nobody read yet
fill the window that the server was given, and it reads on from its log when there is room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from recado.client.limits import ClientLimits
from recado.client.outbox import PUBLISH_IDS
from recado.client.transports import Transport
from recado.mqtt.codec import Decoder, ProtocolError, encode, puback_bytes, pubcomp_bytes, pubrec_bytes
from recado.mqtt.packets import (
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode

_ID_MAX = 0xFFFF
_METHOD = "token"
_RECEIVE_MAXIMUM_DEFAULT = 65_535  # [MQTT5 3.2.2.3.3]


class Owner(Protocol):
    """Who hears of what came."""

    def on_publish(self, link: Link, publish: Publish) -> None: ...

    def on_answer(self, packet_id: int, code: ReasonCode, text: str) -> None:
        """PUBACK."""

    def on_suback(self, packet_id: int, code: ReasonCode, text: str) -> None: ...

    def on_room(self) -> None:
        """There is room to write again."""


class Ended(Exception):
    """The connection is over; `code` is the server's, in CONNACK or DISCONNECT, None if it said none."""

    def __init__(self, code: ReasonCode | None, text: str) -> None:
        super().__init__(f"{code.name}: {text}" if code is not None else text)
        self.code = code
        self.text = text


class Link:
    """`ended` is done when the connection is over. Times are the event loop's."""

    def __init__(self, owner: Owner, limits: ClientLimits) -> None:
        self._owner = owner
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder(packet_bytes_max=limits.packet_bytes_max, role="client", protocol_level=MQTT_5)
        self._transport: Transport | None = None
        self._out: list[bytes] = []
        self._is_full = self._is_closing = False
        self._packet_id = PUBLISH_IDS
        self._subscribing: set[int] = set()
        self._aliases: dict[int, str] = {}
        self._written_at = self._heard_at = self._loop.time()
        self._pinged_at: float | None = None
        self.connack: asyncio.Future[Connack] = self._loop.create_future()
        self.ended: asyncio.Future[Ended] = self._loop.create_future()
        self.nudged: asyncio.Future[None] = self._loop.create_future()
        self.keep_alive_s = float(limits.keep_alive_s)
        self.receive_maximum = _RECEIVE_MAXIMUM_DEFAULT
        self.packet_bytes_max = limits.packet_bytes_max

    # Opening and closing

    async def open(self, transport: Transport, client_id: str, token: str, session_expiry_s: int | None) -> Connack:
        """Say CONNECT, return a CONNACK that accepts. Raises Ended."""
        self._transport = transport
        properties: dict[PropertyId, Any] = {
            PropertyId.AUTHENTICATION_METHOD: _METHOD,
            PropertyId.AUTHENTICATION_DATA: token.encode(),
            PropertyId.RECEIVE_MAXIMUM: self._limits.unacknowledged_max,
            PropertyId.MAXIMUM_PACKET_SIZE: self._limits.packet_bytes_max,
            PropertyId.TOPIC_ALIAS_MAXIMUM: self._limits.topic_aliases_max,
        }
        if session_expiry_s is not None:
            properties[PropertyId.SESSION_EXPIRY_INTERVAL] = session_expiry_s
        is_clean = session_expiry_s is None
        self._write(Connect(client_id, MQTT_5, is_clean, self._limits.keep_alive_s, properties=properties))
        await asyncio.wait((self.connack, self.ended), return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done():
            raise self.ended.result()
        return self.connack.result()

    def _accepted(self, connack: Connack) -> None:
        properties = connack.properties
        if connack.reason_code >= ReasonCode.UNSPECIFIED_ERROR:
            self.end(connack.reason_code, _text(properties))
            return
        self.keep_alive_s = float(properties.get(PropertyId.SERVER_KEEP_ALIVE, self._limits.keep_alive_s))
        self.receive_maximum = properties.get(PropertyId.RECEIVE_MAXIMUM, _RECEIVE_MAXIMUM_DEFAULT)
        self.packet_bytes_max = properties.get(PropertyId.MAXIMUM_PACKET_SIZE, self._limits.packet_bytes_max)
        self.connack.set_result(connack)

    def end(self, code: ReasonCode | None, text: str) -> None:
        """It is over, whoever ended it: say so once, and let the transport go."""
        if not self.ended.done():
            self.ended.set_result(Ended(code, text))
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Say DISCONNECT, and wait until it has left."""
        if self.ended.done() or self._transport is None:
            self.end(None, "closed")
            return
        self.say_goodbye()
        self._transport.close()
        await asyncio.wait((self.ended,), timeout=self._limits.close_s)
        self.end(None, "closed")

    def say_goodbye(self) -> None:
        """DISCONNECT is the last that is written; nothing that comes or is taken from now on is acknowledged."""
        if not self._is_closing:
            self._write(Disconnect())
            self._flush()
            self._is_closing = True

    # Writing

    def has_room(self) -> bool:
        return not self._is_full and not self.ended.done()

    def publish(self, topic_name: str, payload: bytes, packet_id: int = 0, dup: bool = False) -> None:
        """At QoS 1, or at QoS 0 without a packet id."""
        self._write(Publish(topic_name, payload, 1 if packet_id else 0, dup=dup, packet_id=packet_id))

    def now(self) -> float:
        return self._loop.time()

    def publish_bytes(self, topic_name: str, payload: bytes) -> int:
        """About how long that packet is: never less than it is."""
        return len(topic_name.encode()) + len(payload) + 16

    def subscribe(self, topic_filter: str, qos: int, after: Sequence[tuple[str, int]]) -> int:
        """Returns the packet id that `on_suback` will have."""
        packet_id = self._next_packet_id()
        positions = [("after", f"{conversation}={seq}") for conversation, seq in after]
        properties: Properties = {PropertyId.USER_PROPERTY: positions} if positions else EMPTY_PROPERTIES
        request = SubscriptionRequest(topic_filter, qos, retain_handling=2)
        self._write(Subscribe(packet_id, [request], properties))
        return packet_id

    def unsubscribe(self, topic_filter: str) -> None:
        self._write(Unsubscribe(self._next_packet_id(), [topic_filter]))

    def acknowledge(self, packet_id: int, qos: int) -> None:
        """A delivery was taken. Of a connection that is over nothing need be said."""
        if qos:
            self._write_bytes(puback_bytes(packet_id) if qos == 1 else pubrec_bytes(packet_id))

    def renew(self, token: str) -> None:
        """Authenticate again on the open connection."""
        properties = {PropertyId.AUTHENTICATION_METHOD: _METHOD, PropertyId.AUTHENTICATION_DATA: token.encode()}
        self._write(Auth(ReasonCode.REAUTHENTICATE, properties))  # [MQTT5-4.12.1-1]

    def _next_packet_id(self) -> int:
        while True:
            self._packet_id = self._packet_id + 1 if self._packet_id < _ID_MAX else PUBLISH_IDS + 1
            if self._packet_id not in self._subscribing:
                self._subscribing.add(self._packet_id)
                return self._packet_id

    def _write(self, packet: Packet) -> None:
        self._write_bytes(encode(packet, MQTT_5))

    def _write_bytes(self, data: bytes) -> None:
        if self._is_closing or self.ended.done():
            return
        if not self._out:
            self._loop.call_soon(self._flush)
            self._written_at = self._loop.time()
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self.ended.done():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._owner.on_room()

    # Keep-alive

    def nudge(self) -> None:
        """Have the keeper look after the connection now."""
        if not self.nudged.done():
            self.nudged.set_result(None)

    def next_check_at(self) -> float:
        """When `check` is due."""
        due_at = self._ping_due_at()
        return due_at if self._pinged_at is None else min(due_at, self._pinged_at + self._limits.answer_s)

    def check(self) -> None:
        """Ping if nothing was written for the keep alive [MQTT5-3.1.2-20]; end a connection that does not answer."""
        now = self._loop.time()
        if self._pinged_at is not None and self._heard_at >= self._pinged_at:
            self._pinged_at = None
        if self._pinged_at is not None and now >= self._pinged_at + self._limits.answer_s:
            self.end(None, f"the server did not answer within {self._limits.answer_s:g} s")
        elif now >= self._ping_due_at():
            self._pinged_at = now if self._pinged_at is None else self._pinged_at
            self._write(Pingreq())

    def _ping_due_at(self) -> float:
        return self._written_at + (self.keep_alive_s or _ID_MAX)

    # Reading

    def received(self, data: bytes) -> None:
        if self.ended.done():
            return
        self._heard_at = self._loop.time()
        try:
            self._decoder.receive(data)
            while (packet := self._decoder.next_packet()) is not None and not self.ended.done():
                self._heard(packet)
        except ProtocolError as error:
            self._write(Disconnect(error.reason_code))
            self._flush()
            self.end(None, f"the server broke the protocol: {error.text}")

    def lost(self, error: Exception | None) -> None:
        self.end(None, f"the connection broke: {error}" if error else "the connection was closed")

    def _heard(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self._owner.on_publish(self, self._with_topic(packet))
            case Puback():
                self._owner.on_answer(packet.packet_id, packet.reason_code, _text(packet.properties))
            case Pubrel():
                self._write_bytes(pubcomp_bytes(packet.packet_id))
            case Suback():
                self._subscribing.discard(packet.packet_id)
                self._owner.on_suback(packet.packet_id, packet.reason_codes[0], _text(packet.properties))
            case Connack():
                self._accepted(packet)
            case Disconnect():
                self.end(packet.reason_code, _text(packet.properties))
            case Unsuback():
                self._subscribing.discard(packet.packet_id)
            case _:
                pass  # PINGRESP, AUTH: that something came is all that they say

    def _with_topic(self, publish: Publish) -> Publish:
        alias = publish.properties.get(PropertyId.TOPIC_ALIAS)
        if alias is not None:
            if publish.topic_name:
                self._aliases[alias] = publish.topic_name
            elif alias in self._aliases:
                publish.topic_name = self._aliases[alias]
            else:
                raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, f"topic alias {alias} stands for nothing")
        return publish


def _text(properties: Properties) -> str:
    text = properties.get(PropertyId.REASON_STRING, "")
    assert isinstance(text, str)
    return text
