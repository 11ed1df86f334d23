"""The bytes of each packet, in the shortest form that the peer's level allows.

What a level has no room for (properties, reason codes) is left out; ValueError where leaving it out would say the
contrary, or where a value does not fit its field.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from recado.mqtt.packets import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Acknowledgement,
    Auth,
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
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import (
    EMPTY_PROPERTIES,
    STRING_BYTES_MAX,
    Properties,
    binary,
    encode_properties,
    string,
    variable_byte_integer,
)
from recado.mqtt.reason_codes import CONNACK_RETURN_CODE_OF, ReasonCode

_DUP = 0x08
_pack_short_head = Struct(">BBH").pack
_pack_long_head = Struct(">BBBH").pack


def encode(packet: Packet, protocol_level: int) -> bytes:
    """Return the packet's bytes for a peer that speaks `protocol_level` (3, 4 or 5)."""
    return _ENCODERS[type(packet)](packet, protocol_level)


def publish_frame(
    topic_name: str,
    payload: bytes,
    qos: int,
    retain: bool,
    protocol_level: int,
    properties: Properties = EMPTY_PROPERTIES,
    dup: bool = False,
) -> tuple[bytes, bytes]:
    """Return what stands before the packet id and what stands after it: a fan-out encodes once for all subscribers.

    At QoS 0 there is no packet id and the packet is `head + tail`, else `head + packet_id.to_bytes(2, "big") + tail`.
    """
    topic = topic_name.encode()
    if protocol_level == MQTT_5:
        payload = encode_properties(properties) + payload
    first = 0x30 | dup << 3 | qos << 1 | retain
    remaining = len(topic) + len(payload) + (4 if qos else 2)
    if len(topic) > STRING_BYTES_MAX:
        raise ValueError(f"a topic name of {len(topic)} bytes: at most {STRING_BYTES_MAX}")
    if remaining < 0x80:
        return _pack_short_head(first, remaining, len(topic)) + topic, payload
    if remaining < 0x4000:
        return _pack_long_head(first, remaining & 0x7F | 0x80, remaining >> 7, len(topic)) + topic, payload
    return bytes((first,)) + variable_byte_integer(remaining) + len(topic).to_bytes(2, "big") + topic, payload


def dup_head(head: bytes) -> bytes:
    """Return a `publish_frame` head with DUP set, for a redelivery."""
    return bytes((head[0] | _DUP,)) + head[1:]


def puback_bytes(packet_id: int) -> bytes:
    """Return a PUBACK that says success: the same four bytes at every level; likewise the three after it."""
    return _pack_short_head(0x40, 2, packet_id)


def pubrec_bytes(packet_id: int) -> bytes:
    return _pack_short_head(0x50, 2, packet_id)


def pubrel_bytes(packet_id: int) -> bytes:
    return _pack_short_head(0x62, 2, packet_id)


def pubcomp_bytes(packet_id: int) -> bytes:
    return _pack_short_head(0x70, 2, packet_id)


def _frame(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((first,)) + variable_byte_integer(len(body)) + body


def _two_bytes(value: int) -> bytes:
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"{value} does not fit two bytes")
    return value.to_bytes(2, "big")


def _packet_id(value: int) -> bytes:
    if not value:
        raise ValueError("a packet id is 1 to 65535")
    return _two_bytes(value)


def _properties_at(protocol_level: int, properties: Properties) -> bytes:
    return encode_properties(properties) if protocol_level == MQTT_5 else b""


def _encode_publish(packet: Publish, level: int) -> bytes:
    if packet.dup and not packet.qos:
        raise ValueError("DUP needs QoS 1 or 2")  # [MQTT5-3.3.1-2] [MQTT311-3.3.1-2]
    head, tail = publish_frame(
        packet.topic_name, packet.payload, packet.qos, packet.retain, level, packet.properties, packet.dup
    )
    return head + _packet_id(packet.packet_id) + tail if packet.qos else head + tail


def _reason(reason_code: ReasonCode, properties: Properties) -> bytes:
    if properties:
        return bytes((reason_code,)) + encode_properties(properties)
    return bytes((reason_code,)) if reason_code else b""


def _encode_acknowledgement(packet: Acknowledgement, level: int) -> bytes:
    first = _ACKNOWLEDGEMENT_FIRST_BYTES[type(packet)]
    if level == MQTT_5:
        return _frame(first, _packet_id(packet.packet_id), _reason(packet.reason_code, packet.properties))
    if packet.reason_code >= 0x80 and isinstance(packet, Puback | Pubrec):
        raise ValueError("before 5.0 a PUBACK or PUBREC cannot refuse: close the connection instead")
    return _frame(first, _packet_id(packet.packet_id))


_PROTOCOL_HEADS = {
    MQTT_3_1: b"\0\x06MQIsdp\x03",
    MQTT_3_1_1: b"\0\x04MQTT\x04",
    MQTT_5: b"\0\x04MQTT\x05",
}


def _encode_connect(packet: Connect, level: int) -> bytes:
    level = packet.protocol_level
    will = packet.will
    flags = packet.clean_start << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    parts = [_two_bytes(packet.keep_alive), _properties_at(level, packet.properties), string(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        parts += _properties_at(level, will.properties), string(will.topic_name), binary(will.payload)
    if packet.username is not None:
        parts.append(string(packet.username))
    if packet.password is not None:
        parts.append(binary(packet.password))
    if level != MQTT_5 and flags & 0xC0 == 0x40:
        raise ValueError("before 5.0 a password needs a user name")  # [MQTT311-3.1.2-22]
    return _frame(0x10, _PROTOCOL_HEADS[level], bytes((flags,)), *parts)  # [MQTT5-3.1.3-1]


def _encode_connack(packet: Connack, level: int) -> bytes:
    if level == MQTT_5:
        return _frame(0x20, bytes((packet.session_present, packet.reason_code)), encode_properties(packet.properties))
    return _frame(0x20, bytes((packet.session_present, CONNACK_RETURN_CODE_OF[packet.reason_code])))


def _encode_subscribe(packet: Subscribe, level: int) -> bytes:
    parts = [_packet_id(packet.packet_id), _properties_at(level, packet.properties)]
    for each in packet.subscriptions:
        options = each.qos
        if level == MQTT_5:
            options |= each.no_local << 2 | each.retain_as_published << 3 | each.retain_handling << 4
        parts += string(each.topic_filter), bytes((options,))
    return _frame(0x82, *parts)


def _encode_suback(packet: Suback, level: int) -> bytes:
    codes = packet.reason_codes if level == MQTT_5 else [min(code, 0x80) for code in packet.reason_codes]
    return _frame(0x90, _packet_id(packet.packet_id), _properties_at(level, packet.properties), bytes(codes))


def _encode_unsubscribe(packet: Unsubscribe, level: int) -> bytes:
    topic_filters = [string(each) for each in packet.topic_filters]
    return _frame(0xA2, _packet_id(packet.packet_id), _properties_at(level, packet.properties), *topic_filters)


def _encode_unsuback(packet: Unsuback, level: int) -> bytes:
    if level != MQTT_5:
        return _frame(0xB0, _packet_id(packet.packet_id))
    return _frame(0xB0, _packet_id(packet.packet_id), encode_properties(packet.properties), bytes(packet.reason_codes))


def _encode_disconnect(packet: Disconnect, level: int) -> bytes:
    return _frame(0xE0, _reason(packet.reason_code, packet.properties)) if level == MQTT_5 else b"\xe0\0"


def _encode_auth(packet: Auth, level: int) -> bytes:
    if level != MQTT_5:
        raise ValueError("there is no AUTH before 5.0")
    if not packet.reason_code and not packet.properties:
        return b"\xf0\0"
    return _frame(0xF0, bytes((packet.reason_code,)), encode_properties(packet.properties))


_ACKNOWLEDGEMENT_FIRST_BYTES = {Puback: 0x40, Pubrec: 0x50, Pubrel: 0x62, Pubcomp: 0x70}
_ENCODERS: dict[type[Packet], Callable[[Any, int], bytes]] = {
    Connect: _encode_connect,
    Connack: _encode_connack,
    Publish: _encode_publish,
    Puback: _encode_acknowledgement,
    Pubrec: _encode_acknowledgement,
    Pubrel: _encode_acknowledgement,
    Pubcomp: _encode_acknowledgement,
    Subscribe: _encode_subscribe,
    Suback: _encode_suback,
    Unsubscribe: _encode_unsubscribe,
    Unsuback: _encode_unsuback,
    Pingreq: lambda packet, level: b"\xc0\0",
    Pingresp: lambda packet, level: b"\xd0\0",
    Disconnect: _encode_disconnect,
    Auth: _encode_auth,
}
