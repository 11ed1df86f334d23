"""Hostile clients at every HTTP door: each gets the documented answer, or is cut, and the others are served."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from deploy.services.child_process import running
from tests.support.metrics import GROWTH_MAX, MIB, count_of, cuts, listeners, resident_bytes, wait_for
from tests.support.raw_http import ask, stalled_stream, wait_until_closed
from tests.support.raw_websocket import (
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    UPGRADE,
    auth_frame,
    frame,
    json_frame,
    signed_in,
    stalled_websocket,
    upgraded,
)
from tests.support.server import Server

DRIBBLE_S = 0.05
CUT_WITHIN_S = 6.0
SERVED_WITHIN_S = 4.0
TTL_S = 10
LIMITS = {
    **{"http_head_s": 1, "http_body_s": 1, "http_stall_s": 2, "http_idle_s": 1},
    **{"ws_auth_s": 1, "ws_ping_s": 1, "ws_close_s": 1, "ws_fragments_max": 50, "held_polls_per_user_max": 20},
    "ws_control_rate_max": 1_000,  # another limit is passed first
}


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, **LIMITS) as server:
        yield server


@contextmanager
def serving(directory: Path, **limits: int) -> Iterator[Server]:
    """A server with a conversation between ana and bruno."""
    options = (f"--limit.{name}={number}" for name, number in limits.items())
    with running(Server.serve(directory, *options)) as server:
        server.host_api.create_conversation(["ana", "bruno"], "order")
        yield server


@contextmanager
def others_are_served(server: Server) -> Iterator[None]:
    """Meanwhile ana sends and bruno polls, and no message takes long."""
    is_over = threading.Event()

    def talk() -> float:
        slowest_s = 0.0
        ana, bruno = server.api("ana"), server.api("bruno")
        after = bruno.call("GET", "/conversations/order/events").expect(200)["last_seq"]
        while not is_over.is_set():
            began = time.monotonic()
            ana.send("order", "x")
            after = bruno.call("GET", "/conversations/order/events", after=after, wait=5).expect(200)["last_seq"]
            slowest_s = max(slowest_s, time.monotonic() - began)
            is_over.wait(0.02)
        return slowest_s

    with ThreadPoolExecutor(1) as pool:
        talking = pool.submit(talk)
        try:
            yield
        finally:
            is_over.set()
    assert 0 < talking.result() < SERVED_WITHIN_S


def close_code(connection: socket.socket) -> int:
    """Of the close frame with which what is still to come must end."""
    connection.settimeout(CUT_WITHIN_S)
    data = b"".join(iter(lambda: connection.recv(65_536), b""))
    while (data[0] & 0xF) != CLOSE:
        assert data[1] < 126, data
        data = data[2 + data[1] :]
    return int.from_bytes(data[2:4], "big")


# Slow-loris


def request_head(server: Server) -> bytes:
    return b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"a" * 500


def request_body(server: Server) -> bytes:
    token = server.token("ana")
    head = f"POST /v1/conversations/order/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Length: 500\r\n\r\n".encode() + b" " * 499


def handshake(server: Server) -> bytes:
    return UPGRADE[:-2] + b"X-Filler: " + b"a" * 500


@pytest.mark.parametrize(
    ("sent", "at_once", "limit"),
    [
        (request_head, 0, "http_head_s"),
        (request_body, b"\r\n\r\n", "http_body_s"),
        (handshake, 0, "http_head_s"),
        (handshake, b"Upgrade: websocket\r\n", "http_head_s"),
    ],
    ids=["head", "body", "handshake", "rest of a handshake"],
)
def test_what_comes_byte_by_byte_is_cut_and_keeps_nobody_waiting(
    bounded: Server, sent: Callable[[Server], bytes], at_once: int | bytes, limit: str
) -> None:
    data = sent(bounded)
    first = at_once if isinstance(at_once, int) else data.index(at_once) + len(at_once)
    with ExitStack() as stack:
        stack.enter_context(others_are_served(bounded))
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", bounded.http_port), 20)) for _ in range(50)]
        for connection in slow:
            connection.sendall(data[:first])
        dribble(slow, data[first:])
        assert cuts(bounded, limit) == len(slow)


def dribble(connections: list[socket.socket], data: bytes) -> None:
    """Send a byte at a time, until the server has hung up on all of them."""
    left = list(connections)
    deadline = time.monotonic() + CUT_WITHIN_S
    for number in range(len(data)):
        assert time.monotonic() < deadline, f"{len(left)} are still open"
        left = [connection for connection in left if is_open_after(connection, data[number : number + 1])]
        if not left:
            return
        time.sleep(DRIBBLE_S)  # it is what such a client does
    pytest.fail(f"{len(left)} sent everything")


def is_open_after(connection: socket.socket, byte: bytes) -> bool:
    try:
        connection.sendall(byte)
    except OSError:
        return False
    return True


def test_a_websocket_whose_token_comes_byte_by_byte_is_closed_like_one_that_says_nothing(bounded: Server) -> None:
    with others_are_served(bounded), ExitStack() as stack:
        silent, slow = stack.enter_context(upgraded(bounded)), stack.enter_context(upgraded(bounded))
        dribble([slow], auth_frame(bounded)[:-1])
        assert close_code(silent) == 4401
        assert listeners(bounded, "ws") == 0


def test_a_client_that_reads_half_an_answer_is_cut(bounded: Server) -> None:
    for number in range(200):
        bounded.api("ana").send("order", "x" * 16_000, f"m{number}")
    with socket.socket() as half, others_are_served(bounded):
        half.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        half.settimeout(20)
        half.connect(("127.0.0.1", bounded.http_port))
        head = "GET /v1/conversations/order/events?after=0&limit=200 HTTP/1.1\r\nHost: x\r\n"
        pipelined = 8  # pages of 1 MiB: more than the kernel's buffers take
        half.sendall(f"{head}Authorization: Bearer {bounded.token('bruno')}\r\n\r\n".encode() * pipelined)
        assert half.recv(1000).startswith(b"HTTP/1.1 200 ")
        wait_for(lambda: cuts(bounded, "http_stall_s") == 1)


# Before and after signing in


def test_a_stranger_may_not_send_more_than_a_token(bounded: Server) -> None:
    before = resident_bytes(bounded)
    with others_are_served(bounded), ExitStack() as stack:
        for number in range(1, 101):
            stranger = stack.enter_context(upgraded(bounded))
            stranger.sendall(frame(TEXT, b"x" * 120_000)[:20_000])  # of a frame that a member may send
            assert close_code(stranger) == 1009
            assert cuts(bounded, "ws_auth_bytes_max") == number
    assert resident_bytes(bounded) - before < GROWTH_MAX


def test_a_whole_first_frame_over_that_limit_is_refused_as_well(bounded: Server) -> None:
    with upgraded(bounded) as stranger:
        stranger.sendall(json_frame({"type": "auth", "token": "x" * 17_000}))
        assert close_code(stranger) == 1009


def test_pings_before_the_token_count_as_well(bounded: Server) -> None:
    with upgraded(bounded) as stranger:
        stranger.sendall(frame(PING, b"x" * 125) * 200)
        assert close_code(stranger) == 1009


def test_large_frames_may_follow_the_token_at_once(bounded: Server) -> None:
    conversations = {f"{'none':-<60}{number}": 0 for number in range(300)}
    subscribe = json_frame({"type": "subscribe", "conversations": conversations})
    assert len(subscribe) > 16 * 1024
    with upgraded(bounded) as client:
        client.sendall(auth_frame(bounded) + subscribe)
        answered = b""
        while b'"subscribed"' not in answered:
            answered += client.recv(65_536)
        assert answered.count(b'"not_found"') == 300


def test_a_message_of_endless_fragments_is_refused(bounded: Server) -> None:
    with signed_in(bounded) as client:
        client.sendall(frame(TEXT, b"[", is_last=False) + frame(CONTINUATION, is_last=False) * 60)
        assert close_code(client) == 1009
    assert cuts(bounded, "ws_fragments_max") == 1


def test_a_client_that_answers_no_ping_is_closed_and_one_that_does_stays(bounded: Server) -> None:
    with signed_in(bounded) as deaf, connect(f"ws://127.0.0.1:{bounded.http_port}/v1/ws") as alive:
        alive.send(json.dumps({"type": "auth", "token": bounded.token("ana")}))
        assert json.loads(alive.recv(20))["type"] == "ready"
        assert close_code(deaf) == 1011
        wait_for(lambda: listeners(bounded, "ws") == 1)
        assert alive.ping().wait(20)
    assert cuts(bounded, "ws_ping_s") == 1


# Ends that a client does not read of


def fill_stream(server: Server) -> None:
    """Send until the stream of bruno, who reads nothing, takes no more: then it is not sent signals either."""
    ana = server.api("ana")
    while not count_of(server, "recado_feed_signals_dropped_total"):
        with ThreadPoolExecutor(4) as senders:
            seqs = list(senders.map(lambda _: server.api("ana").send("order", "x" * 16_000)["seq"], range(40)))
        ana.call("PUT", "/conversations/order/read", {"seq": max(seqs)}).expect(200)


STALLED = pytest.mark.parametrize(("kind", "open_one"), [("sse", stalled_stream), ("ws", stalled_websocket)])
OpenOne = Callable[..., socket.socket]


@STALLED
def test_a_stream_ends_with_its_token_although_its_client_does_not_read(
    tmp_path: Path, kind: str, open_one: OpenOne
) -> None:
    with serving(tmp_path) as server:
        expires_at = time.monotonic() + TTL_S
        with closing(open_one(server, TTL_S)) as stalled:
            wait_for(lambda: listeners(server, kind) == 1)
            fill_stream(server)
            assert time.monotonic() < expires_at - 1.1, "the machine is too slow for this"
            assert listeners(server, kind) == 1
            wait_for(lambda: listeners(server, kind) == 0)
            wait_until_closed(stalled, CUT_WITHIN_S)


@STALLED
def test_the_users_sessions_end_at_once_although_their_clients_do_not_read(
    tmp_path: Path, kind: str, open_one: OpenOne
) -> None:
    with serving(tmp_path) as server, closing(open_one(server)) as stalled:
        wait_for(lambda: listeners(server, kind) == 1)
        fill_stream(server)
        server.host_api.call("DELETE", "/users/bruno/sessions").expect(204)
        wait_for(lambda: listeners(server, kind) == 0)
        wait_until_closed(stalled, CUT_WITHIN_S)


# Too many


def test_ten_thousand_polls_of_one_user_are_answered_and_keep_nobody_out(tmp_path: Path) -> None:
    many = 10_000
    with serving(tmp_path) as server, ExitStack() as stack:
        before = resident_bytes(server)
        polls: list[socket.socket] = []
        with others_are_served(server):
            server.host_api.create_conversation(["eve"], "own")
            path = "/conversations/own/events?wait=60"
            polls += [stack.enter_context(closing(ask(server, path, "eve"))) for _ in range(many)]
        held, refused = polls[:100], polls[100:]
        assert listeners(server, "poll") == len(held)
        for poll in refused:
            answer = poll.recv(4096)
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nretry-after: " in answer
        assert count_of(server, 'recado_feed_refused_total{limit="held_polls_per_user_max"}') == len(refused)
        server.host_api.acting_as("eve").send("own", "at last")
        assert all(b"at last" in poll.recv(4096) for poll in held)
        assert resident_bytes(server) - before < 3 * GROWTH_MAX


def test_connections_that_were_reset_are_forgotten_at_once(bounded: Server, tmp_path: Path) -> None:
    def ask_and_reset(count: int) -> None:
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", bounded.http_port), 20) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(4096)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    ask_and_reset(500)
    before = resident_bytes(bounded)
    ask_and_reset(3_000)
    assert resident_bytes(bounded) - before < 8 * MIB


# Connections that are kept


def test_a_connection_that_polls_is_never_idle(bounded: Server) -> None:
    head = (
        f"GET /v1/events?cursor=0&wait=%d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bounded.token('bruno')}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", bounded.http_port), 20) as connection:
        for wait_s in (3, 0, 0, 0, 0, 0):
            connection.sendall((head % wait_s).encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 204 ")
            time.sleep(0.5)  # half of http_idle_s: the form that polls every now and then
        assert connection.recv(4096) == b"", "and then it is"
