"""Clients that take without reading, or open without finishing, cost a bounded amount and nobody else."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from deploy.services.child_process import running
from recado.mqtt.encoding import encode
from recado.mqtt.packets import MQTT_5, Disconnect, Publish, Suback, Subscribe, SubscriptionRequest
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.support.metrics import GROWTH_MAX, MIB, get_text, resident_bytes, wait_for
from tests.support.raw_http import push, wait_until_closed
from tests.support.raw_mqtt import RawClient
from tests.support.raw_websocket import MQTT_UPGRADE, PING, frame
from tests.support.server import Server


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Server]:
    """A server with small limits, given on its command line."""
    limits = {"http_head_s": 1, "http_connections_max": 20, "stall_s": 1, "connect_timeout_s": 2, "log_cursors_max": 3}
    with running(Server.serve(tmp_path, *(f"--limit.{name}={number}" for name, number in limits.items()))) as server:
        yield server


def test_pings_without_reading_the_pongs_take_no_memory_before_connect(server: Server) -> None:
    before = resident_bytes(server)
    with socket.create_connection(("127.0.0.1", server.ws_port), 20) as connection:
        connection.sendall(MQTT_UPGRADE)
        assert b"101" in connection.recv(4096)
        push(connection, frame(PING, b"x" * 125) * 500, 100 * MIB)
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
        wait_for(lambda: 'recado_mqtt_connections{transport="tcp"} 0' in get_text(bounded, "/metrics"))


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
        connection.sendall(MQTT_UPGRADE)
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
