"""The properties of MQTT 5.0 as one table, and the primitive values that every packet is made of.

A packet's properties are a mapping from `PropertyId` to the value: int, str, bytes, list[tuple[str, str]] for
USER_PROPERTY (in the order received), and list[int] for SUBSCRIPTION_IDENTIFIER in PUBLISH, the two that may repeat.
None at all is the shared, read-only EMPTY_PROPERTIES: no allocation. Decoding is linear in the bytes and stops at
`user_properties_max`. Every reader stays before the `end` it is given and raises nothing but ProtocolError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from recado.mqtt.reason_codes import PacketType, ProtocolError, ReasonCode, malformed, protocol_error

VARIABLE_BYTE_INTEGER_MAX = 268_435_455
STRING_BYTES_MAX = 65_535


class PropertyId(IntEnum):
    """The identifiers of MQTT 5.0 properties."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


Properties = Mapping[PropertyId, Any]
EMPTY_PROPERTIES: Properties = MappingProxyType({})


# The primitive values. A reader takes (data, offset, end) and returns the value and the offset after it.


def read_variable_byte_integer(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """Return the value and the offset after it; the offset is 0 when `end` comes before the value's last byte."""
    value = 0
    for shift in (0, 7, 14, 21):
        if offset >= end:
            return 0, 0
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte and shift:
                raise malformed("a variable byte integer is longer than it need be")  # [MQTT5-1.5.5-1]
            return value, offset
    raise malformed("a variable byte integer is longer than four bytes")


def read_string(data: bytes, offset: int, end: int) -> tuple[str, int]:
    raw, offset = read_binary(data, offset, end)
    return decode_string(raw), offset


def decode_string(raw: bytes) -> str:
    try:
        text = raw.decode()  # surrogates and overlong forms are refused by Python's decoder [MQTT5-1.5.4-1]
    except UnicodeDecodeError:
        raise malformed("a string is not UTF-8") from None  # [MQTT311-1.5.3-1]
    if "\0" in text:
        raise malformed("a string has a null character")  # [MQTT5-1.5.4-2] [MQTT311-1.5.3-2]
    return text


def is_utf_8(payload: bytes) -> bool:
    """Tell whether a payload is what a payload format indicator of 1 says."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_binary(data: bytes, offset: int, end: int) -> tuple[bytes, int]:
    start = offset + 2
    if start > end:
        raise malformed("a packet ends inside a length")
    stop = start + (data[offset] << 8 | data[offset + 1])
    if stop > end:
        raise malformed("a packet ends inside a string")
    return data[start:stop], stop


def read_two_byte_integer(data: bytes, offset: int, end: int) -> tuple[int, int]:
    stop = offset + 2
    if stop > end:
        raise malformed("a packet ends inside an integer")
    return data[offset] << 8 | data[offset + 1], stop


def read_packet_id(data: bytes, offset: int, end: int) -> tuple[int, int]:
    packet_id, offset = read_two_byte_integer(data, offset, end)
    if not packet_id:
        raise malformed("a packet id is 0")  # [MQTT5-2.2.1-3] [MQTT311-2.3.1-1]
    return packet_id, offset


def _read_byte(data: bytes, offset: int, end: int) -> tuple[int, int]:
    if offset >= end:
        raise malformed("a packet ends inside a property")
    return data[offset], offset + 1


def _read_four_byte_integer(data: bytes, offset: int, end: int) -> tuple[int, int]:
    stop = offset + 4
    if stop > end:
        raise malformed("a packet ends inside an integer")
    return int.from_bytes(data[offset:stop], "big"), stop


def _read_whole_variable_byte_integer(data: bytes, offset: int, end: int) -> tuple[int, int]:
    value, offset = read_variable_byte_integer(data, offset, end)
    if not offset:
        raise malformed("a packet ends inside an integer")
    return value, offset


def _read_string_pair(data: bytes, offset: int, end: int) -> tuple[tuple[str, str], int]:
    name, offset = read_string(data, offset, end)  # [MQTT5-1.5.7-1]
    value, offset = read_string(data, offset, end)
    return (name, value), offset


def variable_byte_integer(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x20_0000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    if value > VARIABLE_BYTE_INTEGER_MAX:
        raise ValueError(f"{value} does not fit a variable byte integer")
    return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80, value >> 21))


def binary(value: bytes) -> bytes:
    if len(value) > STRING_BYTES_MAX:
        raise ValueError(f"{len(value)} bytes are too long for a field: at most {STRING_BYTES_MAX}")
    return len(value).to_bytes(2, "big") + value


def string(value: str) -> bytes:
    return binary(value.encode())


# The table.


class ValueType(NamedTuple):
    read: Callable[[bytes, int, int], tuple[Any, int]]
    write: Callable[[Any], bytes]


_BYTE = ValueType(_read_byte, lambda value: bytes((value,)))
_TWO_BYTES = ValueType(read_two_byte_integer, lambda value: value.to_bytes(2, "big"))
_FOUR_BYTES = ValueType(_read_four_byte_integer, lambda value: value.to_bytes(4, "big"))
_VARIABLE = ValueType(_read_whole_variable_byte_integer, variable_byte_integer)
_STRING = ValueType(read_string, string)
_BINARY = ValueType(read_binary, binary)
_PAIR = ValueType(_read_string_pair, lambda pair: string(pair[0]) + string(pair[1]))


class PropertyRule(NamedTuple):
    """One property: its identifier as it stands on the wire, its type, and where it may be."""

    property_id: PropertyId
    value_type: ValueType
    packets: frozenset[PacketType]
    repeatable_in: frozenset[PacketType] = frozenset()
    values: range | None = None
    out_of_range: ReasonCode = ReasonCode.PROTOCOL_ERROR


_P = PropertyId
_T = PacketType
_MESSAGE = frozenset({_T.PUBLISH, _T.WILL})
_CONNECT = frozenset({_T.CONNECT})
_CONNACK = frozenset({_T.CONNACK})
_PUBLISH = frozenset({_T.PUBLISH})
_AUTHENTICATION = frozenset({_T.CONNECT, _T.CONNACK, _T.AUTH})
_ANSWERS = frozenset(
    {_T.CONNACK, _T.PUBACK, _T.PUBREC, _T.PUBREL, _T.PUBCOMP, _T.SUBACK, _T.UNSUBACK, _T.DISCONNECT, _T.AUTH}
)
_EVERYWHERE = frozenset(_T) - {_T.PINGREQ, _T.PINGRESP}
_SESSION_EXPIRY = frozenset({_T.CONNECT, _T.CONNACK, _T.DISCONNECT})

_FLAG = range(2)
_NOT_ZERO = range(1, 1 << 32)

# fmt: off
PROPERTIES: tuple[PropertyRule, ...] = (
    PropertyRule(_P.PAYLOAD_FORMAT_INDICATOR, _BYTE, _MESSAGE, values=_FLAG),
    PropertyRule(_P.MESSAGE_EXPIRY_INTERVAL, _FOUR_BYTES, _MESSAGE),
    PropertyRule(_P.CONTENT_TYPE, _STRING, _MESSAGE),  # [MQTT5-3.3.2-19]
    PropertyRule(_P.RESPONSE_TOPIC, _STRING, _MESSAGE),  # [MQTT5-3.3.2-13]
    PropertyRule(_P.CORRELATION_DATA, _BINARY, _MESSAGE),
    PropertyRule(_P.SUBSCRIPTION_IDENTIFIER, _VARIABLE, _PUBLISH | {_T.SUBSCRIBE}, _PUBLISH, values=_NOT_ZERO),
    PropertyRule(_P.SESSION_EXPIRY_INTERVAL, _FOUR_BYTES, _SESSION_EXPIRY),
    PropertyRule(_P.ASSIGNED_CLIENT_IDENTIFIER, _STRING, _CONNACK),
    PropertyRule(_P.SERVER_KEEP_ALIVE, _TWO_BYTES, _CONNACK),
    PropertyRule(_P.AUTHENTICATION_METHOD, _STRING, _AUTHENTICATION),
    PropertyRule(_P.AUTHENTICATION_DATA, _BINARY, _AUTHENTICATION),
    PropertyRule(_P.REQUEST_PROBLEM_INFORMATION, _BYTE, _CONNECT, values=_FLAG),
    PropertyRule(_P.WILL_DELAY_INTERVAL, _FOUR_BYTES, frozenset({_T.WILL})),
    PropertyRule(_P.REQUEST_RESPONSE_INFORMATION, _BYTE, _CONNECT, values=_FLAG),
    PropertyRule(_P.RESPONSE_INFORMATION, _STRING, _CONNACK),
    PropertyRule(_P.SERVER_REFERENCE, _STRING, frozenset({_T.CONNACK, _T.DISCONNECT})),
    PropertyRule(_P.REASON_STRING, _STRING, _ANSWERS),
    PropertyRule(_P.RECEIVE_MAXIMUM, _TWO_BYTES, _CONNECT | _CONNACK, values=_NOT_ZERO),
    PropertyRule(_P.TOPIC_ALIAS_MAXIMUM, _TWO_BYTES, _CONNECT | _CONNACK),
    PropertyRule(  # [MQTT5-3.3.2-8]
        _P.TOPIC_ALIAS, _TWO_BYTES, _PUBLISH, values=_NOT_ZERO, out_of_range=ReasonCode.TOPIC_ALIAS_INVALID
    ),
    PropertyRule(_P.MAXIMUM_QOS, _BYTE, _CONNACK, values=_FLAG),
    PropertyRule(_P.RETAIN_AVAILABLE, _BYTE, _CONNACK, values=_FLAG),
    PropertyRule(_P.USER_PROPERTY, _PAIR, _EVERYWHERE, _EVERYWHERE),
    PropertyRule(_P.MAXIMUM_PACKET_SIZE, _FOUR_BYTES, _CONNECT | _CONNACK, values=_NOT_ZERO),
    PropertyRule(_P.WILDCARD_SUBSCRIPTION_AVAILABLE, _BYTE, _CONNACK, values=_FLAG),
    PropertyRule(_P.SUBSCRIPTION_IDENTIFIER_AVAILABLE, _BYTE, _CONNACK, values=_FLAG),
    PropertyRule(_P.SHARED_SUBSCRIPTION_AVAILABLE, _BYTE, _CONNACK, values=_FLAG),
)
# fmt: on
_RULES: dict[int, PropertyRule] = {rule.property_id: rule for rule in PROPERTIES}


def decode_properties(
    data: bytes, offset: int, end: int, packet_type: PacketType, user_properties_max: int
) -> tuple[Properties, int]:
    """Return the properties whose length stands at `offset`, and the offset after them."""
    if offset < end and not data[offset]:
        return EMPTY_PROPERTIES, offset + 1
    length, offset = _read_whole_variable_byte_integer(data, offset, end)
    stop = offset + length
    if stop > end:
        raise malformed("a packet ends inside its properties")
    properties: dict[PropertyId, Any] = {}
    while offset < stop:
        rule = _RULES.get(data[offset])  # every identifier fits one byte, so the wire's integer is the byte
        if rule is None or packet_type not in rule.packets:
            raise malformed(f"{packet_type.name} has no property 0x{data[offset]:02x}")
        value, offset = rule.value_type.read(data, offset + 1, stop)
        _add(properties, rule, value, packet_type, user_properties_max)
    _check_together(properties)
    return properties, offset


def _add(
    properties: dict[PropertyId, Any], rule: PropertyRule, value: Any, packet_type: PacketType, user_properties_max: int
) -> None:
    property_id = rule.property_id
    if rule.values is not None and value not in rule.values:
        raise ProtocolError(rule.out_of_range, f"{property_id.name} may not be {value}")
    if packet_type in rule.repeatable_in:
        values = properties.setdefault(property_id, [])
        values.append(value)
        if property_id == PropertyId.USER_PROPERTY and len(values) > user_properties_max:
            raise ProtocolError(ReasonCode.QUOTA_EXCEEDED, f"more than {user_properties_max} user properties")
    elif property_id in properties:
        raise protocol_error(f"{property_id.name} is there twice")
    else:
        properties[property_id] = value


def _check_together(properties: Properties) -> None:
    if PropertyId.AUTHENTICATION_DATA in properties and PropertyId.AUTHENTICATION_METHOD not in properties:
        raise protocol_error("authentication data without an authentication method")
    response_topic = properties.get(PropertyId.RESPONSE_TOPIC, "")
    if "#" in response_topic or "+" in response_topic:
        raise protocol_error("a response topic has a wildcard")  # [MQTT5-3.3.2-14]


def encode_properties(properties: Properties) -> bytes:
    """Return the properties with their length in front. ValueError for a value that does not fit its type."""
    if not properties:
        return b"\0"  # [MQTT5-2.2.2-1]
    parts: list[bytes] = []
    for property_id, value in properties.items():
        write = _RULES[property_id].value_type.write
        prefix = bytes((property_id,))
        values = value if type(value) is list else (value,)
        parts += [prefix + write(each) for each in values]
    body = b"".join(parts)
    return variable_byte_integer(len(body)) + body
