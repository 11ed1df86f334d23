"""What a hostile or a slow peer can cost: every limit holds before memory or time is spent."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from recado.mqtt.codec import ProtocolError, Role
from recado.mqtt.encoding import encode
from recado.mqtt.packets import Connect, Publish, Subscribe, SubscriptionRequest, Unsubscribe
from recado.mqtt.properties import PropertyId, variable_byte_integer
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.topics import checked_topic_names
from tests.mqtt.cases import LEVELS, ROLES, fresh_decoder, open_decoder


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("role", ROLES)
def test_a_packet_over_the_limit_is_refused_from_its_fixed_header(role: Role, level: int) -> None:
    decoder = open_decoder(role, level, packet_bytes_max=1000)
    decoder.receive(b"\x30" + variable_byte_integer(998))
    with pytest.raises(ProtocolError) as caught:
        decoder.next_packet()
    assert caught.value.reason_code is ReasonCode.PACKET_TOO_LARGE


def test_a_packet_of_exactly_the_limit_is_read() -> None:
    wire = encode(Publish("a", bytes(994)), 4)
    assert len(wire) == 1000
    decoder = open_decoder("server", 4, packet_bytes_max=1000)
    decoder.receive(wire)
    assert decoder.next_packet() == Publish("a", bytes(994))


def test_a_small_limit_holds_for_packets_with_a_one_byte_length() -> None:
    decoder = open_decoder("server", 4, packet_bytes_max=30)
    decoder.receive(encode(Publish("a", bytes(30)), 4))
    with pytest.raises(ProtocolError) as caught:
        decoder.next_packet()
    assert caught.value.reason_code is ReasonCode.PACKET_TOO_LARGE


def test_connect_has_a_limit_of_its_own() -> None:
    decoder = fresh_decoder("server", 4, connect_bytes_max=500)
    decoder.receive(encode(Connect("i" * 500, 4), 4)[:4])
    with pytest.raises(ProtocolError) as caught:
        decoder.next_packet()
    assert caught.value.reason_code is ReasonCode.PACKET_TOO_LARGE
    decoder = open_decoder("server", 4, connect_bytes_max=500)
    decoder.receive(encode(Publish("a", bytes(1000)), 4))
    assert decoder.next_packet() == Publish("a", bytes(1000))


def test_a_promised_length_takes_no_memory() -> None:
    """Bug class: memory taken from a promised remaining length."""
    decoder = open_decoder("server", 4, packet_bytes_max=1 << 28)
    tracemalloc.start()
    try:
        decoder.receive(b"\x30\xff\xff\xff\x3f" + b"\0\1a")
        assert decoder.next_packet() is None
        assert tracemalloc.get_traced_memory()[1] < 4096
    finally:
        tracemalloc.stop()


def test_an_idle_decoder_holds_none_of_what_it_read() -> None:
    tracemalloc.start()
    try:
        decoder = open_decoder("server", 4)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            wire = encode(Publish("a", bytes(300_000)), 4)
            decoder.receive(wire[:100_000])
            assert decoder.next_packet() is None
            decoder.receive(wire[100_000:])
            assert decoder.next_packet() is not None
            assert decoder.next_packet() is None
            del wire
        assert tracemalloc.get_traced_memory()[0] - before < 4096
    finally:
        tracemalloc.stop()


def test_a_packet_in_a_hundred_thousand_pieces_is_not_quadratic() -> None:
    """Joining what is held at every piece would copy 20 GB here."""
    packet = Publish("a", bytes(200_000))
    wire = encode(packet, 4)
    decoder = open_decoder("server", 4)
    started = time.process_time()
    for start in range(0, len(wire), 2):
        assert decoder.next_packet() is None
        decoder.receive(wire[start : start + 2])
    assert decoder.next_packet() == packet
    assert time.process_time() - started < 2


@pytest.mark.parametrize("level", [5])
def test_user_properties_over_the_limit_are_refused_early(level: int) -> None:
    """Bug class: CPU blow-up by many user properties."""
    properties = {PropertyId.USER_PROPERTY: [("", "")] * 200_000}
    decoder = open_decoder("server", level, user_properties_max=100)
    decoder.receive(encode(Publish("a", b"", properties=properties), level))
    started = time.process_time()
    with pytest.raises(ProtocolError) as caught:
        decoder.next_packet()
    assert caught.value.reason_code is ReasonCode.QUOTA_EXCEEDED
    assert time.process_time() - started < 0.1


def test_many_user_properties_cost_no_more_than_their_number() -> None:
    properties = {PropertyId.USER_PROPERTY: [("k", "v")] * 100_000}
    packet = Publish("a", b"", properties=properties)
    decoder = open_decoder("server", 5, user_properties_max=100_000)
    started = time.process_time()
    decoder.receive(encode(packet, 5))
    assert decoder.next_packet() == packet
    assert time.process_time() - started < 2


def test_user_properties_up_to_the_limit_are_read() -> None:
    packet = Publish("a", b"", properties={PropertyId.USER_PROPERTY: [("k", str(number)) for number in range(3)]})
    decoder = open_decoder("server", 5, user_properties_max=3)
    decoder.receive(encode(packet, 5))
    assert decoder.next_packet() == packet


@pytest.mark.parametrize("level", LEVELS)
def test_topic_filters_over_the_limit_are_refused(level: int) -> None:
    subscribe = Subscribe(1, [SubscriptionRequest("a")] * 11)
    for packet in (subscribe, Unsubscribe(1, ["a"] * 11)):
        decoder = open_decoder("server", level, topic_filters_max=10)
        decoder.receive(encode(packet, level))
        with pytest.raises(ProtocolError) as caught:
            decoder.next_packet()
        assert caught.value.reason_code is ReasonCode.QUOTA_EXCEEDED


def test_a_topic_of_tens_of_thousands_of_slashes_is_just_a_topic() -> None:
    """Bug class: recursion on tens of thousands of `/` in a topic."""
    packet = Publish("/" * 65_535, b"")
    decoder = open_decoder("server", 4)
    decoder.receive(encode(packet, 4))
    assert decoder.next_packet() == packet


def test_the_names_remembered_are_few_and_short() -> None:
    decoder = open_decoder("server", 4)
    for number in range(5000):
        decoder.receive(encode(Publish(f"c/{number}", b""), 4) + encode(Publish("x" * 129 + str(number), b""), 4))
        assert decoder.next_packet() == Publish(f"c/{number}", b"")
        assert decoder.next_packet() is not None
        assert decoder.next_packet() is None
    assert len(checked_topic_names) <= 4096
    assert max(map(len, checked_topic_names)) <= 128
