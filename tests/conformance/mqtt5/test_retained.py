"""Retained messages (3.3.1.3, 3.8.3.1): stored, replaced, cleared, and sent as each subscription asks for."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import Publish
from recado.mqtt.properties import PropertyId as P
from tests.conformance.node import Node, over_tcp


async def test_the_last_retained_message_is_sent_to_a_new_subscription(node: Node) -> None:
    """[MQTT5-3.3.1-5] [MQTT5-3.3.1-9]"""
    publisher = await node.connected("publisher")
    for qos, payload in ((1, b"first"), (0, b"second"), (2, b"last")):
        await publisher.publish_to("a", payload, qos, retain=True)
    client = await node.connected()
    await client.subscribe_to("a", 2)
    got = await client.receive()
    assert (got.topic_name, got.payload, got.qos, got.retain, got.dup) == ("a", b"last", 2, True, False)
    await node.hears_nothing(client)


@pytest.mark.parametrize("expiry", [0, 60])
async def test_a_retained_message_comes_at_the_lower_of_both_qos(node: Node, expiry: int) -> None:
    """[MQTT5-3.8.4-8] [MQTT5-3.3.1-5]"""
    client = await node.connected(session_expiry=expiry)
    for qos in (0, 1, 2):
        await client.publish_to(f"a/{qos}", b"x", qos, retain=True)
        for granted in (0, 1, 2):
            await client.subscribe_to(f"a/{qos}", granted)
            got = await client.receive()
            assert (got.qos, got.retain) == (min(qos, granted), True)


async def test_a_wildcard_gets_the_retained_message_of_every_topic_that_it_matches(node: Node) -> None:
    """[MQTT5-3.3.1-9] [MQTT5-3.3.2-3]"""
    client = await node.connected()
    for topic_name in ("a/b", "a/c", "a/b/c", "b/b"):
        await client.publish_to(topic_name, topic_name.encode(), 1, retain=True)
    await client.subscribe_to("a/+", 1)
    got = [await client.receive() for _ in range(2)]
    assert {(each.topic_name, each.payload) for each in got} == {("a/b", b"a/b"), ("a/c", b"a/c")}
    await client.subscribe_to("+/b/#", 1)
    assert {(await client.receive()).topic_name for _ in range(3)} == {"a/b", "a/b/c", "b/b"}
    await node.hears_nothing(client)


async def test_an_empty_payload_clears_the_retained_message_and_is_delivered_like_any_other(node: Node) -> None:
    """[MQTT5-3.3.1-6] [MQTT5-3.3.1-7]"""
    client = await node.connected()
    await client.subscribe_to("a", 1)
    await client.publish_to("a", b"x", 1, retain=True)
    await client.publish_to("a", b"", 1, retain=True)
    assert await client.receive_payloads(2) == [b"x", b""]
    late = await node.connected("late")
    await late.subscribe_to("a", 1)
    await node.hears_nothing(late)


async def test_a_publish_without_retain_leaves_the_retained_message_as_it_is(node: Node) -> None:
    """[MQTT5-3.3.1-8]"""
    client = await node.connected()
    await client.publish_to("a", b"retained", 1, retain=True)
    await client.publish_to("a", b"not", 1)
    await client.publish_to("a", b"", 1)
    await client.publish_to("b", b"not either", 1)
    await client.subscribe_to("#", 1)
    got = await client.receive()
    assert (got.topic_name, got.payload) == ("a", b"retained")
    await node.hears_nothing(client)


async def test_a_retained_message_outlives_its_publishers_session_and_the_server(node: Node) -> None:
    """[MQTT5-3.3.1-5]"""
    publisher = await node.connected("publisher")
    sent = {P.CONTENT_TYPE: "text/plain", P.USER_PROPERTY: [("b", "1"), ("a", "2")]}
    await publisher.publish_to("a", b"kept", 1, retain=True, properties=sent)
    await publisher.publish_to("b", b"x", 1, retain=True)
    await publisher.publish_to("b", b"", 1, retain=True)
    await publisher.disconnect()
    await node.restart()
    client = await node.connected()
    await client.subscribe_to("#", 1)
    got = await client.receive()
    assert (got.topic_name, got.payload, got.qos, got.retain, got.properties) == ("a", b"kept", 1, True, sent)
    await node.hears_nothing(client)


# Retain handling


async def test_retain_handling_0_sends_them_each_time(node: Node) -> None:
    """[MQTT5-3.3.1-9] [MQTT5-3.8.4-4]"""
    client = await node.connected()
    await client.publish_to("a", b"x", 1, retain=True)
    for _ in range(2):
        await client.subscribe_to("a", 1, retain_handling=0)
        assert (await client.receive()).payload == b"x"


async def test_retain_handling_1_sends_them_to_a_subscription_that_is_new(node: Node) -> None:
    """[MQTT5-3.3.1-10]"""
    client = await node.connected()
    await client.publish_to("a", b"x", 1, retain=True)
    await client.subscribe_to("a", 1, retain_handling=1)
    assert (await client.receive()).payload == b"x"
    await client.subscribe_to("a", 0, retain_handling=1)
    await node.hears_nothing(client)
    await client.unsubscribe_from("a")
    await client.subscribe_to("a", 1, retain_handling=1)
    assert (await client.receive()).payload == b"x"


async def test_retain_handling_1_knows_the_subscriptions_of_a_resumed_session(node: Node) -> None:
    """[MQTT5-3.3.1-10]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 1)
    await node.restart()
    client = await node.connected(clean_start=False, session_expiry=60)
    await client.publish_to("a", b"x", 1, retain=True)
    await client.receive()
    await client.subscribe_to("a", 1, retain_handling=1)
    await node.hears_nothing(client)


async def test_retain_handling_2_sends_none(node: Node) -> None:
    """[MQTT5-3.3.1-11]"""
    client = await node.connected()
    await client.publish_to("a", b"x", 1, retain=True)
    await client.subscribe_to("a", 1, retain_handling=2)
    await node.hears_nothing(client)
    await client.publish_to("a", b"live", 1)
    assert (await client.receive()).payload == b"live"


# Retain as published


@pytest.mark.parametrize("retain", [False, True])
async def test_the_retain_flag_is_forwarded_only_where_it_was_asked_for(node: Node, retain: bool) -> None:
    """[MQTT5-3.3.1-12] [MQTT5-3.3.1-13]"""
    plain, as_published = await node.connected("plain"), await node.connected("as-published")
    await plain.subscribe_to("a", 1)
    await as_published.subscribe_to("a", 1, retain_as_published=True)
    await plain.publish_to("a", b"x", 1, retain=retain)
    assert (await plain.receive()).retain is False
    assert (await as_published.receive()).retain is retain


async def test_the_retain_flag_as_published_is_kept_with_a_queued_publish(node: Node) -> None:
    """[MQTT5-3.3.1-12] [MQTT5-3.3.1-13]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("as-published", 1, retain_as_published=True)
    await client.subscribe_to("plain", 1)
    await node.gone(client)
    publisher = await node.connected("publisher")
    for topic_name, retain in (("as-published", True), ("as-published", False), ("plain", True)):
        await publisher.publish_to(topic_name, b"x", 1, retain=retain)
    await node.restart()
    again = await node.connected(clean_start=False, session_expiry=60)
    assert [(await again.receive()).retain for _ in range(3)] == [True, False, False]


# What comes with them


@over_tcp
async def test_a_retained_message_expires(node: Node) -> None:
    """[MQTT5-3.3.2-5] [MQTT5-3.3.2-6]"""
    client = await node.connected()
    await client.publish_to("short", b"x", 1, retain=True, properties={P.MESSAGE_EXPIRY_INTERVAL: 1})
    await client.publish_to("long", b"x", 1, retain=True, properties={P.MESSAGE_EXPIRY_INTERVAL: 100})
    await node.let_pass(1.5)
    await client.subscribe_to("#", 1)
    got = await client.receive()
    assert got.topic_name == "long"
    assert got.properties[P.MESSAGE_EXPIRY_INTERVAL] in range(80, 100)
    await node.hears_nothing(client)


@pytest.mark.parametrize("expiry", [0, 60])
async def test_a_retained_message_comes_with_the_identifier_of_the_subscription_that_asked_for_it(
    node: Node, expiry: int
) -> None:
    """[MQTT5-3.3.4-3] [MQTT5-3.3.4-4]"""
    client = await node.connected(session_expiry=expiry)
    await client.publish_to("a/b", b"x", 1, retain=True)
    await client.subscribe_to("a/#", 1, identifier=7, retain_handling=2)
    await client.subscribe_to("a/b", 1, identifier=8)
    assert 8 in (await client.receive()).properties[P.SUBSCRIPTION_IDENTIFIER]


async def test_no_local_keeps_ones_own_retained_message_away_only_while_it_is_live(node: Node) -> None:
    """[MQTT5-3.8.3-3]"""
    client = await node.connected()
    await client.subscribe_to("a", 1, no_local=True)
    await client.publish_to("a", b"own", 1, retain=True)
    await node.hears_nothing(client)
    other = await node.connected("other")
    await other.subscribe_to("a", 1)
    assert (await other.receive()).payload == b"own"


async def test_a_retained_message_without_a_subscriber_stays_until_there_is_one(node: Node) -> None:
    """[MQTT5-3.3.1-5]"""
    publisher = await node.connected("publisher")
    await publisher.send(Publish("a", b"x", 0, retain=True))
    await publisher.disconnect()
    client = await node.connected()
    await client.subscribe_to("a")
    assert (await client.receive()).payload == b"x"


async def test_a_publish_under_a_topic_alias_is_retained_under_its_topic_name(node: Node) -> None:
    """[MQTT5-3.3.1-5] [MQTT5-3.3.2-12]"""
    client = await node.connected()
    await client.publish_to("a", b"x", 1, properties={P.TOPIC_ALIAS: 1})
    await client.publish_to("", b"retained", 1, retain=True, properties={P.TOPIC_ALIAS: 1})
    await client.subscribe_to("#", 1)
    got = await client.receive()
    assert (got.topic_name, got.payload, got.properties) == ("a", b"retained", {})
