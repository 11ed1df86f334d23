"""The delivery flows (4.3 to 4.6): each packet at each side, what is sent again, and in which order."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.client import Client
from tests.conformance.node import Node, over_tcp

UNKNOWN = R.PACKET_IDENTIFIER_NOT_FOUND


async def subscribed(node: Node, qos: int) -> Client:
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", qos)
    return client


async def resumed(node: Node) -> Client:
    again = await node.connected(clean_start=False, session_expiry=60)
    assert again.connack.session_present
    return again


async def publish(node: Node, *payloads: bytes, qos: int) -> None:
    publisher = await node.connected("publisher")
    for payload in payloads:
        await publisher.publish_to("a", payload, qos)
    await publisher.disconnect()


# The server receives


@pytest.mark.parametrize("packet_id", [1, 40_000, 65_535])
async def test_each_qos_is_answered_with_its_own_packets_and_the_publishs_packet_id(node: Node, packet_id: int) -> None:
    """[MQTT5-2.2.1-5] [MQTT5-3.3.4-1] [MQTT5-4.3.2-4] [MQTT5-4.3.3-8] [MQTT5-4.3.3-11]"""
    client = await node.connected()
    await client.subscribe_to("a")
    await client.send(Publish("a", b"0"), Publish("a", b"1", 1, packet_id=packet_id))
    assert await client.answer(Puback) == Puback(packet_id)
    await client.send(Publish("a", b"2", 2, packet_id=packet_id))
    assert await client.answer(Pubrec) == Pubrec(packet_id)
    await client.send(Pubrel(packet_id))
    assert await client.answer(Pubcomp) == Pubcomp(packet_id)
    assert await client.receive_payloads(3) == [b"0", b"1", b"2"]


async def test_a_publish_that_nobody_subscribed_to_is_accepted(node: Node) -> None:
    """[MQTT5-3.4.2-1] [MQTT5-3.5.2-1]"""
    client = await node.connected()
    for qos in (1, 2):
        assert await client.publish_to("nobody", b"x", qos) is R.SUCCESS


async def test_after_puback_the_same_packet_id_is_a_new_publish_even_with_dup(node: Node) -> None:
    """[MQTT5-4.3.2-5]"""
    client = await subscribed(node, 1)
    for payload, dup in ((b"1", False), (b"2", True), (b"3", True)):
        await client.send(Publish("a", payload, 1, dup=dup, packet_id=3))
        await client.answer(Puback)
    assert await client.receive_payloads(3) == [b"1", b"2", b"3"]


async def test_a_qos_2_publish_that_is_sent_again_before_its_pubrel_is_delivered_once(node: Node) -> None:
    """[MQTT5-4.3.3-10]"""
    client, watcher = await node.connected(), await node.connected("watcher")
    await watcher.subscribe_to("a", 2)
    for dup in (False, True, True):
        await client.send(Publish("a", b"once", 2, dup=dup, packet_id=7))
        assert (await client.answer(Pubrec)).packet_id == 7
    assert (await watcher.receive()).payload == b"once"
    await node.hears_nothing(watcher)


async def test_after_pubcomp_the_same_packet_id_is_a_new_publish(node: Node) -> None:
    """[MQTT5-4.3.3-12]"""
    client = await subscribed(node, 2)
    for payload, dup in ((b"1", False), (b"2", True)):
        await client.send(Publish("a", payload, 2, dup=dup, packet_id=7))
        await client.answer(Pubrec)
        await client.send(Pubrel(7))
        await client.answer(Pubcomp)
    assert await client.receive_payloads(2) == [b"1", b"2"]


async def test_after_a_refusing_pubrec_the_same_packet_id_is_a_new_publish(node: Node) -> None:
    """[MQTT5-4.3.3-9]"""
    client = await subscribed(node, 2)
    await client.send(Publish("forbidden/a", b"x", 2, packet_id=7))
    assert (await client.answer(Pubrec)).reason_code is R.NOT_AUTHORIZED
    await client.send(Publish("a", b"new", 2, packet_id=7))
    assert (await client.answer(Pubrec)).reason_code is R.SUCCESS
    await client.send(Pubrel(7))
    await client.answer(Pubcomp)
    assert (await client.receive()).payload == b"new"


@pytest.mark.parametrize("restart", [False, True])
async def test_a_qos_2_publish_is_delivered_once_though_the_connection_broke_before_its_pubrel(
    node: Node, restart: bool
) -> None:
    """[MQTT5-4.3.3-10] [MQTT5-4.4.0-1]"""
    watcher = await node.connected("watcher", session_expiry=60)
    await watcher.subscribe_to("a", 2)
    client = await node.connected(session_expiry=60)
    await client.send(Publish("a", b"once", 2, packet_id=7))
    await client.answer(Pubrec)
    if restart:
        await node.restart()
        watcher = await node.connected("watcher", clean_start=False, session_expiry=60)
    else:
        await node.gone(client)
    again = await resumed(node)
    await again.send(Publish("a", b"once", 2, dup=True, packet_id=7))
    assert await again.answer(Pubrec) == Pubrec(7)
    await again.send(Pubrel(7))
    assert await again.answer(Pubcomp) == Pubcomp(7)
    assert (await watcher.receive()).payload == b"once"
    await node.hears_nothing(watcher)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_pubrel_may_come_on_a_later_connection_than_its_publish(node: Node, restart: bool) -> None:
    """[MQTT5-4.3.3-11] [MQTT5-4.3.3-12]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 1)
    await client.send(Publish("a", b"1", 2, packet_id=7))
    await client.answer(Pubrec)
    assert (await client.receive()).payload == b"1"
    await client.ping()
    await (node.restart() if restart else node.gone(client))
    again = await resumed(node)
    await again.send(Pubrel(7))
    assert await again.answer(Pubcomp) == Pubcomp(7)
    await again.send(Publish("a", b"2", 2, packet_id=7))
    assert await again.answer(Pubrec) == Pubrec(7)
    assert (await again.receive()).payload == b"2"


@pytest.mark.parametrize("restart", [False, True])
async def test_a_packet_id_whose_flow_is_over_is_new_on_a_later_connection_too(node: Node, restart: bool) -> None:
    """[MQTT5-4.3.3-12]"""
    client = await subscribed(node, 1)
    for payload in (b"1", b"2"):
        await client.send(Publish("a", payload, 2, packet_id=7))
        assert await client.answer(Pubrec) == Pubrec(7)
        await client.send(Pubrel(7))
        assert await client.answer(Pubcomp) == Pubcomp(7)
        assert (await client.receive()).payload == payload
        await client.ping()
        await (node.restart() if restart else node.gone(client))
        client = await resumed(node)


async def test_a_pubrel_for_nothing_is_answered_with_a_pubcomp_that_says_so(node: Node) -> None:
    """[MQTT5-3.7.2-1] [MQTT5-4.3.3-11]"""
    client = await node.connected()
    await client.send(Pubrel(9))
    assert (await client.answer(Pubcomp)) == Pubcomp(9, UNKNOWN)
    await client.ping()


@over_tcp
async def test_a_flow_goes_on_though_what_it_carried_has_expired(node: Node) -> None:
    """[MQTT5-4.3.3-13]"""
    client = await node.connected()
    await client.send(Publish("a", b"x", 2, packet_id=7, properties={P.MESSAGE_EXPIRY_INTERVAL: 1}))
    await client.answer(Pubrec)
    await node.let_pass(1.5)
    await client.send(Pubrel(7))
    assert await client.answer(Pubcomp) == Pubcomp(7)


# The server sends


async def test_qos_0_is_sent_with_neither_dup_nor_packet_id(node: Node) -> None:
    """[MQTT5-4.3.1-1] [MQTT5-2.2.1-2] [MQTT5-3.3.1-2]"""
    client = await subscribed(node, 0)
    await publish(node, b"x", qos=2)
    got = await client.receive()
    assert (got.qos, got.dup, got.packet_id) == (0, False, 0)


@pytest.mark.parametrize("qos", [1, 2])
async def test_each_publish_that_is_not_acknowledged_has_a_packet_id_of_its_own_and_no_dup(
    node: Node, qos: int
) -> None:
    """[MQTT5-2.2.1-4] [MQTT5-4.3.2-1] [MQTT5-4.3.2-2] [MQTT5-4.3.3-1] [MQTT5-4.3.3-2]"""
    client = await subscribed(node, qos)
    await publish(node, *(b"%d" % number for number in range(10)), qos=qos)
    got = [await client.expect(Publish) for _ in range(10)]
    assert {(each.qos, each.dup) for each in got} == {(qos, False)}
    assert len({each.packet_id for each in got} - {0}) == 10
    assert [each.payload for each in got] == [b"%d" % number for number in range(10)]


async def test_a_qos_1_publish_is_over_with_its_puback_and_not_before(node: Node) -> None:
    """[MQTT5-4.3.2-3] [MQTT5-4.4.0-1] [MQTT5-3.3.1-1]"""
    client = await subscribed(node, 1)
    await publish(node, b"acknowledged", b"not", qos=1)
    first, second = await client.expect(Publish), await client.expect(Publish)
    await client.send(Puback(first.packet_id))
    await node.gone_after_ping(client)
    again = await resumed(node)
    got = await again.expect(Publish)
    assert (got.payload, got.packet_id, got.dup, got.qos) == (b"not", second.packet_id, True, 1)
    await again.send(Puback(got.packet_id))
    await node.gone_after_ping(again)
    await node.hears_nothing(await resumed(node))


@pytest.mark.parametrize("restart", [False, True])
async def test_a_qos_2_publish_is_sent_again_until_its_pubrec_and_then_its_pubrel_until_its_pubcomp(
    node: Node, restart: bool
) -> None:
    """[MQTT5-4.3.3-3] [MQTT5-4.3.3-4] [MQTT5-4.3.3-5] [MQTT5-4.3.3-6] [MQTT5-4.4.0-1] [MQTT5-3.3.1-1]"""

    async def again(client: Client) -> Client:
        await client.ping()
        await (node.restart() if restart else node.gone(client))
        return await resumed(node)

    client = await subscribed(node, 2)
    await publish(node, b"x", qos=2)
    first = await client.expect(Publish)
    client = await again(client)
    second = await client.expect(Publish)
    assert (second.packet_id, second.dup, second.qos, second.payload) == (first.packet_id, True, 2, b"x")
    await client.send(Pubrec(first.packet_id))
    assert await client.expect(Pubrel) == Pubrel(first.packet_id)
    client = await again(client)
    assert await client.expect(Pubrel) == Pubrel(first.packet_id)
    await client.send(Pubcomp(first.packet_id))
    client = await again(client)
    await node.hears_nothing(client)


@over_tcp
async def test_nothing_is_sent_again_on_the_same_connection(node: Node) -> None:
    """[MQTT5-4.4.0-1]"""
    client = await subscribed(node, 2)
    await publish(node, b"1", qos=1)
    await publish(node, b"2", qos=2)
    assert [(await client.expect(Publish)).payload for _ in range(2)] == [b"1", b"2"]
    await node.let_pass(2.5)
    assert await client.before_pong() == []


async def test_a_second_pubrec_is_answered_with_a_pubrel_again(node: Node) -> None:
    """[MQTT5-4.3.3-4]"""
    client = await subscribed(node, 2)
    await publish(node, b"x", qos=2)
    packet_id = (await client.expect(Publish)).packet_id
    for _ in range(2):
        await client.send(Pubrec(packet_id))
        assert await client.expect(Pubrel) == Pubrel(packet_id)


async def test_a_pubrec_for_nothing_is_answered_with_a_pubrel_that_says_so(node: Node) -> None:
    """[MQTT5-3.6.2-1]"""
    client = await node.connected()
    await client.send(Pubrec(9))
    assert await client.answer(Pubrel) == Pubrel(9, UNKNOWN)


@pytest.mark.parametrize("packet", [Puback(9), Pubcomp(9), Puback(9, R.UNSPECIFIED_ERROR), Pubrec(9, R.NOT_AUTHORIZED)])
async def test_an_acknowledgement_of_nothing_harms_nobody(node: Node, packet: Packet) -> None:
    client = await node.connected()
    await client.send(packet)
    await client.ping()


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_publish_that_the_client_refused_is_not_sent_again(node: Node, qos: int) -> None:
    """[MQTT5-4.4.0-2]"""
    client = await subscribed(node, qos)
    await publish(node, b"x", qos=qos)
    packet_id = (await client.expect(Publish)).packet_id
    await client.send((Puback if qos == 1 else Pubrec)(packet_id, R.QUOTA_EXCEEDED))
    assert await client.before_pong() == []
    await node.gone(client)
    await node.hears_nothing(await resumed(node))


@over_tcp
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_publish_that_was_sent_does_not_expire_any_more(node: Node, qos: int) -> None:
    """[MQTT5-4.3.3-7]"""
    client = await subscribed(node, qos)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"x", qos, properties={P.MESSAGE_EXPIRY_INTERVAL: 2})
    first = await client.expect(Publish)
    await node.gone(client)
    await node.let_pass(2.5)
    got = await (await resumed(node)).receive()
    assert (got.payload, got.packet_id, got.dup) == (b"x", first.packet_id, True)


# Order


async def test_what_is_sent_again_comes_first_and_in_its_order(node: Node) -> None:
    """[MQTT5-4.6.0-1]"""
    client = await subscribed(node, 2)
    publisher = await node.connected("publisher")
    for number in range(6):
        await publisher.publish_to("a", b"%d" % number, 1 + number % 2)
    sent = [await client.expect(Publish) for _ in range(6)]
    await client.send(Puback(sent[2].packet_id))
    await node.gone_after_ping(client)
    await publisher.publish_to("a", b"6", 1)
    again = await resumed(node)
    got = [await again.expect(Publish) for _ in range(6)]
    assert [each.payload for each in got] == [b"0", b"1", b"3", b"4", b"5", b"6"]
    assert [each.dup for each in got] == [True] * 5 + [False]
    assert [each.packet_id for each in got[:5]] == [each.packet_id for each in sent if each is not sent[2]]


async def test_answers_come_in_the_order_of_what_they_answer(node: Node) -> None:
    """[MQTT5-4.6.0-2] [MQTT5-4.6.0-3]"""
    client = await node.connected()
    await client.send(*(Publish("held/a", b"x", 1 + each % 2, packet_id=each) for each in (4, 3, 1, 2)))
    await client.ping()
    for settle in reversed(node.hooks.held):
        settle(R.SUCCESS, "")
    answers = [await client.answer_to_publish() for _ in range(4)]
    assert [each.packet_id for each in answers if isinstance(each, Puback)] == [4, 2]
    assert [each.packet_id for each in answers if isinstance(each, Pubrec)] == [3, 1]


async def test_pubrels_come_in_the_order_of_the_pubrecs(node: Node) -> None:
    """[MQTT5-4.6.0-4]"""
    client = await subscribed(node, 2)
    await publish(node, b"1", b"2", b"3", qos=2)
    first, second, third = [(await client.expect(Publish)).packet_id for _ in range(3)]
    await client.send(Pubrec(second), Pubrec(third), Pubrec(first))
    assert [(await client.expect(Pubrel)).packet_id for _ in range(3)] == [second, third, first]
    await node.gone_after_ping(client)
    again = await resumed(node)
    assert {(await again.expect(Pubrel)).packet_id for _ in range(3)} == {first, second, third}


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_each_topic_keeps_its_publishers_order_for_every_subscriber(node: Node, qos: int) -> None:
    """[MQTT5-4.6.0-5] [MQTT5-4.6.0-6] [MQTT5-4.5.0-1]"""
    subscribers = [
        await node.connected(f"s{expiry}", session_expiry=expiry, properties={P.RECEIVE_MAXIMUM: 3})
        for expiry in (0, 60)
    ]
    for subscriber in subscribers:
        await subscriber.subscribe_to("+", qos)
    publisher = await node.connected("publisher")
    payloads = [b"%d" % number for number in range(30)]
    for payload in payloads:
        await publisher.publish_to("a", payload, qos)
        await publisher.publish_to("b", payload, qos)
    for subscriber in subscribers:
        got = [await subscriber.receive() for _ in range(60)]
        for topic_name in ("a", "b"):
            assert [each.payload for each in got if each.topic_name == topic_name] == payloads


async def test_a_publish_goes_to_everyone_who_subscribed_connected_or_not(node: Node) -> None:
    """[MQTT5-4.5.0-1]"""
    away = await node.connected("away", session_expiry=60)
    await away.subscribe_to("a/#", 1)
    await node.gone(away)
    present = await node.connected("present")
    await present.subscribe_to("a/+", 1)
    stranger = await node.connected("stranger")
    await stranger.subscribe_to("b", 1)
    await stranger.publish_to("a/b", b"x", 1)
    assert (await present.receive()).payload == b"x"
    back = await node.connected("away", clean_start=False)
    assert (await back.receive()).payload == b"x"
    await node.hears_nothing(stranger)
