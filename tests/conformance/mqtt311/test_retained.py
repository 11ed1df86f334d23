"""Retained messages (3.3.1.3)."""

from __future__ import annotations

import pytest

from tests.conformance.node import Node


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
async def test_a_new_subscription_gets_the_retained_message_with_retain_set_at_the_lower_qos(
    node: Node, published: int, granted: int
) -> None:
    """[MQTT311-3.3.1-5] [MQTT311-3.3.1-6] [MQTT311-3.3.1-8]"""
    publisher = await node.connected("publisher")
    await publisher.publish_to("r/a", b"kept", published, retain=True)
    await node.gone(publisher)
    client = await node.connected()
    await client.subscribe_to("r/a", granted)
    got = await client.receive()
    assert (got.topic_name, got.payload, got.retain, got.dup) == ("r/a", b"kept", True, False)
    assert got.qos == min(published, granted)
    await node.hears_nothing(client)


async def test_the_last_one_of_each_topic_that_matches_is_sent(node: Node) -> None:
    """[MQTT311-3.3.1-5] [MQTT311-3.3.1-6]"""
    publisher = await node.connected("publisher")
    for topic_name in ("r/a", "r/b", "r/a/c", "other"):
        for payload in (b"old", b"new"):
            await publisher.publish_to(topic_name, payload, 1, retain=True)
    for topic_filter, topics in (
        ("r/+", {"r/a", "r/b"}),
        ("r/#", {"r/a", "r/b", "r/a/c"}),
        ("r/a", {"r/a"}),
        ("+/+/c", {"r/a/c"}),
    ):
        client = await node.connected()
        await client.subscribe_to(topic_filter, 1)
        got = [await client.receive() for _ in topics]
        assert {(each.topic_name, each.payload, each.retain) for each in got} == {
            (topic_name, b"new", True) for topic_name in topics
        }
        await node.hears_nothing(client)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_an_established_subscription_gets_it_with_retain_clear(node: Node, qos: int) -> None:
    """[MQTT311-3.3.1-9]"""
    client = await node.connected()
    await client.subscribe_to("r/#", 2)
    for retain in (True, False):
        await client.publish_to("r/a", b"x", qos, retain=retain)
        assert not (await client.receive()).retain


async def test_what_waited_for_an_established_subscription_has_retain_clear_too(node: Node) -> None:
    """[MQTT311-3.3.1-9]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("r/#", 1)
    await node.gone(client)
    await (await node.connected("publisher")).publish_to("r/a", b"x", 1, retain=True)
    assert not (await (await node.connected(clean_start=False)).receive()).retain


async def test_a_retained_qos_0_publish_replaces_the_one_before(node: Node) -> None:
    """[MQTT311-3.3.1-7]"""
    publisher = await node.connected("publisher")
    await publisher.publish_to("r/a", b"at 2", 2, retain=True)
    await publisher.publish_to("r/a", b"at 0", 0, retain=True)
    client = await node.connected()
    await client.subscribe_to("r/a", 2)
    got = await client.receive()
    assert (got.payload, got.qos, got.retain) == (b"at 0", 0, True)
    await node.hears_nothing(client)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_an_empty_one_clears_the_topic_and_is_delivered_and_not_kept(node: Node, qos: int) -> None:
    """[MQTT311-3.3.1-10] [MQTT311-3.3.1-11]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("r/#", 2)
    publisher = await node.connected("publisher")
    await publisher.publish_to("r/a", b"kept", 1, retain=True)
    await publisher.publish_to("r/b", b"stays", 1, retain=True)
    await publisher.publish_to("r/a", b"", qos, retain=True)
    got = [await watcher.receive() for _ in range(3)]
    assert [(each.topic_name, each.payload, each.retain) for each in got] == [
        ("r/a", b"kept", False),
        ("r/b", b"stays", False),
        ("r/a", b"", False),
    ]
    client = await node.connected()
    await client.subscribe_to("r/#", 2)
    assert (await client.receive()).topic_name == "r/b"
    await node.hears_nothing(client)


async def test_an_empty_one_for_a_topic_that_has_none_is_just_delivered(node: Node) -> None:
    """[MQTT311-3.3.1-11]"""
    client = await node.connected()
    await client.subscribe_to("r/a", 1)
    await client.publish_to("r/a", b"", 1, retain=True)
    assert (await client.receive()).payload == b""
    await client.unsubscribe_from("r/a")
    await client.subscribe_to("r/a", 1)
    await node.hears_nothing(client)


@pytest.mark.parametrize("payload", [b"live", b""])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_publish_that_is_not_to_be_retained_leaves_what_is(node: Node, qos: int, payload: bytes) -> None:
    """[MQTT311-3.3.1-12]"""
    publisher = await node.connected("publisher")
    await publisher.publish_to("r/a", b"kept", 1, retain=True)
    await publisher.publish_to("r/a", payload, qos)
    await publisher.publish_to("r/b", b"live", qos)
    client = await node.connected()
    await client.subscribe_to("r/#", 1)
    assert (await client.receive()).payload == b"kept"
    await node.hears_nothing(client)


async def test_retained_messages_survive_a_restart(node: Node) -> None:
    """[MQTT311-3.3.1-5] [MQTT311-3.3.1-10]"""
    publisher = await node.connected("publisher")
    for topic_name in ("r/a", "r/b", "r/c"):
        await publisher.publish_to(topic_name, topic_name.encode(), 2, retain=True)
    await publisher.publish_to("r/b", b"", 1, retain=True)
    await publisher.publish_to("r/c", b"newer", 0, retain=True)
    await publisher.publish_to("r/d", b"sees to it that all that is stored", 1, retain=True)
    await node.restart()
    client = await node.connected()
    await client.subscribe_to("r/#", 2)
    got = [await client.receive() for _ in range(3)]
    assert {(each.topic_name, each.payload, each.qos) for each in got} == {
        ("r/a", b"r/a", 2),
        ("r/c", b"newer", 0),
        ("r/d", b"sees to it that all that is stored", 1),
    }


async def test_a_retained_message_for_a_session_that_is_kept_is_sent_again_until_it_is_acknowledged(
    node: Node,
) -> None:
    """[MQTT311-3.3.1-6] [MQTT311-3.3.1-8] [MQTT311-4.4.0-1]"""
    await (await node.connected("publisher")).publish_to("r/a", b"kept", 1, retain=True)
    client = await node.connected(clean_start=False)
    await client.subscribe_to("r/a", 1)
    first = await client.next()
    await node.gone(client)
    again = await (await node.connected(clean_start=False)).receive()
    assert (again.retain, again.dup, again.payload) == (True, True, b"kept")
    assert first is not None


async def test_a_retained_publish_that_is_not_allowed_is_not_kept(node: Node) -> None:
    """[MQTT311-3.3.5-2]"""
    publisher = await node.connected("publisher")
    await publisher.publish_to("forbidden/x", b"x", 0, retain=True)
    assert node.server.retained.get("forbidden/x") is None
