"""Shared subscriptions (4.8.2): one of each group gets it, at its own QoS, and it stays with that one."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import Puback, Publish, Pubrec, Pubrel
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.client import Client
from tests.conformance.node import Node

SHARED = "$share/g/a"


async def members(node: Node, qos: int, *client_ids: str, expiry: int = 60) -> dict[str, Client]:
    clients = {each: await node.connected(each, session_expiry=expiry) for each in client_ids}
    for client in clients.values():
        assert await client.subscribe_to(SHARED, qos) == qos
    return clients


async def the_one_that_got_it(node: Node, clients: dict[str, Client]) -> tuple[str, Publish]:
    """Who of a group was sent the one publish, and that publish, not acknowledged."""
    got = {each: await client.before_pong() for each, client in clients.items()}
    ((client_id, (publish,)),) = [(each, packets) for each, packets in got.items() if packets]
    assert isinstance(publish, Publish)
    return client_id, publish


async def test_each_publish_goes_to_one_of_each_group_and_to_every_other_subscriber(node: Node) -> None:
    """[MQTT5-4.8.2-1] [MQTT5-4.8.2-2]"""
    group = await members(node, 1, "g1", "g2", "g3")
    alone, plain = await node.connected("alone"), await node.connected("plain")
    await alone.subscribe_to("$share/h/+", 1)
    await plain.subscribe_to("a", 1)
    for number in range(12):
        await plain.publish_to("a", b"%02d" % number, 1)
    everything = [b"%02d" % number for number in range(12)]
    assert await alone.receive_payloads(12) == everything
    assert await plain.receive_payloads(12) == everything
    shares = [[p.payload for p in await client.before_pong() if isinstance(p, Publish)] for client in group.values()]
    assert sorted(payload for share in shares for payload in share) == everything
    assert all(shares), "somebody was left out"


@pytest.mark.parametrize(
    "topic_filter",
    ["$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#", "$share/#/a", "$share/g+/a", "$share"],
)
async def test_a_shared_filter_without_a_good_share_name_and_a_filter_is_refused(node: Node, topic_filter: str) -> None:
    """[MQTT5-4.8.2-1] [MQTT5-4.8.2-2]"""
    client = await node.connected()
    assert await client.subscribe_to(topic_filter, 1) is R.TOPIC_FILTER_INVALID


async def test_what_a_shared_subscription_may_not_match_is_refused_as_without_the_share(node: Node) -> None:
    client = await node.connected()
    assert await client.subscribe_to("$share/g/a/#/b", 1) is R.TOPIC_FILTER_INVALID


async def test_the_granted_qos_holds_for_a_shared_subscription(node: Node) -> None:
    """[MQTT5-4.8.2-3]"""
    low, high = await node.connected("low"), await node.connected("high")
    await low.subscribe_to("$share/low/a", 0)
    await high.subscribe_to("$share/high/a", 2)
    publisher = await node.connected("publisher")
    for qos in (0, 1, 2):
        await publisher.publish_to("a", b"x", qos)
        assert (await low.receive()).qos == 0
        assert (await high.receive()).qos == qos


async def test_retained_messages_are_not_sent_to_a_shared_subscription(node: Node) -> None:
    """[MQTT5-3.3.1-9]"""
    client = await node.connected()
    await client.publish_to("a", b"x", 1, retain=True)
    await client.subscribe_to(SHARED, 1)
    await node.hears_nothing(client)


async def test_no_local_with_a_shared_subscription_ends_the_connection(node: Node) -> None:
    """[MQTT5-3.8.3-4] [MQTT5-4.13.1-1]"""
    client = await node.connected()
    await client.send(client.subscription(SHARED, no_local=True))
    said = await client.end()
    assert said is not None
    assert said.reason_code is R.PROTOCOL_ERROR


@pytest.mark.parametrize("released", [False, True])
async def test_a_qos_2_publish_under_way_is_completed_by_the_one_who_got_it(node: Node, released: bool) -> None:
    """[MQTT5-4.8.2-4]"""
    group = await members(node, 2, "g1", "g2")
    await (await node.connected("publisher")).publish_to("a", b"x", 2)
    chosen, publish = await the_one_that_got_it(node, group)
    if released:
        await group[chosen].send(Pubrec(publish.packet_id))
        await group[chosen].answer(Pubrel)
    await node.gone(group.pop(chosen))
    (other,) = group.values()
    await node.hears_nothing(other)
    again = await node.connected(chosen, clean_start=False, session_expiry=60)
    packet = await again.next()
    assert packet is not None
    assert type(packet) is (Pubrel if released else Publish)
    assert getattr(packet, "packet_id", 0) == publish.packet_id


async def test_a_qos_2_publish_under_way_ends_with_the_session_of_the_one_who_got_it(node: Node) -> None:
    """[MQTT5-4.8.2-5]"""
    group = await members(node, 2, "g1", "g2", expiry=0)
    await (await node.connected("publisher")).publish_to("a", b"x", 2)
    chosen, _ = await the_one_that_got_it(node, group)
    await node.gone(group.pop(chosen))
    (other,) = group.values()
    await node.hears_nothing(other)


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_publish_that_one_of_a_group_refused_goes_to_nobody_else(node: Node, qos: int) -> None:
    """[MQTT5-4.8.2-6]"""
    group = await members(node, qos, "g1", "g2")
    await (await node.connected("publisher")).publish_to("a", b"x", qos)
    chosen, publish = await the_one_that_got_it(node, group)
    await group[chosen].send((Puback if qos == 1 else Pubrec)(publish.packet_id, R.UNSPECIFIED_ERROR))
    for client in group.values():
        assert await client.before_pong() == []
        await node.hears_nothing(client)


async def test_somebody_who_is_connected_is_chosen_before_somebody_who_is_not(node: Node) -> None:
    group = await members(node, 1, "g1", "g2")
    await node.gone(group.pop("g1"))
    publisher = await node.connected("publisher")
    for number in range(4):
        await publisher.publish_to("a", b"%d" % number, 1)
    assert await group["g2"].receive_payloads(4) == [b"0", b"1", b"2", b"3"]


async def test_unsubscribing_leaves_the_group(node: Node) -> None:
    """[MQTT5-3.10.4-1]"""
    group = await members(node, 1, "g1", "g2")
    assert (await group["g1"].unsubscribe_from("a")).reason_codes == [R.NO_SUBSCRIPTION_EXISTED]
    assert (await group["g1"].unsubscribe_from(SHARED)).reason_codes == [R.SUCCESS]
    for number in range(4):
        await group["g1"].publish_to("a", b"%d" % number, 1)
    assert await group["g2"].receive_payloads(4) == [b"0", b"1", b"2", b"3"]
