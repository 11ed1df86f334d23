"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (3.8 to 3.11), and overlapping subscriptions (3.3.5)."""

from __future__ import annotations

import pytest

from recado.mqtt.codec import Decoder, ProtocolError, encode
from recado.mqtt.packets import Puback, Publish, Pubrec, Pubrel, Suback, Subscribe, SubscriptionRequest
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.mqtt311.wire import packet, text
from tests.conformance.node import Node

Request = SubscriptionRequest
ID = b"\0\1"
FAILURE = R.UNSPECIFIED_ERROR


async def test_every_filter_of_a_subscribe_has_its_return_code_in_its_place(node: Node) -> None:
    """[MQTT311-3.8.4-1] [MQTT311-3.8.4-4] [MQTT311-3.8.4-5] [MQTT311-3.9.3-1] [MQTT311-3.9.3-2] [MQTT311-3.8.4-2]"""
    client = await node.connected()
    filters = [("a", 2), ("forbidden/x", 2), ("b", 0), ("c/#/d", 1), ("c", 1), ("d+", 0), ("a", 0)]
    raw = b"".join(text(topic_filter) + bytes((qos,)) for topic_filter, qos in filters)
    await client.send_bytes(packet(0x82, b"\x12\x34", raw))
    assert await client.stream.receive() == b"\x90\x09\x12\x34\x02\x80\x00\x80\x01\x80\x00"


async def test_the_filters_that_are_refused_take_none_of_the_others_with_them(node: Node) -> None:
    """[MQTT311-3.8.4-4]"""
    client = await node.connected()
    await client.subscribe_all([Request("forbidden/x", 1), Request("a", 1), Request("b/#/", 1), Request("c", 1)])
    for topic_name in ("a", "c"):
        await client.publish_to(topic_name, b"x", 1)
        assert (await client.receive()).topic_name == topic_name


def test_a_client_understands_no_return_code_but_those_four() -> None:
    """[MQTT311-3.9.3-2]"""
    for code in range(256):
        decoder = Decoder(packet_bytes_max=100, role="client")
        decoder.receive(b"\x20\x02\0\0" + packet(0x90, ID, bytes((code,))))
        decoder.next_packet()
        if code in (0, 1, 2, 0x80):
            assert decoder.next_packet() == Suback(1, [R(code)])
        else:
            with pytest.raises(ProtocolError):
                decoder.next_packet()


async def test_a_later_filter_of_the_same_subscribe_replaces_an_earlier_one(node: Node) -> None:
    """[MQTT311-3.8.4-4] [MQTT311-3.8.4-3]"""
    client = await node.connected()
    suback = await client.subscribe_all([Request("a", 2), Request("a", 0)])
    assert suback.reason_codes == [2, 0]
    await client.publish_to("a", b"x", 2)
    assert (await client.receive()).qos == 0
    await node.hears_nothing(client)


@pytest.mark.parametrize(
    "raw",
    [
        packet(0x82, ID),  # [MQTT311-3.8.3-3]
        packet(0x82, ID, text("a"), b"\3"),  # [MQTT311-3.8.3-4]
        packet(0x82, ID, text("a"), b"\4"),  # [MQTT311-3.8.3-4]
        packet(0x82, ID, text("a"), b"\x80"),  # [MQTT311-3.8.3-4]
        packet(0x82, ID, text("a"), b"\x29"),  # [MQTT311-3.8.3-4]
        packet(0x82, ID, text("b"), b"\0", text("a"), b"\x40"),  # [MQTT311-3.8.3-4]
        packet(0x82, ID, text(""), b"\0"),  # [MQTT311-4.7.3-1]
        packet(0xA2, ID),  # [MQTT311-3.10.3-2]
        packet(0xA2, ID, text("")),  # [MQTT311-4.7.3-1]
    ],
    ids=[
        "no filter",
        "QoS 3",
        "bit 2",
        "bit 7",
        "the options of MQTT 5",
        "in the second filter",
        "an empty filter",
        "UNSUBSCRIBE without a filter",
        "UNSUBSCRIBE from an empty filter",
    ],
)
async def test_a_subscribe_or_unsubscribe_that_breaks_a_rule_ends_the_connection(node: Node, raw: bytes) -> None:
    """[MQTT311-4.8.0-1]"""
    client = await node.connected()
    await client.send_bytes(raw)
    assert await client.rest() == []


def test_no_subscribe_can_be_made_that_says_more_than_its_qos() -> None:
    """[MQTT311-3.8.3-4]"""
    asked = Request("a", 2, no_local=True, retain_as_published=True, retain_handling=2)
    expected = packet(0x82, ID, text("a"), b"\2")
    assert encode(Subscribe(1, [asked], {PropertyId.SUBSCRIPTION_IDENTIFIER: 1}), 4) == expected


@pytest.mark.parametrize(
    ("topic_filter", "topic_name"), [("+", "a"), ("#", "a/b/c"), ("a/+/c", "a/b/c"), ("a/#", "a"), ("+/#", "a/b")]
)
async def test_wildcards_are_supported(node: Node, topic_filter: str, topic_name: str) -> None:
    """[MQTT311-3.8.3-2]"""
    client = await node.connected()
    assert await client.subscribe_to(topic_filter, 1) == 1
    await client.publish_to(topic_name, b"x", 1)
    assert (await client.receive()).topic_name == topic_name


# Subscribing again


async def test_subscribing_again_replaces_the_subscription(node: Node) -> None:
    """[MQTT311-3.8.4-3]"""
    client = await node.connected()
    for qos in (0, 2, 1):
        assert await client.subscribe_to("a/+", qos) == qos
        await client.publish_to("a/b", b"x", 2)
        assert (await client.receive()).qos == qos
        await node.hears_nothing(client)
    await client.unsubscribe_from("a/+")
    await client.publish_to("a/b", b"x", 2)
    await node.hears_nothing(client)


async def test_subscribing_again_sends_the_retained_messages_again(node: Node) -> None:
    """[MQTT311-3.8.4-3] [MQTT311-3.3.1-8]"""
    client = await node.connected()
    await client.publish_to("r/a", b"kept", 1, retain=True)
    for qos in (1, 0, 1):
        await client.subscribe_to("r/+", qos)
        got = await client.receive()
        assert (got.payload, got.qos, got.retain) == (b"kept", qos, True)
        await node.hears_nothing(client)


async def test_subscribing_again_interrupts_nothing(node: Node) -> None:
    """[MQTT311-3.8.4-3]"""
    client = await node.connected()
    await client.subscribe_to("a", 1)
    publisher = await node.connected("publisher")
    for number in range(10):
        await publisher.publish_to("a", b"%d" % number, 1)
        await client.subscribe_to("a", 1)
    assert await client.receive_payloads(10) == [b"%d" % number for number in range(10)]
    await node.hears_nothing(client)


# Overlapping subscriptions


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(
    ("granted", "published", "expected"), [((0, 1, 2), 2, 2), ((2, 0, 1), 1, 1), ((1, 0, 0), 2, 1), ((0, 2, 0), 0, 0)]
)
async def test_a_publish_that_several_subscriptions_match_comes_once_at_the_highest_of_their_qos(
    node: Node, granted: tuple[int, int, int], published: int, expected: int, clean: bool
) -> None:
    """[MQTT311-3.3.5-1]"""
    client = await node.connected(clean_start=clean)
    for topic_filter, qos in zip(("a/b", "a/+", "#"), granted, strict=True):
        await client.subscribe_to(topic_filter, qos)
    await client.publish_to("a/b", b"x", published)
    assert (await client.receive()).qos == expected
    await node.hears_nothing(client)


# UNSUBSCRIBE


async def test_after_unsuback_nothing_new_comes(node: Node) -> None:
    """[MQTT311-3.10.4-2] [MQTT311-3.10.4-4]"""
    client = await node.connected()
    await client.subscribe_to("a", 1)
    await client.send_bytes(packet(0xA2, b"\x12\x34", text("a")))
    assert await client.stream.receive() == b"\xb0\x02\x12\x34"
    await (await node.connected("publisher")).publish_to("a", b"x", 1)
    await node.hears_nothing(client)


async def test_nothing_more_is_kept_for_a_subscription_that_is_gone(node: Node) -> None:
    """[MQTT311-3.10.4-2]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_all([Request("a", 1), Request("b", 1)])
    await client.unsubscribe_from("a")
    await node.gone(client)
    await node.restart()
    publisher = await node.connected("publisher")
    for topic_name in ("a", "b"):
        await publisher.publish_to(topic_name, b"x", 1)
    again = await node.connected(clean_start=False)
    assert (await again.receive()).topic_name == "b"
    await node.hears_nothing(again)


async def test_only_a_filter_that_is_the_same_in_every_character_is_unsubscribed_from(node: Node) -> None:
    """[MQTT311-3.10.4-1] [MQTT311-3.10.4-5]"""
    client = await node.connected()
    await client.subscribe_to("a/+", 1)
    for other in ("a/b", "a/#", "A/+", "a/+/", "/a/+", "+/+", "#", "a/"):
        await client.unsubscribe_from(other)
    await client.publish_to("a/b", b"x", 1)
    assert (await client.receive()).payload == b"x"


async def test_an_unsubscribe_that_finds_nothing_is_answered_all_the_same(node: Node) -> None:
    """[MQTT311-3.10.4-5] [MQTT311-3.10.4-4]"""
    client = await node.connected()
    await client.send_bytes(packet(0xA2, ID, text("never")) * 2)
    assert await client.before_pong() != []
    for _ in range(2):
        await client.unsubscribe_from("never")


async def test_several_filters_are_unsubscribed_from_and_answered_once(node: Node) -> None:
    """[MQTT311-3.10.4-6]"""
    client = await node.connected()
    for topic_filter in ("a", "b/+", "c", "d"):
        await client.subscribe_to(topic_filter, 1)
    await client.unsubscribe_from("a", "never", "b/+", "c")
    for topic_name in ("a", "b/x", "c"):
        await client.publish_to(topic_name, b"x", 1)
    await client.publish_to("d", b"still", 1)
    assert (await client.receive()).payload == b"still"
    assert await client.before_pong() == []


@pytest.mark.parametrize("clean", [True, False])
async def test_deliveries_that_have_begun_are_completed_after_unsubscribe(node: Node, clean: bool) -> None:
    """[MQTT311-3.10.4-3]"""
    client = await node.connected(clean_start=clean)
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"at 1", 1)
    await publisher.publish_to("a", b"at 2", 2)
    first, second = [await client.expect(Publish) for _ in range(2)]
    await client.unsubscribe_from("a")
    if not clean:
        await node.gone(client)
        client = await node.connected(clean_start=False)
        assert [(await client.expect(Publish)).packet_id for _ in range(2)] == [first.packet_id, second.packet_id]
    await client.send(Puback(first.packet_id), Pubrec(second.packet_id))
    assert await client.answer(Pubrel) == Pubrel(second.packet_id)


async def test_a_subscription_ends_with_nobody_elses(node: Node) -> None:
    """[MQTT311-3.10.4-2]"""
    one, other = await node.connected("one"), await node.connected("other")
    for client in (one, other):
        await client.subscribe_to("a", 1)
    await one.unsubscribe_from("a")
    await one.publish_to("a", b"x", 1)
    assert (await other.receive()).payload == b"x"
    await node.hears_nothing(one)
