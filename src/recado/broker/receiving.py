"""Publishes from the client: checked, handed on, and acknowledged in their order once what they ask for is done."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from recado.broker.holds import FULL
from recado.broker.hooks import ROUTE, Outcome
from recado.broker.storage import Forgotten, Received
from recado.mqtt.codec import encode, puback_bytes, pubcomp_bytes, pubrec_bytes
from recado.mqtt.packets import MQTT_5, Puback, Pubcomp, Publish, Pubrec, Pubrel
from recado.mqtt.properties import Properties, PropertyId, is_utf_8
from recado.mqtt.reason_codes import ProtocolError, ReasonCode, protocol_error
from recado.mqtt.session import Session
from recado.mqtt.topics import validate_topic_name

if TYPE_CHECKING:
    from recado.broker.connection import Connection


def on_publish(connection: Connection, publish: Publish) -> None:
    session = connection.session
    assert session is not None
    server = connection.server
    server.counters.published += 1
    limits = server.limits
    tick = server.deadlines.tick
    if connection.published_tick != tick:
        connection.published_tick = tick
        connection.published_this_tick = 0
    connection.published_this_tick += 1
    if connection.published_this_tick >= limits.publish_rate_max:
        _slow_down(connection)
    wire = connection.wire()
    if publish.properties:
        wire = None
        _resolve_alias(connection, publish)
    topic_name = publish.topic_name
    if topic_name not in server.forwarding.good and (
        len(topic_name) * 4 > limits.topic_bytes_max or topic_name.count("/") >= limits.topic_levels_max
    ):
        validate_topic_name(topic_name, bytes_max=limits.topic_bytes_max, levels_max=limits.topic_levels_max)
    if publish.qos and not _is_new(connection, session, publish):
        return
    if publish.properties and _has_bad_payload(publish):
        outcome: Outcome | None = Outcome(ReasonCode.PAYLOAD_FORMAT_INVALID, "the payload is not UTF-8, as it says")
    else:
        outcome = server.hooks.on_publish(session, publish)
        if outcome is ROUTE:
            outcome = server.publish_from(session, publish, wire)
    if outcome is not None:
        if publish.qos or outcome.reason_code >= ReasonCode.UNSPECIFIED_ERROR:
            _settle(connection, session, publish, outcome.reason_code, outcome.text)
        return
    if publish.qos:
        session.expect(publish.packet_id)
    connection.under_way += 1
    # MQTT 5 clients bound their QoS 1 and 2 publishes themselves; whatever else comes is not read for a while.
    if _has_no_room(connection, session) and not (publish.qos and connection.protocol_level == MQTT_5):
        connection.hold(FULL)


def _slow_down(connection: Connection) -> None:
    """It published as much as it may within a second."""
    connection.server.counters.publish_rate_waits += 1
    connection.server.wait_for_tick(connection)


def _resolve_alias(connection: Connection, publish: Publish) -> None:
    """Give the publish the topic name that its alias stands for, or learn the alias."""
    alias = publish.properties.get(PropertyId.TOPIC_ALIAS)
    if alias is None:
        return
    if alias > connection.server.limits.topic_aliases_max:  # [MQTT5-3.3.2-9]
        raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, f"topic alias {alias} passes the Topic Alias Maximum")
    if connection.topics is None:
        connection.topics = {}
    if publish.topic_name:
        connection.topics[alias] = publish.topic_name
    elif alias in connection.topics:
        publish.topic_name = connection.topics[alias]
    else:
        raise protocol_error(f"topic alias {alias} has not been set on this connection")


def _has_bad_payload(publish: Publish) -> bool:
    return publish.properties.get(PropertyId.PAYLOAD_FORMAT_INDICATOR) == 1 and not is_utf_8(publish.payload)


def _is_new(connection: Connection, session: Session, publish: Publish) -> bool:
    """False for a publish that has come before; it has its answer then, or will have it."""
    packet_id = publish.packet_id
    if packet_id in session.received:
        if publish.qos == 2:
            connection.write(pubrec_bytes(packet_id))  # [MQTT5-4.3.3-10] [MQTT311-4.3.3-2]
            return False
        raise protocol_error(f"packet id {packet_id} waits for its PUBREL")
    if packet_id in session.incoming:
        if publish.dup and connection.protocol_level != MQTT_5:
            return False
        raise protocol_error(f"packet id {packet_id} is not answered yet")
    limits = connection.server.limits
    if connection.protocol_level == MQTT_5:
        limit = limits.receive_maximum
        of_others = len(connection.received_before or ())  # it begins anew with each connection
        if len(session.incoming) + len(session.received) - of_others >= limit:  # [MQTT5-3.3.4-7] [MQTT5-3.3.4-8]
            raise ProtocolError(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, f"{limit} publishes may be under way")
    if len(session.incoming) + len(session.received) >= limits.received_max:
        raise ProtocolError(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, "too many QoS 2 publishes wait for their PUBREL")
    return True


def _has_no_room(connection: Connection, session: Session) -> bool:
    return max(connection.under_way, len(session.incoming)) >= connection.server.limits.receive_maximum


def settle(connection: Connection, session: Session, publish: Publish, reason_code: ReasonCode, text: str = "") -> None:
    """A publish that was under way is over: acknowledge it in its turn, or refuse it."""
    connection.under_way -= 1
    if connection.is_closing():
        return
    _settle(connection, session, publish, reason_code, text)
    if connection.held & FULL and not _has_no_room(connection, session):
        connection.release(FULL)


def store_and_settle(
    connection: Connection, session: Session, publish: Publish, reason_code: ReasonCode, text: str = ""
) -> None:
    """The same for one of QoS 2 whose packet id must be durable first."""
    if reason_code < ReasonCode.UNSPECIFIED_ERROR:
        change = Received(session.key, publish.packet_id)
        connection.server.store(change, done=partial(answer_stored, connection, session, publish))
    else:
        settle(connection, session, publish, reason_code, text)


def answer_stored(connection: Connection, session: Session, publish: Publish, is_stored: bool) -> None:
    """What a publish changes is durable, or could not be made so."""
    if is_stored:
        settle(connection, session, publish, ReasonCode.SUCCESS)
    else:
        settle(connection, session, publish, ReasonCode.SERVER_BUSY, "the server cannot write now")


def _settle(connection: Connection, session: Session, publish: Publish, reason_code: ReasonCode, text: str) -> None:
    qos = publish.qos
    if reason_code >= ReasonCode.UNSPECIFIED_ERROR:
        connection.count_refusal(reason_code, "publish_refused", topic=publish.topic_name, detail=text)
        if reason_code is ReasonCode.SERVER_BUSY:
            if qos:
                connection.disconnect(reason_code, text)
            return
        if qos and connection.protocol_level != MQTT_5:
            if not publish.dup:
                connection.close(reason_code)  # 3.1.1 has no way to refuse [MQTT311-3.3.5-2]
                return
            connection.server.counters.repeats_dropped += 1
            reason_code = ReasonCode.SUCCESS
    if not qos:
        return
    if not session.incoming:
        _acknowledge(connection, session, publish.packet_id, qos, reason_code, text)
        return
    for due in session.settle(publish.packet_id, qos, reason_code, text):
        _acknowledge(connection, session, *due)


def _acknowledge(
    connection: Connection, session: Session, packet_id: int, qos: int, reason_code: ReasonCode, text: str
) -> None:
    if qos == 2 and reason_code < ReasonCode.UNSPECIFIED_ERROR:
        session.received[packet_id] = None  # [MQTT5-4.3.3-8] [MQTT311-4.3.3-2]
    if reason_code is ReasonCode.SUCCESS:
        connection.write(puback_bytes(packet_id) if qos == 1 else pubrec_bytes(packet_id))
        return
    answer: type[Any] = Puback if qos == 1 else Pubrec
    properties: Properties = connection.reason_string(text)
    connection.write(encode(answer(packet_id, reason_code, properties), connection.protocol_level))


def on_pubrel(connection: Connection, pubrel: Pubrel) -> None:
    take_pubrel(connection, pubrel.packet_id)


def take_pubrel(connection: Connection, packet_id: int) -> None:
    """PUBREL came: the QoS 2 publish is over for the client, and its packet id free once PUBCOMP says so."""
    session = connection.session
    assert session is not None
    if packet_id not in session.received:
        code = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        connection.write(encode(Pubcomp(packet_id, code), connection.protocol_level))
        return
    del session.received[packet_id]
    if connection.received_before:
        connection.received_before.discard(packet_id)
    if session.key:
        # Else, after a crash, the next publish with this id would look like one that has come before.
        connection.server.store(Forgotten(session.key, packet_id), done=partial(_complete, connection, packet_id))
    else:
        connection.write(pubcomp_bytes(packet_id))  # [MQTT5-4.3.3-11] [MQTT311-4.3.3-2]


def _complete(connection: Connection, packet_id: int, is_stored: bool) -> None:
    if connection.is_closing():
        return
    if is_stored:
        connection.write(pubcomp_bytes(packet_id))
    else:
        connection.cannot_write()
