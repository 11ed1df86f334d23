"""uvicorn's HTTP protocol with the bounds that it lacks: a number of connections, a size and a time for a request's
head, a time for its body, a number of requests that wait for an answer, and a time for a client that does not read, at
the end too.

These deadlines are on the MQTT server's one timer. uvicorn has a timer of its own for idle connections (http_idle_s).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from http import HTTPStatus
from typing import Any

from prometheus_client import Counter
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from recado.app.limits import HttpLimits
from recado.broker.deadlines import Deadlines
from recado.http.answer import encode_json
from recado.http.listening import CUT, GONE
from recado.http.refusals import ErrorAnswer, ErrorBody

connections_cut = Counter(
    "recado_http_connections_cut", "HTTP connections that passed a limit of time or size.", ["limit"]
)
_INTERIM = b"HTTP/1.1 1"
_HEAD_END = b"\r\n\r\n"


class Bounded:
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
        connections_cut.labels(limit).inc()
        self.transport.abort()


class BoundedHttpProtocol(Bounded, HttpToolsProtocol):
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
            connections_cut.labels("http_connections_max").inc()
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
        connections_cut.labels(limit).inc()
        text = f"a request's head may have {getattr(self._limits, limit)} {unit}"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", text)

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        if self.transport.is_closing():
            return
        if self._is_answering():
            self.transport.abort()  # it would be taken for that answer, or for a part of it
        else:
            self.transport.write(refusal(status, code, message))
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


def refusal(status: HTTPStatus, code: str, message: str) -> bytes:
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
