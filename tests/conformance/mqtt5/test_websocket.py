"""MQTT over WebSocket (6)."""

from __future__ import annotations

import pytest

from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_5, Connack, Connect, Pingreq, Pingresp
from tests.conformance.client import Client, TcpStream, WsStream
from tests.conformance.node import Node, Transport

CONNECT = encode(Connect("ana"), MQTT_5)
BINARY, TEXT, FIN = 0x02, 0x01, 0x80


@pytest.fixture(params=["ws"])
def transport(request: pytest.FixtureRequest) -> Transport:
    transport: Transport = request.param
    return transport


async def opened(node: Node) -> tuple[WsStream, Client]:
    client = await node.client()
    assert isinstance(client.stream, WsStream)
    return client.stream, client


async def test_packets_come_in_binary_frames(node: Node) -> None:
    """[MQTT5-6.0.0-1]"""
    stream, _ = await opened(node)
    await stream.send(CONNECT)
    data = await stream.tcp.receive()
    assert data[0] == FIN | BINARY
    assert data[2] >> 4 == 2, "no CONNACK"


async def test_a_text_frame_ends_the_connection(node: Node) -> None:
    """[MQTT5-6.0.0-1]"""
    stream, client = await opened(node)
    await client.connect_as("ana")
    await stream.send_frame(FIN | TEXT, b"\xc0\x00")
    assert not [packet for packet in await client.rest() if isinstance(packet, Pingresp)]


async def test_a_frame_may_hold_several_packets_and_parts_of_them(node: Node) -> None:
    """[MQTT5-6.0.0-2]"""
    stream, client = await opened(node)
    wire = CONNECT + encode(Pingreq(), MQTT_5) * 3
    for cut in (1, 5, len(CONNECT) + 1, len(CONNECT) + 2, len(wire)):
        await stream.send(wire[:cut])
        wire = wire[cut:]
    assert isinstance(await client.next(), Connack)
    assert [await client.next() for _ in range(3)] == [Pingresp()] * 3


@pytest.mark.parametrize("offered", [None, "chat", "mqttx"])
async def test_a_client_that_does_not_offer_mqtt_is_refused(node: Node, offered: str | None) -> None:
    """[MQTT5-6.0.0-3]"""
    stream = WsStream(await TcpStream.open(node.ws_port))
    status, _ = await stream.upgrade(headers={"Sec-WebSocket-Protocol": offered})
    assert status == 400
    stream.close()


@pytest.mark.parametrize("offered", ["mqtt", "chat, mqtt", "mqtt, chat"])
async def test_the_subprotocol_that_the_server_chooses_is_mqtt(node: Node, offered: str) -> None:
    """[MQTT5-6.0.0-4]"""
    stream = WsStream(await TcpStream.open(node.ws_port))
    status, head = await stream.upgrade(headers={"Sec-WebSocket-Protocol": offered})
    assert status == 101
    assert "sec-websocket-protocol: mqtt" in head.lower().splitlines()
    stream.close()
