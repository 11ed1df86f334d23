"""The property table of MQTT 5.0: what each packet may carry, how often, and with what value."""

from __future__ import annotations

from typing import Any

import pytest

from recado.mqtt.codec import ProtocolError
from recado.mqtt.properties import (
    EMPTY_PROPERTIES,
    PROPERTIES,
    PropertyId,
    PropertyRule,
    decode_properties,
    encode_properties,
    read_variable_byte_integer,
    variable_byte_integer,
)
from recado.mqtt.reason_codes import PacketType, ReasonCode

USED = [packet_type for packet_type in PacketType if packet_type not in (PacketType.PINGREQ, PacketType.PINGRESP)]


def one_of(rule: PropertyRule) -> bytes:
    """The property with a value that is good for it."""
    samples: list[Any] = [("k", "v"), 1, "x", b"x"]
    for sample in samples:
        try:
            return bytes((rule.property_id,)) + rule.value_type.write(sample)
        except (TypeError, ValueError, AttributeError):
            continue
    raise AssertionError(rule)


def framed(*properties: bytes) -> bytes:
    body = b"".join(properties)
    return variable_byte_integer(len(body)) + body


def decode(wire: bytes, packet_type: PacketType = PacketType.CONNACK) -> Any:
    properties, offset = decode_properties(wire, 0, len(wire), packet_type, 100)
    assert offset == len(wire)
    return properties


def reason_of(wire: bytes, packet_type: PacketType) -> ReasonCode:
    with pytest.raises(ProtocolError) as caught:
        decode_properties(wire, 0, len(wire), packet_type, 100)
    return caught.value.reason_code


def test_every_property_of_the_standard_is_in_the_table_once() -> None:
    assert [rule.property_id for rule in PROPERTIES] == sorted(PropertyId)
    assert len(PropertyId) == 27


def test_no_properties_are_the_shared_constant() -> None:
    """MQTT5-2.2.2-1."""
    assert decode(b"\0") is EMPTY_PROPERTIES
    assert encode_properties(EMPTY_PROPERTIES) == encode_properties({}) == b"\0"
    assert not EMPTY_PROPERTIES
    assert EMPTY_PROPERTIES.get(PropertyId.TOPIC_ALIAS, 0) == 0


@pytest.mark.parametrize("packet_type", USED)
@pytest.mark.parametrize("rule", PROPERTIES, ids=lambda rule: rule.property_id.name)
def test_a_property_is_taken_where_it_belongs_and_refused_elsewhere(
    rule: PropertyRule, packet_type: PacketType
) -> None:
    """Bug class: a wrong property forwarded, so that other clients get disconnected."""
    property_id = rule.property_id
    wire = framed(one_of(rule))
    if packet_type not in rule.packets:
        assert reason_of(wire, packet_type) is ReasonCode.MALFORMED_PACKET
    elif property_id is PropertyId.AUTHENTICATION_DATA:
        assert reason_of(wire, packet_type) is ReasonCode.PROTOCOL_ERROR  # the method is missing
    else:
        assert list(decode(wire, packet_type)) == [property_id]
        assert encode_properties(decode(wire, packet_type)) == wire


@pytest.mark.parametrize("rule", PROPERTIES, ids=lambda rule: rule.property_id.name)
def test_a_property_comes_once_unless_it_may_repeat(rule: PropertyRule) -> None:
    """MQTT5-3.3.2-18: repeated ones keep their order."""
    method = framed(one_of(PROPERTIES[9]))[1:] if rule.property_id is PropertyId.AUTHENTICATION_DATA else b""
    wire = framed(method, one_of(rule), one_of(rule))
    for packet_type in rule.packets:
        if packet_type in rule.repeatable_in:
            assert len(decode(wire, packet_type)[rule.property_id]) == 2
        else:
            assert reason_of(wire, packet_type) is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("wire", "packet_type", "reason_code"),
    [
        ("21 0000", PacketType.CONNECT, ReasonCode.PROTOCOL_ERROR),
        ("27 00000000", PacketType.CONNECT, ReasonCode.PROTOCOL_ERROR),
        ("23 0000", PacketType.PUBLISH, ReasonCode.TOPIC_ALIAS_INVALID),
        ("0b 00", PacketType.SUBSCRIBE, ReasonCode.PROTOCOL_ERROR),
        ("0b 8000", PacketType.SUBSCRIBE, ReasonCode.MALFORMED_PACKET),
        ("0b 8080808001", PacketType.SUBSCRIBE, ReasonCode.MALFORMED_PACKET),
        ("01 02", PacketType.PUBLISH, ReasonCode.PROTOCOL_ERROR),
        ("17 02", PacketType.CONNECT, ReasonCode.PROTOCOL_ERROR),
        ("19 ff", PacketType.CONNECT, ReasonCode.PROTOCOL_ERROR),
        ("24 02", PacketType.CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("25 02", PacketType.CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("28 02", PacketType.CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("29 02", PacketType.CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("2a 02", PacketType.CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("00 00", PacketType.CONNACK, ReasonCode.MALFORMED_PACKET),
        ("a600 0001 61 0001 62", PacketType.CONNACK, ReasonCode.MALFORMED_PACKET),
        ("26 0001 ff 0001 62", PacketType.CONNACK, ReasonCode.MALFORMED_PACKET),  # MQTT5-1.5.7-1
        ("26 0001 61 0001 00", PacketType.CONNACK, ReasonCode.MALFORMED_PACKET),  # MQTT5-1.5.7-1, MQTT5-1.5.4-2
        ("1f 0003 eda080", PacketType.CONNACK, ReasonCode.MALFORMED_PACKET),  # MQTT5-1.5.4-1
        ("03 0001 ff", PacketType.PUBLISH, ReasonCode.MALFORMED_PACKET),  # MQTT5-3.3.2-19
        ("08 0001 ff", PacketType.PUBLISH, ReasonCode.MALFORMED_PACKET),  # MQTT5-3.3.2-13
        ("08 0003 612f23", PacketType.PUBLISH, ReasonCode.PROTOCOL_ERROR),  # MQTT5-3.3.2-14
    ],
)
def test_a_value_out_of_its_range_is_refused(wire: str, packet_type: PacketType, reason_code: ReasonCode) -> None:
    """MQTT5-3.3.2-8 and the ranges of 3.1.2.11, 3.2.2.3 and 3.3.2.3."""
    assert reason_of(framed(bytes.fromhex(wire)), packet_type) is reason_code


@pytest.mark.parametrize("rule", PROPERTIES, ids=lambda rule: rule.property_id.name)
def test_a_property_that_ends_early_is_refused_though_more_bytes_follow(rule: PropertyRule) -> None:
    whole = one_of(rule)
    for length in range(1, len(whole)):
        wire = variable_byte_integer(length) + whole + b"\1" * 8
        with pytest.raises(ProtocolError):
            decode_properties(wire, 0, len(wire), next(iter(rule.packets)), 100)


@pytest.mark.parametrize("wire", ["", "05", "8000", "80", "ffffffff", "ffffffff7f", "0226"])
def test_a_wrong_length_of_the_properties_is_refused(wire: str) -> None:
    """MQTT5-1.5.5-1."""
    assert reason_of(bytes.fromhex(wire), PacketType.CONNACK) is ReasonCode.MALFORMED_PACKET


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_a_variable_byte_integer_takes_the_fewest_bytes(value: int, wire: str) -> None:
    """MQTT5-1.5.5-1."""
    raw = bytes.fromhex(wire)
    assert variable_byte_integer(value) == raw
    assert read_variable_byte_integer(raw, 0, len(raw)) == (value, len(raw))


def test_a_number_too_large_for_a_variable_byte_integer_is_not_written() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        variable_byte_integer(268_435_456)
