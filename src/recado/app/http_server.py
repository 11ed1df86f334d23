"""uvicorn's HTTP protocol with the bounds that it lacks: a size and a time for a request's head, a time for its body,
and a time for a client that does not read its answer. All deadlines are on the MQTT server's one timer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from recado.app.limits import HttpLimits
from recado.broker.deadlines import Deadlines

_CUT = Counter("recado_http_connections_cut", "HTTP connections that passed a limit of time or size.", ["limit"])
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)


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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for("http_head_s", self._limits.http_head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.clear(self)
        super().connection_lost(exc)

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
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._deadlines.clear(self)
        super().on_message_complete()

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
