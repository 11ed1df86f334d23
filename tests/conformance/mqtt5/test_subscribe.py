"""SUBSCRIBE and UNSUBSCRIBE (3.8 to 3.11): what is granted, replaced, refused and ended."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import (
    Disconnect,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.node import Node


async def test_subscribe_is_answered_with_its_packet_id_and_a_code_for_each_filter_in_their_order(node: Node) -> None:
    """[MQTT5-2.2.1-6] [MQTT5-3.8.4-1] [MQTT5-3.8.4-2] [MQTT5-3.8.4-5] [MQTT5-3.8.4-6] [MQTT5-3.8.4-7] [MQTT5-3.9.3-1]
    [MQTT5-3.9.3-2]"""
    client = await node.connected()
    asked = [("a", 2), ("forbidden/a", 1), ("b", 0), ("c/#/d", 2), ("c", 1)]
    await client.send(Subscribe(65_535, [SubscriptionRequest(*each) for each in asked]))
    suback = await client.expect(Suback)
    assert (suback.packet_id, suback.reason_codes) == (65_535, [2, R.NOT_AUTHORIZED, 0, R.TOPIC_FILTER_INVALID, 1])
    for topic_name, qos in (("a", 2), ("b", 0), ("c", 1)):
        await client.publish_to(topic_name, b"x", 2)
        got = await client.receive()
        assert (got.topic_name, got.qos) == (topic_name, qos)
    await node.hears_nothing(client)


async def test_a_subscription_with_the_same_filter_replaces_the_one_there_was(node: Node) -> None:
    """[MQTT5-3.8.4-3]"""
    client = await node.connected()
    await client.subscribe_to("a/+", 2, identifier=1, no_local=True)
    await client.subscribe_to("a/+", 1, identifier=2)
    await client.publish_to("a/b", b"x", 2)
    got = await client.receive()
    assert (got.qos, got.properties) == (1, {P.SUBSCRIPTION_IDENTIFIER: [2]})
    await client.subscribe_to("a/+", 0)
    await client.publish_to("a/b", b"x", 2)
    got = await client.receive()
    assert (got.qos, got.properties) == (0, {})
    await node.hears_nothing(client)


async def test_replacing_a_subscription_loses_nothing_and_sends_the_retained_messages_again(node: Node) -> None:
    """[MQTT5-3.8.4-4]"""
    client = await node.connected(properties={P.RECEIVE_MAXIMUM: 1})
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"retained", 1, retain=True)
    await client.subscribe_to("a", 1)
    assert (await client.receive()).payload == b"retained"
    for number in range(3):
        await publisher.publish_to("a", b"%d" % number, 1)
    await client.subscribe_to("a", 1)
    got = [await client.receive() for _ in range(4)]
    assert [each.payload for each in got if not each.retain] == [b"0", b"1", b"2"]
    assert [each.payload for each in got if each.retain] == [b"retained"]


@pytest.mark.parametrize("expiry", [0, 60])
async def test_no_local_keeps_ones_own_publishes_away_and_nobody_elses(node: Node, expiry: int) -> None:
    """[MQTT5-3.8.3-3]"""
    client, other = await node.connected("ana", session_expiry=expiry), await node.connected("bruno")
    await client.subscribe_to("a", 2, no_local=True)
    for qos in (0, 1, 2):
        await client.publish_to("a", b"own", qos)
    await other.publish_to("a", b"another's", 1)
    assert (await client.receive()).payload == b"another's"
    await node.hears_nothing(client)


async def test_no_local_goes_by_the_client_id_also_after_a_reconnect(node: Node) -> None:
    """[MQTT5-3.8.3-3]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 1, no_local=True)
    await node.restart()
    client = await node.connected(clean_start=False, session_expiry=60)
    await client.publish_to("a", b"own", 1)
    await node.hears_nothing(client)


async def test_one_of_two_overlapping_subscriptions_without_no_local_is_enough(node: Node) -> None:
    """[MQTT5-3.8.3-3]"""
    client = await node.connected()
    await client.subscribe_to("a/b", 1, no_local=True, identifier=1)
    await client.subscribe_to("a/+", 1, identifier=2)
    await client.publish_to("a/b", b"own", 1)
    got = await client.receive()
    assert (got.payload, got.properties) == (b"own", {P.SUBSCRIPTION_IDENTIFIER: [2]})


@pytest.mark.parametrize(
    ("wire", "reason_code"),
    [
        ("8203 0001 00", R.PROTOCOL_ERROR),  # [MQTT5-3.8.3-2]
        ("8207 0001 00 000161 40", R.MALFORMED_PACKET),  # [MQTT5-3.8.3-5]
        ("8207 0001 00 000161 80", R.MALFORMED_PACKET),  # [MQTT5-3.8.3-5]
        ("8207 0001 00 000161 03", R.PROTOCOL_ERROR),
        ("8207 0001 00 000161 30", R.PROTOCOL_ERROR),
        ("8007 0001 00 000161 00", R.MALFORMED_PACKET),  # [MQTT5-3.8.1-1]
        ("8207 0000 00 000161 00", R.MALFORMED_PACKET),
        ("8207 0001 00 0001ff 00", R.MALFORMED_PACKET),  # [MQTT5-3.8.3-1]
        ("8207 0001 00 000100 00", R.MALFORMED_PACKET),  # [MQTT5-4.7.3-2]
        ("8209 0001 02 0b00 000161 00", R.PROTOCOL_ERROR),
        ("820b 0001 04 0b01 0b02 000161 00", R.PROTOCOL_ERROR),
        ("8210 0001 00 000a 2473686172652f672f61 04", R.PROTOCOL_ERROR),  # [MQTT5-3.8.3-4]
        ("a203 0001 00", R.PROTOCOL_ERROR),  # [MQTT5-3.10.3-2]
        ("a006 0001 00 000161", R.MALFORMED_PACKET),  # [MQTT5-3.10.1-1]
        ("a206 0001 00 0001ff", R.MALFORMED_PACKET),  # [MQTT5-3.10.3-1]
    ],
)
async def test_a_subscribe_or_unsubscribe_that_breaks_a_rule_ends_the_connection(
    node: Node, wire: str, reason_code: R
) -> None:
    """[MQTT5-4.13.1-1]"""
    client = await node.connected()
    await client.send_bytes(bytes.fromhex(wire))
    said = await client.end()
    assert said is not None
    assert said.reason_code is reason_code


async def test_a_filter_that_is_refused_leaves_the_subscription_there_was(node: Node) -> None:
    client = await node.connected()
    await client.subscribe_to("a", 1)
    assert await client.subscribe_to("forbidden/#", 1) is R.NOT_AUTHORIZED
    await client.publish_to("a", b"x", 1)
    assert (await client.receive()).payload == b"x"


# Unsubscribing


async def test_unsubscribe_is_answered_with_its_packet_id_and_a_code_for_each_filter_in_their_order(node: Node) -> None:
    """[MQTT5-2.2.1-6] [MQTT5-3.10.4-4] [MQTT5-3.10.4-5] [MQTT5-3.10.4-6] [MQTT5-3.11.3-1] [MQTT5-3.11.3-2]"""
    client = await node.connected()
    for topic_filter in ("a", "b/+", "c"):
        await client.subscribe_to(topic_filter, 1)
    await client.send(Unsubscribe(40_000, ["c", "nothing", "b/+", "b/+"]))
    gone, none = R.SUCCESS, R.NO_SUBSCRIPTION_EXISTED
    assert await client.expect(Unsuback) == Unsuback(40_000, [gone, none, gone, none])
    assert (await client.unsubscribe_from("nothing")).reason_codes == [none]
    for topic_name in ("c", "b/x", "a"):
        await client.publish_to(topic_name, topic_name.encode(), 1)
    assert (await client.receive()).payload == b"a"


async def test_the_other_of_two_overlapping_subscriptions_stays(node: Node) -> None:
    """[MQTT5-3.10.4-1]"""
    client = await node.connected()
    await client.subscribe_to("a/#", 2, identifier=1)
    await client.subscribe_to("a/b", 1, identifier=2)
    await client.publish_to("a/b", b"x", 2)
    assert (await client.receive()).qos == 2
    await client.unsubscribe_from("a/#")
    await client.publish_to("a/b", b"x", 2)
    got = await client.receive()
    assert (got.qos, got.properties) == (1, {P.SUBSCRIPTION_IDENTIFIER: [2]})


async def test_unsubscribe_ends_the_subscription_with_exactly_that_filter(node: Node) -> None:
    """[MQTT5-3.10.4-1] [MQTT5-3.10.4-2] [MQTT5-4.7.3-4]"""
    client = await node.connected()
    await client.subscribe_to("a/+", 1)
    none = [R.NO_SUBSCRIPTION_EXISTED]
    for topic_filter in ("a/b", "a/#", "A/+", "a/+/", "/a/+", "#", "$share/g/a/+"):
        assert (await client.unsubscribe_from(topic_filter)).reason_codes == none
    await client.publish_to("a/b", b"x", 1)
    assert (await client.receive()).payload == b"x"
    assert (await client.unsubscribe_from("a/+")).reason_codes == [R.SUCCESS]
    await client.publish_to("a/b", b"y", 1)
    await node.hears_nothing(client)


async def test_what_was_sent_before_unsubscribe_is_completed(node: Node) -> None:
    """[MQTT5-3.10.4-3]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"1", 1)
    await publisher.publish_to("a", b"2", 2)
    one, two = await client.expect(Publish), await client.expect(Publish)
    await client.unsubscribe_from("a")
    await publisher.publish_to("a", b"3", 1)
    await node.gone(client)
    again = await node.connected(clean_start=False, session_expiry=60)
    for sent in (one, two):
        got = await again.receive()
        assert (got.payload, got.packet_id, got.dup) == (sent.payload, sent.packet_id, True)
    await node.hears_nothing(again)


async def test_unsubscribe_holds_for_a_session_that_is_resumed(node: Node) -> None:
    """[MQTT5-3.10.4-1]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 1)
    await client.subscribe_to("b", 1)
    await client.unsubscribe_from("a")
    await node.restart()
    again = await node.connected(clean_start=False, session_expiry=60)
    await again.publish_to("a", b"a", 1)
    await again.publish_to("b", b"b", 1)
    assert (await again.receive()).payload == b"b"
    await node.hears_nothing(again)


async def test_a_packet_id_that_waits_for_its_answer_may_not_be_taken_by_another_publish(node: Node) -> None:
    """[MQTT5-2.2.1-3]"""
    client = await node.connected()
    await client.send(Publish("held/a", b"x", 1, packet_id=5), Publish("held/b", b"x", 1, packet_id=5))
    packet = await client.next()
    assert isinstance(packet, Disconnect | Puback)
    assert packet.reason_code in (R.PACKET_IDENTIFIER_IN_USE, R.PROTOCOL_ERROR)
