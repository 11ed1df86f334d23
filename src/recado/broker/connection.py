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

from recado.broker.hooks import Identity, Refused
from recado.broker.publication import Publication
from recado.mqtt.codec import Decoder, encode, puback_bytes
from recado.mqtt.packets import (
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
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ProtocolError, ReasonCode
from recado.mqtt.session import Session
from recado.mqtt.topics import validate_topic_filter

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
        "_under_way",
        "congested",
        "deadline",
        "expires_at",
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
        self._closing = False
        self._asking = False
        self._full = False
        self._heard_at = 0
        self._idle_s = 0.0
        self._under_way = 0
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
        """Send what is buffered, within the transport's patience, then close."""
        raise NotImplementedError

    def abort_transport(self) -> None:
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
        if not (self._asking or self._full):
            self._process()

    def lost(self) -> None:
        """The transport is gone."""
        self._closing = True
        self.server.deadlines.clear(self)
        self.server.forget(self)

    def writable(self) -> None:
        """The transport's buffer has room again."""
        self.congested = False
        self.server.read_on(self)

    # Packets

    def _process(self) -> None:
        decoder = self._decoder
        try:
            while not (self._asking or self._full or self._closing):
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
        self.server.counters.refusals[error.reason_code.name] += 1
        if self.session is not None:
            self.disconnect(error.reason_code, error.text)
            return
        if error.protocol_level is not None:
            # A level newer than 5 may read 5.0's CONNACK; an older one reads 3.1.1's [MQTT5-3.1.2-2] [MQTT311-3.1.2-2].
            level = MQTT_5 if error.protocol_level >= MQTT_5 else error.protocol_level
            self.write(encode(Connack(reason_code=error.reason_code), level if level >= 3 else 4))
        self.close()  # [MQTT5-4.13.1-1]

    def _ask(self, work: Coroutine[Any, Any, None]) -> None:
        """Handle a packet that waits for the application; nothing more is read until `_answered`."""
        self._asking = True
        self.pause_reading()
        self.server.spawn(work)

    def _answered(self) -> None:
        self._asking = False
        self._go_on()

    def _go_on(self) -> None:
        if not (self._asking or self._full or self._closing):
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
            client_id, assigned = self.server.client_id(connect)
        except Refused as refusal:
            self.server.counters.refusals[refusal.reason_code.name] += 1
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
        keep_alive = connect.keep_alive
        if self.protocol_level == MQTT_5 and not 0 < keep_alive <= limits.keep_alive_max_s:
            keep_alive = limits.keep_alive_max_s
        self._idle_s = keep_alive * _KEEP_ALIVE_GRACE
        if identity.expires_at_s is not None:
            self.expires_at = time.monotonic() + identity.expires_at_s - time.time()
        self.session = self.server.attach(self, Session(identity.user, client_id, window))
        properties = self._connack_properties(connect, keep_alive, client_id, assigned)
        self.write(encode(Connack(properties=properties), self.protocol_level))
        self._set_deadline()
        self._answered()

    def _connack_properties(self, connect: Connect, keep_alive: int, client_id: str, assigned: bool) -> Properties:
        if self.protocol_level != MQTT_5:
            return EMPTY_PROPERTIES
        limits = self.server.limits
        properties: dict[PropertyId, Any] = {
            PropertyId.RECEIVE_MAXIMUM: limits.receive_maximum,
            PropertyId.MAXIMUM_PACKET_SIZE: limits.packet_bytes_max,
            PropertyId.MAXIMUM_QOS: 1,
            PropertyId.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
            PropertyId.SHARED_SUBSCRIPTION_AVAILABLE: 0,
        }
        if connect.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL, 0):
            properties[PropertyId.SESSION_EXPIRY_INTERVAL] = 0
        if keep_alive != connect.keep_alive:
            properties[PropertyId.SERVER_KEEP_ALIVE] = keep_alive
        if assigned:
            properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER] = client_id  # [MQTT5-3.2.2-16]
        return properties

    # PUBLISH from the client

    def _on_publish(self, publish: Publish) -> None:
        session = self.session
        assert session is not None
        self.server.counters.published += 1
        limits = self.server.limits
        topic_name = publish.topic_name
        if len(topic_name) > limits.topic_bytes_max or topic_name.count("/") >= limits.topic_levels_max:
            raise ProtocolError(ReasonCode.TOPIC_NAME_INVALID, "the topic is too long or has too many levels")
        if publish.properties and PropertyId.TOPIC_ALIAS in publish.properties:
            raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, "this server takes no topic alias")
        if publish.qos:
            if publish.qos == 2:
                raise ProtocolError(ReasonCode.QOS_NOT_SUPPORTED, "this server takes QoS 0 and 1")
            self._expect_answer(session, publish.packet_id)
        outcome = self.server.hooks.on_publish(session, publish)
        if outcome is not None:
            self._settle(session, publish, outcome.reason_code, outcome.text)
            return
        self._under_way += 1
        # MQTT 5 clients bound their QoS 1 publishes themselves; whatever else comes is not read for a while.
        if self._under_way >= limits.receive_maximum and not (publish.qos and self.protocol_level == MQTT_5):
            self._full = True
            self.pause_reading()

    def _expect_answer(self, session: Session, packet_id: int) -> None:
        limit = self.server.limits.receive_maximum
        if packet_id in session.incoming:
            raise ProtocolError(ReasonCode.PACKET_IDENTIFIER_IN_USE, f"packet id {packet_id} is not answered yet")
        session.received(packet_id)
        if len(session.incoming) > limit:  # [MQTT5-3.3.4-8], told in CONNACK; nothing is read from 3.1.1 by then
            raise ProtocolError(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, f"{limit} publishes may wait for their answer")

    def settle(self, session: Session, publish: Publish, reason_code: ReasonCode, text: str = "") -> None:
        """A publish that the application took is over: acknowledge it in its turn, or refuse it."""
        self._under_way -= 1
        self._settle(session, publish, reason_code, text)
        if self._full and self._under_way < self.server.limits.receive_maximum:
            self._full = False
            self._go_on()

    def _settle(self, session: Session, publish: Publish, reason_code: ReasonCode, text: str) -> None:
        if reason_code >= ReasonCode.UNSPECIFIED_ERROR:
            self.server.counters.refusals[reason_code.name] += 1
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
        if qos:
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
        try:
            positions = self.server.hooks.resume_positions(subscribe.properties.get(PropertyId.USER_PROPERTY, []))
            reason_codes = [await self._subscribe_to(session, each) for each in subscribe.subscriptions]
        except ProtocolError as error:
            self._refuse(error)
            return
        except Refused as refusal:
            self.disconnect(refusal.reason_code, refusal.text)
            return
        if session.connection is not self:
            return
        self.write(encode(Suback(subscribe.packet_id, reason_codes), self.protocol_level))  # [MQTT5-3.8.4-1]
        for topic_name, position in positions.items():
            if session.granted(topic_name) is not None:
                session.start_after(topic_name, position)
        self.server.read_on(self)
        self._answered()

    async def _subscribe_to(self, session: Session, subscription: SubscriptionRequest) -> ReasonCode:
        limits = self.server.limits
        if len(session.subscriptions) + len(session.wildcards) >= limits.subscriptions_max:
            return self._refuse_subscription(ReasonCode.QUOTA_EXCEEDED)
        validate_topic_filter(
            subscription.topic_filter, bytes_max=limits.topic_bytes_max, levels_max=limits.topic_levels_max
        )
        granted = await self.server.hooks.authorize_subscription(session, subscription)
        if granted >= ReasonCode.UNSPECIFIED_ERROR:
            return self._refuse_subscription(granted)
        subscription.qos = min(subscription.qos, granted)
        if session.connection is self:
            self.server.router.subscribe(session, subscription)
        return granted

    def _refuse_subscription(self, reason_code: ReasonCode) -> ReasonCode:
        self.server.counters.refusals[reason_code.name] += 1
        return reason_code

    def _on_unsubscribe(self, unsubscribe: Unsubscribe) -> None:
        session = self.session
        assert session is not None
        found = [self.server.router.unsubscribe(session, topic_filter) for topic_filter in unsubscribe.topic_filters]
        reason_codes = [ReasonCode.SUCCESS if each else ReasonCode.NO_SUBSCRIPTION_EXISTED for each in found]
        self.write(encode(Unsuback(unsubscribe.packet_id, reason_codes), self.protocol_level))  # [MQTT5-3.10.4-4]

    def _on_pingreq(self, pingreq: Pingreq) -> None:
        self.write(_PINGRESP)  # [MQTT5-3.12.4-1] [MQTT311-3.12.4-1]

    def _on_disconnect(self, disconnect: Disconnect) -> None:
        self.close()  # [MQTT5-3.14.4-1] [MQTT311-3.14.4-1]

    def _on_unexpected(self, packet: Packet) -> None:
        raise ProtocolError(ReasonCode.PROTOCOL_ERROR, f"{type(packet).__name__.upper()} answers nothing here")

    # The end

    def on_deadline(self, tick: int) -> None:
        if self.session is None:
            self.server.counters.refusals["CONNECT_TIMEOUT"] += 1
            self.close()
        elif self.expires_at is not None and time.monotonic() >= self.expires_at:
            self.disconnect(ReasonCode.MAXIMUM_CONNECT_TIME, "the token has expired: connect again with a new one")
        elif self._idle_s and tick - self._heard_at > self._idle_s:
            self.server.counters.refusals[ReasonCode.KEEP_ALIVE_TIMEOUT.name] += 1
            self.disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)
        else:
            self._set_deadline()

    def _set_deadline(self) -> None:
        delays = []
        if self._idle_s:
            delays.append(self._idle_s - (self.server.deadlines.tick - self._heard_at))
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
        if not self._closing:
            self._closing = True
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
