"""Message ordering (4.6): of publishes, of acknowledgements, and of what is sent again."""

from __future__ import annotations

from itertools import groupby

import pytest

from recado.mqtt.packets import Puback, Publish, Pubrec, Pubrel
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.client import Client
from tests.conformance.node import Node


async def publish_in_order(publisher: Client, topic_name: str, count: int, qos: int) -> list[bytes]:
    payloads = [b"%d" % number for number in range(count)]
    for payload in payloads:
        await publisher.publish_to(topic_name, payload, qos)
    return payloads


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_publishes_come_in_the_order_in_which_they_were_sent(node: Node, qos: int, clean: bool) -> None:
    """[MQTT311-4.6.0-5] [MQTT311-4.6.0-6]"""
    client = await node.connected(clean_start=clean)
    await client.subscribe_to("a/+", 2)
    payloads = await publish_in_order(await node.connected("publisher"), "a/b", 30, qos)
    assert await client.receive_payloads(30) == payloads


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("qos", [1, 2])
async def test_the_order_holds_when_more_is_published_than_may_be_in_flight(node: Node, qos: int, clean: bool) -> None:
    """[MQTT311-4.6.0-5] [MQTT311-4.6.0-6]"""
    client = await node.connected(clean_start=clean)
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    count = node.limits.inflight_max + 40
    payloads = await publish_in_order(publisher, "a", count, qos)
    received = await client.receive_payloads(60)
    await publisher.publish_to("a", b"last", qos)
    assert received + await client.receive_payloads(count - 60 + 1) == [*payloads, b"last"]


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_waited_for_a_session_comes_in_order_before_what_follows(node: Node, qos: int) -> None:
    """[MQTT311-4.6.0-5] [MQTT311-4.6.0-6] [MQTT311-3.1.2-5]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 2)
    await node.gone(client)
    publisher = await node.connected("publisher")
    payloads = await publish_in_order(publisher, "a", node.limits.inflight_max + 10, qos)
    again = await node.connected(clean_start=False)
    await publisher.publish_to("a", b"live", qos)
    assert await again.receive_payloads(len(payloads) + 1) == [*payloads, b"live"]


async def test_publishes_of_each_quality_of_service_come_in_order_when_they_are_mixed(node: Node) -> None:
    """[MQTT311-4.6.0-6]"""
    client = await node.connected()
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    for number in range(30):
        await publisher.publish_to("a", b"%d" % number, number % 3)
    got = [await client.receive() for _ in range(30)]
    by_qos = groupby(sorted(got, key=lambda each: each.qos), key=lambda each: each.qos)
    for qos, publishes in by_qos:
        assert [int(each.payload) for each in publishes] == list(range(qos, 30, 3))


@pytest.mark.parametrize("restart", [False, True])
async def test_publishes_are_sent_again_in_their_order(node: Node, restart: bool) -> None:
    """[MQTT311-4.6.0-1] [MQTT311-4.4.0-1]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    for number in range(12):
        await publisher.publish_to("a", b"%d" % number, 1 + number % 2)
    sent = [await client.expect(Publish) for _ in range(12)]
    await client.send(Puback(sent[4].packet_id), Pubrec(sent[7].packet_id), Pubrec(sent[1].packet_id))
    await client.before_pong()
    await (node.restart() if restart else node.gone(client))
    again = await node.connected(clean_start=False)
    publishes, pubrels = [], []
    for _ in range(11):
        packet = await again.next()
        if isinstance(packet, Publish):
            publishes.append((packet.packet_id, packet.payload, packet.dup))
        else:
            assert isinstance(packet, Pubrel)
            pubrels.append(packet.packet_id)
    assert publishes == [(each.packet_id, each.payload, True) for n, each in enumerate(sent) if n not in (1, 4, 7)]
    assert set(pubrels) == {sent[1].packet_id, sent[7].packet_id}


async def test_packet_ids_that_have_come_round_do_not_change_the_order(node: Node) -> None:
    """[MQTT311-4.6.0-1]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 1)
    (session,) = node.server.sessions
    session._last_packet_id = 65_532
    publisher = await node.connected("publisher")
    payloads = await publish_in_order(publisher, "a", 6, 1)
    ids = [(await client.expect(Publish)).packet_id for _ in payloads]
    assert ids == [65_533, 65_534, 65_535, 1, 2, 3]
    await node.gone(client)
    again = await node.connected(clean_start=False)
    got = [await again.expect(Publish) for _ in payloads]
    assert [(each.packet_id, each.payload) for each in got] == list(zip(ids, payloads, strict=True))


@pytest.mark.parametrize("qos", [1, 2])
async def test_acknowledgements_come_in_the_order_of_the_publishes_whatever_is_done_first(node: Node, qos: int) -> None:
    """[MQTT311-4.6.0-2] [MQTT311-4.6.0-3]"""
    client = await node.connected()
    ids = [3, 1, 4, 2]
    await client.send(*(Publish("held/a", b"x", qos, packet_id=packet_id) for packet_id in ids))
    await node.until(lambda: len(node.hooks.held) == len(ids))
    for settle in reversed(node.hooks.held):
        assert await client.before_pong() == []
        settle(R.SUCCESS, "")
    answers = [await client.answer_to_publish() for _ in ids]
    assert [each.packet_id for each in answers] == ids


@pytest.mark.parametrize("clean", [True, False])
async def test_acknowledgements_of_what_is_stored_come_in_order_too(node: Node, clean: bool) -> None:
    """[MQTT311-4.6.0-2] [MQTT311-4.6.0-3]"""
    watcher = await node.connected("watcher", clean_start=False)
    await watcher.subscribe_to("a", 2)  # what goes to it is answered later than what goes to nobody
    client = await node.connected(clean_start=clean)
    asked = [(1 + number % 2, number) for number in range(20, 0, -1)]
    await client.send(*(Publish("ab"[n // 2 % 2], b"x", qos, packet_id=n) for qos, n in asked))
    answers = [await client.answer_to_publish() for _ in asked]
    for qos, kind in ((1, Puback), (2, Pubrec)):
        expected = [packet_id for asked_qos, packet_id in asked if asked_qos == qos]
        assert [each.packet_id for each in answers if isinstance(each, kind)] == expected


@pytest.mark.parametrize("clean", [True, False])
async def test_pubrels_come_in_the_order_of_the_pubrecs(node: Node, clean: bool) -> None:
    """[MQTT311-4.6.0-4]"""
    client = await node.connected(clean_start=clean)
    await client.subscribe_to("a", 2)
    await publish_in_order(await node.connected("publisher"), "a", 5, 2)
    ids = [(await client.expect(Publish)).packet_id for _ in range(5)]
    order = [ids[3], ids[0], ids[4], ids[2], ids[1]]
    await client.send(*(Pubrec(packet_id) for packet_id in order))
    assert [(await client.expect(Pubrel)).packet_id for _ in order] == order
