"""MQTT over WebSocket: the handshake and whom it lets in, and packets in frames however they are cut."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

import pytest
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from recado.broker.listening import ListenerSettings, listen
from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_5, Connack, Connect, Disconnect, Pingreq, Pingresp, Publish, Suback
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.client import Client, TcpStream, WsStream
from tests.broker.conftest import Node

TOPIC = "c/order"
CONNECT = encode(Connect("phone", username="ana"), MQTT_5)
BINARY, TEXT, CONTINUATION, FIN, RSV1 = 0x02, 0x01, 0x00, 0x80, 0x40


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


@pytest.mark.parametrize(("name", "status"), [("127.0.0.1", 101), ("localhost", 101), ("evil.example.com", 403)])
async def test_where_nobody_signs_in_a_host_name_that_resolves_to_this_machine_proves_nothing(
    node: Node, name: str, status: int
) -> None:
    listening = await listen(node.server, ListenerSettings("ws", trusts_host_names=False))
    stream = WsStream(await TcpStream.open(listening.port))
    assert (await stream.upgrade(headers={"Origin": f"http://{name}", "Host": f"{name}:8083"}))[0] == status
    stream.close()
    listening.close()


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


@pytest.mark.parametrize("options", ["Upgrade", "keep-alive, Upgrade", "upgrade,close"])
async def test_a_browser_may_name_more_than_the_upgrade(node: Node, options: str) -> None:
    assert (await handshake(node, headers={"Connection": options}))[0] == 101  # Firefox says keep-alive


@pytest.mark.parametrize("headers", [{"Connection": "keep-alive"}, {"Upgrade": "h2c"}, {"Sec-WebSocket-Key": "short"}])
async def test_an_upgrade_that_is_incomplete_is_refused(node: Node, headers: dict[str, str | None]) -> None:
    assert (await handshake(node, headers=headers))[0] == 400


@pytest.mark.parametrize("version", [None, "8", "14"])
async def test_who_speaks_another_version_is_told_the_right_one(node: Node, version: str | None) -> None:
    status, answer = await handshake(node, headers={"Sec-WebSocket-Version": version})
    assert status == 426
    assert "sec-websocket-version: 13" in answer.lower().splitlines()


async def test_a_head_without_an_end_is_cut_off(node: Node) -> None:
    stream = await TcpStream.open(node.ws_port)
    await stream.send(b"GET /mqtt HTTP/1.1\r\n")
    with suppress(ConnectionError):
        for n in range(100):
            await stream.send(f"X-{n}: {'x' * 1_000}\r\n".encode())
    assert await stream.receive() == b""
    stream.close()


@pytest.mark.parametrize("offered", ["permessage-deflate", "permessage-deflate; client_max_window_bits, x-webkit"])
async def test_compression_is_not_agreed_on_and_a_compressed_frame_ends_the_connection(
    node: Node, offered: str
) -> None:
    stream = WsStream(await TcpStream.open(node.ws_port))
    client = Client(stream)
    node.clients.append(client)
    status, head = await stream.upgrade(headers={"Sec-WebSocket-Extensions": offered})
    assert status == 101
    assert "extensions" not in head.lower()
    await client.connect("ana")
    await stream.send_frame(FIN | RSV1 | BINARY, zlib.compress(bytes(10_000_000), 9)[:30_000])
    assert await client.rest() == []
    assert stream.close_code == 1002


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


def frames(*pieces: tuple[int, bytes]) -> bytes:
    return b"".join(WsStream.frame(first, data) for first, data in pieces)


PINGREQ = encode(Pingreq(), MQTT_5)
FORBIDDEN = {
    "RSV1": frames((FIN | RSV1 | BINARY, PINGREQ)),
    "RSV2": frames((FIN | 0x20 | BINARY, PINGREQ)),
    "RSV3 on a ping": frames((FIN | 0x10 | 9, b"")),
    "a continuation of nothing": frames((FIN | CONTINUATION, PINGREQ)),
    "a continuation after the end": frames((BINARY, b"\xc0"), (FIN | CONTINUATION, b"\0"), (CONTINUATION, PINGREQ)),
    "a message within another": frames((BINARY, PINGREQ[:1]), (FIN | BINARY, PINGREQ[1:])),
    "a ping in fragments": frames((9, b"a")),
    "a ping of 126 bytes": frames((FIN | 9, b"x" * 126)),
    "an unknown opcode": frames((FIN | 3, PINGREQ)),
    "an unknown control opcode": frames((FIN | 11, b"")),
    "no mask": bytes((FIN | BINARY, 2)) + PINGREQ,
    "a length of 16 bits for 2": bytes((FIN | BINARY, 0x80 | 126, 0, 2)) + bytes(4) + PINGREQ,
    "a length of 64 bits for 2": bytes((FIN | BINARY, 0x80 | 127)) + (2).to_bytes(8) + bytes(4) + PINGREQ,
    "a length of 2^63": bytes((FIN | BINARY, 0x80 | 127)) + (1 << 63).to_bytes(8) + bytes(4),
    "a close code that none may send": frames((FIN | 8, (1005).to_bytes(2))),
    "half a close code": frames((FIN | 8, b"\x03")),
}


@pytest.mark.parametrize("said", FORBIDDEN.values(), ids=FORBIDDEN)
async def test_frames_that_websocket_forbids_end_the_connection_and_are_counted(node: Node, said: bytes) -> None:
    stream, client = await opened(node)
    await client.connect("ana")
    await stream.tcp.send(said + frames((FIN | BINARY, PINGREQ)))
    assert Pingresp() not in (await client.rest())[1:]
    assert stream.close_code == 1002
    assert node.server.counters.refusals == {"WEBSOCKET_PROTOCOL_ERROR": 1}
    await node.gone()


async def test_who_sends_forbidden_frames_and_does_not_read_is_cut_off_too(node: Node) -> None:
    client = await node.connected("ana", transport="ws")
    await client.subscribe(TOPIC)
    node.narrow("ana")
    while not node.transport_of("ana").get_write_buffer_size():
        node.application.publish(TOPIC, "x" * 10_000)
        await asyncio.sleep(0)
    assert isinstance(client.stream, WsStream)
    await client.stream.tcp.send(FORBIDDEN["no mask"])
    await node.until(lambda: node.server.counters.refusals["WEBSOCKET_PROTOCOL_ERROR"] == 1)
    node.tick(LIMITS.drain_s + 1)
    await node.gone()


async def test_a_frame_before_connect_may_be_no_longer_than_a_connect(node: Node) -> None:
    stream, client = await opened(node)
    size = LIMITS.frame_bytes_max
    head = bytes((FIN | BINARY, 0x80 | 126)) + size.to_bytes(2) + bytes(4)
    await stream.tcp.send(head + CONNECT)
    sent = 0
    with suppress(ConnectionError):
        while node.server._connections and sent < size - len(CONNECT) - 1:
            await stream.tcp.send(bytes(500))
            sent += 500
            await asyncio.sleep(0)
    assert sent < LIMITS.connect_bytes_max * 2
    assert await client.rest() == []
    await node.gone()


async def test_a_connect_in_many_small_frames_is_taken(node: Node) -> None:
    stream, client = await opened(node)
    properties = {PropertyId.USER_PROPERTY: [("key", "x" * 100)] * 15}
    connect = encode(Connect("phone", username="ana", properties=properties), MQTT_5)
    assert len(connect) * 7 > LIMITS.connect_bytes_max * 5
    await stream.tcp.send(frames(*((FIN | BINARY, connect[n : n + 1]) for n in range(len(connect)))))
    assert (await client.expect(Connack)).reason_code == 0


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (6, b"\x82\x06"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\0\x7e"),
        (65_535, b"\x82\x7e\xff\xff"),
        (65_536, b"\x82\x7f\0\0\0\0\0\1\0\0"),
    ],
)
async def test_a_delivery_is_one_whole_frame_with_its_length_in_the_shortest_form(
    node: Node, size: int, head: bytes
) -> None:
    stream, client = await opened(node)
    await client.connect("ana")
    await client.subscribe("c", qos=0)
    payload = "x" * (size - (6 if size < 128 else 8))
    node.application.signal("c", payload)
    received = b""
    while len(received) < len(head) + size:
        received += await stream.tcp.receive()
    assert received == head + encode(Publish("c", payload.encode()), MQTT_5)


async def test_who_pings_and_does_not_read_the_pongs_is_not_read(node: Node) -> None:
    client = await node.client("ws", receive_buffer_bytes=4_096)
    assert isinstance(client.stream, WsStream)
    (connection,) = node.server._connections
    transport = connection._transport  # type: ignore[attr-defined]
    flood = asyncio.create_task(client.stream.tcp.send(WsStream.frame(FIN | 9, b"x" * 125) * 100_000))
    await node.until(lambda: not transport.is_reading())
    assert transport.get_write_buffer_size() < LIMITS.send_buffer_bytes_max * 2
    flood.cancel()


async def test_a_flood_of_small_frames_takes_no_memory(node: Node) -> None:
    client = await node.client("ws")
    assert isinstance(client.stream, WsStream)
    (connection,) = node.server._connections
    protocol = connection._transport.get_protocol()  # type: ignore[attr-defined]
    await client.stream.tcp.send(frames((FIN | BINARY, b"")) * 300_000)
    await client.connect("ana")
    free = WSProtocol.get_buffer(protocol, -1)
    assert len(free) < 64 * 1024


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
    assert list(node.server.sessions) == []


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
