"""Packets to bytes and back, on the case table: whole, at every cut, truncated, corrupted."""

from __future__ import annotations

import pytest

from recado.mqtt.codec import (
    Decoder,
    ProtocolError,
    Role,
    dup_head,
    encode,
    puback_bytes,
    pubcomp_bytes,
    publish_frame,
    pubrec_bytes,
    pubrel_bytes,
)
from recado.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, PROPERTIES, PropertyId, variable_byte_integer
from recado.mqtt.reason_codes import PacketType, ReasonCode
from tests.mqtt.cases import CASES, LEVELS, LONG_FORMS, ROLES, Case, decoder_for, decodings, open_decoder

DECODINGS = decodings(CASES + LONG_FORMS)


def name_of(value: object) -> str:
    return value.name if isinstance(value, Case) else str(value)


every_decoding = pytest.mark.parametrize(("each", "role", "level"), DECODINGS, ids=name_of)


def drain(decoder: Decoder) -> list[Packet]:
    packets = []
    while (packet := decoder.next_packet()) is not None:
        packets.append(packet)
    return packets


@pytest.mark.parametrize("level", LEVELS)
def test_the_table_has_every_packet_of_every_level(level: int) -> None:
    found = {PacketType[type(case.packet).__name__.upper()] for case in CASES if level in case.levels}
    assert found == set(PacketType) - {PacketType.WILL} - ({PacketType.AUTH} if level < 5 else set())


def test_the_table_has_every_property_wherever_it_may_be() -> None:
    found = set()
    for packet in (case.packet for case in CASES):
        found |= {(PacketType[type(packet).__name__.upper()], key) for key in getattr(packet, "properties", {})}
        if isinstance(packet, Connect) and packet.will is not None:
            found |= {(PacketType.WILL, key) for key in packet.will.properties}
    assert found == {(packet_type, rule.property_id) for rule in PROPERTIES for packet_type in rule.packets}


@pytest.mark.parametrize("each", CASES, ids=name_of)
def test_a_packet_is_written_in_its_shortest_form(each: Case) -> None:
    """MQTT5-2.2.2-1, MQTT5-1.5.5-1, MQTT5-3.1.3-1, MQTT5-2.1.3-1, MQTT5-2.2.1-2."""
    for level in each.levels:
        assert encode(each.packet, level).hex(" ") == each.wire.hex(" ")


@every_decoding
def test_a_packet_is_read_whole(each: Case, role: Role, level: int) -> None:
    """MQTT5-1.5.4-3 (a BOM stays), MQTT5-3.1.2-17, MQTT5-3.1.2-19, MQTT5-3.1.2-9."""
    decoder = decoder_for(each.packet, role, level)
    decoder.receive(each.wire)
    assert drain(decoder) == [each.packet]


@every_decoding
def test_a_packet_is_read_across_every_cut(each: Case, role: Role, level: int) -> None:
    for cut in range(len(each.wire) + 1):
        decoder = decoder_for(each.packet, role, level)
        decoder.receive(each.wire[:cut])
        before = drain(decoder)
        assert before == [] or cut == len(each.wire)
        decoder.receive(each.wire[cut:])
        assert before + drain(decoder) == [each.packet]


@every_decoding
def test_a_packet_is_read_byte_by_byte(each: Case, role: Role, level: int) -> None:
    decoder = decoder_for(each.packet, role, level)
    packets = []
    for byte in each.wire:
        decoder.receive(bytes((byte,)))
        packets += drain(decoder)
    assert packets == [each.packet]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("role", ROLES)
def test_a_stream_of_packets_is_read_the_same_however_it_is_cut(role: Role, level: int) -> None:
    cases = [case for case, r, lv in decodings(CASES) if (r, lv) == (role, level)]
    cases = [case for case in cases if not isinstance(case.packet, Connect | Connack)]
    stream = b"".join(case.wire for case in cases)
    for step in range(1, len(stream) + 1):
        decoder, packets = open_decoder(role, level), []
        for start in range(0, len(stream), step):
            decoder.receive(stream[start : start + step])
            packets += drain(decoder)
        assert packets == [case.packet for case in cases]


def test_packets_left_in_the_decoder_come_before_those_received_later() -> None:
    decoder = open_decoder("server", 4)
    decoder.receive(puback_bytes(1) + puback_bytes(2)[:3])
    decoder.receive(puback_bytes(2)[3:] + puback_bytes(3))
    decoder.receive(b"")
    assert decoder.next_packet() == Puback(1)
    decoder.receive(puback_bytes(4))
    assert drain(decoder) == [Puback(2), Puback(3), Puback(4)]


@every_decoding
def test_a_packet_whose_body_is_cut_short_is_refused_or_still_a_packet(each: Case, role: Role, level: int) -> None:
    """MQTT5-3.1.4-1: and never is it waited for, nor read into the packet behind it."""
    for length in range(len(each.wire) - 2):
        decoder = decoder_for(each.packet, role, level)
        decoder.receive(each.wire[:1] + bytes((length,)) + each.wire[2 : 2 + length])
        outcome = packet_or_error(decoder)
        assert outcome is not None
        again = decoder_for(each.packet, role, level)
        again.receive(each.wire[:1] + bytes((length,)) + each.wire[2:])
        assert packet_or_error(again) == outcome


@every_decoding
def test_bytes_behind_the_end_of_a_packet_are_refused(each: Case, role: Role, level: int) -> None:
    if isinstance(each.packet, Publish | Suback | Unsuback):
        return  # their last field has no length: the byte belongs to it
    decoder = decoder_for(each.packet, role, level)
    decoder.receive(each.wire[:1] + bytes((each.wire[1] + 1,)) + each.wire[2:] + b"\0")
    outcome = packet_or_error(decoder)
    # A short form of 5.0 with one more zero byte is a longer form of the same.
    assert isinstance(outcome, ReasonCode) or (level == 5 and outcome == each.packet)


@every_decoding
def test_a_corrupted_byte_gives_a_packet_or_a_protocol_error(each: Case, role: Role, level: int) -> None:
    for position, byte in enumerate(each.wire):
        for other in {0x00, 0x7F, 0xFF, *(byte ^ 1 << bit for bit in range(8))}:
            decoder = decoder_for(each.packet, role, level)
            decoder.receive(each.wire[:position] + bytes((other,)) + each.wire[position + 1 :])
            while packet_or_error(decoder) not in (None, *ReasonCode):
                pass


def packet_or_error(decoder: Decoder) -> Packet | ReasonCode | None:
    try:
        return decoder.next_packet()
    except ProtocolError as error:
        return error.reason_code


def test_packets_before_a_bad_one_come_out_first_and_the_error_stays() -> None:
    decoder = open_decoder("server", 4)
    decoder.receive(puback_bytes(1) + b"\x40\x02\0\0" + puback_bytes(2))
    assert decoder.next_packet() == Puback(1)
    for _ in range(2):
        with pytest.raises(ProtocolError, match="packet id is 0"):
            decoder.next_packet()


def test_two_faults_are_answered_the_same_however_they_are_cut() -> None:
    """A wrong first byte used to be called malformed when a bad length came with it, and by its name when alone."""
    for data in (b"\xd0\xff\xff\xff\xff\x01", b"\x36\x80\x80\x80\x00"):
        whole, cut = open_decoder("server", 4), open_decoder("server", 4)
        whole.receive(data)
        cut.receive(data[:1])
        with pytest.raises(ProtocolError) as named:
            cut.next_packet()
        with pytest.raises(ProtocolError) as caught:
            whole.next_packet()
        assert (caught.value.reason_code, caught.value.text) == (named.value.reason_code, named.value.text)


@pytest.mark.parametrize("length", [0, 1, 122, 123, 16377, 16378, 2097145, 2097146])
@pytest.mark.parametrize("level", [4, 5])
def test_a_payload_of_any_size_comes_back(length: int, level: int) -> None:
    """MQTT5-1.5.5-1: the sizes at which the remaining length grows by a byte."""
    packet = Publish("c/a", bytes(length), 1, packet_id=9)
    wire = encode(packet, level)
    assert variable_byte_integer(len(wire) - 1 - remaining_length_bytes(wire)) in wire[:5]
    decoder = open_decoder("client", level, packet_bytes_max=len(wire))
    decoder.receive(wire)
    assert drain(decoder) == [packet]


def remaining_length_bytes(wire: bytes) -> int:
    return next(count for count in range(1, 5) if wire[count] < 0x80)


@pytest.mark.parametrize("level", LEVELS)
def test_a_frame_made_for_a_fan_out_is_the_packet_around_its_packet_id(level: int) -> None:
    for length in (3, 200, 20_000):
        packet = Publish("c/a", bytes(length), 1, True, packet_id=513)
        head, tail = publish_frame("c/a", bytes(length), 1, True, level)
        assert head + b"\x02\x01" + tail == encode(packet, level)
        packet.dup = True
        assert dup_head(head) + b"\x02\x01" + tail == encode(packet, level)
        head, tail = publish_frame("c/a", bytes(length), 0, False, level, EMPTY_PROPERTIES)
        assert head + tail == encode(Publish("c/a", bytes(length)), level)


@pytest.mark.parametrize("level", LEVELS)
def test_the_short_acknowledgements_are_those_that_encode_makes(level: int) -> None:
    for packet_id in (1, 256, 65535):
        assert puback_bytes(packet_id) == encode(Puback(packet_id), level)
        assert pubrec_bytes(packet_id) == encode(Pubrec(packet_id), level)
        assert pubrel_bytes(packet_id) == encode(Pubrel(packet_id), level)
        assert pubcomp_bytes(packet_id) == encode(Pubcomp(packet_id), level)


def test_what_an_older_level_has_no_room_for_is_left_out() -> None:
    properties = {PropertyId.CONTENT_TYPE: "t"}
    assert encode(Publish("a", b"x", properties=properties), 4) == encode(Publish("a", b"x"), 4)
    assert encode(Pubcomp(1, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND), 4) == pubcomp_bytes(1)
    assert encode(Suback(1, [ReasonCode.NOT_AUTHORIZED]), 4) == bytes.fromhex("9003 0001 80")
    assert encode(Unsuback(1, [ReasonCode.SUCCESS]), 4) == bytes.fromhex("b002 0001")


@pytest.mark.parametrize(
    ("reason_code", "return_code"),
    [(0x00, 0), (0x84, 1), (0x85, 2), (0x88, 3), (0x89, 3), (0x97, 3), (0x86, 4), (0x87, 5), (0x8A, 5)],
)
def test_a_refusal_is_translated_for_an_older_client(reason_code: int, return_code: int) -> None:
    assert encode(Connack(False, ReasonCode(reason_code)), 4) == bytes((0x20, 2, 0, return_code))


@pytest.mark.parametrize(
    ("packet", "level"),
    [
        (Puback(1, ReasonCode.NOT_AUTHORIZED), 4),
        (Pubrec(1, ReasonCode.NOT_AUTHORIZED), 3),
        (Puback(0), 4),
        (Puback(65536), 5),
        (Publish("a", b"", 1), 4),
        (Publish("a" * 65536, b""), 4),
        (Publish("\ud800", b""), 4),
        (Connect("id", 4, password=b"x"), 4),
        (Connect("id", 5, keep_alive=65536), 5),
        (Auth(), 4),
    ],
)
def test_what_cannot_be_said_is_not_said_otherwise(packet: Packet, level: int) -> None:
    """A PUBACK of 3.1.1 says "accepted" and nothing else, so a refusal must not become one. MQTT311-3.1.2-22."""
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        encode(packet, level)
