"""Sessions (3.1.2.4, 3.1.4, 4.1): Clean Session 0 and 1, and what session present says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from recado.broker.limits import BrokerLimits
from recado.mqtt.packets import Publish, Pubrec, Pubrel, SubscriptionRequest
from tests.conformance.node import LIMITS, Node

DAY_S = 24 * 3600


async def test_a_session_that_is_kept_is_resumed_with_its_subscriptions(node: Node) -> None:
    """[MQTT311-3.1.2-4] [MQTT311-3.1.4-3] [MQTT311-3.2.2-2] [MQTT311-4.1.0-1]"""
    client = await node.connected(clean_start=False)
    assert not client.connack.session_present
    await client.subscribe_all([SubscriptionRequest("a", 0), SubscriptionRequest("b/+", 2), SubscriptionRequest("c")])
    await client.unsubscribe_from("c")
    await node.gone(client)
    again = await node.connected(clean_start=False)
    assert again.connack.session_present
    publisher = await node.connected("publisher")
    for topic_name in ("c", "a", "b/x"):
        await publisher.publish_to(topic_name, b"x", 2)
    assert [((got := await again.receive()).topic_name, got.qos) for _ in range(2)] == [("a", 0), ("b/x", 2)]
    await node.hears_nothing(again)


async def test_without_a_session_a_new_one_begins_and_says_so(node: Node) -> None:
    """[MQTT311-3.1.2-4] [MQTT311-3.2.2-3]"""
    await node.gone(await node.connected("another", clean_start=False))
    client = await node.connected(clean_start=False)
    assert not client.connack.session_present
    assert await client.subscribe_to("a", 1) == 1
    await client.publish_to("a", b"x", 1)
    assert (await client.receive()).payload == b"x"


async def test_what_comes_at_qos_1_and_2_while_the_client_is_away_is_kept_for_it(node: Node) -> None:
    """[MQTT311-3.1.2-5] [MQTT311-4.5.0-1] [MQTT311-4.1.0-1]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a/+", 2)
    await client.subscribe_to("b", 1)
    await node.gone(client)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a/1", b"at 1", 1)
    await publisher.publish_to("a/2", b"at 2", 2)
    await publisher.publish_to("b", b"at 2, granted 1", 2)
    await publisher.publish_to("other", b"not subscribed to", 2)
    again = await node.connected(clean_start=False)
    got = [await again.receive() for _ in range(3)]
    assert [(each.payload, each.qos, each.dup) for each in got] == [
        (b"at 1", 1, False),
        (b"at 2", 2, False),
        (b"at 2, granted 1", 1, False),
    ]
    await node.hears_nothing(again)


@pytest.mark.parametrize("goodbye", [True, False])
async def test_it_is_kept_whether_or_not_the_client_said_goodbye(node: Node, goodbye: bool) -> None:
    """[MQTT311-3.1.2-4] [MQTT311-3.1.2-5]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 1)
    await (client.disconnect() if goodbye else node.gone(client))
    await (await node.connected("publisher")).publish_to("a", b"meanwhile", 1)
    again = await node.connected(clean_start=False)
    assert again.connack.session_present
    assert (await again.receive()).payload == b"meanwhile"


async def test_what_was_delivered_and_acknowledged_is_not_delivered_again(node: Node) -> None:
    """[MQTT311-3.1.2-4] [MQTT311-4.4.0-1]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 2)
    for qos in (1, 2):
        await client.publish_to("a", b"x", qos)
        await client.receive()
    await client.ping()
    await node.gone(client)
    await node.hears_nothing(await node.connected(clean_start=False))


async def test_a_session_survives_the_servers_restart_with_all_that_it_has(node: Node) -> None:
    """[MQTT311-3.1.2-4] [MQTT311-3.1.2-5] [MQTT311-4.1.0-1]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"in flight", 2)
    in_flight = await client.expect(Publish)
    await client.send(Publish("other", b"x", 2, packet_id=9))
    await client.answer(Pubrec)
    await node.gone(client)
    await publisher.publish_to("a", b"queued", 1)
    await node.restart()
    again = await node.connected(clean_start=False)
    assert again.connack.session_present
    redelivered = await again.expect(Publish)
    assert (redelivered.payload, redelivered.dup, redelivered.packet_id) == (b"in flight", True, in_flight.packet_id)
    assert (await again.receive()).payload == b"queued"
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("other", 2)
    await again.send(Publish("other", b"x", 2, dup=True, packet_id=9))
    await again.answer(Pubrec)
    await node.hears_nothing(watcher)  # it counted before the restart


# Clean Session 1


async def test_a_clean_session_discards_the_one_before_it(node: Node) -> None:
    """[MQTT311-3.1.2-6] [MQTT311-3.1.4-3] [MQTT311-3.2.2-1]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 1)
    await node.gone(client)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"for the session before", 1)
    clean = await node.connected(clean_start=True)
    assert not clean.connack.session_present
    await publisher.publish_to("a", b"to its subscription", 1)
    await node.hears_nothing(clean)


async def test_a_clean_session_leaves_nothing_for_the_one_after_it(node: Node) -> None:
    """[MQTT311-3.1.2-6] [MQTT311-3.2.2-3]"""
    client = await node.connected(clean_start=True)
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"in flight", 1)
    await client.expect(Publish)
    await node.gone(client)
    await publisher.publish_to("a", b"meanwhile", 1)
    again = await node.connected(clean_start=False)
    assert not again.connack.session_present
    await publisher.publish_to("a", b"later", 1)
    await node.hears_nothing(again)


async def test_a_kept_session_that_a_clean_one_has_discarded_is_gone_for_good(node: Node) -> None:
    """[MQTT311-3.1.2-6] [MQTT311-3.2.2-3]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 1)
    await node.gone(client)
    await (await node.connected(clean_start=True)).disconnect()
    await node.restart()
    assert not (await node.connected(clean_start=False)).connack.session_present


async def test_packet_ids_of_a_session_that_is_over_are_free(node: Node) -> None:
    """[MQTT311-3.1.2-6]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("a", 2)
    for clean in (False, True, True):
        client = await node.connected(clean_start=clean)
        await client.send(Publish("a", b"x", 2, packet_id=1))
        assert await client.answer(Pubrec) == Pubrec(1)
        assert (await watcher.receive()).payload == b"x"
        await node.gone(client)


@pytest.mark.parametrize("clean", [True, False])
async def test_a_clean_session_is_never_said_to_be_present(node: Node, clean: bool) -> None:
    """[MQTT311-3.2.2-1]"""
    await node.connected(clean_start=clean)  # is still connected
    assert not (await node.connected(clean_start=True)).connack.session_present


async def test_retained_messages_are_no_part_of_a_session(node: Node) -> None:
    """[MQTT311-3.1.2-7]"""
    for clean in (False, True):
        client = await node.connected(clean_start=clean)
        await client.publish_to(f"r/{clean:d}", b"x", 1, retain=True)
        await node.gone(client)
    await node.gone(await node.connected(clean_start=True))
    client = await node.connected("another")
    await client.subscribe_to("r/#")
    assert {(await client.receive()).topic_name for _ in range(2)} == {"r/0", "r/1"}


# How long (4.1)


@pytest.mark.parametrize("limits", [replace(LIMITS, session_expiry_max_s=60)])
@pytest.mark.parametrize("clean", [True, False])
async def test_a_session_lasts_as_long_as_its_connection(
    node: Node, pass_seconds: Callable[[int], None], limits: BrokerLimits, clean: bool
) -> None:
    """[MQTT311-4.1.0-1] [MQTT311-4.1.0-2]"""
    client = await node.connected(clean_start=clean)
    await client.subscribe_to("a", 2)
    await client.publish_to("a", b"in flight", 2)
    coming = await client.expect(Publish)
    pass_seconds(10 * limits.session_expiry_max_s)
    await client.send(Pubrec(coming.packet_id))
    assert await client.expect(Pubrel) == Pubrel(coming.packet_id)
    await client.publish_to("a", b"x", 1)
    assert (await client.receive()).payload == b"x"


async def test_a_kept_session_waits_for_days(node: Node, pass_seconds: Callable[[int], None]) -> None:
    """[MQTT311-3.1.2-4] [MQTT311-4.1.0-1]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 1)
    await node.gone(client)
    pass_seconds(2 * DAY_S)
    await (await node.connected("publisher")).publish_to("a", b"x", 1)
    again = await node.connected(clean_start=False)
    assert again.connack.session_present
    assert (await again.receive()).payload == b"x"


async def test_a_session_that_is_taken_over_goes_on(node: Node) -> None:
    """[MQTT311-3.1.4-2] [MQTT311-3.1.2-4] [MQTT311-4.4.0-1]"""
    old = await node.connected(clean_start=False)
    await old.subscribe_to("a", 1)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"in flight", 1)
    first = await old.expect(Publish)
    new = await node.connected(clean_start=False)
    assert new.connack.session_present
    again = await new.receive()
    assert (again.packet_id, again.dup, again.payload) == (first.packet_id, True, b"in flight")
    await publisher.publish_to("a", b"live", 1)
    assert (await new.receive()).payload == b"live"
