"""MQTT 3.1, which calls itself MQIsdp: as 3.1.1, but for the name, the level, and DUP on what may be sent again."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import MQTT_3_1, MQTT_3_1_1, Publish, Pubrel, Will
from tests.conformance.client import TcpStream, WsStream
from tests.conformance.mqtt311.wire import connect, packet, text
from tests.conformance.node import Node

ID = b"\0\1"


@pytest.fixture
def level() -> int:
    return MQTT_3_1


async def test_mqisdp_at_level_3_is_accepted(node: Node) -> None:
    client = await node.client()
    await client.send_bytes(connect(0x02, text("ana"), name=b"MQIsdp", level=3))
    assert await client.stream.receive() == b"\x20\x02\x00\x00"


@pytest.mark.parametrize(("name", "level_sent"), [(b"MQIsdp", 4), (b"MQIsdp", 5), (b"MQTT", 3), (b"MQIsdp", 2)])
async def test_a_name_with_another_versions_level_is_refused(node: Node, name: bytes, level_sent: int) -> None:
    """[MQTT311-3.1.2-2]"""
    client = await node.client()
    await client.send_bytes(connect(0x02, text("ana"), name=name, level=level_sent))
    answer = await client.stream.receive()
    assert answer[:1] == b"\x20"
    assert answer[3] == (0x84 if level_sent == 5 else 1)
    assert await client.stream.receive() == b""


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_publishes_go_both_ways_and_between_the_versions(node: Node, qos: int) -> None:
    client = await node.connected()
    other = await node.connected("other", level=MQTT_3_1_1)
    for each in (client, other):
        assert await each.subscribe_to("a/+", 2) == 2
    await client.publish_to("a/b", b"x", qos)
    for each in (client, other):
        assert ((got := await each.receive()).payload, got.qos) == (b"x", qos)
    await other.publish_to("a/c", b"y", qos)
    assert (await client.receive()).topic_name == "a/c"
    await client.unsubscribe_from("a/+")
    await other.publish_to("a/c", b"y", qos)
    await node.hears_nothing(client)


async def test_a_session_is_kept_and_what_was_in_flight_sent_again(node: Node) -> None:
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    await publisher.publish_to("a", b"in flight", 2)
    first = await client.expect(Publish)
    await node.gone(client)
    await publisher.publish_to("a", b"queued", 1)
    again = await node.connected(clean_start=False)
    got = await again.receive()
    assert (got.payload, got.dup, got.packet_id) == (b"in flight", True, first.packet_id)
    assert (await again.receive()).payload == b"queued"


async def test_a_will_and_a_retained_message_and_a_goodbye(node: Node) -> None:
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("w")
    await node.gone(await node.connected(will=Will("w", b"bye", 1, retain=True)))
    assert (await watcher.receive()).payload == b"bye"
    await (await node.connected(will=Will("w", b"not this one"))).disconnect()
    await watcher.unsubscribe_from("w")
    await watcher.subscribe_to("w", 1)
    got = await watcher.receive()
    assert (got.payload, got.retain) == (b"bye", True)
    await node.hears_nothing(watcher)


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (packet(0x8A, ID, text("a"), b"\1"), b"\x90\x03\x00\x01\x01"),
        (packet(0xAA, ID, text("a")), b"\xb0\x02\x00\x01"),
        (packet(0x6A, ID), b"\x70\x02\x00\x01"),
    ],
    ids=["SUBSCRIBE", "UNSUBSCRIBE", "PUBREL"],
)
async def test_dup_may_be_set_where_3_1_has_it(node: Node, raw: bytes, answer: bytes) -> None:
    client = await node.connected()
    await client.send_bytes(raw)
    assert await client.stream.receive() == answer


async def test_a_wrong_password_is_refused_with_4(node: Node) -> None:
    client = await node.client()
    raw = connect(0xC2, text("ana"), text("u"), text("wrong"), name=b"MQIsdp", level=3)
    await client.send_bytes(raw)
    assert await client.stream.receive() == b"\x20\x02\x00\x04"
    assert await client.rest() == []


@pytest.mark.parametrize("transport", ["ws"], indirect=True)
async def test_the_websocket_subprotocol_of_3_1_is_taken(node: Node) -> None:
    stream = WsStream(await TcpStream.open(node.ws_port))
    status, head = await stream.upgrade(headers={"Sec-WebSocket-Protocol": "mqttv3.1"})
    assert (status, "mqttv3.1" in head) == (101, True)
    stream.close()


async def test_pubrel_is_answered_at_level_3_as_at_level_4(node: Node) -> None:
    client = await node.connected()
    await client.send(Publish("a", b"x", 2, packet_id=1))
    assert await client.stream.receive() == b"\x50\x02\x00\x01"
    await client.send(Pubrel(1))
    assert await client.stream.receive() == b"\x70\x02\x00\x01"
