"""The body of each packet from its bytes, and the tables of what each first byte means.

A body decoder gets (decoder, data, first byte, offset of the body, end of the packet), stays between the two, and
returns the packet or raises ProtocolError. `DECODERS` has one table of 256 of them for each side, level and moment
(before and after the opening packet), so that what a first byte alone condemns is refused by a look-up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NoReturn

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
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from recado.mqtt.properties import (
    EMPTY_PROPERTIES,
    Properties,
    PropertyId,
    decode_properties,
    read_binary,
    read_packet_id,
    read_string,
    read_two_byte_integer,
)
from recado.mqtt.reason_codes import (
    CONNACK_RETURN_CODES_3,
    REASON_CODES,
    SUBACK_RETURN_CODES_3,
    PacketType,
    ProtocolError,
    ReasonCode,
    malformed,
    protocol_error,
)
from recado.mqtt.topics import checked_topic_names, decode_topic_name

if TYPE_CHECKING:
    from recado.mqtt.codec import Decoder

Role = Literal["server", "client"]
_PROTOCOL_NAMES = {MQTT_3_1: "MQIsdp", MQTT_3_1_1: "MQTT", MQTT_5: "MQTT"}

_Decode = Callable[["Decoder", bytes, int, int, int], Packet]


# Decoding: (decoder, data, first byte, offset of the body, end of the packet) -> packet.


def refuse(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> NoReturn:
    packet_type = first >> 4
    if packet_type == PacketType.CONNECT and decoder.role == "server":
        raise protocol_error("a second CONNECT")  # [MQTT5-3.1.0-2] [MQTT311-3.1.0-2]
    if packet_type == PacketType.PUBLISH:
        raise malformed(f"PUBLISH with the flags {first & 15:04b}")  # [MQTT5-3.3.1-4] [MQTT311-3.3.1-4]
    if DECODERS[decoder.role, decoder.protocol_level, True][packet_type << 4 | _FLAGS.get(packet_type, 0)] is refuse:
        raise protocol_error(f"a packet of type {packet_type} may not come here")
    raise malformed(f"reserved flags are {first & 15:04b}")  # [MQTT5-2.1.3-1] [MQTT311-2.2.2-2]


def refuse_opening(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> NoReturn:
    expected = "CONNECT" if decoder.role == "server" else "CONNACK"
    raise protocol_error(f"the first packet is no {expected}: 0x{first:02x}")  # [MQTT5-3.1.0-1] [MQTT311-3.1.0-1]


def _publish(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Publish:
    topic_start = offset + 2
    if topic_start > end:
        raise malformed("PUBLISH ends inside its topic name")
    offset = topic_start + (data[offset] << 8 | data[offset + 1])
    raw = data[topic_start:offset]
    qos, retain, dup = _PUBLISH_FLAGS[first & 0x0F]
    packet_id = 0
    if qos:
        offset += 2
        if offset > end:
            raise malformed("PUBLISH ends before its packet id")
        packet_id = data[offset - 2] << 8 | data[offset - 1]
        if not packet_id:
            raise malformed("a packet id is 0")  # [MQTT5-2.2.1-3] [MQTT311-2.3.1-1]
    elif offset > end:
        raise malformed("PUBLISH ends inside its topic name")
    if not (retain or dup):
        start = decoder._offset
        decoder.wire = (data[start : offset - 2], data[offset:end]) if qos else (data[start:end], b"")
    properties = EMPTY_PROPERTIES
    if decoder._protocol_level == MQTT_5:
        if offset < end and not data[offset]:
            offset += 1  # no properties: spares the call, 0.06 of 1.1 microseconds
        else:
            properties, offset = decode_properties(data, offset, end, PacketType.PUBLISH, decoder.user_properties_max)
    topic_name = checked_topic_names.get(raw)
    if topic_name is None or properties:
        topic_name = _check_publish(decoder, raw, properties)
    return Publish(topic_name, data[offset:end], qos, retain, dup, packet_id, properties)


def _check_publish(decoder: Decoder, raw: bytes, properties: Properties) -> str:
    if decoder.role == "server" and PropertyId.SUBSCRIPTION_IDENTIFIER in properties:
        raise protocol_error("a client's PUBLISH has a subscription identifier")  # [MQTT5-3.3.4-6]
    if not raw and decoder.protocol_level == MQTT_5:
        if PropertyId.TOPIC_ALIAS not in properties:
            raise protocol_error("PUBLISH has neither a topic name nor a topic alias")
        return ""
    return checked_topic_names.get(raw) or decode_topic_name(raw)


def _acknowledgement(packet_type: PacketType, packet_class: type[Acknowledgement]) -> _Decode:
    def decode(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Acknowledgement:
        if end - offset == 2:
            packet_id = data[offset] << 8 | data[offset + 1]
            if packet_id:
                return packet_class(packet_id)
        packet_id, offset = read_packet_id(data, offset, end)
        reason_code, properties = _reason(decoder, packet_type, data, offset, end)
        return packet_class(packet_id, reason_code, properties)

    return decode


def _reason(
    decoder: Decoder, packet_type: PacketType, data: bytes, offset: int, end: int
) -> tuple[ReasonCode, Properties]:
    """Read the reason code and properties that end a packet, either of which may be left out from the right."""
    if offset == end:
        return ReasonCode.SUCCESS, EMPTY_PROPERTIES
    if decoder.protocol_level != MQTT_5:
        raise malformed(f"{packet_type.name} is too long")
    reason_code = _reason_code(REASON_CODES[packet_type], packet_type, data[offset])
    offset += 1
    if offset == end and packet_type is not PacketType.AUTH:
        return reason_code, EMPTY_PROPERTIES
    return reason_code, _last_properties(decoder, packet_type, data, offset, end)


def _reason_code(allowed: dict[int, ReasonCode], packet_type: PacketType, byte: int) -> ReasonCode:
    reason_code = allowed.get(byte)
    if reason_code is None:
        raise malformed(f"{packet_type.name} has no reason code 0x{byte:02x}")
    return reason_code


def _properties(
    decoder: Decoder, packet_type: PacketType, data: bytes, offset: int, end: int
) -> tuple[Properties, int]:
    if decoder.protocol_level != MQTT_5:
        return EMPTY_PROPERTIES, offset
    return decode_properties(data, offset, end, packet_type, decoder.user_properties_max)


def _last_properties(decoder: Decoder, packet_type: PacketType, data: bytes, offset: int, end: int) -> Properties:
    properties, offset = _properties(decoder, packet_type, data, offset, end)
    if offset != end:
        raise malformed(f"{packet_type.name} is too long")
    return properties


def _connect(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Connect:
    name, offset = read_string(data, offset, end)
    if name not in _PROTOCOL_NAMES.values() or offset == end:
        raise ProtocolError(ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, "this is not MQTT")
    level = data[offset]
    if _PROTOCOL_NAMES.get(level) != name:  # [MQTT5-3.1.2-1] [MQTT5-3.1.2-2] [MQTT311-3.1.2-2]
        text = f"{name} has no level {level}"
        raise ProtocolError(ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, text, protocol_level=level)
    try:
        connect = _connect_after_level(decoder, level, data, offset + 1, end)
    except ProtocolError as error:
        error.protocol_level = level
        raise
    decoder._open(level)
    return connect


def _connect_after_level(decoder: Decoder, level: int, data: bytes, offset: int, end: int) -> Connect:
    if offset == end:
        raise malformed("CONNECT ends before its flags")
    flags = data[offset]
    _check_connect_flags(flags, level)
    keep_alive, offset = read_two_byte_integer(data, offset + 1, end)
    limit = decoder.user_properties_max
    properties = EMPTY_PROPERTIES
    if level == MQTT_5:
        properties, offset = decode_properties(data, offset, end, PacketType.CONNECT, limit)
    client_id, offset = read_string(data, offset, end)  # [MQTT5-3.1.3-3] [MQTT5-3.1.3-4]
    will = username = password = None
    if flags & 0x04:
        will, offset = _will(flags, level, limit, data, offset, end)
    if flags & 0x80:
        username, offset = read_string(data, offset, end)  # [MQTT5-3.1.3-12]
    if flags & 0x40:
        password, offset = read_binary(data, offset, end)  # [MQTT5-3.1.2-19]
    if offset != end:
        raise malformed("CONNECT is too long")  # [MQTT5-3.1.2-16] [MQTT5-3.1.2-18]
    return Connect(client_id, level, flags & 2 == 2, keep_alive, will, username, password, properties)


def _check_connect_flags(flags: int, level: int) -> None:
    if flags & 0x01:
        raise malformed("CONNECT's reserved flag is set")  # [MQTT5-3.1.2-3] [MQTT311-3.1.2-3]
    if flags & 0x18 == 0x18:
        raise malformed("the will's QoS is 3")  # [MQTT5-3.1.2-12] [MQTT311-3.1.2-14]
    if not flags & 0x04 and flags & 0x18:
        raise malformed("a will's QoS without a will")  # [MQTT5-3.1.2-11] [MQTT311-3.1.2-13]
    if not flags & 0x04 and flags & 0x20:
        raise malformed("a will's RETAIN without a will")  # [MQTT5-3.1.2-13] [MQTT311-3.1.2-15]
    if level != MQTT_5 and flags & 0xC0 == 0x40:
        raise malformed("a password without a user name")  # [MQTT311-3.1.2-22]


def _will(flags: int, level: int, limit: int, data: bytes, offset: int, end: int) -> tuple[Will, int]:
    properties = EMPTY_PROPERTIES
    if level == MQTT_5:
        properties, offset = decode_properties(data, offset, end, PacketType.WILL, limit)
    raw, offset = read_binary(data, offset, end)
    payload, offset = read_binary(data, offset, end)  # [MQTT5-3.1.2-9]
    return Will(decode_topic_name(raw), payload, flags >> 3 & 3, flags & 0x20 == 0x20, properties), offset


def _connack(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Connack:
    level = decoder.protocol_level
    if end - offset < 2:
        raise malformed("CONNACK is too short")
    flags = data[offset]
    if flags > 1:
        raise malformed("CONNACK's reserved flags are set")  # [MQTT5-3.2.2-1]
    codes = REASON_CODES[PacketType.CONNACK] if level == MQTT_5 else CONNACK_RETURN_CODES_3
    reason_code = _reason_code(codes, PacketType.CONNACK, data[offset + 1])
    if flags and reason_code:
        raise protocol_error("a refusal with a session present")  # [MQTT5-3.2.2-6] [MQTT311-3.2.2-4]
    properties = _last_properties(decoder, PacketType.CONNACK, data, offset + 2, end)
    decoder._open(level)
    return Connack(flags == 1, reason_code, properties)


def _subscribe(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Subscribe:
    packet_id, offset = read_packet_id(data, offset, end)
    properties, offset = _properties(decoder, PacketType.SUBSCRIBE, data, offset, end)
    if offset == end:
        raise protocol_error("SUBSCRIBE without a topic filter")  # [MQTT5-3.8.3-2] [MQTT311-3.8.3-3]
    is_5 = decoder.protocol_level == MQTT_5
    subscriptions: list[SubscriptionRequest] = []
    while offset < end:
        topic_filter, offset = _topic_filter(decoder, len(subscriptions), data, offset, end)
        if offset == end:
            raise malformed("SUBSCRIBE ends before its subscription options")
        subscriptions.append(_subscription_request(topic_filter, data[offset], is_5))
        offset += 1
    return Subscribe(packet_id, subscriptions, properties)


def _subscription_request(topic_filter: str, options: int, is_5: bool) -> SubscriptionRequest:
    qos = options & 0x03
    if options & (0xC0 if is_5 else 0xFC):
        raise malformed("reserved subscription options are set")  # [MQTT5-3.8.3-5] [MQTT311-3.8.3-4]
    if qos == 3 or options & 0x30 == 0x30:
        raise protocol_error("subscription options have QoS 3 or retain handling 3")
    if options & 0x04 and topic_filter.startswith("$share/"):
        raise protocol_error("No Local on a shared subscription")  # [MQTT5-3.8.3-4]
    return SubscriptionRequest(topic_filter, qos, options & 0x04 == 0x04, options & 0x08 == 0x08, options >> 4)


def _topic_filter(decoder: Decoder, count: int, data: bytes, offset: int, end: int) -> tuple[str, int]:
    if count >= decoder.topic_filters_max:
        raise ProtocolError(ReasonCode.QUOTA_EXCEEDED, f"more than {count} topic filters in one packet")
    topic_filter, offset = read_string(data, offset, end)  # [MQTT5-3.8.3-1] [MQTT5-3.10.3-1]
    if not topic_filter:
        raise malformed("an empty topic filter")  # [MQTT5-4.7.3-1] [MQTT311-4.7.3-1]
    return topic_filter, offset


def _unsubscribe(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Unsubscribe:
    packet_id, offset = read_packet_id(data, offset, end)
    properties, offset = _properties(decoder, PacketType.UNSUBSCRIBE, data, offset, end)
    if offset == end:
        raise protocol_error("UNSUBSCRIBE without a topic filter")  # [MQTT5-3.10.3-2] [MQTT311-3.10.3-2]
    topic_filters: list[str] = []
    while offset < end:
        topic_filter, offset = _topic_filter(decoder, len(topic_filters), data, offset, end)
        topic_filters.append(topic_filter)
    return Unsubscribe(packet_id, topic_filters, properties)


def _suback(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Suback:
    packet_id, offset = read_packet_id(data, offset, end)
    properties, offset = _properties(decoder, PacketType.SUBACK, data, offset, end)
    codes = REASON_CODES[PacketType.SUBACK] if decoder.protocol_level == MQTT_5 else SUBACK_RETURN_CODES_3
    return Suback(packet_id, _reason_codes(codes, PacketType.SUBACK, data, offset, end), properties)


def _unsuback(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Unsuback:
    packet_id, offset = read_packet_id(data, offset, end)
    properties, offset = _properties(decoder, PacketType.UNSUBACK, data, offset, end)
    if decoder.protocol_level == MQTT_5:
        codes = _reason_codes(REASON_CODES[PacketType.UNSUBACK], PacketType.UNSUBACK, data, offset, end)
        return Unsuback(packet_id, codes, properties)
    if offset != end:
        raise malformed("UNSUBACK is too long")
    return Unsuback(packet_id, [])


def _reason_codes(
    allowed: dict[int, ReasonCode], packet_type: PacketType, data: bytes, offset: int, end: int
) -> list[ReasonCode]:
    if offset == end:
        raise malformed(f"{packet_type.name} has no reason code")
    return [_reason_code(allowed, packet_type, byte) for byte in data[offset:end]]


def _nothing(packet: Pingreq | Pingresp) -> _Decode:
    def decode(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Packet:
        if offset != end:
            raise malformed("a ping is too long")
        return packet

    return decode


def _disconnect(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Disconnect:
    reason_code, properties = _reason(decoder, PacketType.DISCONNECT, data, offset, end)
    if decoder.role == "client" and PropertyId.SESSION_EXPIRY_INTERVAL in properties:
        raise protocol_error("a server's DISCONNECT has a session expiry interval")  # [MQTT5-3.14.2-2]
    return Disconnect(reason_code, properties)


def _auth(decoder: Decoder, data: bytes, first: int, offset: int, end: int) -> Auth:
    reason_code, properties = _reason(decoder, PacketType.AUTH, data, offset, end)
    return Auth(reason_code, properties)


# Which first byte means what, for each side, level and moment.

_FLAGS: dict[int, int] = {PacketType.PUBREL: 0x2, PacketType.SUBSCRIBE: 0x2, PacketType.UNSUBSCRIBE: 0x2}
# A PUBLISH's lower four bits: (QoS, RETAIN, DUP). No QoS 3, no DUP at QoS 0. [MQTT5-3.3.1-2] [MQTT5-3.3.1-4]
_PUBLISH_FLAGS = {
    flags: (flags >> 1 & 3, bool(flags & 1), bool(flags & 8))
    for flags in (0x0, 0x1, 0x2, 0x3, 0x4, 0x5, 0xA, 0xB, 0xC, 0xD)
}

_BOTH: dict[PacketType, _Decode] = {
    PacketType.PUBLISH: _publish,
    PacketType.PUBACK: _acknowledgement(PacketType.PUBACK, Puback),
    PacketType.PUBREC: _acknowledgement(PacketType.PUBREC, Pubrec),
    PacketType.PUBREL: _acknowledgement(PacketType.PUBREL, Pubrel),
    PacketType.PUBCOMP: _acknowledgement(PacketType.PUBCOMP, Pubcomp),
}
_BOTH_5: dict[PacketType, _Decode] = {PacketType.DISCONNECT: _disconnect, PacketType.AUTH: _auth}
_OPENING: dict[tuple[Role, bool], dict[PacketType, _Decode]] = {
    ("server", False): {PacketType.CONNECT: _connect},
    ("server", True): {PacketType.CONNECT: _connect},
    ("client", False): {PacketType.CONNACK: _connack},
    ("client", True): {PacketType.CONNACK: _connack, PacketType.AUTH: _auth},
}
_HEARD_BY: dict[Role, dict[PacketType, _Decode]] = {
    "server": {
        **_BOTH,
        PacketType.SUBSCRIBE: _subscribe,
        PacketType.UNSUBSCRIBE: _unsubscribe,
        PacketType.PINGREQ: _nothing(Pingreq()),
        PacketType.DISCONNECT: _disconnect,
    },
    "client": {
        **_BOTH,
        PacketType.SUBACK: _suback,
        PacketType.UNSUBACK: _unsuback,
        PacketType.PINGRESP: _nothing(Pingresp()),
    },
}


def _first_bytes(packet_type: PacketType, level: int) -> list[int]:
    if packet_type is PacketType.PUBLISH:
        return [packet_type << 4 | flags for flags in _PUBLISH_FLAGS]
    first = packet_type << 4 | _FLAGS.get(packet_type, 0)  # [MQTT5-3.6.1-1] [MQTT5-3.8.1-1] [MQTT5-3.10.1-1]
    return [first, first | 0x8] if level == MQTT_3_1 and packet_type in _FLAGS else [first]  # 3.1 redelivers those


def _table(packets: dict[PacketType, _Decode], level: int, refuse: _Decode) -> tuple[_Decode, ...]:
    table = [refuse] * 256
    for packet_type, decode in packets.items():
        for first in _first_bytes(packet_type, level):
            table[first] = decode
    return tuple(table)


def _tables(role: Role, level: int) -> dict[tuple[Role, int, bool], tuple[_Decode, ...]]:
    is_5 = level == MQTT_5
    heard = {**_HEARD_BY[role], **(_BOTH_5 if is_5 else {})}
    return {
        (role, level, False): _table(_OPENING[role, is_5], level, refuse_opening),
        (role, level, True): _table(heard, level, refuse),
    }


DECODERS: dict[tuple[Role, int, bool], tuple[_Decode, ...]] = {}
for _role in _HEARD_BY:
    for _level in _PROTOCOL_NAMES:
        DECODERS.update(_tables(_role, _level))
