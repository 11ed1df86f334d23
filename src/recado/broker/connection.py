"""One client's connection: packets in, packets out, whatever the transport.

A transport subclasses `Connection` and gives it bytes by `receive`, and `write`, `pause_reading`, `close_transport`.
Packets are handled strictly in order; while one waits for the application (CONNECT, SUBSCRIBE, or more publishes under
way than `receive_maximum`), the transport is not read. Nothing here waits for a reader: what does not fit its buffer
is left to the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from recado.broker.handshake import connack_properties, keep_alive_of, refuse_what_is_not_supported
from recado.broker.hooks import Identity, Refused
from recado.broker.publication import Publication
from recado.mqtt.codec import Decoder, encode, puback_bytes
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
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, VARIABLE_BYTE_INTEGER_MAX, Properties, PropertyId
from recado.mqtt.reason_codes import ProtocolError, ReasonCode
from recado.mqtt.session import Session
from recado.mqtt.topics import validate_topic_filter, validate_topic_name

if TYPE_CHECKING:
    from recado.broker.server import Server

_log = logging.getLogger(__name__)
_PINGRESP = b"\xd0\x00"
_KEEP_ALIVE_GRACE = 1.5  # [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]


class Connection:
    """`congested` while the transport's buffer is over its limit. `session` is None until CONNECT is accepted."""

    transport_name = "none"

    __slots__ = (
        "_asking",
        "_closing",
        "_decoder",
        "_full",
        "_heard_at",
        "_idle_s",
        "_left",
        "_under_way",
        "congested",
        "deadline",
        "expires_at",
        "packet_bytes_max",
        "protocol_level",
        "reading_log",
        "request_problem_information",
        "server",
        "session",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.session: Session | None = None
        self.protocol_level = MQTT_5
        self.congested = False
        self.reading_log = False
        self.request_problem_information = True
        self.deadline = 0
        self.expires_at: float | None = None
        self.packet_bytes_max = VARIABLE_BYTE_INTEGER_MAX
        self._closing = False
        self._asking = False
        self._full = False
        self._heard_at = 0
        self._idle_s = 0.0
        self._under_way = 0
        self._left = 0
        limits = server.limits
        self._decoder = Decoder(
            packet_bytes_max=limits.packet_bytes_max,
            role="server",
            user_properties_max=limits.user_properties_max,
            topic_filters_max=limits.subscriptions_max,
            connect_bytes_max=limits.connect_bytes_max,
        )

    # What the transport gives

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
        self._heard_at = self.server.deadlines.tick
        self._decoder.receive(data)
        if not (self._asking or self._full or self.congested):
            self._process()

    def lost(self) -> None:
        """The transport is gone."""
        self._closing = True
        self.server.deadlines.clear(self)
        self.server.forget(self)

    def congest(self) -> None:
        """The transport's buffer is over its limit: nothing more is read that would need an answer."""
        self.congested = True
        self.pause_reading()
        if not self._closing and self.session is not None:  # before CONNECT its own time-out goes on
            self._left = self.buffered_bytes()
            self._set_deadline()

    def writable(self) -> None:
        """The transport's buffer has room again."""
        self.congested = False
        if not self._closing:
            self._heard_at = self.server.deadlines.tick
            self._set_deadline()
            self._go_on()
            self.server.read_on(self)

    # Packets

    def _process(self) -> None:
        decoder = self._decoder
        try:
            while not (self._asking or self._full or self.congested or self._closing):
                packet = decoder.next_packet()
                if packet is None:
                    return
                if self.session is None:
                    self._on_first_packet(packet)
                else:
                    _HANDLERS[type(packet)](self, packet)
        except ProtocolError as error:
            self._refuse(error)
        except Exception:
            _log.exception("a packet could not be handled")
            self.disconnect(ReasonCode.UNSPECIFIED_ERROR)

    def _refuse(self, error: ProtocolError) -> None:
        self._count_refusal(error.reason_code)
        if self.session is not None:
            self.disconnect(error.reason_code, error.text)
            return
        level = error.protocol_level
        if level is not None and level >= MQTT_5:
            self.write(encode(Connack(reason_code=error.reason_code), MQTT_5))
        elif level is not None and error.reason_code is ReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
            self.write(encode(Connack(reason_code=error.reason_code), MQTT_3_1_1))  # [MQTT311-3.1.2-2]
        self.close()  # [MQTT5-4.13.1-1] [MQTT311-3.1.4-1]

    def _ask(self, work: Coroutine[Any, Any, None]) -> None:
        """Handle a packet that waits for the application; nothing more is read until that is over."""
        self._asking = True
        self.pause_reading()
        self.server.spawn(self._asked(work))

    async def _asked(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ProtocolError as error:
            self._refuse(error)
        except Exception:
            _log.exception("the application failed to answer")
            self.disconnect(ReasonCode.UNSPECIFIED_ERROR, "the server failed; connect again")
        self._asking = False
        self._heard_at = self.server.deadlines.tick  # it was the server that did not read
        self._go_on()

    def _go_on(self) -> None:
        if not (self._asking or self._full or self.congested or self._closing):
            self.resume_reading()
            self._process()

    # CONNECT

    def _on_first_packet(self, packet: Packet) -> None:
        assert isinstance(packet, Connect)
        self.protocol_level = packet.protocol_level
        self._ask(self._connect(packet))

    async def _connect(self, connect: Connect) -> None:
        try:
            identity = await self.server.hooks.authenticate(connect)
            if self._closing:
                return
            refuse_what_is_not_supported(connect)
            client_id, assigned = self.server.client_id(connect)
            self.server.check_room_for(identity.user, client_id)
        except Refused as refusal:
            self._count_refusal(refusal.reason_code)
            if not self._closing:
                properties = self._reason_string(refusal.text)
                self.write(encode(Connack(reason_code=refusal.reason_code, properties=properties), self.protocol_level))
                self.close()  # [MQTT5-3.2.2-7] [MQTT311-3.2.2-5]
            return
        self._accept(connect, identity, client_id, assigned)

    def _accept(self, connect: Connect, identity: Identity, client_id: str, assigned: bool) -> None:
        limits = self.server.limits
        window = min(limits.inflight_max, connect.properties.get(PropertyId.RECEIVE_MAXIMUM, limits.inflight_max))
        problem_information = connect.properties.get(PropertyId.REQUEST_PROBLEM_INFORMATION, 1)
        self.request_problem_information = problem_information == 1
        self.packet_bytes_max = connect.properties.get(PropertyId.MAXIMUM_PACKET_SIZE, VARIABLE_BYTE_INTEGER_MAX)
        keep_alive = keep_alive_of(connect, limits)
        self._idle_s = keep_alive * _KEEP_ALIVE_GRACE
        if identity.expires_at_s is not None:
            self.expires_at = time.monotonic() + identity.expires_at_s - time.time()
        self.session = Session(identity.user, client_id, window)
        self.server.attach(self, self.session)
        told = connack_properties(connect, limits, keep_alive, client_id if assigned else None)
        self.write(encode(Connack(properties=told), self.protocol_level))
        self._set_deadline()

    # PUBLISH from the client

    def _on_publish(self, publish: Publish) -> None:
        session = self.session
        assert session is not None
        self.server.counters.published += 1
        limits = self.server.limits
        topic_name = publish.topic_name
        if len(topic_name) * 4 > limits.topic_bytes_max or topic_name.count("/") >= limits.topic_levels_max:
            validate_topic_name(topic_name, bytes_max=limits.topic_bytes_max, levels_max=limits.topic_levels_max)
        if publish.properties and PropertyId.TOPIC_ALIAS in publish.properties:
            raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, "this server takes no topic alias")
        if publish.qos:
            if publish.qos == 2:
                raise ProtocolError(ReasonCode.QOS_NOT_SUPPORTED, "this server takes QoS 0 and 1")  # [MQTT5-3.2.2-11]
            if publish.dup and publish.packet_id in session.incoming and self.protocol_level != MQTT_5:
                return  # sent again before its answer, which is on its way
            self._expect_answer(session, publish.packet_id)
        outcome = self.server.hooks.on_publish(session, publish)
        if outcome is not None:
            self._settle(session, publish, outcome.reason_code, outcome.text)
            return
        self._under_way += 1
        # MQTT 5 clients bound their QoS 1 publishes themselves; whatever else comes is not read for a while.
        if self._has_no_room(session) and not (publish.qos and self.protocol_level == MQTT_5):
            self._full = True
            self.pause_reading()

    def _has_no_room(self, session: Session) -> bool:
        return max(self._under_way, len(session.incoming)) >= self.server.limits.receive_maximum

    def _expect_answer(self, session: Session, packet_id: int) -> None:
        limit = self.server.limits.receive_maximum
        if packet_id in session.incoming:
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, f"packet id {packet_id} is not answered yet")
        session.received(packet_id)
        if len(session.incoming) > limit:  # [MQTT5-3.3.4-7], told in CONNACK
            raise ProtocolError(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, f"{limit} publishes may wait for their answer")

    def settle(self, session: Session, publish: Publish, reason_code: ReasonCode, text: str = "") -> None:
        """A publish that the application took is over: acknowledge it in its turn, or refuse it."""
        self._under_way -= 1
        self._settle(session, publish, reason_code, text)
        if self._full and not self._has_no_room(session):
            self._full = False
            self._heard_at = self.server.deadlines.tick
            self._go_on()

    def _settle(self, session: Session, publish: Publish, reason_code: ReasonCode, text: str) -> None:
        if reason_code >= ReasonCode.UNSPECIFIED_ERROR:
            self._count_refusal(reason_code)
            if reason_code is ReasonCode.SERVER_BUSY:
                if publish.qos:
                    self.disconnect(reason_code, text)
                return
            if publish.qos and self.protocol_level != MQTT_5:
                if not publish.dup:
                    self.close()  # 3.1.1 has no way to refuse [MQTT311-3.3.5-2]
                    return
                self.server.counters.repeats_dropped += 1
                reason_code = ReasonCode.SUCCESS
        if publish.qos:
            self._acknowledge(session, publish.packet_id, reason_code, text)

    def _acknowledge(self, session: Session, packet_id: int, reason_code: ReasonCode, text: str) -> None:
        for due_id, due_code, due_text in session.settle(packet_id, reason_code, text):
            if due_code is ReasonCode.SUCCESS:
                self.write(puback_bytes(due_id))
            else:
                self.write(encode(Puback(due_id, due_code, self._reason_string(due_text)), self.protocol_level))

    # PUBLISH to the client

    def deliver(self, session: Session, publication: Publication, qos: int) -> None:
        """Send a publication, or leave it to the log if there is no room; a signal is dropped then."""
        position = publication.position
        if position is None:
            if self.congested or (qos and not session.has_window()):
                self.server.counters.signals_dropped += 1
            else:
                self._send(session, publication, qos)
            return
        if session.cursors and not session.admits(publication.topic_name, position):
            return
        if self.congested or (qos and len(session.inflight) >= session.receive_maximum):
            self.server.counters.fell_behind += 1
            session.fall_behind(publication.topic_name, position)
            return
        self._send(session, publication, qos)

    def deliver_from_log(self, session: Session, publication: Publication, qos: int) -> bool:
        """Send an entry that was read from the log; False if there is no room."""
        if self.congested or (qos and not session.has_window()):
            return False
        self.server.counters.read_from_log += 1
        self._send(session, publication, qos)
        return True

    def _send(self, session: Session, publication: Publication, qos: int) -> None:
        self.server.counters.delivered += 1
        head, tail = publication.frame(self.protocol_level, qos)
        if len(head) + len(tail) + 2 > self.packet_bytes_max:  # [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]: as if it were sent
            self.server.counters.too_large_for_client += 1
        elif qos:
            self.write(head + session.take_packet_id().to_bytes(2) + tail)
        else:
            self.write(head + tail)

    def _on_puback(self, puback: Puback) -> None:
        session = self.session
        assert session is not None
        self.server.counters.acknowledged += 1
        if session.acknowledged(puback.packet_id) and session.cursors:
            self.server.read_on(self)

    # SUBSCRIBE and the rest

    def _on_subscribe(self, subscribe: Subscribe) -> None:
        self._ask(self._subscribe(subscribe))

    async def _subscribe(self, subscribe: Subscribe) -> None:
        session = self.session
        assert session is not None
        if PropertyId.SUBSCRIPTION_IDENTIFIER in subscribe.properties:
            text = "this server has no subscription identifiers"
            raise ProtocolError(ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, text)
        try:
            user_properties = subscribe.properties.get(PropertyId.USER_PROPERTY, [])
            positions = await self.server.hooks.resume_positions(session, user_properties) if user_properties else {}
            granted = [await self._authorize(session, each) for each in subscribe.subscriptions]
        except Refused as refusal:
            self._count_refusal(refusal.reason_code)
            self.disconnect(refusal.reason_code, refusal.text)
            return
        if session.connection is self:
            self._start(session, subscribe, granted, positions)

    def _start(
        self, session: Session, subscribe: Subscribe, granted: list[ReasonCode], positions: dict[str, int]
    ) -> None:
        """Subscribe and start to replay, with nothing published in between: so there is no gap and no double."""
        reason_codes = [
            self._subscribe_to(session, subscription, reason_code)
            for subscription, reason_code in zip(subscribe.subscriptions, granted, strict=True)
        ]
        if len(session.cursors) + len(positions) > self.server.limits.log_cursors_max:
            text = f"a session may be behind in {self.server.limits.log_cursors_max} logs"
            raise ProtocolError(ReasonCode.QUOTA_EXCEEDED, text)
        for topic_name, position in positions.items():
            if session.granted(topic_name) is not None:
                session.start_after(topic_name, position)
        self.write(encode(Suback(subscribe.packet_id, reason_codes), self.protocol_level))  # [MQTT5-3.8.4-1]
        self.server.read_on(self)

    async def _authorize(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        """The granted QoS, or why not. Raises Refused if that cannot be said now."""
        limits = self.server.limits
        try:
            validate_topic_filter(
                subscription.topic_filter, bytes_max=limits.topic_bytes_max, levels_max=limits.topic_levels_max
            )
        except ProtocolError as error:
            return error.reason_code
        return await self.server.hooks.authorize_subscription(session, subscription)

    def _subscribe_to(self, session: Session, subscription: SubscriptionRequest, granted: ReasonCode) -> ReasonCode:
        limits = self.server.limits
        if granted < ReasonCode.UNSPECIFIED_ERROR and not session.has_room_for(
            subscription.topic_filter, limits.subscriptions_max, limits.wildcards_max
        ):
            granted = ReasonCode.QUOTA_EXCEEDED
        if granted >= ReasonCode.UNSPECIFIED_ERROR:
            self._count_refusal(granted)
            return granted
        subscription.qos = min(subscription.qos, granted)
        self.server.router.subscribe(session, subscription)
        return granted

    def _count_refusal(self, reason_code: ReasonCode) -> None:
        self.server.counters.refusals[reason_code.name] += 1

    def _on_unsubscribe(self, unsubscribe: Unsubscribe) -> None:
        session = self.session
        assert session is not None
        found = [self.server.router.unsubscribe(session, topic_filter) for topic_filter in unsubscribe.topic_filters]
        reason_codes = [ReasonCode.SUCCESS if each else ReasonCode.NO_SUBSCRIPTION_EXISTED for each in found]
        self.write(encode(Unsuback(unsubscribe.packet_id, reason_codes), self.protocol_level))  # [MQTT5-3.10.4-4]

    def _on_pingreq(self, pingreq: Pingreq) -> None:
        self.write(_PINGRESP)  # [MQTT5-3.12.4-1] [MQTT311-3.12.4-1]

    def _on_disconnect(self, disconnect: Disconnect) -> None:
        self.close()

    def _on_unexpected(self, packet: Packet) -> None:
        raise ProtocolError(ReasonCode.PROTOCOL_ERROR, f"{type(packet).__name__.upper()} answers nothing here")

    # The end

    def on_deadline(self, tick: int) -> None:
        if self._closing:
            self.abort_transport()  # it did not read what was left for it
        elif self.session is None:
            self.server.counters.refusals["CONNECT_TIMEOUT"] += 1
            self.close()
        elif self.expires_at is not None and time.monotonic() >= self.expires_at:
            self._count_refusal(ReasonCode.MAXIMUM_CONNECT_TIME)
            self.disconnect(ReasonCode.MAXIMUM_CONNECT_TIME, "the token has expired: connect again with a new one")
        elif self.congested:
            self._on_stall_deadline()
        elif self._idle_s and tick - self._heard_at > self._idle_s + 1 and not (self._asking or self._full):
            self._count_refusal(ReasonCode.KEEP_ALIVE_TIMEOUT)
            self.disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)
        else:
            self._set_deadline()

    def _on_stall_deadline(self) -> None:
        left = self.buffered_bytes()
        if left >= self._left:
            self.server.counters.refusals["STALLED"] += 1
            self.close()
            self.abort_transport()
            return
        self._left = left
        self._set_deadline()

    def _set_deadline(self) -> None:
        delays: list[float] = []
        if self.congested:
            delays.append(self.server.limits.stall_s)
        elif self._idle_s:
            delays.append(self._idle_s + 1 - (self.server.deadlines.tick - self._heard_at))  # heard within that second
        if self.expires_at is not None:
            delays.append(self.expires_at - time.monotonic())
        if delays:
            self.server.deadlines.set(self, max(0.0, min(delays)))
        else:
            self.server.deadlines.clear(self)

    def disconnect(self, reason_code: ReasonCode, text: str = "") -> None:
        """Say why if the client's level can hear it, then close."""
        if not self._closing and self.session is not None and self.protocol_level == MQTT_5:
            self.write(encode(Disconnect(reason_code, self._reason_string(text)), MQTT_5))
        self.close()

    def close(self) -> None:
        """The session ends here; the transport gets `drain_s` to send what is buffered."""
        if self._closing:
            return
        self._closing = True  # nothing is written from here on [MQTT5-3.14.4-1]
        self.server.end_session(self)
        self.server.deadlines.set(self, self.server.limits.drain_s)
        self.close_transport()

    def _reason_string(self, text: str) -> Properties:
        if not text or not self.request_problem_information:  # [MQTT5-3.1.2-29]
            return EMPTY_PROPERTIES
        return {PropertyId.REASON_STRING: text}


_HANDLERS: dict[type, Callable[[Connection, Any], None]] = {
    Publish: Connection._on_publish,
    Puback: Connection._on_puback,
    Pubrec: Connection._on_unexpected,
    Pubrel: Connection._on_unexpected,
    Pubcomp: Connection._on_unexpected,
    Subscribe: Connection._on_subscribe,
    Unsubscribe: Connection._on_unsubscribe,
    Pingreq: Connection._on_pingreq,
    Disconnect: Connection._on_disconnect,
    Auth: Connection._on_unexpected,
}
