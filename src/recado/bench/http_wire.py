"""An HTTP/1.1 connection that stays open: one request at a time, answers parsed by httptools."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import httptools

from recado.bench.wire import Wire

OnAnswer = Callable[[int, bytes], None]
"""Gets the status and the whole body."""


class HttpWire:
    """`on_part`, if it is given, gets a body's bytes as they come, and nothing waits for its end."""

    def __init__(self, wire: Wire, on_part: Callable[[bytes], None] | None = None) -> None:
        self.wire = wire
        wire.receive = self._receive
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._on_part = on_part or self._body.append
        self._waiting: deque[OnAnswer] = deque()
        self._unsent: deque[bytes] = deque()

    def request(self, request: bytes, on_answer: OnAnswer) -> None:
        """Sent at once, or when the requests before it are answered, as a browser does."""
        if self._waiting:
            self._unsent.append(request)
        else:
            self._write(request)
        self._waiting.append(on_answer)

    def _write(self, request: bytes) -> None:
        self.wire.requests += 1
        self.wire.write(request)

    def _receive(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # What httptools calls

    def on_body(self, part: bytes) -> None:
        self._on_part(part)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        on_answer = self._waiting.popleft()
        self.wire.answers += 1
        if self._unsent:
            self._write(self._unsent.popleft())
        on_answer(self._parser.get_status_code(), body)
