"""uvicorn, and its HTTP and WebSocket protocols with the bounds that they lack: a number of connections, a size and a
time for a request's head, a time for its body, a time for a client that does not read, at the end too, and a size for
what a WebSocket's client sends before it has signed in.

These deadlines, those of pings too, are on the MQTT server's one timer. uvicorn has timers of its own for idle
connections (http_idle_s) and for the answer to a close frame (ws_close_s), and the application for signing in and for
its last words.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sized
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from prometheus_client import Counter
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from websockets.exceptions import SecurityError
from websockets.frames import CloseCode, Frame
from websockets.http11 import MAX_LINE_LENGTH, Request
from websockets.protocol import State

from recado.app.config import SettingsError
from recado.app.limits import HttpLimits, Limits
from recado.app.websocket_pacing import PacedWebSocketProtocol
from recado.broker.deadlines import Deadlines
from recado.http.answer import encode_json
from recado.http.listening import CUT, GONE
from recado.http.refusals import ErrorAnswer, ErrorBody

_connections_cut = Counter(
    "recado_http_connections_cut", "HTTP connections that passed a limit of time or size.", ["limit"]
)
_PONG_BUFFERS_MAX = 4
_INTERIM = b"HTTP/1.1 1"
_LEAVING_S = 1  # for the tasks of connections that were cut at the server's end
_HEAD_END = b"\r\n\r\n"
_REFUSALS = {
    "ws_auth_bytes_max": (CloseCode.MESSAGE_TOO_BIG, "before it has signed in a client may send %d bytes"),
    "ws_fragments_max": (CloseCode.MESSAGE_TOO_BIG, "a message may have %d fragments"),
    "ws_control_rate_max": (CloseCode.POLICY_VIOLATION, "a client may send %d pings and pongs a second"),
}


class _Bounded:
    """What both protocols have: one deadline at a time, and the time of a client that does not read."""

    transport: asyncio.Transport

    def __init__(self, *arguments: Any, limits: HttpLimits, deadlines: Deadlines, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.deadline = 0
        self._limits = limits
        self._deadlines = deadlines
        self._unsent_bytes = 0

    def on_deadline(self, tick: int) -> None:
        raise NotImplementedError

    def _await_reading(self) -> None:
        """The client is to take something of what waits in the buffer."""
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._deadlines.set(self, self._limits.http_stall_s)

    def _has_read_some(self) -> bool:
        return self.transport.get_write_buffer_size() < self._unsent_bytes

    def _cut(self, limit: str) -> None:
        _connections_cut.labels(limit).inc()
        self.transport.abort()


class BoundedHttpProtocol(_Bounded, HttpToolsProtocol):
    """Its deadline is that of the part of a request that is to come, its head or its body. But while the client does
    not take what it is sent, it is that of its reading alone: so too when the connection closes, which waits for it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._awaited = ""
        self._deadline_limit = ""
        self._in_head = True
        self._head_bytes = 0
        self._headers_count = 0
        self._told_bytes = 0
        self._untold_bytes = 0
        self._is_bodiless = False
        self._answered: RequestResponseCycle | None = None
        self._gone: list[Callable[[], None]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        transport.set_write_buffer_limits(high=self._limits.http_buffer_bytes_max)
        self._begin_head()
        if len(self.connections) > self._limits.http_connections_max:
            _connections_cut.labels("http_connections_max").inc()
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "too many connections; try later")

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.clear(self)
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:  # of a connection that was reset: it would be kept until then
            self.timeout_keep_alive_task.cancel()
        if self.cycle is not None:
            self.cycle.transport = self.transport  # lets go of this protocol, which would wait for the collector
        if self._answered is not None and not self._answered.response_complete:  # uvicorn tells the newest alone
            self._answered.disconnected = True
            self._answered.message_event.set()
        for leave in list(self._gone):
            leave()

    def data_received(self, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None:  # idle no more, though line breaks are no message to the parser
            self._begin_head()
        self._told_bytes = 0
        super().data_received(data)
        if self._in_head or not self._told_bytes:  # the parser keeps it: a header, or a trailer, has not ended
            self._untold_bytes += max(0, len(data) - self._told_bytes)
            if self._head_bytes + self._untold_bytes > self._limits.http_head_bytes_max:
                self._refuse_head("http_head_bytes_max", "bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers too come here."""
        super().on_header(name, value)
        self._headers_count += 1
        if self._headers_count > self._limits.http_headers_max:
            self._refuse_head("http_headers_max", "headers")
            raise _Refused
        self._count_head(len(name) + len(value) + len(": \r\n"))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._await("http_body_s")
        self.scope["extensions"] = {GONE: self._gone, CUT: self.transport.abort}  # type: ignore[dict-item]
        if len(self.pipeline) >= self._limits.http_pipelined_max:
            if not self.transport.is_closing():  # the parser goes on with what it was given
                self._cut("http_pipelined_max")
            return
        before = self.cycle
        super().on_headers_complete()
        self._is_bodiless = self.scope["method"] in ("GET", "HEAD")
        if self.cycle is not before:
            has_body = self.scope["method"] != "HEAD"  # to which no body is written
            self.cycle.transport = _HeadWithBody(self.transport, self._close, has_body)  # type: ignore[assignment]
        if not self.pipeline:
            self._answered = self.cycle

    def on_body(self, body: bytes) -> None:
        self._told_bytes += len(body)
        self._untold_bytes = 0
        if not self._is_bodiless:  # or it would wait unread, and so would the news that the client has gone
            super().on_body(body)

    def on_response_complete(self) -> None:
        done = self._answered
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()
        if not self.transport.is_closing():
            self.flow.resume_reading()  # uvicorn has taken the next from the pipeline since it tried
        if done is not None and done.scope is self.scope:  # an idle connection remembers no request
            self.scope, self.headers = {}, []  # type: ignore[typeddict-item]
        if done is not None:
            done.scope = {}  # type: ignore[typeddict-item]

    def on_message_complete(self) -> None:
        self._await("")
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # that answer would be written among the frames, and never learn of the end
        else:
            self._deadlines.clear(self)
            self.headers[:] = [header for header in self.headers if header[0] != b"cookie"]  # long, and nobody's here
            super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._deadline_limit = ""
            self._await(self._awaited)

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, "invalid", "this is not an HTTP request")

    def on_deadline(self, tick: int) -> None:
        if self._deadline_limit == "http_stall_s" and self._has_read_some():
            self._await_reading()
        else:
            self._cut(self._deadline_limit)

    def _begin_head(self) -> None:
        self._in_head = True
        self._head_bytes = self._headers_count = self._untold_bytes = 0
        self._await("http_head_s")

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        self._told_bytes += size
        self._untold_bytes = 0
        if self._head_bytes > self._limits.http_head_bytes_max:
            self._refuse_head("http_head_bytes_max", "bytes")
            raise _Refused

    def _await(self, limit: str) -> None:
        """A part of a request is to come, in the time of that limit; none if it is empty."""
        self._awaited = limit
        if self._deadline_limit == "http_stall_s":
            return  # a client that does not read gets no time by what it sends
        self._deadline_limit = limit
        if limit:
            self._deadlines.set(self, getattr(self._limits, limit))
        else:
            self._deadlines.clear(self)

    def _await_reading(self) -> None:
        self._deadline_limit = "http_stall_s"
        super()._await_reading()

    def _refuse_head(self, limit: str, unit: str) -> None:
        if self.transport.is_closing():
            return
        _connections_cut.labels(limit).inc()
        text = f"a request's head may have {getattr(self._limits, limit)} {unit}"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", text)

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        if self.transport.is_closing():
            return
        if self._is_answering():
            self.transport.abort()  # it would be taken for that answer, or for a part of it
        else:
            self.transport.write(_refusal(status, code, message))
            self._close()

    def _is_answering(self) -> bool:
        """An earlier request, or the beginning of an answer to this one is out."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        return self._in_head or bool(self.pipeline) or self.cycle.response_started

    def _close(self) -> None:
        """Once the client has taken what waits; it has as long for that as for any answer."""
        if not self.transport.is_closing():
            self.transport.close()
            self._await_reading()


def _refusal(status: HTTPStatus, code: str, message: str) -> bytes:
    """An answer of the application's form, to what never reaches it; the connection closes after it."""
    body = encode_json(ErrorAnswer(ErrorBody(code, message)))
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Refused(Exception):
    """Ends the parser's work on what it was given; the client has been told."""


class _Flow(FlowControl):
    """Nothing more is read while requests wait for the answer to one before them."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class _HeadWithBody:
    """Where one answer is written to. Its head waits for the first of its body, as ASGI asks for: both leave in one
    write and one segment."""

    __slots__ = ("_head", "_is_begun", "_transport", "close")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], has_body: bool) -> None:
        self.close = close
        self._transport = transport
        self._head = b""
        self._is_begun = not has_body

    def write(self, data: bytes) -> None:
        if self._is_begun or data.startswith(_INTERIM):
            self._transport.write(data)
        elif not self._head and data.endswith(_HEAD_END):
            self._head = data
        else:
            self._is_begun = True
            self._transport.write(self._head + data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedWebSocketProtocol(_Bounded, PacedWebSocketProtocol):
    """Its first message, by which its client signs in, may be no larger than what a stranger may send altogether. A
    client that sends nothing from one ping to the next is gone. One that takes nothing of what is to be sent before
    the connection ends, whoever ends it, does not keep it open."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.close_timeout = float(self._limits.ws_close_s)
        self._auth_bytes = 0
        self._has_first_message = False
        self._was_heard = True
        self._control_frames = 0
        self._control_tick = 0

    @property
    def _is_ending(self) -> bool:
        return self.close_sent or self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=self._limits.http_buffer_bytes_max)
        self._await_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.clear(self)
        super().connection_lost(exc)

    def parse(self, data: bytes) -> None:
        self._was_heard = True
        if self.handshake_complete and not self._has_first_message:
            self._auth_bytes += len(data)
        super().parse(data)
        if not self._has_first_message and self._auth_bytes > self._limits.ws_auth_bytes_max:
            self._refuse("ws_auth_bytes_max", self._limits.ws_auth_bytes_max)
        if self.transport.get_write_buffer_size() > _PONG_BUFFERS_MAX * self._limits.http_buffer_bytes_max:
            self._cut("http_buffer_bytes_max")  # it asks for pongs and reads none

    def refuse_handshake(self, error: Exception) -> None:
        self.handshake_complete = self.close_sent = True
        if isinstance(error, SecurityError):
            text = f"a line of a WebSocket's request may have {MAX_LINE_LENGTH} bytes"
            refusal = _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", text)
        else:
            refusal = _refusal(HTTPStatus.BAD_REQUEST, "invalid", "a WebSocket's request is a GET without a body")
        self.transport.write(refusal)
        self.transport.close()

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
        if not self._has_first_message and sum(map(len, self.frames)) > self._limits.ws_auth_bytes_max:
            self._refuse("ws_auth_bytes_max", self._limits.ws_auth_bytes_max)
        elif self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self._fail(CloseCode.INVALID_DATA, "a text message is UTF-8")
        else:
            self._has_first_message = True
            super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self._may_send_control_frame():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._may_send_control_frame():
            super().handle_pong(event)

    def _may_send_control_frame(self) -> bool:
        if self._control_tick != self._deadlines.tick:
            self._control_tick = self._deadlines.tick
            self._control_frames = 0
        self._control_frames += 1
        if self._control_frames > self._limits.ws_control_rate_max:
            self._refuse("ws_control_rate_max", self._limits.ws_control_rate_max)
        return not self.transport.is_closing()

    def _refuse(self, limit: str, number: int) -> None:
        if self.handshake_complete and not self._is_ending:
            _connections_cut.labels(limit).inc()
        code, text = _REFUSALS[limit]
        self._fail(code, text % number)

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.frames = []
        if not self.handshake_complete:
            self.transport.abort()
        elif not self._is_ending:
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def start_keepalive(self) -> None:
        del self.request, self.response  # the handshake is over: 2 KiB that nobody asks for again
        self._deadlines.set(self, self._limits.ws_ping_s)
        self.parse_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        if not self._is_ending:
            self._await_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._was_heard = True  # it reads again
        if not self._is_ending:
            self._deadlines.set(self, self._limits.ws_ping_s)

    def on_deadline(self, tick: int) -> None:
        if self._is_ending:
            self._cut("ws_close_s")
        elif not self.handshake_complete:  # the application has yet to answer
            self._await_end()
        elif not self.writable.is_set():
            self._check_stall()
        else:
            self._check_life()

    def _check_stall(self) -> None:
        if self._has_read_some():
            self._await_reading()
        else:
            self._cut("http_stall_s")

    def _check_life(self) -> None:
        if self._was_heard or self.read_paused:  # what it sends is not read now, for our own reasons
            self._was_heard = False
            self.conn.send_ping(b"")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self._deadlines.set(self, self._limits.ws_ping_s)
        else:
            _connections_cut.labels("ws_ping_s").inc()
            self.keepalive_timeout()
            self._await_end()

    # The end, from whichever side it comes

    async def send(self, message: Any) -> None:
        if self.handshake_complete and self._is_ending:
            raise ClientDisconnected  # the application's fault only in uvicorn's eyes: it could not know
        await super().send(message)
        if message["type"] == "websocket.close":
            self._await_end()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._await_end()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._await_end()

    def shutdown(self) -> None:
        """Who has not signed in is told what all the others are, not uvicorn's own 1012."""
        if self.conn.state is State.OPEN:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.GOING_AWAY})
            self.conn.send_close(CloseCode.GOING_AWAY, "the server is stopping; connect again")
            self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self.handshake_complete  # or uvicorn would say it again, and may not
        super().shutdown()

    def _await_end(self) -> None:
        self._deadlines.set(self, self._limits.ws_close_s)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class _HttpServer(uvicorn.Server):
    """Signals are the command line's: it stops the whole, in order."""

    def __init__(self, config: uvicorn.Config, drain_s: int) -> None:
        super().__init__(config)
        self._drain_s = drain_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Connections that have not ended after `drain_s` are cut: their clients do not read, and their tasks would
        wait for that even when they are cancelled."""
        cut = asyncio.get_running_loop().call_later(self._drain_s, self._cut_connections)
        try:
            await super().shutdown(sockets)
        finally:
            cut.cancel()

    def _cut_connections(self) -> None:
        for connection in list(self.server_state.connections):
            _connections_cut.labels("drain_s").inc()
            connection.transport.abort()


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
        timeout_keep_alive=limits.http.http_idle_s,
        timeout_graceful_shutdown=limits.broker.drain_s + _LEAVING_S,
    )
    server = _HttpServer(config, limits.broker.drain_s)
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
