"""Strings, flags, lengths and packet identifiers (chapters 1.5 and 2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    MQTT_3_1_1,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
    Will,
)
from recado.mqtt.session import PACKET_IDS, Session
from tests.conformance.client import Client
from tests.conformance.mqtt311.wire import connect, packet, text
from tests.conformance.node import Node

MakeBytes = Callable[[bytes], bytes]

ID = b"\0\1"
IN_CONNECT: dict[str, MakeBytes] = {
    "client id": lambda raw: connect(0x02, text(raw)),
    "will topic": lambda raw: connect(0x06, text("ana"), text(raw), text("bye")),
    "user name": lambda raw: connect(0x82, text("ana"), text(raw)),
}
AFTER_CONNECT: dict[str, MakeBytes] = {
    "topic name": lambda raw: packet(0x30, text(raw), b"x"),
    "topic filter": lambda raw: packet(0x82, ID, text(raw), b"\0"),
    "topic filter of UNSUBSCRIBE": lambda raw: packet(0xA2, ID, text(raw)),
}
IN_EACH = sorted(IN_CONNECT | AFTER_CONNECT)


async def sent(node: Node, place: str, raw: bytes) -> Client:
    """A client that has sent a packet with this string in this place."""
    if place in IN_CONNECT:
        client = await node.client()
        await client.send_bytes(IN_CONNECT[place](raw))
    else:
        client = await node.connected()
        await client.send_bytes(AFTER_CONNECT[place](raw))
    return client


@pytest.mark.parametrize("place", IN_EACH)
@pytest.mark.parametrize(
    "raw",
    [b"a\xed\xa0\x80", b"\xed\xbf\xbf", b"\xc0\xaf", b"\xe2\x82", b"\xff", b"\xf4\x90\x80\x80"],
    ids=["surrogate", "last surrogate", "overlong", "cut off", "no lead byte", "beyond Unicode"],
)
async def test_a_string_that_is_not_utf_8_ends_the_connection(node: Node, place: str, raw: bytes) -> None:
    """[MQTT311-1.5.3-1] [MQTT311-3.1.3-4] [MQTT311-3.1.3-10] [MQTT311-3.1.3-11] [MQTT311-3.3.2-1]
    [MQTT311-3.8.3-1] [MQTT311-3.10.3-1]"""
    client = await sent(node, place, raw)
    assert await client.rest() == []


@pytest.mark.parametrize("place", IN_EACH)
async def test_a_string_with_a_null_character_ends_the_connection(node: Node, place: str) -> None:
    """[MQTT311-1.5.3-2] [MQTT311-4.7.3-2]"""
    client = await sent(node, place, b"a\0b")
    assert await client.rest() == []


@pytest.mark.parametrize("raw", ["é", "日本", "😀", "\u00a0", "\ufffd"])
async def test_every_other_character_may_be_in_a_string(node: Node, raw: str) -> None:
    """[MQTT311-1.5.3-1]"""
    client = await node.connected(raw, username=raw)
    await client.subscribe_to(f"{raw}/+")
    await client.publish_to(f"{raw}/{raw}")
    assert (await client.receive()).topic_name == f"{raw}/{raw}"


@pytest.mark.parametrize("raw", ["\u0001", "\ufffe", "\U0010ffff"])
async def test_a_character_that_some_clients_close_on_may_be_in_a_name_but_is_not_sent_on(node: Node, raw: str) -> None:
    """[MQTT311-1.5.3-1]: a receiver may refuse it, and the server is the first."""
    client = await node.connected(raw, username=raw)
    await client.subscribe_to(f"{raw}/+")
    await client.publish_to(f"{raw}/{raw}")
    await node.hears_nothing(client)


async def test_a_byte_order_mark_is_a_character_like_any_other(node: Node) -> None:
    """[MQTT311-1.5.3-3]"""
    client = await node.connected()
    await client.subscribe_to("\ufeffa")
    await client.subscribe_to("b/#")
    await client.publish_to("a", b"to another topic")
    await client.publish_to("\ufeffa", b"x")
    await client.publish_to("b/\ufeff", b"y")
    assert [(await client.receive()).topic_name for _ in range(2)] == ["\ufeffa", "b/\ufeff"]
    await node.hears_nothing(client)


# Fixed header: flags (2.2.2) and remaining length (2.2.3)

RIGHT = {
    "PUBACK": packet(0x40, ID),
    "PUBREC": packet(0x50, ID),
    "PUBREL": packet(0x62, ID),  # [MQTT311-3.6.1-1]
    "PUBCOMP": packet(0x70, ID),
    "SUBSCRIBE": packet(0x82, ID, text("a"), b"\0"),  # [MQTT311-3.8.1-1]
    "UNSUBSCRIBE": packet(0xA2, ID, text("a")),  # [MQTT311-3.10.1-1]
    "PINGREQ": packet(0xC0),
    "DISCONNECT": packet(0xE0),  # [MQTT311-3.14.1-1]
}


@pytest.mark.parametrize("name", RIGHT)
async def test_wrong_flags_end_the_connection_and_the_packet_is_not_heeded(node: Node, name: str) -> None:
    """[MQTT311-2.2.2-1] [MQTT311-2.2.2-2] [MQTT311-3.6.1-1] [MQTT311-3.8.1-1] [MQTT311-3.10.1-1] [MQTT311-3.14.1-1]
    [MQTT311-4.8.0-1]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("w")
    right = RIGHT[name]
    for flip in (1, 2, 4, 8):
        client = await node.connected(will=Will("w", b"%d" % flip))
        await client.send_bytes(bytes((right[0] ^ flip,)) + right[1:])
        assert await client.rest() == []
        assert (await watcher.receive()).payload == b"%d" % flip  # a DISCONNECT would have kept it back


@pytest.mark.parametrize("flags", range(1, 16))
async def test_a_connect_with_flags_in_its_first_byte_is_not_accepted(node: Node, flags: int) -> None:
    """[MQTT311-2.2.2-1] [MQTT311-2.2.2-2]"""
    client = await node.client()
    await client.send_bytes(connect(0x02, text("ana"), first=0x10 | flags))
    assert await client.rest() == []


@pytest.mark.parametrize("name", [name for name in RIGHT if name != "DISCONNECT"])
async def test_with_the_right_flags_each_of_them_is_heeded(node: Node, name: str) -> None:
    """[MQTT311-2.2.2-1]"""
    client = await node.connected()
    await client.send_bytes(RIGHT[name])
    await client.before_pong()


def test_what_is_sent_has_the_reserved_flags_as_they_must_be() -> None:
    """[MQTT311-2.2.2-1] [MQTT311-3.6.1-1] [MQTT311-3.8.1-1] [MQTT311-3.10.1-1]"""
    packets: list[Packet] = [
        Puback(1),
        Pubrec(1),
        Pubrel(1),
        Pubcomp(1),
        Subscribe(1, [SubscriptionRequest("a")]),
        Unsubscribe(1, ["a"]),
    ]
    assert [encode(each, MQTT_3_1_1)[0] for each in packets] == [0x40, 0x50, 0x62, 0x70, 0x82, 0xA2]


@pytest.mark.parametrize(
    "raw",
    [
        packet(0x00),
        packet(0xF0),
        packet(0x20, b"\0\0"),
        packet(0x90, ID, b"\0"),
        packet(0xB0, ID),
        packet(0xD0),
        packet(0x40, ID, b"\0"),
        packet(0x62, b"\0"),
        packet(0xC0, b"\0"),
        packet(0xE0, b"\0"),
        packet(0x30),
        packet(0x30, b"\0\5a"),
        packet(0x32, text("a")),
        packet(0x82, ID, text("a")),
        packet(0x82, ID, b"\0\5a", b"\0"),
        packet(0xA2, ID, b"\0\5a"),
        b"\x30\xff\xff\xff\xff\x01",
        b"\xc0\x80\x80\x80\x80\x00",
    ],
    ids=[
        "packet type 0",
        "packet type 15",
        "CONNACK",
        "SUBACK",
        "UNSUBACK",
        "PINGRESP",
        "PUBACK too long",
        "PUBREL too short",
        "PINGREQ too long",
        "DISCONNECT too long",
        "PUBLISH without a topic name",
        "PUBLISH ends in its topic name",
        "PUBLISH ends before its packet id",
        "SUBSCRIBE ends before its QoS",
        "SUBSCRIBE ends in a filter",
        "UNSUBSCRIBE ends in a filter",
        "remaining length of five bytes",
        "remaining length of five bytes, of no value",
    ],
)
async def test_a_packet_that_is_none_ends_the_connection_and_nobody_elses(node: Node, raw: bytes) -> None:
    """[MQTT311-4.8.0-1]"""
    other = await node.connected("other")
    client = await node.connected()
    await client.send_bytes(raw)
    assert await client.rest() == []
    await other.ping()


@pytest.mark.parametrize("size", [0, 1, 120, 122, 123, 16_378, 16_379, 16_380])
async def test_remaining_lengths_of_one_two_and_three_bytes_are_read_and_written(node: Node, size: int) -> None:
    """[MQTT311-3.3.2-1] [MQTT311-4.3.1-1]"""
    client = await node.connected()
    await client.subscribe_to("abc")
    payload = bytes(each % 251 for each in range(size))
    await client.publish_to("abc", payload)
    assert (await client.receive()).payload == payload


# Packet identifiers (2.3.1)


@pytest.mark.parametrize(
    "raw",
    [
        packet(0x32, text("a"), b"\0\0", b"x"),
        packet(0x34, text("a"), b"\0\0", b"x"),
        packet(0x82, b"\0\0", text("a"), b"\0"),
        packet(0xA2, b"\0\0", text("a")),
        packet(0x40, b"\0\0"),
        packet(0x50, b"\0\0"),
        packet(0x62, b"\0\0"),
        packet(0x70, b"\0\0"),
    ],
    ids=["QoS 1", "QoS 2", "SUBSCRIBE", "UNSUBSCRIBE", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"],
)
async def test_a_packet_id_of_0_ends_the_connection(node: Node, raw: bytes) -> None:
    """[MQTT311-2.3.1-1]"""
    client = await node.connected()
    await client.send_bytes(raw)
    assert await client.rest() == []


def test_no_packet_can_be_made_that_needs_a_packet_id_and_has_none() -> None:
    """[MQTT311-2.3.1-1]"""
    for each in (Publish("a", b"", 1), Publish("a", b"", 2), Subscribe(0, [SubscriptionRequest("a")])):
        with pytest.raises(ValueError, match="packet id"):
            encode(each, MQTT_3_1_1)
    with pytest.raises(ValueError, match="packet id"):
        encode(Unsubscribe(0, ["a"]), MQTT_3_1_1)


@pytest.mark.parametrize("packet_id", [1, 255, 256, 32_768, 65_535])
async def test_every_packet_id_is_answered_with_the_same_one(node: Node, packet_id: int) -> None:
    """[MQTT311-2.3.1-6] [MQTT311-2.3.1-7] [MQTT311-3.8.4-2] [MQTT311-3.10.4-4]"""
    client = await node.connected()
    wire_id = packet_id.to_bytes(2, "big")
    for question, answer in (
        (packet(0x32, text("a"), wire_id, b"x"), packet(0x40, wire_id)),
        (packet(0x34, text("a"), wire_id, b"x"), packet(0x50, wire_id)),
        (packet(0x62, wire_id), packet(0x70, wire_id)),
        (packet(0x82, wire_id, text("b"), b"\1"), packet(0x90, wire_id, b"\1")),
        (packet(0xA2, wire_id, text("b")), packet(0xB0, wire_id)),
    ):
        await client.send_bytes(question)
        assert await client.stream.receive() == answer


async def test_a_qos_0_publish_has_no_packet_id_and_nothing_else_either(node: Node) -> None:
    """[MQTT311-2.3.1-5] [MQTT311-3.3.1-2] [MQTT311-4.3.1-1]"""
    client = await node.connected()
    await client.subscribe_to("a/b", 2)
    await (await node.connected("publisher")).publish_to("a/b", b"xy")
    assert await client.stream.receive() == b"\x30\x07\x00\x03a/bxy"


@pytest.mark.parametrize("clean", [True, False])
async def test_the_server_gives_no_two_publishes_in_flight_the_same_packet_id_and_none_0(
    node: Node, clean: bool
) -> None:
    """[MQTT311-2.3.1-2] [MQTT311-2.3.1-4] [MQTT311-4.3.2-1] [MQTT311-4.3.3-1]"""
    client = await node.connected(clean_start=clean)
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"stays in flight", 1)
    first = await client.expect(Publish)
    assert first.packet_id
    session_of(node, "ana")._last_packet_id = PACKET_IDS + first.packet_id - 2
    ids = []
    for qos in (1, 2, 1, 2):
        await publisher.publish_to("a", b"x", qos)
        ids.append((await client.expect(Publish)).packet_id)
    assert first.packet_id not in ids
    assert 0 not in ids
    assert len(set(ids)) == 4


def session_of(node: Node, client_id: str) -> Session:
    return next(each for each in node.server.sessions if each.client_id == client_id)


async def test_both_sides_may_use_the_same_packet_ids_at_the_same_time(node: Node) -> None:
    """[MQTT311-2.3.1-4]"""
    client = await node.connected()
    await client.subscribe_to("a", 2)
    await (await node.connected("publisher")).publish_to("a", b"from the server", 2)
    coming = await client.expect(Publish)
    packet_id = coming.packet_id
    await client.send(Publish("b", b"from the client", 2, packet_id=packet_id))
    assert await client.expect(Pubrec) == Pubrec(packet_id)
    await client.send(Pubrec(packet_id))
    assert await client.expect(Pubrel) == Pubrel(packet_id)
    await client.send(Pubrel(packet_id))
    assert await client.expect(Pubcomp) == Pubcomp(packet_id)
    await client.send(Pubcomp(packet_id))
    assert await client.before_pong() == []


async def test_a_packet_id_in_use_at_qos_2_is_no_other_publishes(node: Node) -> None:
    """[MQTT311-2.3.1-2]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#", 2)
    client = await node.connected()
    await client.send(Publish("a", b"first", 2, packet_id=7))
    await client.expect(Pubrec)
    await client.send(Publish("a", b"another", 1, packet_id=7))
    assert await client.rest() == []
    assert (await watcher.receive()).payload == b"first"
    await node.hears_nothing(watcher)
