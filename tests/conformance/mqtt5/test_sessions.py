"""Sessions (3.1.2.4, 3.1.2.11.2, 3.1.4, 4.1): begun, kept, resumed, taken over, expired."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import MQTT_3_1_1, Disconnect, Publish, Will
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.node import LIMITS, Node, over_tcp

NEVER = 0xFFFF_FFFF


async def test_a_session_with_an_expiry_interval_is_resumed_with_its_subscriptions_and_what_came_meanwhile(
    node: Node,
) -> None:
    """[MQTT5-3.1.2-5] [MQTT5-3.1.2-23] [MQTT5-3.2.2-3] [MQTT5-4.5.0-1] [MQTT5-4.1.0-1]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a/+", 2)
    await node.gone(client)
    publisher = await node.connected("publisher")
    for qos in (1, 2):
        await publisher.publish_to(f"a/{qos}", b"meanwhile", qos)
    again = await node.connected(clean_start=False, session_expiry=60)
    assert again.connack.session_present
    assert [(each.topic_name, each.qos, each.dup) for each in (await again.receive(), await again.receive())] == [
        ("a/1", 1, False),
        ("a/2", 2, False),
    ]
    await publisher.publish_to("a/b", b"live", 1)
    assert (await again.receive()).payload == b"live"


async def test_a_session_and_its_queue_survive_the_servers_restart(node: Node) -> None:
    """[MQTT5-3.1.2-23] [MQTT5-3.1.2-5]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 2)
    await node.gone(client)
    publisher = await node.connected("publisher")
    for number in range(5):
        await publisher.publish_to("a", b"%d" % number, 1 + number % 2)
    await node.restart()
    again = await node.connected(clean_start=False, session_expiry=60)
    assert again.connack.session_present
    assert await again.receive_payloads(5) == [b"0", b"1", b"2", b"3", b"4"]


async def test_clean_start_discards_what_there_was(node: Node) -> None:
    """[MQTT5-3.1.2-4] [MQTT5-3.1.4-4] [MQTT5-3.2.2-2]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 1)
    await node.gone(client)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"for the old session", 1)
    fresh = await node.connected(clean_start=True, session_expiry=60)
    assert not fresh.connack.session_present
    await publisher.publish_to("a", b"to a subscription of the old session", 1)
    await node.hears_nothing(fresh)
    await node.gone(fresh)
    third = await node.connected(clean_start=False, session_expiry=60)
    assert third.connack.session_present
    await node.hears_nothing(third)


async def test_without_a_session_a_new_one_begins(node: Node) -> None:
    """[MQTT5-3.1.2-6] [MQTT5-3.2.2-3]"""
    client = await node.connected(clean_start=False, session_expiry=60)
    assert not client.connack.session_present
    assert await client.subscribe_to("a", 1) == 1
    await node.gone(client)
    assert (await node.connected(clean_start=False)).connack.session_present


@pytest.mark.parametrize("expiry", [None, 0])
async def test_a_session_without_an_expiry_interval_ends_with_its_connection(node: Node, expiry: int | None) -> None:
    """[MQTT5-4.1.0-2]"""
    client = await node.connected(session_expiry=expiry)
    await client.subscribe_to("a", 1)
    await node.gone(client)
    again = await node.connected(clean_start=False, session_expiry=expiry)
    assert not again.connack.session_present
    await (await node.connected("publisher")).publish_to("a", b"x", 1)
    await node.hears_nothing(again)


@over_tcp
async def test_a_session_is_gone_when_its_expiry_interval_has_passed(node: Node) -> None:
    """[MQTT5-4.1.0-2]"""
    client = await node.connected(session_expiry=1)
    await client.subscribe_to("a", 1)
    await node.gone(client)
    await node.let_pass(2.5)
    again = await node.connected(clean_start=False, session_expiry=1)
    assert not again.connack.session_present
    await (await node.connected("publisher")).publish_to("a", b"x", 1)
    await node.hears_nothing(again)


@over_tcp
async def test_a_session_is_gone_when_its_expiry_interval_has_passed_while_the_server_was_down(node: Node) -> None:
    """[MQTT5-4.1.0-2]"""
    client = await node.connected(session_expiry=1)
    await client.subscribe_to("a", 1)
    await node.stop()
    await node.let_pass(2.5)
    await node.start()
    assert not (await node.connected(clean_start=False, session_expiry=1)).connack.session_present


@over_tcp
async def test_a_session_does_not_expire_while_its_connection_is_open(node: Node) -> None:
    """[MQTT5-4.1.0-1]"""
    client = await node.connected(session_expiry=1)
    await client.subscribe_to("a", 1)
    await node.let_pass(2.5)
    await client.publish_to("a", b"still here", 1)
    assert (await client.receive()).payload == b"still here"


async def test_an_interval_longer_than_the_server_keeps_is_answered_with_the_one_that_holds(node: Node) -> None:
    client = await node.connected(session_expiry=NEVER)
    told = client.connack.properties.get(P.SESSION_EXPIRY_INTERVAL, NEVER)
    assert told == min(NEVER, LIMITS.session_expiry_max_s)
    assert P.SESSION_EXPIRY_INTERVAL not in (await node.connected("b", session_expiry=60)).connack.properties


async def test_disconnect_can_end_the_session_at_once(node: Node) -> None:
    client = await node.connected(session_expiry=60)
    await client.disconnect(properties={P.SESSION_EXPIRY_INTERVAL: 0})
    assert not (await node.connected(clean_start=False)).connack.session_present


@over_tcp
async def test_disconnect_can_keep_the_session_longer(node: Node) -> None:
    client = await node.connected(session_expiry=1)
    await client.disconnect(properties={P.SESSION_EXPIRY_INTERVAL: 60})
    await node.let_pass(2.5)
    assert (await node.connected(clean_start=False)).connack.session_present


async def test_disconnect_cannot_keep_a_session_that_was_to_end_with_its_connection(node: Node) -> None:
    """[MQTT5-4.13.1-1]"""
    client = await node.connected(session_expiry=0)
    await client.send(Disconnect(R.SUCCESS, {P.SESSION_EXPIRY_INTERVAL: 60}))
    said = await client.end()
    assert said is not None
    assert said.reason_code is R.PROTOCOL_ERROR
    assert not (await node.connected(clean_start=False)).connack.session_present


async def test_the_interval_of_the_newest_connect_is_the_one_that_counts(node: Node) -> None:
    """[MQTT5-4.1.0-2]"""
    await node.gone(await node.connected(session_expiry=60))
    again = await node.connected(clean_start=False)
    assert again.connack.session_present
    await node.gone(again)
    assert not (await node.connected(clean_start=False)).connack.session_present


# Take-over


async def test_a_new_connection_takes_the_session_over_and_the_old_one_is_told(node: Node) -> None:
    """[MQTT5-3.1.4-3] [MQTT5-4.13.2-1] [MQTT5-3.14.4-1] [MQTT5-3.14.4-2]"""
    old = await node.connected(session_expiry=60)
    await old.subscribe_to("a", 1)
    new = await node.connected(clean_start=False, session_expiry=60)
    said = await old.end()
    assert said is not None
    assert said.reason_code is R.SESSION_TAKEN_OVER
    assert new.connack.session_present
    await new.publish_to("a", b"to the new one", 1)
    assert (await new.receive()).payload == b"to the new one"


async def test_what_the_old_connection_had_not_acknowledged_goes_to_the_new_one(node: Node) -> None:
    """[MQTT5-3.1.4-3] [MQTT5-4.4.0-1]"""
    old = await node.connected(session_expiry=60)
    await old.subscribe_to("a", 1)
    await (await node.connected("publisher")).publish_to("a", b"x", 1)
    first = await old.expect(Publish)
    new = await node.connected(clean_start=False, session_expiry=60)
    second = await new.receive()
    assert (second.dup, second.packet_id, second.payload) == (True, first.packet_id, b"x")


async def test_a_take_over_with_clean_start_leaves_nothing_of_the_old_session(node: Node) -> None:
    """[MQTT5-3.1.2-4] [MQTT5-3.1.4-3]"""
    old = await node.connected(session_expiry=60)
    await old.subscribe_to("a", 1)
    new = await node.connected(clean_start=True, session_expiry=60)
    assert (await old.end()) is not None
    assert not new.connack.session_present
    await (await node.connected("publisher")).publish_to("a", b"x", 1)
    await node.hears_nothing(new)


async def test_a_session_may_go_on_over_another_transport_and_another_version(node: Node) -> None:
    """[MQTT5-4.2-1]"""
    client = await node.connected(session_expiry=60)
    await client.subscribe_to("a", 1)
    await node.gone(client)
    await (await node.connected("publisher")).publish_to("a", b"x", 1)
    other = await node.client(MQTT_3_1_1, "ws" if node.transport == "tcp" else "tcp")
    assert (await other.connect_as("ana", clean_start=False)).session_present
    assert (await other.receive()).payload == b"x"


# A server that stops says so


async def test_a_stopping_server_tells_its_clients(node: Node) -> None:
    """[MQTT5-4.13.2-1]"""
    client = await node.connected()
    node.server.spawn(node.server.drain())
    said = await client.end()
    assert said is not None
    assert said.reason_code is R.SERVER_SHUTTING_DOWN


async def test_a_will_is_no_part_of_a_session_that_goes_on_without_one(node: Node) -> None:
    """[MQTT5-3.1.2-10]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("w")
    client = await node.connected(session_expiry=60, will=Will("w", b"bye"))
    await node.gone(client)
    assert (await watcher.receive()).payload == b"bye"
    await node.gone(await node.connected(clean_start=False, session_expiry=60))
    await node.hears_nothing(watcher)
