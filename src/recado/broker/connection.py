"""One client's connection: packets in, packets out, whatever the transport.

A transport subclasses `Connection` and gives it bytes by `receive`, and `write`, `pause_reading`, `close_transport`.
Packets are handled strictly in order, by the functions of `opening`, `receiving`, `sending` and `subscribing`. While
anything is in `held` (a packet waits for the application, too many publishes are under way, the buffer is full), the
transport is not read. Nothing here waits for a reader.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from recado.broker import opening, receiving, sending, subscribing
from recado.broker.holds import ASKING, CLOSING, CONGESTED, IN_TURN
from recado.broker.listener import Listener
from recado.broker.publication import Frame
from recado.broker.storage import Delivery
from recado.mqtt.codec import Decoder, encode
from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
)
from recado.mqtt.properties import (
    EMPTY_PROPERTIES,
    VARIABLE_BYTE_INTEGER_MAX,
    Properties,
    PropertyId,
)
from recado.mqtt.reason_codes import ProtocolError, ReasonCode, protocol_error
from recado.mqtt.session import Session

if TYPE_CHECKING:
    from recado.broker.server import Server

_log = logging.getLogger(__name__)
_PINGRESP = b"\xd0\x00"
_PACKET_WITHOUT_REASON_BYTES = 16  # at most, of those that carry one and nothing else that is optional


class Connection:
    """`session` is None until CONNECT is accepted, and `is_greeted` is set once CONNACK has said so. `aliases` are the
    topics that the client was told an alias for, None if it takes none; `topics` those that it told us one for;
    `redeliveries` what was in flight before this connection and is still to be sent again. `handed_over` is up to where
    the storage was given what is sent of each log at QoS 2."""

    __slots__ = (
        "_answer",
        "_decoder",
        "_left",
        "_reauthenticating",
        "aliases",
        "aliases_max",
        "authentication_method",
        "deadline",
        "expires_at",
        "handed_over",
        "handlers",
        "heard_at",
        "held",
        "idle_s",
        "is_greeted",
        "is_reading",
        "listener",
        "packet_bytes_max",
        "protocol_level",
        "published_this_tick",
        "published_tick",
        "quick",
        "reads_again",
        "received_before",
        "redeliveries",
        "request_problem_information",
        "server",
        "session",
        "topics",
        "under_way",
    )

    def __init__(self, server: Server, listener: Listener) -> None:
        self.server = server
        self.listener = listener
        self.session: Session | None = None
        self.protocol_level = MQTT_5
        self.handlers: Mapping[type, Callable[[Connection, Any], None]] = _BEFORE_CONNECT
        self.quick: Mapping[bytes, Callable[[Connection, int], None]] = _NOTHING_QUICK
        self.held = 0
        self.is_greeted = False
        self.is_reading = self.reads_again = False
        self.received_before: set[int] | None = None
        self.redeliveries: deque[Delivery] | None = None
        self.request_problem_information = True
        self.authentication_method: str | None = None
        self.deadline = 0
        self.expires_at: float | None = None
        self.packet_bytes_max = VARIABLE_BYTE_INTEGER_MAX
        self.topics: dict[int, str] | None = None
        self.aliases: dict[str, int] | None = None
        self.aliases_max = 0
        self.handed_over: dict[str, int] | None = None
        self.heard_at = 0
        self.idle_s = 0.0
        self.under_way = 0
        self.published_tick = 0
        self.published_this_tick = 0
        self._answer: asyncio.Future[bytes] | None = None
        self._left = 0
        self._reauthenticating = False
        limits = server.limits
        self._decoder = Decoder(
            packet_bytes_max=limits.packet_bytes_max,
            role="server",
            user_properties_max=limits.user_properties_max,
            topic_filters_max=limits.subscriptions_max,
            connect_bytes_max=limits.connect_bytes_max,
        )

    # What the transport gives

    @property
    def peer(self) -> str:
        """The client's address and port, such as 203.0.113.7:51234, or unix."""
        return "unknown"

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def pause_reading(self) -> None:
        raise NotImplementedError

    def resume_reading(self) -> None:
        raise NotImplementedError

    def close_transport(self) -> None:
        """Send what is buffered, then close; `abort_transport` comes if that takes too long."""
        raise NotImplementedError

    def abort_transport(self) -> None:
        raise NotImplementedError

    def buffered_bytes(self) -> int:
        """Bytes that the transport has not handed to the network yet."""
        raise NotImplementedError

    # What the transport says

    def opened(self) -> None:
        if not self.server.admit(self):
            self.abort_transport()
            return
        self.server.deadlines.set(self, self.server.limits.connect_timeout_s)

    def receive(self, data: bytes) -> None:
        self.heard_at = self.server.deadlines.tick
        # Most of what comes is a lone acknowledgement: four bytes. Not making a packet of it saves half of its time.
        if len(data) == 4 and not self.held:
            acknowledge = self.quick.get(data[:2])
            packet_id = data[2] << 8 | data[3]
            if acknowledge is not None and packet_id and self._decoder.is_empty():
                self._acknowledge(acknowledge, packet_id)
                return
        self._decoder.receive(data)
        if not self.held:
            self._process()

    def _acknowledge(self, acknowledge: Callable[[Connection, int], None], packet_id: int) -> None:
        try:
            acknowledge(self, packet_id)
        except ProtocolError as error:
            self._refuse(error)
        except Exception:
            _log.exception("an acknowledgement could not be handled")
            self.disconnect(ReasonCode.UNSPECIFIED_ERROR)

    def lost(self) -> None:
        """The transport is gone."""
        self.held |= CLOSING
        if self._answer is not None:
            self._answer.cancel()
        self.server.deadlines.clear(self)
        self.server.forget(self)

    def congest(self) -> None:
        """The transport's buffer is over its limit: nothing more is read that would need an answer."""
        self.hold(CONGESTED)
        if not self.held & CLOSING and self.session is not None:  # before CONNECT its own time-out goes on
            self._left = self.buffered_bytes()
            self.set_deadline()

    def writable(self) -> None:
        """The transport's buffer has room again."""
        self.held &= ~CONGESTED
        if not self.held & CLOSING:
            self.heard_at = self.server.deadlines.tick
            self.set_deadline()
            self._go_on()
            self.server.read_on(self)

    def start(self, session: Session) -> None:
        """CONNECT was accepted: from here on every other packet may come."""
        self.session = session
        self.handlers = HANDLERS
        self.quick = _QUICK

    def is_closing(self) -> bool:
        return bool(self.held & CLOSING)

    # Packets

    def _process(self) -> None:
        decoder = self._decoder
        try:
            packet = decoder.next_packet()
            if packet is None:
                return
            delivered = self.server.counters.delivered
            self.handlers[type(packet)](self, packet)
            if not (self.held or decoder.is_empty()):  # mostly packets come one at a time
                self._process_more(delivered)
        except ProtocolError as error:
            self._refuse(error)
        except Exception:
            _log.exception("a packet could not be handled")
            self.disconnect(ReasonCode.UNSPECIFIED_ERROR)

    def _process_more(self, delivered: int) -> None:
        counters, limits = self.server.counters, self.server.limits
        for _ in range(limits.turn_packets_max - 1):
            if counters.delivered - delivered >= limits.turn_deliveries_max:
                break
            packet = self._decoder.next_packet()
            if packet is None:
                return
            self.handlers[type(packet)](self, packet)
            if self.held:
                return
        if not self._decoder.is_empty():
            self._give_way()

    def wire(self) -> Frame | None:
        """The bytes of the publish that has just come, if they may be sent on as they are."""
        wire, self._decoder.wire = self._decoder.wire, None
        return wire

    def _give_way(self) -> None:
        """What came at once may mean work for seconds: the other connections get their turn in between."""
        self.hold(IN_TURN)
        asyncio.get_running_loop().call_soon(self.release, IN_TURN)

    def _refuse(self, error: ProtocolError) -> None:
        event = "connect_refused" if self.session is None else "connection_ended"
        self.count_refusal(error.reason_code, event, detail=error.text)
        if self.session is not None:
            self.disconnect(error.reason_code, error.text)  # [MQTT5-4.13.1-1]
            return
        level = error.protocol_level
        if level is not None and level >= MQTT_5:
            self.write(encode(Connack(reason_code=error.reason_code), MQTT_5))
        elif level is not None and error.reason_code is ReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
            self.write(encode(Connack(reason_code=error.reason_code), MQTT_3_1_1))  # [MQTT311-3.1.2-2]
        self.close()  # [MQTT5-4.13.2-1] [MQTT311-3.1.4-1] [MQTT311-4.8.0-1]

    def hold(self, reason: int) -> None:
        self.held |= reason
        self.pause_reading()

    def release(self, reason: int) -> None:
        """That is over. If nothing else holds the connection, it is read again."""
        self.held &= ~reason
        self.heard_at = self.server.deadlines.tick  # it was the server that did not read
        self._go_on()

    def _go_on(self) -> None:
        if not self.held:
            self.resume_reading()
            self._process()

    def ask(self, work: Coroutine[Any, Any, None]) -> None:
        """Handle a packet that waits for the application; nothing more is read until that is over."""
        self.hold(ASKING)
        self.server.spawn(self._asked(work))

    async def _asked(self, work: Coroutine[Any, Any, None]) -> None:
        await self.answering(work)
        self.release(ASKING)

    async def answering(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a piece of work for this connection; what fails in it ends the connection."""
        try:
            await work
        except ProtocolError as error:
            self._refuse(error)
        except Exception:
            _log.exception("the application failed to answer")
            self.disconnect(ReasonCode.UNSPECIFIED_ERROR, "the server failed; connect again")

    # Enhanced authentication, MQTT 5 4.12

    async def challenge(self, data: bytes) -> bytes:
        """Send authentication data; returns what the client answers. Raises ProtocolError if it answers otherwise."""
        if self.held & CLOSING:
            raise protocol_error("the connection was closed during its authentication")
        self._answer = asyncio.get_running_loop().create_future()
        self.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, self.authentication(data)))
        if self.session is None:
            self.server.deadlines.set(self, self.server.limits.connect_timeout_s)
            self.handlers = _BEFORE_AUTH
            self.release(ASKING)
        try:
            return await self._answer
        finally:
            self._answer = None

    def on_auth(self, auth: Auth) -> None:
        properties = auth.properties
        method = self.authentication_method
        if method is None or method != properties.get(PropertyId.AUTHENTICATION_METHOD):  # [MQTT5-4.12.0-7]
            raise protocol_error("AUTH with another method than CONNECT's")  # [MQTT5-4.12.0-5] [MQTT5-4.12.1-1]
        data = properties.get(PropertyId.AUTHENTICATION_DATA, b"")
        if auth.reason_code is ReasonCode.CONTINUE_AUTHENTICATION and self._answer is not None:
            if self.session is None:
                self.hold(ASKING)
            if not self._answer.done():
                self._answer.set_result(data)
        elif auth.reason_code is ReasonCode.REAUTHENTICATE and not self._reauthenticating and self.session is not None:
            self._reauthenticating = True
            self.server.spawn(self._reauthenticate(self.session, data))
        else:
            raise protocol_error("AUTH answers nothing here")

    async def _reauthenticate(self, session: Session, data: bytes) -> None:
        try:
            await self.answering(opening.reauthenticate(self, session, data))
        finally:
            self._reauthenticating = False

    def authentication(self, data: bytes | None) -> Properties:
        """The properties that say so in CONNACK and AUTH; none without an authentication method."""
        if self.authentication_method is None:
            return EMPTY_PROPERTIES
        method: dict[PropertyId, Any] = {PropertyId.AUTHENTICATION_METHOD: self.authentication_method}
        return method if data is None else {**method, PropertyId.AUTHENTICATION_DATA: data}

    # The end

    def on_deadline(self, tick: int) -> None:
        if self.held & CLOSING:
            self.abort_transport()  # it did not read what was left for it
        elif self.session is None:
            self.server.counters.refusals["CONNECT_TIMEOUT"] += 1
            self.server.refusal_log.of(self, "connection_refused", "CONNECT_TIMEOUT")
            self.close()
        elif self.expires_at is not None and time.monotonic() >= self.expires_at:
            self.count_refusal(ReasonCode.MAXIMUM_CONNECT_TIME)
            self.disconnect(ReasonCode.MAXIMUM_CONNECT_TIME, "the token has expired: connect again with a new one")
        elif self.held & CONGESTED:
            self._on_stall_deadline()
        elif self.idle_s and tick - self.heard_at >= self.idle_s + 1 and not self.held:  # heard within that second
            self.count_refusal(ReasonCode.KEEP_ALIVE_TIMEOUT)
            self.disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)  # [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]
        else:
            self.set_deadline()

    def _on_stall_deadline(self) -> None:
        left = self.buffered_bytes()
        if left >= self._left:
            self.server.counters.refusals["STALLED"] += 1
            self.server.refusal_log.of(self, "connection_ended", "STALLED")
            self.close()
            self.abort_transport()
            return
        self._left = left
        self.set_deadline()

    def set_deadline(self) -> None:
        delays: list[float] = []
        if self.held & CONGESTED:
            delays.append(self.server.limits.stall_s)
        elif self.idle_s:
            delays.append(self.idle_s - (self.server.deadlines.tick - self.heard_at))
        if self.expires_at is not None:
            delays.append(self.expires_at - time.monotonic())
        if delays:
            self.server.deadlines.set(self, max(0.0, min(delays)))
        else:
            self.server.deadlines.clear(self)

    def send(self, packet: Packet) -> None:
        """Write a packet that the client waits for. If it takes none so large, there is nothing left but to close."""
        data = encode(packet, self.protocol_level)
        if len(data) <= self.packet_bytes_max:  # [MQTT5-3.1.2-24]
            self.write(data)
        else:
            self.count_refusal(ReasonCode.PACKET_TOO_LARGE)
            self.disconnect(ReasonCode.PACKET_TOO_LARGE)

    def disconnect(self, reason_code: ReasonCode, text: str = "") -> None:
        """Say why if the client's level can hear it, then close."""
        if not self.held & CLOSING and self.is_greeted and self.protocol_level == MQTT_5:  # [MQTT5-3.14.0-1]
            data = encode(Disconnect(reason_code, self.reason_string(text)), MQTT_5)
            if len(data) <= self.packet_bytes_max:
                self.write(data)
        self.close(reason_code)  # [MQTT5-3.14.4-2]

    def cannot_write(self) -> None:
        """The storage could not keep what the client waits for: it keeps it, connects again and says it again."""
        self.disconnect(ReasonCode.SERVER_BUSY, "the server cannot write now; connect again")

    def close(self, reason_code: ReasonCode | None = None) -> None:
        """The session lets go of the connection; the transport gets `drain_s` to send what is buffered."""
        if self.held & CLOSING:
            return
        self.held |= CLOSING  # nothing is written from here on [MQTT5-3.14.4-1]
        self.server.sessions.detach(self, reason_code)
        self.server.deadlines.set(self, self.server.limits.drain_s)
        self.close_transport()

    def count_refusal(self, reason_code: ReasonCode, event: str = "connection_ended", **values: str | None) -> None:
        """Count it, and tell it to the log as `RefusalLog.of` has it."""
        self.server.counters.refusals[reason_code.name] += 1
        self.server.refusal_log.of(self, event, reason_code.name, **values)

    def reason_string(self, text: str) -> Properties:
        if not text or not self.request_problem_information:  # [MQTT5-3.1.2-29]
            return EMPTY_PROPERTIES
        if len(text) * 4 + _PACKET_WITHOUT_REASON_BYTES > self.packet_bytes_max:
            # [MQTT5-3.2.2-19] [MQTT5-3.4.2-2] [MQTT5-3.5.2-2] [MQTT5-3.14.2-3]
            return EMPTY_PROPERTIES
        return {PropertyId.REASON_STRING: text}


def _on_pingreq(connection: Connection, pingreq: Pingreq) -> None:
    connection.write(_PINGRESP)  # [MQTT5-3.12.4-1] [MQTT311-3.12.4-1]


def _on_unexpected(connection: Connection, packet: Any) -> None:
    raise protocol_error(f"{type(packet).__name__.upper()} may not come now")


_BEFORE_CONNECT: dict[type, Callable[[Connection, Any], None]] = {Connect: opening.on_connect}
_NOTHING_QUICK: dict[bytes, Callable[[Connection, int], None]] = {}
# The acknowledgements that say success, by their first two bytes: what follows is the packet id.
_QUICK = {
    b"\x40\x02": sending.take_puback,
    b"\x50\x02": sending.take_pubrec,
    b"\x62\x02": receiving.take_pubrel,
    b"\x70\x02": sending.take_pubcomp,
}
HANDLERS: dict[type, Callable[[Connection, Any], None]] = {
    Publish: receiving.on_publish,
    Pubrel: receiving.on_pubrel,
    Puback: sending.on_puback,
    Pubrec: sending.on_pubrec,
    Pubcomp: sending.on_pubcomp,
    Subscribe: subscribing.on_subscribe,
    Unsubscribe: subscribing.on_unsubscribe,
    Pingreq: _on_pingreq,
    Disconnect: opening.on_disconnect,
    Auth: Connection.on_auth,
}
# During the authentication at CONNECT nothing else may come. [MQTT5-3.1.2-30]
_BEFORE_AUTH: dict[type, Callable[[Connection, Any], None]] = {
    **dict.fromkeys(HANDLERS, _on_unexpected),
    Auth: Connection.on_auth,
    Disconnect: opening.on_disconnect,
}
