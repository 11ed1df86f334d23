"""PUBLISH (3.3): what is forwarded unaltered, what expires, topic aliases, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recado.broker.limits import BrokerLimits
from recado.mqtt.packets import MQTT_3_1_1, Disconnect, Puback, Publish, Pubrec, SubscriptionRequest
from recado.mqtt.properties import Properties
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.client import Client
from tests.conformance.node import LIMITS, Node, over_tcp

FORWARDED: Properties = {
    P.PAYLOAD_FORMAT_INDICATOR: 1,
    P.CONTENT_TYPE: "application/json",
    P.RESPONSE_TOPIC: "answers/é",
    P.CORRELATION_DATA: b"\x00\xff\x00",
    P.USER_PROPERTY: [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("é", "😀")],
}


async def end_reason(client: Client) -> R | None:
    said = await client.end()
    return said.reason_code if isinstance(said, Disconnect) else None


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("expiry", [0, 60])
async def test_what_the_publisher_says_of_its_payload_is_forwarded_unaltered_and_in_order(
    node: Node, qos: int, expiry: int
) -> None:
    """[MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-20]"""
    client = await node.connected(session_expiry=expiry)
    await client.subscribe_to("a", 2)
    await client.publish_to("a", b'{"x": 1}', qos, properties=FORWARDED)
    got = await client.receive()
    assert (got.payload, got.qos, got.properties) == (b'{"x": 1}', qos, FORWARDED)


async def test_the_same_goes_for_a_publish_that_waited_for_its_session_over_a_restart(node: Node) -> None:
    """[MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18] [MQTT5-3.3.2-20]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 2)
    await node.gone(client)
    await (await node.connected("publisher")).publish_to("a", b"x", 2, properties=FORWARDED)
    await node.restart()
    again = await node.connected(clean_start=False)
    assert (await again.receive()).properties == FORWARDED


async def test_payload_format_indicator_0_is_forwarded_too(node: Node) -> None:
    """[MQTT5-3.3.2-4]"""
    client = await node.connected()
    await client.subscribe_to("a")
    await client.publish_to("a", b"\xff", properties={P.PAYLOAD_FORMAT_INDICATOR: 0})
    assert (await client.receive()).properties == {P.PAYLOAD_FORMAT_INDICATOR: 0}


async def test_a_payload_that_is_not_the_utf_8_it_says_is_refused_and_reaches_nobody(node: Node) -> None:
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#", 2)
    client = await node.connected()
    said = {P.PAYLOAD_FORMAT_INDICATOR: 1}
    for qos in (1, 2):
        assert await client.publish_to("a", b"\xc3", qos, properties=said) is R.PAYLOAD_FORMAT_INVALID
    assert await client.publish_to("a", "é".encode(), 1, properties=said) == R.SUCCESS
    assert (await watcher.receive()).payload == "é".encode()
    await client.send(Publish("a", b"\xc3", properties=said))
    await node.hears_nothing(watcher)


async def test_the_dup_flag_of_the_publisher_says_nothing_to_the_subscribers(node: Node) -> None:
    """[MQTT5-3.3.1-3]"""
    client = await node.connected()
    await client.subscribe_to("a", 2)
    await client.send(Publish("a", b"x", 1, dup=True, packet_id=9))
    await client.answer(Puback)
    await client.send(Publish("a", b"x", 2, dup=True, packet_id=10))
    await client.answer(Pubrec)
    assert [(await client.receive()).dup for _ in range(2)] == [False, False]


# Message expiry


@over_tcp
async def test_a_publish_that_waited_says_how_long_it_is_still_good_for(node: Node) -> None:
    """[MQTT5-3.3.2-6]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 1)
    await client.publish_to("a", b"live", 1, properties={P.MESSAGE_EXPIRY_INTERVAL: 100})
    assert (await client.receive()).properties[P.MESSAGE_EXPIRY_INTERVAL] in range(80, 101)
    await node.gone(client)
    await (await node.connected("b")).publish_to("a", b"waits", 1, properties={P.MESSAGE_EXPIRY_INTERVAL: 100})
    await node.let_pass(1.5)
    again = await node.connected(clean_start=False)
    assert (await again.receive()).properties[P.MESSAGE_EXPIRY_INTERVAL] in range(80, 100)


@over_tcp
async def test_a_publish_that_waited_too_long_is_not_delivered(node: Node) -> None:
    """[MQTT5-3.3.2-5]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 2)
    await node.gone(client)
    publisher = await node.connected("publisher")
    for qos in (1, 2):
        await publisher.publish_to("a", b"expires", qos, properties={P.MESSAGE_EXPIRY_INTERVAL: 1})
    await publisher.publish_to("a", b"stays", 1)
    await node.let_pass(1.5)
    again = await node.connected(clean_start=False)
    assert (await again.receive()).payload == b"stays"
    await node.hears_nothing(again)


@over_tcp
async def test_a_publish_that_waits_for_a_full_window_expires_there(node: Node) -> None:
    """[MQTT5-3.3.2-5]"""
    client = await node.connected(properties={P.RECEIVE_MAXIMUM: 1})
    await client.subscribe_to("a", 1)
    await client.publish_to("a", b"first", 1)
    await client.publish_to("a", b"expires", 1, properties={P.MESSAGE_EXPIRY_INTERVAL: 1})
    await client.publish_to("a", b"stays", 1)
    first = await client.expect(Publish)
    await node.let_pass(1.5)
    await client.send(Puback(first.packet_id))
    assert (await client.receive()).payload == b"stays"


# Topic aliases, from the client


async def test_a_topic_alias_stands_for_the_topic_it_was_set_with_until_it_is_set_again(node: Node) -> None:
    """[MQTT5-3.3.2-12]"""
    client = await node.connected()
    await client.subscribe_to("#", 1)
    highest = client.connack.properties[P.TOPIC_ALIAS_MAXIMUM]
    assert highest == LIMITS.topic_aliases_max
    for alias in {1, highest}:
        for topic_name, means in (("a", "a"), ("", "a"), ("b", "b"), ("", "b")):
            await client.publish_to(topic_name, b"x", 1, properties={P.TOPIC_ALIAS: alias})
            got = await client.receive()
            assert (got.topic_name, got.properties) == (means, {})


async def test_every_topic_alias_up_to_the_maximum_is_accepted(node: Node) -> None:
    """[MQTT5-3.3.2-12]"""
    client = await node.connected()
    for alias in range(1, LIMITS.topic_aliases_max + 1):
        await client.send(Publish(f"t/{alias}", b"x", properties={P.TOPIC_ALIAS: alias}))
    await client.subscribe_to("#")
    for alias in range(1, LIMITS.topic_aliases_max + 1):
        await client.send(Publish("", b"x", properties={P.TOPIC_ALIAS: alias}))
        assert (await client.receive()).topic_name == f"t/{alias}"


@pytest.mark.parametrize("alias", [LIMITS.topic_aliases_max + 1, 65_535])
async def test_a_topic_alias_above_the_maximum_ends_the_connection(node: Node, alias: int) -> None:
    """[MQTT5-3.3.2-9] [MQTT5-3.2.2-17] [MQTT5-4.13.1-1]"""
    client = await node.connected()
    await client.send(Publish("a", b"x", properties={P.TOPIC_ALIAS: alias}))
    assert await end_reason(client) is R.TOPIC_ALIAS_INVALID


async def test_a_topic_alias_of_0_ends_the_connection(node: Node) -> None:
    """[MQTT5-3.3.2-8] [MQTT5-4.13.1-1]"""
    client = await node.connected()
    await client.send(Publish("a", b"x", properties={P.TOPIC_ALIAS: 0}))
    assert await end_reason(client) is R.TOPIC_ALIAS_INVALID


async def test_a_topic_alias_is_forgotten_with_its_connection(node: Node) -> None:
    """[MQTT5-3.3.2-7]"""
    client = await node.connected(session_expiry=60)
    await client.publish_to("a", b"x", 1, properties={P.TOPIC_ALIAS: 1})
    await node.gone(client)
    again = await node.connected(clean_start=False, session_expiry=60)
    await again.send(Publish("", b"x", properties={P.TOPIC_ALIAS: 1}))
    assert await end_reason(again) is R.PROTOCOL_ERROR


async def test_a_topic_alias_belongs_to_one_connection(node: Node) -> None:
    """[MQTT5-3.3.2-7]"""
    one, other = await node.connected("one"), await node.connected("other")
    await one.publish_to("a", b"x", 1, properties={P.TOPIC_ALIAS: 1})
    await other.send(Publish("", b"x", properties={P.TOPIC_ALIAS: 1}))
    assert await end_reason(other) is R.PROTOCOL_ERROR
    await one.publish_to("", b"x", 1, properties={P.TOPIC_ALIAS: 1})


class TestWithoutTopicAliases:
    @pytest.fixture
    def limits(self) -> BrokerLimits:
        return replace(LIMITS, topic_aliases_max=0)

    async def test_a_server_that_takes_no_topic_alias_says_so_and_refuses_one(self, node: Node) -> None:
        """[MQTT5-3.2.2-18]"""
        client = await node.connected()
        assert client.connack.properties.get(P.TOPIC_ALIAS_MAXIMUM, 0) == 0
        await client.send(Publish("a", b"x", properties={P.TOPIC_ALIAS: 1}))
        assert await end_reason(client) is R.TOPIC_ALIAS_INVALID


# Topic aliases, to the client


@pytest.mark.parametrize("maximum", [1, 3])
async def test_the_server_uses_topic_aliases_up_to_the_clients_maximum(node: Node, maximum: int) -> None:
    """[MQTT5-3.1.2-26] [MQTT5-3.3.2-11]"""
    client = await node.connected(properties={P.TOPIC_ALIAS_MAXIMUM: maximum})
    await client.subscribe_to("#", 1)
    names: dict[int, str] = {}
    used = 0
    for turn in range(3):
        for topic_name in ("a", "b", "c", "d", "e"):
            await client.publish_to(topic_name, topic_name.encode(), 1)
            got = await client.receive()
            alias = got.properties.get(P.TOPIC_ALIAS, 0)
            assert alias <= maximum
            if alias and got.topic_name:
                names[alias] = got.topic_name
            used += not got.topic_name
            assert (got.topic_name or names[alias]) == got.payload.decode(), f"in turn {turn}"
    assert used, "no topic alias was ever used"


@pytest.mark.parametrize("asked", [{}, {P.TOPIC_ALIAS_MAXIMUM: 0}])
async def test_a_client_that_takes_no_topic_alias_gets_none(node: Node, asked: Properties) -> None:
    """[MQTT5-3.1.2-27]"""
    client = await node.connected(properties=asked)
    await client.subscribe_to("#", 1)
    for _ in range(3):
        await client.publish_to("a", b"x", 1)
        got = await client.receive()
        assert (got.topic_name, got.properties) == ("a", {})


async def test_a_publish_that_is_sent_again_carries_its_topic_name(node: Node) -> None:
    """[MQTT5-3.3.2-7]"""
    client = await node.connected(session_expiry=60, properties={P.TOPIC_ALIAS_MAXIMUM: 5})
    await client.subscribe_to("a", 1)
    await client.publish_to("a", b"1", 1)
    await client.receive()
    await client.publish_to("a", b"2", 1)
    await client.expect(Publish)
    await node.gone(client)
    again = await node.connected(clean_start=False, properties={P.TOPIC_ALIAS_MAXIMUM: 5})
    got = await again.receive()
    assert (got.topic_name, got.payload, got.dup) == ("a", b"2", True)


# Which copies, at which QoS, with which identifiers


@pytest.mark.parametrize("expiry", [0, 60])
@pytest.mark.parametrize("identifier", [0, 1])
async def test_a_publish_comes_at_the_lower_of_its_qos_and_the_one_granted(
    node: Node, expiry: int, identifier: int
) -> None:
    """[MQTT5-3.8.4-8] [MQTT5-3.3.4-1]"""
    client = await node.connected(session_expiry=expiry)
    for granted in (0, 1, 2):
        assert await client.subscribe_to("a", granted, identifier=identifier) == granted
        for qos in (0, 1, 2):
            await client.publish_to("a", b"x", qos)
            got = await client.receive()
            assert (got.qos, got.dup, bool(got.packet_id)) == (min(qos, granted), False, min(qos, granted) > 0)
            assert got.properties == ({P.SUBSCRIPTION_IDENTIFIER: [identifier]} if identifier else {})


async def test_overlapping_subscriptions_give_a_copy_at_the_highest_qos_with_all_their_identifiers(node: Node) -> None:
    """[MQTT5-3.3.4-2] [MQTT5-3.3.4-3] [MQTT5-3.3.4-4]"""
    client = await node.connected()
    await client.subscribe_to("a/#", 0, identifier=1)
    await client.subscribe_to("a/+", 2, identifier=268_435_455)
    await client.subscribe_to("a/b", 1)
    await client.subscribe_to("c", 1, identifier=4)
    await client.publish_to("a/b", b"x", 2)
    got = await client.receive()
    assert (got.qos, sorted(got.properties[P.SUBSCRIPTION_IDENTIFIER])) == (2, [1, 268_435_455])
    await node.hears_nothing(client)


async def test_a_copy_for_each_of_two_subscriptions_has_the_identifier_of_its_own(node: Node) -> None:
    """[MQTT5-3.3.4-5]"""
    client = await node.connected()
    await client.subscribe_to("a", 1, identifier=1)
    await client.subscribe_to("$share/g/a", 1, identifier=2)
    await client.publish_to("a", b"x", 1)
    got = [(await client.receive()).properties[P.SUBSCRIPTION_IDENTIFIER] for _ in range(2)]
    assert sorted(got) == [[1], [2]]


async def test_a_queued_publish_keeps_its_identifiers_over_a_restart(node: Node) -> None:
    """[MQTT5-3.3.4-3]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a/#", 1, identifier=1)
    await client.subscribe_to("a/b", 1, identifier=2)
    await node.gone(client)
    await (await node.connected("publisher")).publish_to("a/b", b"x", 1)
    await node.restart()
    again = await node.connected(clean_start=False, session_expiry=60)
    assert sorted((await again.receive()).properties[P.SUBSCRIPTION_IDENTIFIER]) == [1, 2]
    await again.publish_to("a/c", b"x", 1)
    assert (await again.receive()).properties[P.SUBSCRIPTION_IDENTIFIER] == [1]


async def test_a_subscription_identifier_from_a_client_ends_its_connection(node: Node) -> None:
    """[MQTT5-3.3.4-6] [MQTT5-4.13.1-1]"""
    client = await node.connected()
    await client.send(Publish("a", b"x", properties={P.SUBSCRIPTION_IDENTIFIER: [1]}))
    assert await end_reason(client) is R.PROTOCOL_ERROR


async def test_a_3_1_1_client_gets_the_publish_without_its_properties(node: Node) -> None:
    old = await node.connected("old", level=MQTT_3_1_1)
    await old.subscribe_all([SubscriptionRequest("a", 1)])
    client = await node.connected()
    await client.publish_to("a", b"x", 1, properties=FORWARDED)
    assert (await old.receive()).payload == b"x"


# What is refused


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_publish_that_is_not_allowed_is_answered_with_the_reason_and_reaches_nobody(
    node: Node, qos: int
) -> None:
    """[MQTT5-3.4.2-1] [MQTT5-3.5.2-1]"""
    client = await node.connected()
    await client.subscribe_to("#", 2)
    assert await client.publish_to("forbidden/a", b"x", qos, retain=True) is R.NOT_AUTHORIZED
    await node.hears_nothing(client)


@pytest.mark.parametrize("topic_name", ["a/#", "+", "a/+/b", "#"])
async def test_a_topic_name_with_a_wildcard_ends_the_connection(node: Node, topic_name: str) -> None:
    """[MQTT5-3.3.2-2] [MQTT5-4.7.0-1] [MQTT5-4.13.1-1]"""
    client = await node.connected()
    await client.send(Publish(topic_name, b"x", 1, packet_id=1))
    assert await end_reason(client) in (R.TOPIC_NAME_INVALID, R.MALFORMED_PACKET)


@pytest.mark.parametrize("response_topic", ["a/#", "+"])
async def test_a_response_topic_with_a_wildcard_ends_the_connection(node: Node, response_topic: str) -> None:
    """[MQTT5-3.3.2-14]"""
    client = await node.connected()
    await client.send(Publish("a", b"x", properties={P.RESPONSE_TOPIC: response_topic}))
    assert await end_reason(client) is R.PROTOCOL_ERROR


async def test_an_empty_topic_name_without_an_alias_ends_the_connection(node: Node) -> None:
    """[MQTT5-4.7.3-1] [MQTT5-4.13.1-1]"""
    client = await node.connected()
    await client.send(Publish("", b"x"))
    assert await end_reason(client) is R.PROTOCOL_ERROR
