"""`GET /v1/ws`, by the library websockets. It acknowledges each event, as MQTT does."""

from __future__ import annotations

import json
from collections import deque
from contextlib import ExitStack, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.contracts.transports.contract import ANSWER_TIMEOUT_S, Arrival, JsonObject, Refused, cut
from tests.support.server import Server

CODES = {4400: "invalid", 4401: "unauthenticated", 4403: "forbidden", 4429: "rate_limited"}
FRAMES_AHEAD = 1  # the library reads no more of them than that before it is asked


class WebSocketReader:
    def __init__(self, server: Server, user: str, token: str) -> None:
        self.token = token
        self._url = f"ws://127.0.0.1:{server.http_port}/v1/ws"
        self._conversation: str | None = None
        self._after: int | None = None
        self._cursor: str | None = None
        self._arrivals: deque[tuple[Arrival, str | None]] = deque()  # each with its cursor
        self._closing = ExitStack()
        self._socket: ClientConnection | None = None

    def follow(self, conversation: str, after: int | None = None) -> None:
        self._conversation, self._after = conversation, after
        self.resume()

    def follow_all(self, cursor: str | None = None) -> None:
        self._cursor = cursor
        self.resume()

    def next(self) -> Arrival:
        while not self._arrivals:
            self._take(self._receive())
        arrival, cursor = self._arrivals.popleft()
        if not arrival.is_signal:
            self._after = arrival.content["seq"]
            self._cursor = cursor or self._cursor
            self._send({"type": "ack", "conversation": arrival.conversation, "seq": self._after})
        return arrival

    def rest(self) -> list[Arrival]:
        self._send({"type": "subscribe", "conversations": {}})
        self._await_subscribed()
        return [self.next() for _ in range(len(self._arrivals))]

    def drop(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            with suppress(OSError):  # the server may be gone
                cut(connection.socket.fileno())
        self._closing.close()
        self._arrivals.clear()

    def resume(self) -> None:
        self.drop()
        self._socket = self._closing.enter_context(connect(self._url, compression=None, max_queue=FRAMES_AHEAD))
        self._send({"type": "auth", "token": self.token})
        assert self._receive()["type"] == "ready"
        if self._conversation is None:
            at = {} if self._cursor is None else {"cursor": self._cursor}
            self._send({"type": "subscribe", "conversations": "*", **at})
            self._cursor = self._await_subscribed()["cursor"]
        else:
            self._send({"type": "subscribe", "conversations": {self._conversation: self._after}})
            self._after = self._await_subscribed()["conversations"][self._conversation]

    def close(self) -> None:
        self.drop()  # a closing handshake would wait behind what was not read

    def _await_subscribed(self) -> JsonObject:
        while (told := self._receive())["type"] != "subscribed":
            self._take(told)
        return told

    def _take(self, told: JsonObject) -> None:
        kind = told["type"]
        if kind == "error":
            raise Refused(told["code"])
        if kind in ("event", "signal"):
            arrival = Arrival(told["conversation"], told[kind], kind == "signal")
            self._arrivals.append((arrival, told.get("cursor")))

    def _send(self, frame: JsonObject) -> None:
        assert self._socket is not None, "not connected"
        with suppress(ConnectionClosed):  # the reason is read where something is awaited
            self._socket.send(json.dumps(frame))

    def _receive(self) -> JsonObject:
        assert self._socket is not None, "not connected"
        try:
            told: Any = json.loads(self._socket.recv(ANSWER_TIMEOUT_S))
        except TimeoutError:
            raise AssertionError("nothing arrived") from None
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd is not None else 0
            if code in CODES:
                raise Refused(CODES[code]) from None
            raise ConnectionError(f"the connection ended: {code}") from None
        assert isinstance(told, dict)
        return told
