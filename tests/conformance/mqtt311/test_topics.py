"""Topic names and topic filters (4.7): what matches, what is refused, and that nothing is normalised."""

from __future__ import annotations

import pytest

from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_3_1_1, Publish, Subscribe, SubscriptionRequest, Unsubscribe, Will
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.mqtt311.wire import packet, text
from tests.conformance.node import Node

NAMES = ["a", "a/b", "a/b/c", "/a", "a/", "/", "a//b", "b", "A", "a b", "$x", "$x/a", "$x/a/b", "a/$x"]
MATCHES = {
    "a": {"a"},
    "a/b": {"a/b"},
    "+": {"a", "b", "A", "a b"},
    "#": {"a", "a/b", "a/b/c", "/a", "a/", "/", "a//b", "b", "A", "a b", "a/$x"},
    "+/+": {"a/b", "/a", "a/", "/", "a/$x"},
    "/+": {"/a", "/"},
    "a/+": {"a/b", "a/", "a/$x"},
    "a/#": {"a", "a/b", "a/b/c", "a/", "a//b", "a/$x"},
    "a/+/c": {"a/b/c"},
    "a/+/#": {"a/b", "a/b/c", "a/", "a//b", "a/$x"},
    "+/b/#": {"a/b", "a/b/c"},
    "/#": {"/a", "/"},
    "a/+/b": {"a//b"},
    "+/a": {"/a"},
    "$x/#": {"$x", "$x/a", "$x/a/b"},
    "$x/+": {"$x/a"},
    "$x/a": {"$x/a"},
    "$x/+/b": {"$x/a/b"},
}


@pytest.mark.parametrize("topic_filter", MATCHES)
async def test_a_filter_matches_the_topic_names_it_should_and_no_others(node: Node, topic_filter: str) -> None:
    """[MQTT311-4.7.1-1] [MQTT311-4.7.1-2] [MQTT311-4.7.1-3] [MQTT311-4.7.2-1] [MQTT311-4.7.3-4] [MQTT311-3.3.2-3]"""
    client = await node.connected()
    assert await client.subscribe_to(topic_filter, 1) == 1
    publisher = await node.connected("publisher")
    for topic_name in NAMES:
        await publisher.publish_to(topic_name, topic_name.encode(), 1)
    expected = [topic_name for topic_name in NAMES if topic_name in MATCHES[topic_filter]]
    got = [await client.receive() for _ in expected]
    assert [each.topic_name for each in got] == expected
    assert [each.payload.decode() for each in got] == expected
    await node.hears_nothing(client)


@pytest.mark.parametrize("topic_filter", MATCHES)
async def test_a_filter_finds_the_retained_messages_of_the_same_topics(node: Node, topic_filter: str) -> None:
    """[MQTT311-3.3.1-6] [MQTT311-4.7.1-2] [MQTT311-4.7.1-3] [MQTT311-4.7.2-1]"""
    publisher = await node.connected("publisher")
    for topic_name in NAMES:
        await publisher.publish_to(topic_name, b"x", 1, retain=True)
    client = await node.connected()
    await client.subscribe_to(topic_filter)
    assert {(await client.receive()).topic_name for _ in MATCHES[topic_filter]} == MATCHES[topic_filter]
    await node.hears_nothing(client)


@pytest.mark.parametrize("topic_filter", ["#/a", "a#", "a/#/b", "a/b#", "##", "a/#/", "+#", "#+", "/#/a"])
async def test_a_hash_that_is_not_the_whole_last_level_is_refused(node: Node, topic_filter: str) -> None:
    """[MQTT311-4.7.1-2]"""
    client = await node.connected()
    assert await client.subscribe_to(topic_filter, 1) is R.UNSPECIFIED_ERROR
    for topic_name in ("a", "a/b", "b"):
        await client.publish_to(topic_name, b"x", 1)
    await node.hears_nothing(client)


@pytest.mark.parametrize("topic_filter", ["a+", "+a", "a/b+", "++", "a/+b/c", "a+/b"])
async def test_a_plus_that_is_not_a_whole_level_is_refused(node: Node, topic_filter: str) -> None:
    """[MQTT311-4.7.1-3]"""
    client = await node.connected()
    assert await client.subscribe_to(topic_filter, 1) is R.UNSPECIFIED_ERROR
    for topic_name in ("a", "a/b", "ab/c"):
        await client.publish_to(topic_name, b"x", 1)
    await node.hears_nothing(client)


@pytest.mark.parametrize("topic_name", ["#", "+", "a/#", "a/+/b", "a#", "+a"])
@pytest.mark.parametrize("qos", [0, 1])
async def test_a_publish_to_a_topic_name_with_a_wildcard_ends_the_connection(
    node: Node, topic_name: str, qos: int
) -> None:
    """[MQTT311-3.3.2-2] [MQTT311-4.7.1-1] [MQTT311-4.8.0-1]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    client = await node.connected()
    await client.send_bytes(packet(0x30 | qos << 1, text(topic_name), b"\0\1" if qos else b"", b"x"))
    assert await client.rest() == []
    await node.hears_nothing(watcher)


@pytest.mark.parametrize("topic_name", ["", "a\0"])
async def test_a_publish_to_an_empty_topic_name_or_one_with_a_null_ends_the_connection(
    node: Node, topic_name: str
) -> None:
    """[MQTT311-4.7.3-1] [MQTT311-4.7.3-2]"""
    client = await node.connected()
    await client.send_bytes(packet(0x30, text(topic_name), b"x"))
    assert await client.rest() == []


@pytest.mark.parametrize("topic", ["a\0", "\0", "#\0"])
@pytest.mark.parametrize("first", [0x82, 0xA2])
async def test_a_filter_with_a_null_ends_the_connection(node: Node, topic: str, first: int) -> None:
    """[MQTT311-4.7.3-2]"""
    client = await node.connected()
    await client.send_bytes(packet(first, b"\0\1", text(topic), b"\0" if first == 0x82 else b""))
    assert await client.rest() == []


def test_no_topic_longer_than_65535_bytes_can_be_sent() -> None:
    """[MQTT311-4.7.3-3]"""
    longest, too_long = "é" * 32_767 + "a", "é" * 32_768
    for topic, fits in ((longest, True), (too_long, False)):
        for each in (
            Publish(topic, b""),
            Publish(topic, b"", 1, packet_id=1),
            Subscribe(1, [SubscriptionRequest(topic)]),
            Unsubscribe(1, [topic]),
        ):
            if fits:
                encode(each, MQTT_3_1_1)
            else:
                with pytest.raises(ValueError, match="65535"):
                    encode(each, MQTT_3_1_1)


async def test_topics_are_compared_as_they_are_written(node: Node) -> None:
    """[MQTT311-4.7.3-4]"""
    names = ["\u00e9", "e\u0301", "\u00c9", "\ufb01", "fi", "a", "A", " a", "a ", "\u00c5", "\u212b"]
    names += ["a/./b", "a/b", "a//b", "%61"]
    client = await node.connected()
    publisher = await node.connected("publisher")
    for topic_name in names:
        await client.subscribe_to(topic_name, 1)
        for other in names:
            await publisher.publish_to(other, other.encode(), 1)
        assert (await client.receive()).topic_name == topic_name
        await client.unsubscribe_from(topic_name)
        assert await client.before_pong() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_topic_name_comes_as_it_was_published(node: Node, qos: int) -> None:
    """[MQTT311-3.3.2-3] [MQTT311-4.7.3-4]"""
    client = await node.connected()
    await client.subscribe_to("#", qos)
    for topic_name in ("/", "a//b/", " ", "é/e\u0301", "a" * 200, "/".join("abcdefghij")):
        await client.publish_to(topic_name, b"x", qos)
        assert (await client.receive()).topic_name == topic_name


@pytest.mark.parametrize("topic_name", ["$x", "$x/a", "$SYS2/a"])
async def test_topics_that_begin_with_a_dollar_may_be_used_but_no_wildcard_finds_them(
    node: Node, topic_name: str
) -> None:
    """[MQTT311-4.7.2-1]"""
    client = await node.connected()
    for topic_filter in ("#", "+", "+/a", "+/#", "/#"):
        await client.subscribe_to(topic_filter)
    watcher = await node.connected("watcher")
    await watcher.subscribe_to(topic_name, 1)
    await node.gone(await node.connected("dying", will=Will(topic_name, b"will")))
    await (await node.connected("publisher")).publish_to(topic_name, b"x", 1)
    assert await watcher.receive_payloads(2) == [b"will", b"x"]
    await node.hears_nothing(client)
