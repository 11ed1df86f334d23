"""Somebody's webhook: a real HTTP server on a loopback port, which answers as the test tells it to."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Posted:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def id(self) -> str:
        return self.headers["Recado-Webhook-Id"]


@dataclass(frozen=True)
class Told:
    """What to answer. The answer waits for `when`; a body of None is said to come, and never does."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = b""
    when: threading.Event | None = None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who calls may well go away before its answer."""


class WebhookReceiver:
    """It answers 200 to what the test says nothing about."""

    def __init__(self) -> None:
        self.posted: queue.SimpleQueue[Posted] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._usually = Told()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._closed = threading.Event()
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, *told: Told) -> None:
        """To the next requests, one each."""
        for each in told:
            self._told.put(each)

    def usually(self, told: Told) -> None:
        """To all others from now on."""
        self._usually = told

    def next(self) -> Posted:
        """The next request that came, or is still to come."""
        return self.posted.get(timeout=TIMEOUT_S)

    def drain(self) -> None:
        """Forget what has come, and what was to be answered."""
        for each in (self.posted, self._told):
            while not each.empty():
                each.get()

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _next_answer(self) -> Told:
        try:
            return self._told.get_nowait()
        except queue.Empty:
            return self._usually

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told = receiver._next_answer()
                receiver.posted.put(Posted(self.path, dict(self.headers), body))
                if told.when is not None:
                    told.when.wait(TIMEOUT_S)
                self.send_response(told.status)
                for name, value in told.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(1000 if told.body is None else len(told.body)))
                self.end_headers()
                if told.body is None:
                    receiver._closed.wait(TIMEOUT_S)
                    self.close_connection = True
                else:
                    self.wfile.write(told.body)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        return Handler


@contextmanager
def receiving() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    try:
        yield receiver
    finally:
        receiver.close()
