"""What one client may ask of the HTTP server before it has answered, and how much of it the server remembers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps

import pytest
import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recado.app.http_server import serving_http
from recado.app.limits import DEFAULT
from recado.broker.deadlines import Deadlines
from recado.http.listening import GONE

BODY = b"all of it"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # struct linger: hang up at once


class Remembered:
    """What a weak reference can be made to."""


class Held:
    """An application that reads a request, and answers it when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive()).get("more_body"):
            pass
        self.asked.set()
        await self.go.wait()
        if message["type"] == "http.request":
            headers = [(b"content-length", b"%d" % len(BODY))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": BODY})


@asynccontextmanager
async def connected(app: ASGIApp, **http: int) -> AsyncIterator[socket.socket]:
    limits = replace(DEFAULT, http=replace(DEFAULT.http, **http))
    async with serving_http(app, "127.0.0.1", 0, limits, Deadlines()) as port:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            yield connection


def on_uvloop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """On the loop of the real server."""

    @wraps(test)
    def run() -> None:
        uvloop.run(test())

    del run.__wrapped__  # or pytest would take it for a coroutine
    return run


async def received(connection: socket.socket, until: bytes = b"", times: int = 1) -> bytes:
    """What comes up to the end, or until it has so many of what is named."""
    text = b""
    while not until or text.count(until) < times:
        part = await asyncio.to_thread(connection.recv, 65_536)
        if not part:
            break
        text += part
    return text


def answered() -> Held:
    held = Held()
    held.go.set()
    return held


@on_uvloop
async def test_nothing_more_is_read_while_requests_wait() -> None:
    held = Held()
    async with connected(held, http_pipelined_max=3) as connection:
        connection.sendall(REQUEST * 2)
        await held.asked.wait()
        connection.sendall(REQUEST * 3)
        for _ in range(100):  # turns of the loop in which it could be read
            await asyncio.sleep(0)
        held.go.set()
        text = await received(connection, BODY, 5)
    assert text.count(b"HTTP/1.1 200 ") == 5


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000,
        b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 10 + b"\r\n",
        CHUNKED + b"0\r\n" + b"a:b\r\n" * 10,
        CHUNKED + b"2\r\n{}\r\n0\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
    ],
    ids=["a long header", "one that has no end", "a long path", "many headers", "many trailers", "a long trailer"],
)
def test_more_head_than_is_remembered_is_refused(sent: bytes) -> None:
    async def refused() -> None:
        async with connected(answered(), http_headers_max=10) as connection:
            connection.sendall(sent)
            text = await received(connection)
        assert text.startswith(b"HTTP/1.1 431 ")
        assert b'"code":"too_large"' in text

    uvloop.run(refused())


@on_uvloop
async def test_a_body_before_the_beginning_of_a_head_is_not_counted_as_its_part() -> None:
    async with connected(answered()) as connection:
        post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b" " * 60_000
        connection.sendall(post + REQUEST[:-6])
        first = await received(connection, BODY)
        connection.sendall(REQUEST[-6:])
        assert (first + await received(connection, BODY)).count(b"HTTP/1.1 200 ") == 2


def test_a_reset_behind_which_requests_wait_is_no_error_of_the_application(caplog: pytest.LogCaptureFixture) -> None:
    is_over = asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.Event()
        scope["extensions"][GONE].append(gone.set)
        part: Message = {"type": "http.response.body", "body": b"y" * 1000, "more_body": True}
        while not gone.is_set():
            await send(part)
            await asyncio.sleep(0)
        for _ in range(3):  # the connection is closed a turn after it was lost
            await asyncio.sleep(0)
            await send(part)
        is_over.set()

    async def reset() -> None:
        async with connected(stream) as connection:
            connection.sendall(REQUEST * 2)
            await asyncio.to_thread(connection.recv, 100)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
            await asyncio.wait_for(is_over.wait(), 10)

    with caplog.at_level(logging.ERROR):
        uvloop.run(reset())
    assert not caplog.records


@on_uvloop
async def test_a_body_that_is_not_read_hides_no_client_that_has_gone() -> None:
    has_begun, has_gone = asyncio.Event(), asyncio.Event()

    async def hold(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][GONE].append(has_gone.set)
        has_begun.set()
        await has_gone.wait()

    async with connected(hold) as connection:
        body = b" " * 200_000
        await asyncio.to_thread(connection.sendall, REQUEST[:-2] + b"Content-Length: 200000\r\n\r\n" + body)
        await has_begun.wait()
        connection.close()
        await asyncio.wait_for(has_gone.wait(), 5)


@on_uvloop
async def test_an_idle_connection_remembers_no_request() -> None:
    scopes: list[weakref.ref[Remembered]] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        remembered = Remembered()
        scope["headers"].append((b"x", remembered))
        scopes.append(weakref.ref(remembered))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async with connected(answer) as connection:
        connection.sendall(REQUEST)
        await received(connection, b"{}")
        await asyncio.sleep(0)
        assert scopes[0]() is None


@on_uvloop
async def test_what_is_no_http_is_refused_in_the_form_of_every_refusal() -> None:
    async with connected(answered()) as connection:
        connection.sendall(b"hello\r\n\r\n")
        text = await received(connection)
    assert text.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json\r\n" in text
    assert b'{"error":{"code":"invalid","message":"' in text


@pytest.mark.parametrize("sent", [b"hello\r\n\r\n", b"GET /" + b"y" * 40_000], ids=["no HTTP", "a head too large"])
def test_no_refusal_is_taken_for_the_answer_to_the_request_before_it(sent: bytes) -> None:
    async def cut() -> None:
        held = Held()
        async with connected(held) as connection:
            connection.sendall(REQUEST)
            await held.asked.wait()
            connection.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert await received(connection) == b""
            held.go.set()

    uvloop.run(cut())


@on_uvloop
async def test_a_held_request_that_came_behind_another_is_over_when_its_client_goes() -> None:
    has_begun, has_gone = asyncio.Event(), asyncio.Event()

    async def hold_second(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/held":
            scope["extensions"][GONE].append(has_gone.set)
            has_begun.set()
            await has_gone.wait()
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            await send({"type": "http.response.body", "body": BODY})

    async with connected(hold_second) as connection:
        connection.sendall(REQUEST + REQUEST.replace(b" / ", b" /held "))
        await has_begun.wait()
        connection.close()
        await asyncio.wait_for(has_gone.wait(), 5)
