"""Wills (3.1.2.5 to 3.1.2.7): published when a connection ends in any way but DISCONNECT, and once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from recado.broker.limits import BrokerLimits
from recado.mqtt.packets import Publish, Will
from tests.conformance.client import Client
from tests.conformance.mqtt311.wire import connect, packet, text
from tests.conformance.node import LIMITS, Node


async def watching(node: Node, qos: int = 2) -> Client:
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("w/#", qos)
    return watcher


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_will_is_published_as_it_was_given_when_the_connection_is_lost(
    node: Node, qos: int, clean: bool
) -> None:
    """[MQTT311-3.1.2-8] [MQTT311-3.1.2-9] [MQTT311-3.1.2-14] [MQTT311-3.1.2-16]"""
    watcher = await watching(node)
    client = await node.connected(clean_start=clean, will=Will("w/ana", b"\x00bye\xff", qos))
    await node.hears_nothing(watcher)
    await node.gone(client)
    got = await watcher.receive()
    assert (got.topic_name, got.payload, got.qos, got.retain) == ("w/ana", b"\x00bye\xff", qos, False)


async def test_a_will_is_published_after_a_protocol_error(node: Node) -> None:
    """[MQTT311-3.1.2-8]"""
    watcher = await watching(node)
    client = await node.connected(will=Will("w/ana", b"bye"))
    await client.send_bytes(packet(0x36, text("a"), b"\0\1"))
    assert await client.rest() == []
    assert (await watcher.receive()).payload == b"bye"


async def test_a_will_is_published_when_the_keep_alive_has_passed(
    node: Node, pass_seconds: Callable[[int], None]
) -> None:
    """[MQTT311-3.1.2-8] [MQTT311-3.1.2-24]"""
    watcher = await watching(node)
    client = await node.connected(will=Will("w/ana", b"bye"), keep_alive=4)
    pass_seconds(20)
    assert await client.rest() == []
    assert (await watcher.receive()).payload == b"bye"


@pytest.mark.parametrize("clean", [True, False])
async def test_disconnect_discards_the_will(node: Node, clean: bool) -> None:
    """[MQTT311-3.1.2-8] [MQTT311-3.1.2-10] [MQTT311-3.14.4-3]"""
    watcher = await watching(node)
    client = await node.connected(clean_start=clean, will=Will("w/ana", b"bye"))
    await client.disconnect()
    await node.hears_nothing(watcher)
    await node.gone(await node.connected(clean_start=clean))  # nor does the next connection have it
    await node.hears_nothing(watcher)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("restart", [True, False])
async def test_a_will_is_published_once_whatever_becomes_of_its_session(node: Node, restart: bool, clean: bool) -> None:
    """[MQTT311-3.1.2-10]"""
    watcher = await node.connected("watcher", clean_start=False)
    await watcher.subscribe_to("w/#", 1)
    await node.gone(await node.connected(clean_start=False, will=Will("w/ana", b"bye", 1)))
    assert (await watcher.receive()).payload == b"bye"
    if restart:
        await watcher.ping()
        await node.restart()
        watcher = await node.connected("watcher", clean_start=False)
    await node.gone(await node.connected(clean_start=clean))  # resumed, or discarded
    await node.hears_nothing(watcher)


@pytest.mark.parametrize("limits", [replace(LIMITS, session_expiry_max_s=60)])
async def test_a_will_that_was_published_is_not_again_when_its_session_expires(
    node: Node, pass_seconds: Callable[[int], None], limits: BrokerLimits
) -> None:
    """[MQTT311-3.1.2-10]"""
    watcher = await watching(node)
    await node.gone(await node.connected(clean_start=False, will=Will("w/ana", b"bye", 1)))
    assert (await watcher.receive()).payload == b"bye"
    pass_seconds(limits.session_expiry_max_s + 2)
    assert [each.client_id for each in node.server.sessions] == ["watcher"]
    await node.hears_nothing(watcher)


async def test_a_will_is_published_after_a_restart_if_the_server_went_without_a_word(node: Node) -> None:
    """[MQTT311-3.1.2-8]"""
    watcher = await node.connected("watcher", clean_start=False)
    await watcher.subscribe_to("w/#", 1)
    await node.connected(clean_start=False, will=Will("w/ana", b"bye", 1))
    await node.restart()
    assert (await (await node.connected("watcher", clean_start=False)).receive()).payload == b"bye"


async def test_a_connection_without_a_will_publishes_none(node: Node) -> None:
    """[MQTT311-3.1.2-12]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    for clean in (True, False):
        await node.gone(await node.connected(clean_start=clean))
    await node.hears_nothing(watcher)


async def test_each_connection_has_the_will_of_its_own_connect(node: Node) -> None:
    """[MQTT311-3.1.2-8] [MQTT311-3.1.2-10]"""
    watcher = await watching(node)
    for word in (b"first", b"second"):
        await node.gone(await node.connected(clean_start=False, will=Will("w/ana", word)))
        assert (await watcher.receive()).payload == word


async def test_a_will_that_is_not_to_be_retained_is_not(node: Node) -> None:
    """[MQTT311-3.1.2-16]"""
    publisher = await node.connected("publisher")
    await publisher.publish_to("w/ana", b"before", 1, retain=True)
    await node.gone(await node.connected(will=Will("w/ana", b"bye", 1, retain=False)))
    assert (await (await watching(node)).receive()).payload == b"before"


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_will_that_is_to_be_retained_is(node: Node, qos: int) -> None:
    """[MQTT311-3.1.2-17]"""
    live = await watching(node)
    await node.gone(await node.connected(will=Will("w/ana", b"bye", qos, retain=True)))
    assert not (await live.receive()).retain
    later = await node.connected("later")
    await later.subscribe_to("w/ana", 2)
    got = await later.receive()
    assert (got.payload, got.qos, got.retain) == (b"bye", qos, True)


async def test_an_empty_retained_will_clears_the_retained_message(node: Node) -> None:
    """[MQTT311-3.1.2-17] [MQTT311-3.3.1-10]"""
    publisher = await node.connected("publisher")
    await publisher.publish_to("w/ana", b"online", 1, retain=True)
    client = await node.client()
    await client.send_bytes(connect(0x26, text("ana"), text("w/ana"), text("")))
    assert await client.stream.receive() == b"\x20\x02\x00\x00"
    live = await watching(node)
    assert (await live.receive()).payload == b"online"
    await node.gone(client)
    assert (await live.receive()).payload == b""
    await node.hears_nothing(await watching(node))


async def test_a_will_for_a_session_that_waits_is_kept_for_it(node: Node) -> None:
    """[MQTT311-3.1.2-8] [MQTT311-4.5.0-1]"""
    watcher = await node.connected("watcher", clean_start=False)
    await watcher.subscribe_to("w/#", 1)
    await node.gone(watcher)
    await node.gone(await node.connected(will=Will("w/ana", b"bye", 1)))
    assert (await (await node.connected("watcher", clean_start=False)).receive()).payload == b"bye"


async def test_a_will_on_a_topic_that_its_client_may_not_publish_to_is_not_published(node: Node) -> None:
    """[MQTT311-3.3.5-2]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    await node.gone(await node.connected(will=Will("forbidden/x", b"bye", 1)))
    await node.hears_nothing(watcher)


async def test_two_wills_at_once_are_both_published(node: Node) -> None:
    """[MQTT311-3.1.2-8]"""
    watcher = await watching(node)
    clients = [await node.connected(name, will=Will(f"w/{name}", b"bye", 2)) for name in ("ana", "bruno")]
    for client in clients:
        await node.gone(client)
    assert [(await watcher.receive()).topic_name for _ in range(2)] == ["w/ana", "w/bruno"]


async def test_a_connection_closed_by_the_servers_refusal_of_a_publish_leaves_its_will(node: Node) -> None:
    """[MQTT311-3.1.2-8] [MQTT311-3.3.5-2]"""
    watcher = await watching(node)
    client = await node.connected(will=Will("w/ana", b"bye"))
    await client.send(Publish("forbidden/x", b"x", 1, packet_id=1))
    assert await client.rest() == []
    assert (await watcher.receive()).payload == b"bye"
