"""The HTTP server under the application, with an application of its own: what reaches the wire, and when."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import wraps
from typing import NamedTuple, cast

import pytest
import uvicorn
import uvloop
from prometheus_client import REGISTRY
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode

from recado.app.http_protocol import BoundedHttpProtocol, _HeadWithBody
from recado.app.http_server import serving_http
from recado.app.limits import DEFAULT, Limits
from recado.app.websocket_pacing import PacedWebSocketProtocol
from recado.app.websocket_protocol import BoundedWebSocketProtocol
from recado.broker.deadlines import Deadlines
from recado.http.listening import GONE
from tests.support.raw_websocket import CLOSE, CONTINUATION, TEXT, UPGRADE, frame

BODY = b"all of it"
MIB = 1024 * 1024
FLOOD_BYTES = 64 * MIB
DATA_SEGMENTS_IN = 152  # where struct tcp_info has tcpi_data_segs_in


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    while scope["method"] == "POST" and (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


@asynccontextmanager
async def connected() -> AsyncIterator[socket.socket]:
    async with serving_http(answer, "127.0.0.1", 0, DEFAULT, Deadlines()) as port:
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            yield connection


def on_uvloop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """On the loop of the real server, which writes at once."""

    @wraps(test)
    def run() -> None:
        uvloop.run(test())

    del run.__wrapped__  # or pytest would take it for a coroutine
    return run


async def ask(connection: socket.socket, method: str = "GET", more: str = "", body: bytes = b"") -> bytes:
    connection.sendall(f"{method} / HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode() + body)
    return await received(connection)


async def received(connection: socket.socket) -> bytes:
    return await asyncio.to_thread(connection.recv, 4096)


@on_uvloop
async def test_head_and_body_of_an_answer_leave_in_one_segment() -> None:
    async with connected() as connection:
        for number in range(1, 4):
            assert (await ask(connection)).endswith(b"\r\n\r\n" + BODY)
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
            assert struct.unpack_from("I", info, DATA_SEGMENTS_IN)[0] == number


@on_uvloop
async def test_an_answer_without_a_body_and_an_interim_one_are_sent_too() -> None:
    async with connected() as connection:
        assert (await ask(connection, "HEAD")).endswith(b"content-length: 9\r\n\r\n")
        interim = await ask(connection, "POST", "Expect: 100-continue\r\nContent-Length: 2\r\n")
        assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert (await received(connection)).endswith(b"\r\n\r\n" + BODY)


@on_uvloop
async def test_requests_that_come_together_are_answered_in_order() -> None:
    async with connected() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        answers = b""
        while answers.count(BODY) < 3:
            answers += await received(connection)
        assert [part.count(b"HTTP/1.1 200 OK\r\n") for part in answers.split(BODY)] == [1, 1, 1, 0]


# What a client does not take


class Flooded(NamedTuple):
    connection: socket.socket
    port: int
    deadlines: Deadlines

    async def say(self, data: bytes) -> None:
        """Until the server has read it: it reads that before it answers another client."""
        self.connection.sendall(data)
        with socket.create_connection(("127.0.0.1", self.port), 20) as other:
            other.sendall(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await received(other)

    def pass_time(self, seconds: int) -> None:
        """So much, and what deadlines may be late."""
        for _ in range(seconds + 1):
            self.deadlines.advance()

    async def read(self, count: int) -> None:
        await asyncio.to_thread(read_exactly, self.connection, count)

    async def read_rest(self) -> int:
        """Bytes of everything that the server had sent when it closed the connection."""
        return await asyncio.to_thread(count_rest, self.connection)


@asynccontextmanager
async def flooded(limits: Limits = DEFAULT, deadlines: Deadlines | None = None) -> AsyncIterator[Flooded]:
    """A client that has asked for more than the kernel holds, and reads nothing of it."""
    has_sent = asyncio.Event()

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/":
            await answer(scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % FLOOD_BYTES)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(FLOOD_BYTES), "more_body": True})
        has_sent.set()
        await send({"type": "http.response.body", "body": b""})

    deadlines = deadlines or Deadlines()
    async with serving_http(flood, "127.0.0.1", 0, limits, deadlines) as port:
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await has_sent.wait()
            yield Flooded(connection, port, deadlines)


def read_exactly(connection: socket.socket, count: int) -> None:
    while count:
        data = connection.recv(min(count, MIB))
        assert data, f"closed with {count} bytes to come"
        count -= len(data)


def count_rest(connection: socket.socket) -> int:
    count = 0
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(MIB):
            count += len(data)
    return count


def cuts(limit: str) -> float:
    return REGISTRY.get_sample_value("recado_http_connections_cut_total", {"limit": limit}) or 0


def with_http(**changes: int) -> Limits:
    return replace(DEFAULT, http=replace(DEFAULT.http, **changes))


WHOLE_REQUEST = b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n"
BEHIND = {
    "nothing": b"",
    "a whole request": WHOLE_REQUEST,
    "the beginning of a head": b"GET /other HTTP/1.1\r\nHost:",
    "the beginning of a body": b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    "a line break": b"\r\n",
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
def test_a_request_behind_an_answer_that_is_not_taken_buys_no_time(behind: bytes) -> None:
    async def run() -> None:
        async with flooded() as client:
            client.pass_time(DEFAULT.http.http_stall_s - 5)
            await client.say(behind)
            client.pass_time(5)
            assert await client.read_rest() < FLOOD_BYTES

    uvloop.run(run())


@on_uvloop
async def test_a_client_that_is_slow_but_takes_its_answer_is_not_cut() -> None:
    async with flooded() as client:
        for _ in range(5):
            await client.read(4 * MIB)
            await client.say(b"")
            client.pass_time(DEFAULT.http.http_stall_s - 5)
        await client.read(FLOOD_BYTES - 20 * MIB)


@on_uvloop
async def test_a_head_behind_an_answer_has_its_time_once_that_is_taken() -> None:
    async with flooded() as client:
        await client.say(b"GET /other HTTP/1.1\r\nHost:")
        client.pass_time(DEFAULT.http.http_head_s)
        await client.read(FLOOD_BYTES)
        await client.say(b"")
        client.pass_time(DEFAULT.http.http_head_s)
        assert await client.read_rest() < 1_000


@on_uvloop
async def test_line_breaks_in_place_of_a_request_keep_no_connection_open() -> None:
    async with flooded() as client:
        await client.read(FLOOD_BYTES)
        await client.say(WHOLE_REQUEST)
        await client.say(b"\r\n")
        client.pass_time(DEFAULT.http.http_head_s)
        assert await client.read_rest() < 1_000


ENDS = {
    "it is idle": b"",
    "it asked for that": b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "it asked for a head and that": b"HEAD /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "its head is too large": b"GET /other HTTP/1.1\r\nX: " + b"x" * DEFAULT.http.http_head_bytes_max,
    "it is no HTTP": b"\0\r\n\r\n",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_connection_that_is_to_close_waits_for_its_client_no_longer_than_an_answer(end: bytes) -> None:
    async def run() -> None:
        limits = with_http(http_buffer_bytes_max=2 * FLOOD_BYTES, http_idle_s=1)  # so that no answer waits
        async with flooded(limits) as client:
            if end:
                await client.say(end)
            else:
                await asyncio.sleep(limits.http.http_idle_s)  # begun after the server's timer, so over after it
            client.pass_time(DEFAULT.http.http_stall_s)
            assert await client.read_rest() < FLOOD_BYTES

    uvloop.run(run())


# How many


@on_uvloop
async def test_a_connection_too_many_is_told_so_and_closed_and_one_that_leaves_makes_room() -> None:
    async with serving_http(answer, "127.0.0.1", 0, with_http(http_connections_max=2), Deadlines()) as port:
        silent, asking, one_too_many = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(3)]
        with silent, asking:
            with one_too_many:
                refusal = await asyncio.to_thread(one_too_many.makefile("rb").read)
                assert refusal.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                assert refusal.endswith(b'{"error":{"code":"unavailable","message":"too many connections; try later"}}')
            assert (await ask(asking)).endswith(BODY)
            silent.close()
            with socket.create_connection(("127.0.0.1", port), 20) as next_one:
                assert (await ask(next_one)).endswith(BODY)


@on_uvloop
async def test_requests_that_wait_behind_an_answer_are_a_few() -> None:
    async with flooded() as client:
        before = cuts("http_pipelined_max")
        await client.say(WHOLE_REQUEST * (DEFAULT.http.http_pipelined_max + 10))
        assert await client.read_rest() < FLOOD_BYTES
        assert cuts("http_pipelined_max") == before + 1


@on_uvloop
async def test_an_upgrade_behind_an_answer_that_goes_on_ends_the_connection_and_the_answer() -> None:
    has_begun, has_gone = asyncio.Event(), asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][GONE].append(has_gone.set)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        has_begun.set()
        await has_gone.wait()

    async with serving_http(stream, "127.0.0.1", 0, DEFAULT, Deadlines()) as port:
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await has_begun.wait()
            connection.sendall(UPGRADE)
            await asyncio.wait_for(has_gone.wait(), 20)


# WebSockets


@asynccontextmanager
async def flooded_websocket(limits: Limits, *, closes: bool = False) -> AsyncIterator[Flooded]:
    """A client whose WebSocket was sent more than the kernel holds, and reads nothing of it."""
    has_sent = asyncio.Event()

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "bytes": bytes(FLOOD_BYTES)})
        if closes:
            await send({"type": "websocket.close", "code": 4401})
        has_sent.set()
        while (await receive())["type"] != "websocket.disconnect":
            pass

    deadlines = Deadlines()
    async with serving_http(flood, "127.0.0.1", 0, limits, deadlines) as port:
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(UPGRADE)
            assert b" 101 " in await received(connection)
            connection.sendall(frame(TEXT, b"{}"))
            await has_sent.wait()
            yield Flooded(connection, port, deadlines)


WITHOUT_PAUSES = with_http(http_buffer_bytes_max=2 * FLOOD_BYTES, ws_fragments_max=1)
CLIENTS_ENDS = {
    "its client closes it": frame(CLOSE, b"\x03\xe8"),
    "its client breaks a limit": frame(TEXT, b"[", is_last=False) + frame(CONTINUATION, is_last=False) * 2,
    "its client breaks the protocol": frame(TEXT, b"[", is_last=False) + frame(TEXT, b"["),
}


@pytest.mark.parametrize("end", CLIENTS_ENDS.values(), ids=CLIENTS_ENDS)
def test_a_websocket_that_is_to_close_waits_for_its_client_no_longer_than_for_its_close_frame(end: bytes) -> None:
    async def run() -> None:
        async with flooded_websocket(WITHOUT_PAUSES) as client:
            await client.say(end)
            client.pass_time(DEFAULT.http.ws_close_s)
            assert await client.read_rest() < FLOOD_BYTES

    uvloop.run(run())


@on_uvloop
async def test_a_websocket_that_the_application_closes_waits_no_longer_either() -> None:
    async with flooded_websocket(WITHOUT_PAUSES, closes=True) as client:
        client.pass_time(DEFAULT.http.ws_close_s)
        assert await client.read_rest() < FLOOD_BYTES


@on_uvloop
async def test_a_websocket_that_answers_no_ping_and_takes_no_close_frame_is_cut() -> None:
    async with flooded_websocket(WITHOUT_PAUSES) as client:
        client.pass_time(2 * (DEFAULT.http.ws_ping_s + 1))
        client.pass_time(DEFAULT.http.ws_close_s)
        assert await client.read_rest() < FLOOD_BYTES


@on_uvloop
async def test_a_client_that_has_closed_its_websocket_and_does_not_read_holds_no_server_up() -> None:
    limits = replace(WITHOUT_PAUSES, broker=replace(DEFAULT.broker, drain_s=1))
    with ExitStack() as stack:
        async with flooded_websocket(limits) as client:
            stack.enter_context(client.connection.dup())  # open until the server has stopped
            await client.say(CLIENTS_ENDS["its client closes it"])


@on_uvloop
async def test_a_websocket_that_has_not_signed_in_is_told_that_the_server_stops() -> None:
    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    with ExitStack() as stack:
        async with serving_http(wait, "127.0.0.1", 0, DEFAULT, Deadlines()) as port:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            connection.sendall(UPGRADE)
            assert b" 101 " in await received(connection)
        assert int.from_bytes((await received(connection))[2:4], "big") == CloseCode.GOING_AWAY


# What is relied on of uvicorn


@pytest.mark.parametrize(
    ("protocol", "base", "own"),
    [
        (BoundedHttpProtocol, HttpToolsProtocol, {"on_deadline"}),
        (BoundedWebSocketProtocol, PacedWebSocketProtocol, {"on_deadline"}),
        (PacedWebSocketProtocol, WebSocketsSansIOProtocol, {"parse", "parse_later", "refuse_handshake"}),
    ],
)
def test_every_method_that_is_overridden_is_one_of_uvicorns(protocol: type, base: type, own: set[str]) -> None:
    """Or a bound would be gone in silence, as uvicorn calls a method of another name."""
    public = {name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")}
    assert public - set(dir(base)) == own


@on_uvloop
async def test_every_attribute_that_is_set_is_one_of_uvicorns() -> None:
    config, state = uvicorn.Config(answer), ServerState()
    websocket = WebSocketsSansIOProtocol(config, state, {})
    assert {"close_sent", "close_timeout", "frames", "queue"} <= set(vars(websocket))
    assert {"cycle", "pipeline", "timeout_keep_alive_task"} <= set(vars(HttpToolsProtocol(config, state, {})))
    assert "transport" in inspect.signature(RequestResponseCycle).parameters


def test_an_answer_that_is_written_in_one_piece_is_not_held_back() -> None:
    """As another uvicorn might write it."""
    written = io.BytesIO()
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    for pieces in (
        (head + BODY,),
        (head, BODY),
        (b"HTTP/1.1 100 Continue\r\n\r\n", head, BODY),
        (head + BODY, b"0\r\n\r\n"),
    ):
        written.truncate(0)
        written.seek(0)
        transport = _HeadWithBody(cast(asyncio.Transport, written), written.close, has_body=True)
        for piece in pieces:
            transport.write(piece)
        assert written.getvalue() == b"".join(pieces)
        assert not transport.closed
