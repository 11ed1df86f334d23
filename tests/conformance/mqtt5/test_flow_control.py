"""Receive Maximum and Maximum Packet Size, both ways (3.1.2.11.3, 3.1.2.11.4, 3.2.2.3, 3.3.4, 4.9)."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import (
    Connect,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.client import Client
from tests.conformance.node import LIMITS, Node


async def publish_many(node: Node, count: int, qos: int = 1) -> None:
    publisher = await node.connected("publisher")
    for number in range(count):
        await publisher.publish_to("a", b"%d" % number, qos)


async def window(client: Client, qos: int, maximum: int = 2) -> list[Publish]:
    """What has come before the server answers a ping."""
    got = await client.before_pong()
    assert all(isinstance(packet, Publish) and packet.qos == qos for packet in got), got
    assert len(got) <= maximum
    return [packet for packet in got if isinstance(packet, Publish)]


async def test_the_server_sends_no_more_than_the_clients_receive_maximum(node: Node) -> None:
    """[MQTT5-3.3.4-9] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2]"""
    client = await node.connected(properties={P.RECEIVE_MAXIMUM: 2})
    await client.subscribe_to("a", 1)
    await publish_many(node, 6)
    first, second = await window(client, 1)
    assert await window(client, 1) == []
    await client.send(Puback(second.packet_id))
    third = await client.expect(Publish)
    assert await window(client, 1) == []
    await client.send(Puback(first.packet_id), Puback(third.packet_id))
    rest = await client.receive_payloads(3)
    assert [first.payload, second.payload, third.payload, *rest] == [b"%d" % number for number in range(6)]


async def test_a_qos_2_publish_counts_until_its_pubcomp(node: Node) -> None:
    """[MQTT5-3.3.4-9] [MQTT5-4.9.0-2]"""
    client = await node.connected(properties={P.RECEIVE_MAXIMUM: 1})
    await client.subscribe_to("a", 2)
    await publish_many(node, 2, qos=2)
    (first,) = await window(client, 2)
    await client.send(Pubrec(first.packet_id))
    assert await client.expect(Pubrel) == Pubrel(first.packet_id)
    assert await window(client, 2) == []
    await client.send(Pubcomp(first.packet_id))
    assert (await client.receive()).payload == b"1"


async def test_a_refusal_of_a_qos_2_publish_makes_room_at_once(node: Node) -> None:
    """[MQTT5-3.3.4-9] [MQTT5-4.4.0-2]"""
    client = await node.connected(properties={P.RECEIVE_MAXIMUM: 1})
    await client.subscribe_to("a", 2)
    await publish_many(node, 2, qos=2)
    (first,) = await window(client, 2)
    await client.send(Pubrec(first.packet_id, R.QUOTA_EXCEEDED))
    assert (await client.receive()).payload == b"1"


async def test_the_receive_maximum_holds_for_a_resumed_session_too(node: Node) -> None:
    """[MQTT5-3.3.4-9] [MQTT5-4.9.0-1]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 1)
    await node.gone(client)
    await publish_many(node, 5)
    again = await node.connected(clean_start=False, session_expiry=60, properties={P.RECEIVE_MAXIMUM: 2})
    first, second = await again.expect(Publish), await again.expect(Publish)
    assert await window(again, 1) == []
    await again.send(Puback(first.packet_id), Puback(second.packet_id))
    assert await again.receive_payloads(3) == [b"2", b"3", b"4"]


async def test_the_receive_maximum_holds_for_what_is_sent_again(node: Node) -> None:
    """[MQTT5-3.3.4-9] [MQTT5-4.4.0-1] [MQTT5-4.6.0-1]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 1)
    await publish_many(node, 5)
    sent = [await client.expect(Publish) for _ in range(5)]
    await node.gone(client)
    again = await node.connected(clean_start=False, session_expiry=60, properties={P.RECEIVE_MAXIMUM: 2})
    first, second = await window(again, 1)
    assert await window(again, 1) == []
    await again.send(Puback(first.packet_id), Puback(second.packet_id))
    got = [first, second, *[await again.receive() for _ in range(3)]]
    assert [(each.payload, each.packet_id, each.dup) for each in got] == [(e.payload, e.packet_id, True) for e in sent]


async def test_a_full_window_delays_nothing_but_publishes(node: Node) -> None:
    """[MQTT5-3.3.4-10] [MQTT5-4.9.0-3]"""
    client = await node.connected(properties={P.RECEIVE_MAXIMUM: 1})
    await client.subscribe_to("a", 1)
    await publish_many(node, 3)
    await client.expect(Publish)
    await client.send(Pingreq())
    assert isinstance(await client.next(), Pingresp)
    await client.send(Subscribe(20, [SubscriptionRequest("b")]))
    assert isinstance(await client.next(), Suback)
    await client.send(Unsubscribe(21, ["b"]))
    assert isinstance(await client.next(), Unsuback)
    await client.send(Publish("c", b"x", 1, packet_id=22))
    assert isinstance(await client.next(), Puback)
    await client.send(Publish("c", b"x", 2, packet_id=23))
    assert isinstance(await client.next(), Pubrec)
    await client.send(Pubrel(23))
    assert await client.next() == Pubcomp(23)


async def test_a_client_that_sends_more_than_the_servers_receive_maximum_is_disconnected(node: Node) -> None:
    """[MQTT5-3.3.4-7] [MQTT5-4.13.1-1]"""
    client = await node.connected()
    maximum = client.connack.properties[P.RECEIVE_MAXIMUM]
    assert maximum == LIMITS.receive_maximum
    for packet_id in range(1, maximum + 1):
        await client.send(Publish("held/a", b"x", 1 + packet_id % 2, packet_id=packet_id))
    await client.ping()
    await client.send(Publish("held/a", b"x", 1, packet_id=maximum + 1))
    said = await client.end()
    assert said is not None
    assert said.reason_code is R.RECEIVE_MAXIMUM_EXCEEDED


async def test_qos_2_publishes_whose_pubcomp_is_due_count_too(node: Node) -> None:
    """[MQTT5-3.3.4-7]"""
    client = await node.connected()
    for packet_id in range(1, LIMITS.receive_maximum + 1):
        await client.send(Publish("a", b"x", 2, packet_id=packet_id))
        await client.answer(Pubrec)
    await client.send(Pubrel(1))
    await client.answer(Pubcomp)
    await client.send(Publish("a", b"x", 1, packet_id=50))
    await client.answer(Puback)
    await client.send(Publish("a", b"x", 2, packet_id=51))
    await client.answer(Pubrec)
    await client.send(Publish("a", b"x", 1, packet_id=52))
    said = await client.end()
    assert said is not None
    assert said.reason_code is R.RECEIVE_MAXIMUM_EXCEEDED


async def test_the_servers_receive_maximum_begins_anew_with_each_connection(node: Node) -> None:
    """[MQTT5-4.9.0-1] [MQTT5-3.3.4-7]"""
    client = await node.connected(session_expiry=60)
    ids = range(1, LIMITS.receive_maximum + 1)
    for packet_id in ids:
        await client.send(Publish("a", b"x", 2, packet_id=packet_id))
        await client.answer(Pubrec)
    await node.gone(client)
    again = await node.connected(clean_start=False, session_expiry=60)
    await again.send(Publish("a", b"x", 1, packet_id=50), *(Pubrel(packet_id) for packet_id in ids))
    answers = [await again.next() for _ in range(LIMITS.receive_maximum + 1)]
    assert Puback(50) in answers
    assert [each for each in answers if isinstance(each, Pubcomp)] == [Pubcomp(packet_id) for packet_id in ids]


async def test_everything_else_is_answered_while_publishes_are_under_way(node: Node) -> None:
    """[MQTT5-3.3.4-8] [MQTT5-4.9.0-3]"""
    client = await node.connected()
    for packet_id in range(1, LIMITS.receive_maximum + 1):
        await client.send(Publish("held/a", b"x", 1, packet_id=packet_id))
    await client.send(Pingreq())
    assert isinstance(await client.next(), Pingresp)
    assert await client.subscribe_to("a", 1) == 1
    for settle in node.hooks.held:
        settle(R.SUCCESS, "")
    for packet_id in range(1, LIMITS.receive_maximum + 1):
        assert (await client.expect(Puback)).packet_id == packet_id


# Maximum Packet Size


async def test_a_publish_that_is_too_large_for_a_client_is_left_out_and_the_next_one_is_sent(node: Node) -> None:
    """[MQTT5-3.1.2-24] [MQTT5-3.1.2-25]"""
    client = await node.connected(properties={P.MAXIMUM_PACKET_SIZE: 100, P.RECEIVE_MAXIMUM: 1}, session_expiry=60)
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    for qos in (0, 1, 2):
        await publisher.publish_to("a", b"x" * 100, qos)
        await publisher.publish_to("a", b"small", qos)
        assert (await client.receive()).payload == b"small"
    await node.gone(client)
    again = await node.connected(clean_start=False)
    await node.hears_nothing(again)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_the_largest_publish_that_fits_is_sent(node: Node, qos: int) -> None:
    """[MQTT5-3.1.2-24]"""
    client = await node.connected(properties={P.MAXIMUM_PACKET_SIZE: 100})
    await client.subscribe_to("a", 2)
    head = 1 + 1 + 3 + (2 if qos else 0) + 1  # type, length, topic name, packet id, property length
    await client.publish_to("a", b"x" * (100 - head), qos)
    assert len((await client.receive()).payload) == 100 - head
    await client.publish_to("a", b"x" * (100 - head + 1), qos)
    await node.hears_nothing(client)


async def test_a_client_that_takes_less_than_a_connack_gets_none_that_is_larger(node: Node) -> None:
    """[MQTT5-3.1.2-24]"""
    client = await node.client()
    await client.send(Connect("ana", properties={P.MAXIMUM_PACKET_SIZE: 8}))
    data = await client.stream.receive()
    assert len(data) <= 8


async def test_a_queued_publish_that_is_too_large_for_the_client_that_resumes_is_left_out(node: Node) -> None:
    """[MQTT5-3.1.2-24] [MQTT5-3.1.2-25]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 2)
    await node.gone(client)
    publisher = await node.connected("publisher")
    for qos in (1, 2):
        await publisher.publish_to("a", b"x" * 200, qos)
        await publisher.publish_to("a", b"small", qos)
    again = await node.connected(clean_start=False, properties={P.MAXIMUM_PACKET_SIZE: 100})
    assert await again.receive_payloads(2) == [b"small", b"small"]


async def test_a_client_that_sends_more_than_the_servers_maximum_is_disconnected(node: Node) -> None:
    """[MQTT5-3.2.2-15] [MQTT5-4.13.1-1]"""
    client = await node.connected()
    maximum = client.connack.properties[P.MAXIMUM_PACKET_SIZE]
    fits = Publish("a", b"x" * (maximum - 1 - 3 - 3 - 2 - 1), 1, packet_id=1)
    await client.send(fits)
    await client.answer(Puback)
    fits.payload += b"x"
    await client.send(fits)
    said = await client.end()
    assert said is not None
    assert said.reason_code is R.PACKET_TOO_LARGE
