"""Topic names and filters (4.7): what matches what, to the letter."""

from __future__ import annotations

import pytest

from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.node import Node

MATCHING = [
    ("sport/tennis/player1/#", ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/a/b"]),
    ("sport/#", ["sport", "sport/", "sport/a"]),
    ("#", ["a", "/", "/finance", "a/b/c"]),
    ("sport/tennis/+", ["sport/tennis/player1", "sport/tennis/"]),
    ("sport/+", ["sport/", "sport/a"]),
    ("+/+", ["/finance", "a/b", "/"]),
    ("/+", ["/finance", "/"]),
    ("+", ["finance", "a b"]),
    ("+/tennis/#", ["a/tennis", "/tennis/b/c"]),
    ("sport/+/player1", ["sport/tennis/player1", "sport//player1"]),
]
OTHERS = ["sporty", "tennis/player1", "/sport", "sport/tennis/player1x/y/z/z", "x/y/z/w"]


def by_levels(topic_filter: str, topic_name: str) -> bool:
    """The rule of 4.7.1, level by level."""
    if topic_filter[0] in "#+" and topic_name[0] == "$":
        return False
    filters, names = topic_filter.split("/"), topic_name.split("/")
    for index, level in enumerate(filters):
        if level == "#":
            return True
        if index >= len(names) or level not in ("+", names[index]):
            return False
    return len(filters) == len(names)


@pytest.mark.parametrize(("topic_filter", "matching"), MATCHING)
async def test_a_filter_gets_what_it_matches_and_nothing_else(
    node: Node, topic_filter: str, matching: list[str]
) -> None:
    """[MQTT5-3.3.2-3] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2]"""
    client = await node.connected()
    assert await client.subscribe_to(topic_filter, 0) == R.GRANTED_QOS_0
    topic_names = sorted({name for _, names in MATCHING for name in names} | set(OTHERS))
    for topic_name in topic_names:
        await client.publish_to(topic_name, b"x", 1)
    expected = [name for name in topic_names if by_levels(topic_filter, name)]
    assert set(matching) <= set(expected)
    assert [(await client.receive()).topic_name for _ in expected] == expected
    await node.hears_nothing(client)


@pytest.mark.parametrize("topic_filter", ["a#", "a/#/b", "#/a", "a/b#", "+a", "a/b+", "a+/b", "a/++"])
async def test_a_filter_with_a_misplaced_wildcard_is_refused(node: Node, topic_filter: str) -> None:
    """[MQTT5-4.7.1-1] [MQTT5-4.7.1-2]"""
    client = await node.connected()
    assert await client.subscribe_to(topic_filter, 1) is R.TOPIC_FILTER_INVALID
    await client.ping()


@pytest.mark.parametrize("topic_filter", ["#", "+/a", "+/#", "+"])
async def test_a_leading_wildcard_does_not_match_a_topic_that_starts_with_a_dollar(
    node: Node, topic_filter: str
) -> None:
    """[MQTT5-4.7.2-1]"""
    client = await node.connected()
    await client.subscribe_to(topic_filter, 1)
    for topic_name in ("$test/a", "$test", "$SYS/broker/x"):
        await client.publish_to(topic_name, b"x", 1, retain=True)
    await node.hears_nothing(client)
    late = await node.connected("late")
    await late.subscribe_to(topic_filter, 1)
    await node.hears_nothing(late)


async def test_sys_topics_tell_of_the_server_to_who_asks_for_them(node: Node) -> None:
    """[MQTT5-4.7.2-1]"""
    client = await node.connected()
    await client.subscribe_to("$SYS/#")
    got = await client.receive()
    assert got.topic_name.startswith("$SYS/")
    assert got.retain


@pytest.mark.parametrize(
    ("topic_filter", "topic_name"),
    [
        ("a", "A"),
        ("a/b", "a//b"),
        ("a", "/a"),
        ("a", "a/"),
        ("a", " a"),
        ("caf\u00e9", "cafe\u0301"),
        ("a", "\ufeffa"),
        ("a\u00a0b", "a b"),
        ("\u212b", "\u00c5"),
        ("a/./b", "a/b"),
        ("a/%2b", "a/+b".replace("+", "2b")),
    ],
)
async def test_topics_are_compared_as_they_are(node: Node, topic_filter: str, topic_name: str) -> None:
    """[MQTT5-4.7.3-4] [MQTT5-1.5.4-3]"""
    client = await node.connected()
    await client.subscribe_to(topic_filter, 1)
    await client.publish_to(topic_name, b"another", 1)
    await client.publish_to(topic_filter, b"same", 1)
    got = await client.receive()
    assert (got.topic_name, got.payload) == (topic_filter, b"same")
