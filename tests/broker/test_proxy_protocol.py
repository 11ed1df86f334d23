"""The PROXY protocol: the header byte by byte, and listeners whose connections begin with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.broker.proxy_protocol import HEADER_BYTES_MAX, SIGNATURE, MalformedHeader, client_of, missing
from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_5, Connack, Connect
from tests.broker.application import LIMITS, Application
from tests.broker.certificates import Certificate
from tests.broker.client import Client, WsStream
from tests.broker.places import Places, running

LOCAL, PROXY = 0x20, 0x21
CONNECT = encode(Connect("phone", username="ana"), MQTT_5)


def header(command: int, family: int, addresses: bytes, fields: bytes = b"") -> bytes:
    body = addresses + fields
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2) + body


def from_address(source: str, port: int, fields: bytes = b"") -> bytes:
    packed = ip_address(source).packed
    ends = packed + bytes(len(packed)) + port.to_bytes(2) + (1883).to_bytes(2)
    return header(PROXY, 0x11 if len(packed) == 4 else 0x21, ends, fields)


FROM_ANA = from_address("203.0.113.7", 51_234)
UNIX_PATHS = b"/run/ana.sock".ljust(108, b"\0") * 2

WHOLE = {
    "TCP over IPv4": (FROM_ANA, "203.0.113.7:51234"),
    "TCP over IPv6": (from_address("2001:db8::7", 51_234), "[2001:db8::7]:51234"),
    "with fields": (from_address("203.0.113.7", 51_234, b"\x04\x00\x03abc\x20\x00\x05hello"), "203.0.113.7:51234"),
    "as long as may be": (
        from_address("203.0.113.7", 51_234, bytes(HEADER_BYTES_MAX - len(FROM_ANA))),
        "203.0.113.7:51234",
    ),
    "a Unix socket": (header(PROXY, 0x31, UNIX_PATHS), "unix"),
    "the proxy itself": (header(LOCAL, 0x00, b""), None),
    "the proxy itself, with an address": (header(LOCAL, 0x11, bytes(12)), None),
    "unspecified": (header(PROXY, 0x00, b""), None),
}
MALFORMED = {
    "version 1": b"PROXY TCP4 203.0.113.7 203.0.113.1 51234 1883\r\n",
    "no header": CONNECT,
    "one wrong byte": SIGNATURE[:-1] + b"\r" + FROM_ANA[12:],
    "another version": SIGNATURE + b"\x31" + FROM_ANA[13:],
    "another command": SIGNATURE + b"\x22" + FROM_ANA[13:],
    "datagrams": header(PROXY, 0x12, bytes(12)),
    "an unknown family": header(PROXY, 0x41, bytes(12)),
    "too short for its family": header(PROXY, 0x11, bytes(11)),
    "too long": SIGNATURE + bytes((PROXY, 0x11)) + b"\xff\xff",
}


def read(data: bytes, most: int = HEADER_BYTES_MAX) -> tuple[str | None, int]:
    """Give the parser as much as it asks for, `most` bytes at a time. Returns the client and what was read."""
    taken = b""
    while more := missing(taken):
        part = data[len(taken) : len(taken) + min(more, most)]
        if not part:
            raise EOFError
        taken += part
    return client_of(taken), len(taken)


# The header


@pytest.mark.parametrize(("data", "client"), WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("most", [1, 3, HEADER_BYTES_MAX])
def test_a_header_says_who_the_client_is_and_nothing_after_it_is_read(
    data: bytes, client: str | None, most: int
) -> None:
    assert read(data + CONNECT, most) == (client, len(data))


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("most", [1, HEADER_BYTES_MAX])
def test_what_is_no_header_is_refused(data: bytes, most: int) -> None:
    with pytest.raises(MalformedHeader):
        read(data, most)


def test_the_first_wrong_byte_is_enough() -> None:
    for wrong in range(len(SIGNATURE)):
        with pytest.raises(MalformedHeader):
            missing(SIGNATURE[:wrong] + b"?")


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_a_header_or_are_refused(data: bytes, signed: bool) -> None:
    with suppress(MalformedHeader, EOFError):
        client, size = read((SIGNATURE if signed else b"") + data)
        assert size <= HEADER_BYTES_MAX
        assert client is None or client


# Listeners that expect it


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificates"), "server")


@pytest.fixture
async def places(certificate: Certificate, tmp_path: Path) -> AsyncIterator[Places]:
    async with running(Application(replace(LIMITS, connect_timeout_s=1)), certificate, tmp_path) as places:
        yield places


def upgrade_and_connect() -> bytes:
    lines = ("GET /mqtt HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade")
    asked = (*lines, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13")
    return "\r\n".join((*asked, "Sec-WebSocket-Protocol: mqtt", "", "")).encode() + WsStream.frame(0x82, CONNECT)


def peers(places: Places) -> list[str]:
    return [each.peer for each in places.application.server._connections]


@pytest.mark.parametrize(("transport", "first"), [("tcp", CONNECT), ("ws", upgrade_and_connect())], ids=["tcp", "ws"])
@pytest.mark.parametrize("cut", ["one segment", "each byte"])
async def test_the_header_and_what_comes_after_it_may_be_cut_anywhere(
    places: Places, transport: str, first: bytes, cut: str
) -> None:
    stream = await places.stream(await places.listen(transport, proxy_protocol=True))
    said = FROM_ANA + first
    for part in [said] if cut == "one segment" else [said[n : n + 1] for n in range(len(said))]:
        await stream.send(part)
        await asyncio.sleep(0)
    answer = b""
    while encode(Connack(), MQTT_5)[:1] not in answer.rpartition(b"\r\n\r\n")[2]:
        answer += await stream.receive()
    assert peers(places) == ["203.0.113.7:51234"]


@pytest.mark.parametrize("transport", ["tcp", "ws", "unix"])
@pytest.mark.parametrize("kind", ["TCP over IPv6", "a Unix socket", "the proxy itself"])
async def test_a_client_behind_a_proxy_is_known_by_its_own_address(places: Places, transport: str, kind: str) -> None:
    data, client = WHOLE[kind]
    listening = await places.listen(transport, proxy_protocol=True)
    stream = await places.stream(listening)
    await stream.send(data)
    connected = await places.client(listening, stream)
    await connected.connect("ana")
    assert peers(places) == [client or ("unix" if transport == "unix" else stream.address)]
    await connected.subscribe("c/order")
    places.application.publish("c/order", "x" * 10_000)
    assert await connected.take(1) == ["x" * 10_000]


@pytest.mark.parametrize("transport", ["tls", "wss"])
async def test_the_header_comes_before_tls(places: Places, transport: str) -> None:
    listening = await places.listen(transport, proxy_protocol=True)
    loop = asyncio.get_running_loop()
    connecting = socket.create_connection(("127.0.0.1", listening.port))
    connecting.setblocking(False)
    await loop.sock_sendall(connecting, FROM_ANA)
    stream = await places.stream(listening, sock=connecting)
    client = await places.client(listening, stream)
    assert isinstance(client, Client)
    await client.connect("ana")
    assert peers(places) == ["203.0.113.7:51234"]


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_a_connection_without_a_right_header_is_closed_and_counted(places: Places, data: bytes) -> None:
    listening = await places.listen("tcp", proxy_protocol=True)
    stream = await places.stream(listening)
    await stream.send(data)
    assert await stream.ends()
    assert places.refusals == {"PROXY_PROTOCOL": 1}
    assert places.application.server._connections == set()


@pytest.mark.parametrize("said", [b"", FROM_ANA[:5], FROM_ANA[:-1]], ids=["nothing", "a part", "all but one byte"])
async def test_a_header_that_does_not_come_in_time_ends_the_connection(places: Places, said: bytes) -> None:
    listening = await places.listen("ws", proxy_protocol=True, connections_max=1)
    stream = await places.stream(listening)
    await stream.send(said)
    await places.until(lambda: listening.listener.opening == 1)
    refused = await places.stream(listening)
    assert await refused.ends()
    assert places.refusals == {"LISTENER_CONNECTIONS_MAX": 1}
    assert await stream.ends()
    assert places.refusals == {"LISTENER_CONNECTIONS_MAX": 1, "PROXY_PROTOCOL": 1}


async def test_a_client_that_leaves_within_its_header_harms_nothing(places: Places) -> None:
    listening = await places.listen("tcp", proxy_protocol=True)
    for said in (b"", FROM_ANA[:20]):
        stream = await places.stream(listening)
        await stream.send(said)
        stream.close()
    await places.until(lambda: places.refusals == {"PROXY_PROTOCOL": 2} and listening.listener.opening == 0)


async def test_a_header_where_none_is_expected_is_no_connect(places: Places) -> None:
    stream = await places.stream(await places.listen("tcp"))
    await stream.send(FROM_ANA + CONNECT)
    assert await stream.ends()
    assert places.application.server.counters.connections_total == {"tcp": 1}
