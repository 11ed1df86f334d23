"""Keep alive, PINGREQ and DISCONNECT (3.1.2.10, 3.12, 3.14): when a connection ends, and when it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recado.mqtt.packets import (
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Subscribe,
    SubscriptionRequest,
)
from tests.conformance.mqtt311.wire import connect, packet, text
from tests.conformance.node import Node

PassSeconds = Callable[[int], None]
KEEP_ALIVE_S = 10


async def test_a_silent_client_is_cut_off_after_one_and_a_half_keep_alives_and_not_before(
    node: Node, pass_seconds: PassSeconds
) -> None:
    """[MQTT311-3.1.2-24]"""
    client = await node.connected(keep_alive=KEEP_ALIVE_S)
    pass_seconds(15)
    assert node.hooks.disconnected == []
    pass_seconds(3)  # the clock has whole seconds, and is never early
    assert await client.rest() == []


@pytest.mark.parametrize(
    "said",
    [
        Pingreq(),
        Publish("a", b"x"),
        Publish("a", b"x", 1, packet_id=1),
        Subscribe(1, [SubscriptionRequest("b")]),
        Puback(1),
    ],
    ids=["PINGREQ", "PUBLISH", "PUBLISH at QoS 1", "SUBSCRIBE", "PUBACK"],
)
async def test_who_says_anything_in_time_is_kept(node: Node, pass_seconds: PassSeconds, said: Packet) -> None:
    """[MQTT311-3.1.2-23] [MQTT311-3.1.2-24]"""
    client = await node.connected(keep_alive=KEEP_ALIVE_S)
    (session,) = node.server.sessions
    for _ in range(4):
        pass_seconds(KEEP_ALIVE_S)
        assert node.hooks.disconnected == []
        await client.send(said)
        # Heard, and dealt with: what the server is busy with itself does not count against the client.
        await node.until(lambda: session.connection.heard_at == node.server.deadlines.tick)
        await node.until(lambda: not session.connection.held)
    pass_seconds(18)
    await client.rest()
    assert [client_id for client_id, _ in node.hooks.disconnected] == ["ana"]


async def test_a_keep_alive_of_0_is_none(node: Node, pass_seconds: PassSeconds) -> None:
    """[MQTT311-3.1.2-24]"""
    client = await node.connected(keep_alive=0)
    pass_seconds(200_000)
    await client.ping()


async def test_the_longest_keep_alive_is_taken_as_it_is(node: Node, pass_seconds: PassSeconds) -> None:
    """[MQTT311-3.1.2-24]"""
    client = await node.connected(keep_alive=65_535)
    pass_seconds(98_302)
    assert node.hooks.disconnected == []
    pass_seconds(4)
    assert await client.rest() == []


async def test_half_a_packet_is_no_packet_for_ever(node: Node, pass_seconds: PassSeconds) -> None:
    """[MQTT311-3.1.2-24]"""
    client = await node.client()
    await client.send_bytes(connect(0x02, text("ana"), keep_alive=2) + b"\x30\x7f")
    assert await client.stream.receive() == b"\x20\x02\x00\x00"
    pass_seconds(10)
    assert await client.rest() == []


async def test_each_ping_is_answered(node: Node) -> None:
    """[MQTT311-3.12.4-1]"""
    client = await node.connected()
    await client.send(Pingreq(), Pingreq())
    await client.send_bytes(packet(0xC0))
    assert [await client.next() for _ in range(3)] == [Pingresp()] * 3


# DISCONNECT


async def test_the_server_closes_after_disconnect_if_the_client_does_not(node: Node) -> None:
    """[MQTT311-3.14.4-1]"""
    client = await node.connected()
    await client.send(Disconnect())
    assert await client.rest() == []
    assert node.hooks.disconnected == [("ana", 0)]


async def test_what_a_client_sends_after_disconnect_is_not_heard(node: Node) -> None:
    """[MQTT311-3.14.4-2] [MQTT311-3.14.4-1]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    client = await node.connected()
    await client.send(Disconnect(), Publish("a", b"too late"), Publish("a", b"too late", 1, packet_id=1), Pingreq())
    assert await client.rest() == []
    await node.hears_nothing(watcher)


async def test_a_disconnect_goes_with_what_was_sent_before_it(node: Node) -> None:
    """[MQTT311-3.14.4-1] [MQTT311-4.3.1-1]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    client = await node.connected()
    await client.send(Publish("a", b"goodbye"), Disconnect())
    assert (await watcher.receive()).payload == b"goodbye"
