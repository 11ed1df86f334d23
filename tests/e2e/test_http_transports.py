"""Held polls, event streams and WebSockets on a real server: the wire, who leaves, who stalls, resuming, the end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from deploy.services.child_process import running
from tests.support.metrics import GROWTH_MAX, MIB, cuts, listeners, resident_bytes, wait_for
from tests.support.raw_http import ask, push, stalled_stream, wait_until_closed
from tests.support.raw_websocket import PING, UPGRADE, frame, stalled_websocket
from tests.support.server import Server

EMPTY_ANSWER_BYTES_MAX = 100


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Server]:
    limits = {"held_polls_per_user_max": 2, "http_stall_s": 1, "ws_auth_s": 1, "ws_frame_bytes_max": 2_000}
    with running(Server.serve(tmp_path, *(f"--limit.{name}={number}" for name, number in limits.items()))) as server:
        server.host_api.create_conversation(["ana", "bruno"], "order")
        yield server


@contextmanager
def signed_in(server: Server) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{server.http_port}/v1/ws") as client:
        client.send(json.dumps({"type": "auth", "token": server.token("bruno")}))
        assert json.loads(client.recv(20))["type"] == "ready"
        yield client


# What is on the wire


@pytest.mark.parametrize("path", ["/conversations/order/events?after=0&wait=0", "/events?cursor=0&wait=1"])
def test_an_answer_of_nothing_is_tiny(bounded: Server, path: str) -> None:
    with closing(ask(bounded, path)) as connection:
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert answer.endswith(b"\r\n\r\n")
        assert len(answer) <= EMPTY_ANSWER_BYTES_MAX


def test_a_connection_polls_again_and_again(bounded: Server) -> None:
    with closing(ask(bounded, "/conversations/order/events?after=0&wait=5")) as connection:
        wait_for(lambda: listeners(bounded, "poll") == 1)
        for number in range(1, 4):
            bounded.api("ana").send("order", f"{number}")
            assert f'"body":"{number}"'.encode() in connection.recv(4096)
            head = f"GET /v1/conversations/order/events?after={number}&wait=5 HTTP/1.1\r\nHost: x\r\n"
            connection.sendall(f"{head}Authorization: Bearer {bounded.token('bruno')}\r\n\r\n".encode())
            wait_for(lambda: listeners(bounded, "poll") == 1)


def test_a_websocket_is_never_compressed_and_answers_pings(bounded: Server) -> None:
    with socket.create_connection(("127.0.0.1", bounded.http_port), 20) as connection:
        connection.sendall(UPGRADE)
        answer = connection.recv(4096).lower()
        assert b" 101 " in answer
        assert b"deflate" not in answer
    with signed_in(bounded) as client:
        assert client.ping().wait(20)


# Who leaves, who never begins, who stalls


def test_a_client_that_leaves_gives_up_its_place_at_once(bounded: Server) -> None:
    path = "/conversations/order/events?after=0&wait=60"
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(closing(ask(bounded, path)))
            wait_for(lambda: listeners(bounded, "poll") == 2)
            with closing(ask(bounded, path)) as one_too_many:
                answer = one_too_many.recv(4096).lower()
                assert answer.startswith(b"http/1.1 429 ")
                assert b"retry-after:" in answer
        wait_for(lambda: listeners(bounded, "poll") == 0)
    with closing(ask(bounded, "/events", accept="text/event-stream")):
        wait_for(lambda: listeners(bounded, "sse") == 1)
    wait_for(lambda: listeners(bounded, "sse") == 0)


def test_a_websocket_that_never_signs_in_is_closed(bounded: Server) -> None:
    with connect(f"ws://127.0.0.1:{bounded.http_port}/v1/ws") as client:
        with pytest.raises(ConnectionClosed):
            client.recv(20)
        assert client.close_code == 4401


def test_a_frame_over_the_limit_is_closed_with_1009(bounded: Server) -> None:
    with signed_in(bounded) as client:
        client.send("x" * 3_000)
        with pytest.raises(ConnectionClosed):
            client.recv(20)
        assert client.close_code == 1009


def test_pings_without_reading_the_pongs_take_no_memory(bounded: Server) -> None:
    before = resident_bytes(bounded)
    with socket.create_connection(("127.0.0.1", bounded.http_port), 20) as connection:
        connection.sendall(UPGRADE)
        assert b" 101 " in connection.recv(4096)
        push(connection, frame(PING, b"x" * 125) * 500, 100 * MIB)
        assert resident_bytes(bounded) - before < GROWTH_MAX


@pytest.mark.parametrize(("kind", "open_one"), [("sse", stalled_stream), ("ws", stalled_websocket)])
def test_a_client_that_reads_nothing_costs_little_and_is_cut(
    bounded: Server, kind: str, open_one: Callable[[Server], socket.socket]
) -> None:
    with closing(open_one(bounded)) as stalled:
        wait_for(lambda: listeners(bounded, kind) == 1)
        before = resident_bytes(bounded)
        body = "x" * 16_000
        with ThreadPoolExecutor(8) as senders:
            list(senders.map(lambda _: bounded.api("ana").send("order", body), range(600)))
        wait_for(lambda: listeners(bounded, kind) == 0)
        assert resident_bytes(bounded) - before < GROWTH_MAX
        wait_until_closed(stalled, 20)
    assert cuts(bounded, "http_stall_s") == 1


# Resuming


def polled(server: Server, after: int) -> Iterator[int]:
    while True:
        answer = server.api("bruno").call("GET", "/conversations/order/events", after=after, wait=5)
        assert answer.status in (200, 204), answer
        for event in answer.body.get("events", ()):
            after = event["seq"]
            yield after


def streamed(server: Server, after: int) -> Iterator[int]:
    path, more = "/conversations/order/events", f"Last-Event-ID: {after}\r\n"
    with closing(ask(server, path, accept="text/event-stream", more=more)) as connection:
        for line in connection.makefile("rb"):
            if line.startswith(b"data: "):
                yield json.loads(line[6:])["seq"]
    raise ConnectionError


def over_websocket(server: Server, after: int) -> Iterator[int]:
    with signed_in(server) as client:
        client.send(json.dumps({"type": "subscribe", "conversations": {"order": after}}))
        for text in client:
            if (told := json.loads(text))["type"] == "event":
                yield told["event"]["seq"]
    raise ConnectionError


@pytest.mark.parametrize("read", [polled, streamed, over_websocket])
def test_nothing_is_missed_and_nothing_comes_twice_over_a_kill_while_others_send(
    bounded: Server, read: Callable[[Server, int], Iterator[int]]
) -> None:
    count = 120
    is_killed = threading.Event()

    def send_all() -> None:
        api = bounded.api("ana")
        for number in range(count):
            while True:
                try:
                    api.send("order", "x", f"m{number}")
                    break
                except (OSError, HTTPException):
                    time.sleep(0.02)
            if number == count // 2:
                is_killed.wait(20)

    sender = threading.Thread(target=send_all)
    sender.start()
    seqs: list[int] = []
    while len(seqs) < count:
        try:
            for seq in read(bounded, seqs[-1] if seqs else 0):
                seqs.append(seq)
                if len(seqs) % 25 == 0 or len(seqs) == count:
                    break  # come back, at the seam of log and live
        except (OSError, HTTPException, ConnectionClosed):
            time.sleep(0.02)
        if len(seqs) >= count // 3 and not is_killed.is_set():
            bounded.kill()
            bounded.start()
            is_killed.set()
    sender.join()
    assert seqs == list(range(1, count + 1))


# The end


def test_a_stopping_server_answers_what_it_holds_and_closes_what_is_open(bounded: Server) -> None:
    with (
        closing(ask(bounded, "/conversations/order/events?after=0&wait=60")) as poll,
        closing(ask(bounded, "/events", accept="text/event-stream")) as stream,
        signed_in(bounded) as client,
    ):
        wait_for(lambda: (listeners(bounded, "poll"), listeners(bounded, "sse")) == (1, 1))
        began = time.monotonic()
        bounded.stop()
        assert time.monotonic() - began < 3
        assert poll.recv(4096).startswith(b"HTTP/1.1 204 ")
        assert b"event: end\ndata: " in b"".join(iter(lambda: stream.recv(4096), b""))
        with pytest.raises(ConnectionClosed):
            client.recv(20)
        assert client.close_code == 1001
