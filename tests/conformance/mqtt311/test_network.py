"""WebSocket (chapter 6) and the network (4.2, chapter 7)."""

from __future__ import annotations

import pytest

from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_3_1_1, Connack, Connect, Packet, Pingreq, Pingresp, Publish, Suback, Subscribe
from recado.mqtt.packets import SubscriptionRequest as Request
from tests.conformance.client import Client, TcpStream, WsStream
from tests.conformance.mqtt311.wire import connect, packet, text
from tests.conformance.node import Node

over_websocket = pytest.mark.parametrize("transport", ["ws"], indirect=True)
CONNECT = encode(Connect("ana", MQTT_3_1_1), MQTT_3_1_1)
BINARY, TEXT, CONTINUATION = 0x2, 0x1, 0x0
LAST = 0x80


async def websocket(node: Node) -> tuple[Client, WsStream]:
    client = await node.client()
    assert isinstance(client.stream, WsStream)
    return client, client.stream


@over_websocket
@pytest.mark.parametrize("first", [True, False])
async def test_a_text_frame_ends_the_connection(node: Node, first: bool) -> None:
    """[MQTT311-6.0.0-1]"""
    client, stream = await websocket(node)
    if not first:
        await client.connect_as("ana")
    await stream.send_frame(LAST | TEXT, CONNECT if first else encode(Pingreq(), MQTT_3_1_1))
    assert await client.rest() == []
    assert stream.close_code == 1003


@over_websocket
async def test_the_server_sends_binary_frames(node: Node) -> None:
    """[MQTT311-6.0.0-1]"""
    _, stream = await websocket(node)
    await stream.send(CONNECT)
    received = b""
    while len(received) < 6:
        received += await stream.tcp.receive()
    assert received == b"\x82\x04\x20\x02\x00\x00"


@over_websocket
async def test_a_frame_may_hold_several_packets(node: Node) -> None:
    """[MQTT311-6.0.0-2]"""
    client, stream = await websocket(node)
    packets: list[Packet] = [Subscribe(1, [Request("a", 1)]), Publish("a", b"x"), Pingreq()]
    await stream.send(CONNECT + b"".join(encode(each, MQTT_3_1_1) for each in packets))
    assert {type(await client.next()) for _ in range(4)} == {Connack, Suback, Publish, Pingresp}


@over_websocket
@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_a_packet_may_lie_in_several_frames_and_a_frame_end_anywhere(node: Node, size: int) -> None:
    """[MQTT311-6.0.0-2]"""
    client, stream = await websocket(node)
    publish = Publish("a", bytes(200), 1, packet_id=1)
    packets: list[Packet] = [Subscribe(1, [Request("a", 1)]), publish, Pingreq(), Pingreq()]
    data = CONNECT + b"".join(encode(each, MQTT_3_1_1) for each in packets)
    for start in range(0, len(data), size):
        await stream.send(data[start : start + size])
    names = [type(await client.next()).__name__ for _ in range(6)]
    assert sorted(names) == ["Connack", "Pingresp", "Pingresp", "Puback", "Publish", "Suback"]


@over_websocket
async def test_a_message_in_fragments_is_read_on(node: Node) -> None:
    """[MQTT311-6.0.0-2]"""
    client, stream = await websocket(node)
    await stream.send_frame(BINARY, CONNECT[:3])
    await stream.send_frame(CONTINUATION, CONNECT[3:9])
    await stream.send_frame(LAST | CONTINUATION, CONNECT[9:] + encode(Pingreq(), MQTT_3_1_1)[:1])
    await stream.send(encode(Pingreq(), MQTT_3_1_1)[1:])
    assert [type(await client.next()) for _ in range(2)] == [Connack, Pingresp]


@over_websocket
async def test_an_empty_frame_is_nothing(node: Node) -> None:
    """[MQTT311-6.0.0-2]"""
    client, stream = await websocket(node)
    await stream.send(b"")
    await stream.send(CONNECT)
    await stream.send(b"")
    assert await client.expect(Connack) == Connack()


@over_websocket
@pytest.mark.parametrize("offered", [None, "chat", "mqttx, xmqtt", "MQTT5"])
async def test_who_does_not_offer_mqtt_is_not_let_in(node: Node, offered: str | None) -> None:
    """[MQTT311-6.0.0-3]"""
    stream = WsStream(await TcpStream.open(node.ws_port))
    status, _ = await stream.upgrade(headers={"Sec-WebSocket-Protocol": offered})
    assert status == 400
    stream.close()


@over_websocket
@pytest.mark.parametrize("offered", ["mqtt", "chat, mqtt", "mqtt,mqttv3.1", "mqttv3.1 , mqtt"])
async def test_the_server_answers_with_mqtt(node: Node, offered: str) -> None:
    """[MQTT311-6.0.0-3] [MQTT311-6.0.0-4]"""
    stream = WsStream(await TcpStream.open(node.ws_port))
    status, head = await stream.upgrade(headers={"Sec-WebSocket-Protocol": offered})
    assert status == 101
    answered = [line for line in head.splitlines() if line.lower().startswith("sec-websocket-protocol:")]
    assert [line.partition(":")[2].strip() for line in answered] == ["mqtt"]
    stream.close()


async def test_mqtt_goes_over_tcp_and_over_websocket_and_from_one_to_the_other(node: Node) -> None:
    """[MQTT311-7.1.1-1] [MQTT311-7.1.2-1]"""
    client = await node.connected()
    other = await node.client(transport="ws" if node.transport == "tcp" else "tcp")
    await other.connect_as("other")
    await client.subscribe_to("a", 2)
    await other.subscribe_to("b", 2)
    payload = bytes(range(256)) * 60
    for qos in (0, 1, 2):
        await other.publish_to("a", payload, qos)
        assert (await client.receive()).payload == payload
        await client.publish_to("b", payload, qos)
        assert (await other.receive()).payload == payload


@pytest.mark.parametrize("transport", ["tcp"], indirect=True)
async def test_over_tcp_a_packet_may_come_byte_by_byte(node: Node) -> None:
    """[MQTT311-7.1.1-1]"""
    client = await node.client()
    for byte in CONNECT + encode(Pingreq(), MQTT_3_1_1):
        await client.send_bytes(bytes((byte,)))
    assert [type(await client.next()) for _ in range(2)] == [Connack, Pingresp]


async def test_a_client_that_knows_nothing_but_the_specification_is_served(node: Node) -> None:
    """[MQTT311-7.0.0-2]"""
    client = await node.client()
    receive = client.stream.receive
    await client.send_bytes(connect(0x02, text("x")))
    assert await receive() == b"\x20\x02\x00\x00"
    await client.send_bytes(packet(0x82, b"\x00\x0a", text("a/b"), b"\x01"))
    assert await receive() == b"\x90\x03\x00\x0a\x01"
    await client.send_bytes(packet(0x30, text("a/b"), b"hello"))
    assert await receive() == b"\x30\x0a\x00\x03a/bhello"
    await client.send_bytes(packet(0xA2, b"\x00\x0b", text("a/b")))
    assert await receive() == b"\xb0\x02\x00\x0b"
    await client.send_bytes(b"\xc0\x00")
    assert await receive() == b"\xd0\x00"
    await client.send_bytes(b"\xe0\x00")
    assert await receive() == b""
