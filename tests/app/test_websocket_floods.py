"""WebSockets under floods and odd requests, and the end of the server while clients do not read: each is answered or
closed, the others have their turn, and the log stays empty."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from recado.app.http_server import serving_http
from recado.app.limits import with_changes
from recado.broker.deadlines import Deadlines
from tests.support.raw_websocket import CLOSE, PING, TEXT, frame, handshake

TIMEOUT_S = 20
PONG = 0xA
CONTROL_RATE_MAX = 50
TURN_BYTES = 4096
BIG = b"x" * 4_000_000
LIMITS = with_changes({"ws_control_rate_max": CONTROL_RATE_MAX, "drain_s": 1})


def on_uvloop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """On the loop of the real server, which reads and writes at once."""

    @wraps(test)
    def run(**named: Any) -> None:
        uvloop.run(test(**named))

    vars(run)["__signature__"] = inspect.signature(test)
    del run.__wrapped__  # or pytest would take it for a coroutine
    return run


@pytest.fixture(autouse=True)
def _log_stays_empty(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """To a WebSocket what it says, to a request an answer that no buffer takes."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(BIG))]})
        await send({"type": "http.response.body", "body": BIG})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


@asynccontextmanager
async def serving(app: ASGIApp = echo, deadlines: Deadlines | None = None) -> AsyncIterator[int]:
    async with serving_http(app, "127.0.0.1", 0, LIMITS, deadlines or Deadlines()) as port:
        yield port


async def connect(port: int, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has sent that much, its end included."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def upgraded(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await connect(port, handshake("/"))
    assert b" 101 " in await head_of(reader)
    return reader, writer


def who_reads_nothing(port: int, sent: bytes) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.setblocking(True)
    connection.connect(("127.0.0.1", port))
    connection.sendall(sent)
    return connection


async def head_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(TIMEOUT_S):
        return await reader.readuntil(b"\r\n\r\n")


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the end of the connection."""
    async with asyncio.timeout(TIMEOUT_S):
        return await reader.read()


async def closed_with(reader: asyncio.StreamReader) -> tuple[int, str]:
    """The code and the reason of the close frame that is last."""
    data = await rest_of(reader)
    while data[0] & 0xF != CLOSE:
        data = data[2 + data[1] :]
    return int.from_bytes(data[2:4], "big"), data[4:].decode()


# Handshakes


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        (["Content-Length: 10"], 400, "invalid"),
        (["Transfer-Encoding: chunked"], 400, "invalid"),
        (["X: " + "y" * 9_000], 431, "too_large"),
        ([f"X{number}: y" for number in range(200)], 431, "too_large"),
    ],
)
@on_uvloop
async def test_a_handshake_that_no_websocket_can_begin_with_is_answered(
    lines: list[str], status: int, code: str
) -> None:
    async with serving() as port:
        reader, writer = await connect(port, handshake("/", *lines))
        head = await head_of(reader)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert json.loads(await rest_of(reader))["error"]["code"] == code
        writer.close()


@on_uvloop
async def test_a_browser_with_many_cookies_gets_its_websocket() -> None:
    async with serving() as port:
        reader, writer = await connect(port, handshake("/", "Cookie: " + "y" * 20_000))
        assert b" 101 " in await head_of(reader)
        writer.close()


@on_uvloop
async def test_what_comes_before_the_websocket_is_accepted_waits_for_it() -> None:
    async def accepts_late(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await is_sent.wait()
        await echo(scope, receive, send)

    asked, is_sent = asyncio.Event(), asyncio.Event()
    async with serving(accepts_late) as port:
        reader, writer = await connect(port, handshake("/"))
        await asked.wait()
        writer.write(frame(0x3) + frame(TEXT, b"after a frame of no known kind"))
        await writer.drain()
        asyncio.get_running_loop().call_later(0.05, is_sent.set)
        assert b" 101 " in await head_of(reader)
        assert (await closed_with(reader))[0] == 1002
        writer.close()


# Floods


@pytest.mark.parametrize("kind", [PING, PONG])
@on_uvloop
async def test_more_control_frames_than_a_second_may_have_close_the_websocket(kind: int) -> None:
    async with serving() as port:
        reader, writer = await upgraded(port)
        writer.write(frame(TEXT, b"{}") + frame(kind) * CONTROL_RATE_MAX + frame(TEXT, b"[]") + frame(kind))
        assert await closed_with(reader) == (1008, f"a client may send {CONTROL_RATE_MAX} pings and pongs a second")
        writer.close()


@on_uvloop
async def test_as_many_in_each_second_are_answered() -> None:
    deadlines = Deadlines()
    async with serving(deadlines=deadlines) as port:
        reader, writer = await upgraded(port)
        for _ in range(3):
            deadlines.advance()
            writer.write(frame(PING) * CONTROL_RATE_MAX)
            async with asyncio.timeout(TIMEOUT_S):
                assert await reader.readexactly(2 * CONTROL_RATE_MAX) == b"\x8a\x00" * CONTROL_RATE_MAX
        writer.close()


@on_uvloop
async def test_a_flood_of_messages_leaves_the_loop_its_turns_and_loses_none() -> None:
    turn, taken = 0, []
    count = 30_000

    async def count_turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    async def take(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            taken.append((turn, int(message["text"])))
            if len(taken) == count:
                await send({"type": "websocket.send", "text": "all"})

    counting = asyncio.create_task(count_turns())
    async with serving(take) as port:
        reader, writer = await upgraded(port)
        writer.write(b"".join(frame(TEXT, b"%d" % number) for number in range(count)))
        async with asyncio.timeout(TIMEOUT_S):
            assert await reader.readexactly(5) == b"\x81\x03all"
        assert [number for _, number in taken] == list(range(count))
        assert max(Counter(turn for turn, _ in taken).values()) <= TURN_BYTES // len(frame(TEXT, b"0"))
        writer.close()
    counting.cancel()


@on_uvloop
async def test_text_that_is_not_utf_8_closes_the_websocket_and_logs_nothing() -> None:
    async with serving() as port:
        reader, writer = await upgraded(port)
        writer.write(frame(TEXT, b"\xff"))
        assert await closed_with(reader) == (1007, "a text message is UTF-8")
        writer.close()


# The server's end


@on_uvloop
async def test_clients_that_read_nothing_do_not_keep_a_server_from_its_end() -> None:
    async with asyncio.timeout(TIMEOUT_S), serving() as port:
        reader, writer = await connect(port)
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        pipelining = await asyncio.to_thread(who_reads_nothing, port, request * 20)
        refused = await asyncio.to_thread(who_reads_nothing, port, handshake("/", "Content-Length: 10"))
        idle_reader, idle_writer = await upgraded(port)
    assert (await closed_with(idle_reader))[0] == 1001
    assert await rest_of(reader) == b""
    for connection in (pipelining, refused, writer, idle_writer):
        connection.close()


@on_uvloop
async def test_a_websocket_that_is_just_being_closed_does_not_disturb_the_end() -> None:
    async def tell_much(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": BIG})
        while (await receive())["type"] == "websocket.receive":
            pass
        is_closing.set()

    is_closing = asyncio.Event()
    async with asyncio.timeout(TIMEOUT_S), serving(tell_much) as port:
        stalled = await asyncio.to_thread(who_reads_nothing, port, handshake("/"))
        await asyncio.to_thread(stalled.recv, 10)
        await asyncio.to_thread(stalled.sendall, frame(CLOSE, b"\x03\xe8"))
        await is_closing.wait()
    stalled.close()
