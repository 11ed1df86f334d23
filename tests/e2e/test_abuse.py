"""Clients that take without reading, or open without finishing, cost a bounded amount and nobody else."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from recado.mqtt.encoding import encode
from recado.mqtt.packets import MQTT_5, Disconnect, Publish, Suback, Subscribe, SubscriptionRequest
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.support.raw_mqtt import RawClient
from tests.support.server import Server

MIB = 1024 * 1024
GROWTH_MAX = 40 * MIB
UPGRADE = (
    "GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Server]:
    """A server with small limits, given on its command line."""
    limits = {"http_head_s": 1, "http_connections_max": 20, "stall_s": 1, "connect_timeout_s": 2, "log_cursors_max": 3}
    server = Server.serve(tmp_path, *(f"--limit.{name}={number}" for name, number in limits.items()))
    try:
        server.start()
        yield server
    finally:
        server.close()


def resident_bytes(server: Server) -> int:
    pages = Path(f"/proc/{server.pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def get_text(server: Server, path: str) -> str:
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    with closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()


def push(connection: socket.socket, chunk: bytes, total: int) -> int:
    """Write up to `total` bytes until the peer takes no more for a while, or hangs up; returns how many it took."""
    connection.settimeout(1)
    sent = 0
    try:
        while sent < total:
            sent += connection.send(chunk)
    except OSError:
        pass
    return sent


def wait_until_closed(connection: socket.socket, within_s: float) -> None:
    connection.settimeout(within_s)
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass


def test_pings_without_reading_the_pongs_take_no_memory_before_connect(server: Server) -> None:
    before = resident_bytes(server)
    with socket.create_connection(("127.0.0.1", server.ws_port), 20) as connection:
        connection.sendall(UPGRADE.encode())
        assert b"101" in connection.recv(4096)
        ping = bytes([0x89, 0x80 | 125]) + bytes(4) + b"x" * 125
        push(connection, ping * 500, 100 * MIB)
        assert resident_bytes(server) - before < GROWTH_MAX


def test_refused_publishes_without_reading_the_answers_take_no_memory(server: Server) -> None:
    before = resident_bytes(server)
    with closing(RawClient(server, "eve")) as eve:
        refused = b"".join(encode(Publish("x", b"", 1, packet_id=packet_id), MQTT_5) for packet_id in range(1, 2000))
        taken = push(eve.socket, refused, 100 * MIB)
        assert taken < 100 * MIB, "the server went on reading"
        assert resident_bytes(server) - before < GROWTH_MAX


def test_a_connection_that_takes_nothing_of_its_full_buffer_is_cut_off(bounded: Server) -> None:
    with closing(RawClient(bounded, "eve")) as eve:
        refused = b"".join(encode(Publish("x", b"", 1, packet_id=packet_id), MQTT_5) for packet_id in range(1, 2000))
        push(eve.socket, refused, 100 * MIB)
        deadline = time.monotonic() + 30
        while 'recado_mqtt_connections{transport="tcp"} 0' not in get_text(bounded, "/metrics"):
            assert time.monotonic() < deadline, "the stalled connection is still there"
            time.sleep(0.05)


def test_an_endless_request_head_is_refused(server: Server) -> None:
    before = resident_bytes(server)
    with socket.create_connection(("127.0.0.1", server.http_port), 20) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        taken = push(connection, b"X-Filler: " + b"a" * 10_000 + b"\r\n", 50 * MIB)
        assert taken < 50 * MIB
    assert resident_bytes(server) - before < GROWTH_MAX
    assert get_text(server, "/healthz")


def test_heads_that_never_end_do_not_keep_others_out(bounded: Server) -> None:
    with ExitStack() as stack:
        lame = []
        for _ in range(30):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", bounded.http_port), 20))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
            lame.append(connection)
        for connection in lame:
            wait_until_closed(connection, 20)
        assert json.loads(get_text(bounded, "/healthz")) == {"status": "ok"}


def test_a_websocket_that_never_connects_is_closed(bounded: Server) -> None:
    with socket.create_connection(("127.0.0.1", bounded.ws_port), 20) as connection:
        connection.sendall(UPGRADE.encode())
        wait_until_closed(connection, 20)


def test_cursors_are_bounded_whosever_conversations_they_name(bounded: Server) -> None:
    names = [f"own-{number}" for number in range(2)]
    for name in names:
        bounded.host_api.create_conversation(["eve"], name)
        bounded.api("eve").send(name, f"of {name}")
    foreign = [("after", f"foreign-{number}=0") for number in range(50)]
    own = [("after", f"{name}=0") for name in names]
    with closing(RawClient(bounded, "eve")) as eve:
        eve.send(Subscribe(1, [SubscriptionRequest("c/+", 0)], {PropertyId.USER_PROPERTY: [foreign[0], *own]}))
        assert isinstance(eve.receive(), Suback)
        assert {eve.expect(Publish).topic_name for _ in names} == {f"c/{name}" for name in names}
    with closing(RawClient(bounded, "eve")) as eve:
        eve.send(Subscribe(1, [SubscriptionRequest("c/+", 1)], {PropertyId.USER_PROPERTY: foreign}))
        assert eve.expect(Disconnect).reason_code is ReasonCode.QUOTA_EXCEEDED
