"""MQTT over WebSocket: the handshake and whom it lets in, and packets in frames however they are cut."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_5, Connack, Connect, Disconnect, Pingreq, Pingresp, Publish, Suback
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.client import Client, TcpStream, WsStream
from tests.broker.conftest import Node

TOPIC = "c/order"
CONNECT = encode(Connect("phone", username="ana"), MQTT_5)
BINARY, TEXT, CONTINUATION, FIN = 0x02, 0x01, 0x00, 0x80


async def handshake(
    node: Node, path: str = "/mqtt", headers: Mapping[str, str | None] = MappingProxyType({})
) -> tuple[int, str]:
    stream = WsStream(await TcpStream.open(node.ws_port))
    try:
        return await stream.upgrade(path, headers)
    finally:
        stream.close()


async def opened(node: Node) -> tuple[WsStream, Client]:
    stream = await WsStream.open(node.ws_port)
    node.clients.append(Client(stream))
    return stream, node.clients[-1]


# The handshake


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "127.0.0.1"),
        ("https://shop.example.com", "127.0.0.1"),
        ("http://127.0.0.1:8000", "127.0.0.1:8083"),
        ("http://chat.example.com", "chat.example.com:8083"),
        ("http://[::1]:8000", "[::1]:8083"),
    ],
)
async def test_the_pages_of_this_server_and_those_that_were_named_may_connect(
    node: Node, origin: str | None, host: str
) -> None:
    assert (await handshake(node, headers={"Origin": origin, "Host": host}))[0] == 101


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com",
        "http://shop.example.com",
        "https://shop.example.com:8443",
        "https://shop.example.com.evil.example.com",
        "https://evil.example.com/https://shop.example.com",
        "null",
        "",
        "http://127.0.0.1.evil.example.com",
        "http://[",
    ],
)
async def test_a_page_from_elsewhere_may_not(node: Node, origin: str) -> None:
    status, answer = await handshake(node, headers={"Origin": origin})
    assert status == 403
    assert "--allowed-origins" in answer
    assert node.server.counters.refusals["HANDSHAKE_403"] == 1


@pytest.mark.parametrize("path", ["/", "/mqtt/", "/MQTT", "/mqtt2", "/v1/session"])
async def test_another_path_is_not_found(node: Node, path: str) -> None:
    assert (await handshake(node, path))[0] == 404


async def test_a_query_is_no_other_path(node: Node) -> None:
    assert (await handshake(node, "/mqtt?x=1"))[0] == 101


@pytest.mark.parametrize("offered", [None, "", "chat", "mqttx, xmqtt"])
async def test_who_does_not_offer_mqtt_is_refused(node: Node, offered: str | None) -> None:
    assert (await handshake(node, headers={"Sec-WebSocket-Protocol": offered}))[0] == 400


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("mqtt", "mqtt"), ("chat, mqtt", "mqtt"), ("mqttv3.1,mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1")],
)
async def test_the_subprotocol_that_was_chosen_is_told(node: Node, offered: str, chosen: str) -> None:
    status, head = await handshake(node, headers={"Sec-WebSocket-Protocol": offered})
    assert status == 101
    assert f"sec-websocket-protocol: {chosen}" in head.lower().splitlines()


async def test_what_is_no_upgrade_is_refused_and_harms_nothing(node: Node) -> None:
    for asked in (
        b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x10\x0d\x00\x04MQTT\r\n\r\n",
        b"\xff" * 100 + b"\r\n\r\n",
    ):
        stream = await TcpStream.open(node.ws_port)
        await stream.send(asked)
        assert b" 101 " not in await stream.receive()
        stream.close()
    await node.connected("ana", transport="ws")


async def test_a_connect_that_comes_with_the_upgrade_is_answered(node: Node) -> None:
    stream = WsStream(await TcpStream.open(node.ws_port))
    client = Client(stream)
    node.clients.append(client)
    assert (await stream.upgrade(after=WsStream.frame(FIN | BINARY, CONNECT)))[0] == 101
    await client.expect(Connack)


# Frames


@pytest.mark.parametrize("seed", range(5))
async def test_packets_may_be_cut_anywhere_over_frames_and_fragments(node: Node, seed: int) -> None:
    rng = random.Random(seed)
    stream, client = await opened(node)
    whole = (
        CONNECT
        + encode(client.subscription(TOPIC), MQTT_5)
        + b"".join(encode(Publish(TOPIC, str(n).encode()), MQTT_5) for n in range(20))
    )
    offset = 0
    fragmented = False
    while offset < len(whole):
        end = min(len(whole), offset + rng.randrange(0, 9))
        fin = end == len(whole) or rng.random() < 0.5
        await stream.send_frame((FIN if fin else 0) | (CONTINUATION if fragmented else BINARY), whole[offset:end])
        fragmented = not fin
        offset = end

    await client.expect(Connack)
    await client.expect(Suback)
    assert await client.take(20) == [str(n) for n in range(20)]


async def test_many_packets_may_come_in_one_frame(node: Node) -> None:
    _, client = await opened(node)
    await client.stream.send(CONNECT + encode(Pingreq(), MQTT_5) * 100)
    await client.expect(Connack)
    for _ in range(100):
        await client.expect(Pingresp)


async def test_a_ping_frame_between_fragments_is_answered(node: Node) -> None:
    stream, client = await opened(node)
    await stream.send_frame(BINARY, CONNECT[:5])
    await stream.send_frame(FIN | 9, b"are you there?")
    await stream.send_frame(FIN | CONTINUATION, CONNECT[5:])
    await client.expect(Connack)
    assert stream.pongs == [b"are you there?"]


@pytest.mark.parametrize("first", [FIN | TEXT, TEXT], ids=["whole", "fragment"])
async def test_a_text_frame_ends_the_connection(node: Node, first: int) -> None:
    stream, client = await opened(node)
    await client.connect("ana")
    await stream.send_frame(first, b"hello")
    assert await client.rest() == []
    assert stream.close_code == 1003


async def test_a_frame_that_is_longer_than_the_limit_ends_the_connection_before_it_came(node: Node) -> None:
    stream, client = await opened(node)
    await client.connect("ana")
    await stream.tcp.send(bytes((FIN | BINARY, 0x80 | 127)) + (LIMITS.frame_bytes_max + 1).to_bytes(8, "big") + b"mask")
    assert await client.rest() == []


async def test_a_frame_that_is_not_masked_ends_the_connection(node: Node) -> None:
    stream, client = await opened(node)
    await client.connect("ana")
    await stream.tcp.send(bytes((FIN | BINARY, 2)) + encode(Pingreq(), MQTT_5))
    assert Pingresp() not in await client.rest()


async def test_a_packet_that_is_too_large_is_named_and_the_frame_that_brought_it_too(node: Node) -> None:
    _, client = await opened(node)
    await client.connect("ana")
    await client.stream.send(encode(Publish(TOPIC, b"x" * LIMITS.packet_bytes_max), MQTT_5))
    (disconnect,) = await client.rest()
    assert isinstance(disconnect, Disconnect)
    assert disconnect.reason_code == ReasonCode.PACKET_TOO_LARGE


@pytest.mark.parametrize(("said", "answered"), [(b"\x03\xe8", 1000), (b"", 1000), (b"\x03\xe9bye", 1001)])
async def test_a_closing_handshake_is_answered_and_the_session_ends(node: Node, said: bytes, answered: int) -> None:
    stream, client = await opened(node)
    await client.connect("ana")
    await stream.send_frame(FIN | 8, said)
    assert await client.rest() == []
    assert stream.close_code == answered
    await node.gone()
    assert node.server._sessions == {}


async def test_a_refused_client_reads_why_before_the_connection_closes(node: Node) -> None:
    stream, client = await opened(node)
    assert (await client.connect("mallory")).reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert await client.rest() == []
    assert stream.close_code == 1000


async def test_bad_frames_disturb_no_other_connection(node: Node) -> None:
    good = await node.connected("bruno", transport="ws")
    await good.subscribe(TOPIC)
    rng = random.Random(1)
    for _ in range(20):
        stream, _ = await opened(node)
        await stream.tcp.send(rng.randbytes(200))
        stream.close()
        node.clients.pop()
    node.application.publish(TOPIC, "hi")
    assert await good.take(1) == ["hi"]
    await node.gone(1)
