"""uvicorn, and its HTTP and WebSocket protocols with the bounds that they lack: a size and a time for a request's head,
a time for its body, a time for a client that does not read, and a size for what a WebSocket's client sends before it
has signed in. All deadlines, those of pings too, are on the MQTT server's one timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from prometheus_client import Counter
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from recado.app.config import SettingsError
from recado.app.limits import HttpLimits, Limits
from recado.broker.deadlines import Deadlines
from recado.http.listening import CUT, GONE

_CUT = Counter("recado_http_connections_cut", "HTTP connections that passed a limit of time or size.", ["limit"])
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)
_NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'content-length: 76\r\n\r\n{"error":{"code":"unavailable","message":"too many connections; try later"}}'
)
_BUFFERS_MAX = 4
_INTERIM = b"HTTP/1.1 1"
_TOO_MUCH = {
    "ws_auth_bytes_max": "before it has signed in a client may send %d bytes",
    "ws_fragments_max": "a message may have %d fragments",
}


class BoundedHttpProtocol(HttpToolsProtocol):
    def __init__(self, *arguments: Any, limits: HttpLimits, deadlines: Deadlines, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.deadline = 0
        self._limits = limits
        self._deadlines = deadlines
        self._waits_for = ""
        self._in_head = True
        self._head_bytes = 0
        self._left = 0
        self._gone: list[Callable[[], None]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=self._limits.http_buffer_bytes_max)
        self._wait_for("http_head_s", self._limits.http_head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.clear(self)
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:  # of a connection that was reset: it would be kept until then
            self.timeout_keep_alive_task.cancel()
        for leave in list(self._gone):
            leave()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.http_head_bytes_max:
                self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._wait_for("http_head_s", self._limits.http_head_s)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._wait_for("http_body_s", self._limits.http_body_s)
        self.scope["extensions"] = {GONE: self._gone, CUT: self.transport.abort}  # type: ignore[dict-item]
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before and self.scope["method"] != "HEAD":  # whose answer's body is never written
            self.cycle.transport = _HeadWithBody(self.transport)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        self._deadlines.clear(self)
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._deadlines.clear(self)
        if len(self.connections) > self._limits.http_connections_max:
            _CUT.labels("http_connections_max").inc()
            self.transport.write(_NO_ROOM)
            self.transport.close()
        else:
            super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._left = self.transport.get_write_buffer_size()
        self._wait_for("http_stall_s", self._limits.http_stall_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._waits_for == "http_stall_s":
            self._deadlines.clear(self)

    def on_deadline(self, tick: int) -> None:
        left = self.transport.get_write_buffer_size()
        if self._waits_for == "http_stall_s" and left < self._left:  # slow, but it takes what it is sent
            self._left = left
            self._wait_for("http_stall_s", self._limits.http_stall_s)
            return
        _CUT.labels(self._waits_for).inc()
        self.transport.abort()

    def _wait_for(self, limit: str, seconds: int) -> None:
        self._waits_for = limit
        self._deadlines.set(self, seconds)

    def _refuse_head(self) -> None:
        _CUT.labels("http_head_bytes_max").inc()
        text = f"a request's head may have {self._limits.http_head_bytes_max} bytes"
        body = b'{"error":{"code":"too_large","message":"%s"}}' % text.encode()
        self.transport.write(_HEAD_TOO_LARGE % (len(body), body))
        self.transport.close()


class _HeadWithBody:
    """Where one answer is written to. Its head waits for the first of its body, as ASGI asks for: both leave in one
    write and one segment."""

    __slots__ = ("_head", "_is_begun", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._is_begun = False

    def write(self, data: bytes) -> None:
        if self._is_begun:
            self._transport.write(data)
        elif self._head:
            self._is_begun = True
            self._transport.write(self._head + data)
        elif data.startswith(_INTERIM):
            self._transport.write(data)
        else:
            self._head = data

    def close(self) -> None:
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """Its first message, by which its client signs in, may be no larger than what a stranger may send altogether. A
    client that sends nothing from one ping to the next is gone."""

    def __init__(self, *arguments: Any, limits: HttpLimits, deadlines: Deadlines, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.deadline = 0
        self._limits = limits
        self._deadlines = deadlines
        self._left = 0
        self.close_timeout = float(limits.ws_close_s)
        self._strangers_bytes = 0
        self._has_said_something = False
        self._was_heard = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=self._limits.http_buffer_bytes_max)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.clear(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._was_heard = True
        if self.handshake_complete and not self._has_said_something:
            self._strangers_bytes += len(data)
        super().data_received(data)
        if not self._has_said_something and self._strangers_bytes > self._limits.ws_auth_bytes_max:
            self._refuse("ws_auth_bytes_max", self._limits.ws_auth_bytes_max)
        if self.transport.get_write_buffer_size() > _BUFFERS_MAX * self._limits.http_buffer_bytes_max:
            _CUT.labels("http_buffer_bytes_max").inc()  # it asks for pongs and reads none
            self.transport.abort()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][CUT] = self.transport.abort  # type: ignore[assignment]

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= self._limits.ws_fragments_max:
            self._refuse("ws_fragments_max", self._limits.ws_fragments_max)
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if not self._has_said_something and sum(map(len, self.frames)) > self._limits.ws_auth_bytes_max:
            self._refuse("ws_auth_bytes_max", self._limits.ws_auth_bytes_max)
        else:
            self._has_said_something = True
            super().send_receive_event_to_app()

    def _refuse(self, limit: str, number: int) -> None:
        self.frames = []
        if not self.handshake_complete:
            self.transport.abort()
        elif not self.close_sent:
            _CUT.labels(limit).inc()
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, _TOO_MUCH[limit] % number)
            self.handle_parser_exception()

    def start_keepalive(self) -> None:
        del self.request, self.response  # the handshake is over: 2 KiB that nobody asks for again
        self._deadlines.set(self, self._limits.ws_ping_s)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._left = self.transport.get_write_buffer_size()
        self._deadlines.set(self, self._limits.http_stall_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._was_heard = True  # it reads again
        self._deadlines.set(self, self._limits.ws_ping_s)

    def on_deadline(self, tick: int) -> None:
        if not self.writable.is_set():
            self._check_stall()
        elif not self.close_sent and not self.transport.is_closing():
            self._check_life()

    def _check_stall(self) -> None:
        left = self.transport.get_write_buffer_size()
        if left < self._left:  # slow, but it takes what it is sent
            self._left = left
            self._deadlines.set(self, self._limits.http_stall_s)
            return
        _CUT.labels("http_stall_s").inc()
        self.transport.abort()

    def _check_life(self) -> None:
        if self._was_heard or self.read_paused:  # what it sends is not read now, for our own reasons
            self._was_heard = False
            self.conn.send_ping(b"")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self._deadlines.set(self, self._limits.ws_ping_s)
        else:
            _CUT.labels("ws_ping_s").inc()
            self.keepalive_timeout()


class _HttpServer(uvicorn.Server):
    """Signals are the command line's: it stops the whole, in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving_http(
    app: ASGIApp, host: str, port: int, limits: Limits, deadlines: Deadlines, host_setting: str = "host"
) -> AsyncIterator[int]:
    """Serve until the end of the block; gives the port. Raises SettingsError if it cannot be had."""
    with naming("http_port", host, port, host_setting):
        listener = socket.create_server((host, port), backlog=2048)
    config = uvicorn.Config(
        app,
        http=partial(BoundedHttpProtocol, limits=limits.http, deadlines=deadlines),  # type: ignore[arg-type]
        ws=partial(BoundedWebSocketProtocol, limits=limits.http, deadlines=deadlines),  # type: ignore[arg-type]
        ws_max_size=limits.http.ws_frame_bytes_max,
        ws_ping_interval=None,  # BoundedWebSocketProtocol pings, without a timer for each
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.http.http_connections_max,
        timeout_keep_alive=limits.http.http_idle_s,
        timeout_graceful_shutdown=limits.broker.drain_s,
    )
    server = _HttpServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        listener.close()


@contextlib.contextmanager
def naming(setting: str, host: str, port: int, host_setting: str = "host") -> Iterator[None]:
    """Say which setting a port that cannot be had belongs to."""
    try:
        yield
    except OSError as error:
        if (error.errno or 0) < 0 or error.errno == errno.EADDRNOTAVAIL:  # getaddrinfo's: there is no such host
            raise SettingsError(
                f"cannot listen on {host}: {error.strerror}; name another address with {_flag(host_setting)}"
            ) from None
        raise SettingsError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; name another port with {_flag(setting)}"
        ) from None


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"
