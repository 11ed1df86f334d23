"""The HTTP server under the application, with an application of its own: what reaches the wire, and when."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps

import uvloop
from starlette.types import Receive, Scope, Send

from recado.app.http_server import serving_http
from recado.app.limits import DEFAULT
from recado.broker.deadlines import Deadlines

BODY = b"all of it"
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
