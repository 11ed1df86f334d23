"""Server-sent events, by http.client: the stream of one conversation or of all, resumed with Last-Event-ID."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse
from typing import NamedTuple
from urllib.parse import urlencode

from tests.contracts.transports.contract import ANSWER_TIMEOUT_S, Arrival, Refused, cut
from tests.support.server import Server

KEEPALIVE_S = 1
"""What the tests' servers have for `sse_keepalive_s`."""


class Block(NamedTuple):
    """Without fields it is a comment."""

    fields: dict[str, str]

    @property
    def kind(self) -> str:
        return self.fields.get("event", "message" if "data" in self.fields else "")


class StreamReader:
    def __init__(self, server: Server, user: str, token: str) -> None:
        self.token = token
        self._address = f"127.0.0.1:{server.http_port}"
        self._conversation: str | None = None
        self._last_event_id: str | None = None
        self._connection: HTTPConnection | None = None
        self._response: HTTPResponse | None = None

    def follow(self, conversation: str, after: int | None = None) -> None:
        self._conversation = conversation
        self._open({} if after is None else {"after": str(after)})

    def follow_all(self, cursor: str | None = None) -> None:
        self._open({} if cursor is None else {"cursor": cursor})

    def next(self) -> Arrival:
        while (arrival := self._arrival(self._block())) is None:
            pass
        return arrival

    def rest(self) -> list[Arrival]:
        """A comment that has come after so long was written since, when there was nothing else."""
        began = time.monotonic()
        arrivals = []
        while (block := self._block()).kind or time.monotonic() - began < KEEPALIVE_S:
            if (arrival := self._arrival(block)) is not None:
                arrivals.append(arrival)
        return arrivals

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.sock is not None:
            with suppress(OSError):  # the server may be gone
                cut(connection.sock.fileno())
            connection.close()

    def resume(self) -> None:
        self.drop()
        self._open({})

    def close(self) -> None:
        self.drop()

    def _open(self, query: dict[str, str]) -> None:
        self._connection = HTTPConnection(self._address, timeout=ANSWER_TIMEOUT_S)
        of_one = "" if self._conversation is None else f"/conversations/{self._conversation}"
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {self.token}"}
        if self._last_event_id is not None:
            headers["Last-Event-ID"] = self._last_event_id
        self._connection.request("GET", f"/v1{of_one}/events?{urlencode(query)}", headers=headers)
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            raise Refused(json.loads(self._response.read())["error"]["code"])
        self._last_event_id = self._block().fields["id"]

    def _arrival(self, block: Block) -> Arrival | None:
        if not block.kind:
            return None
        data = json.loads(block.fields["data"])
        if block.kind == "end":
            raise Refused(data["code"])
        self._last_event_id = block.fields.get("id", self._last_event_id)
        is_signal = block.kind == "signal"
        if self._conversation is not None:
            return Arrival(self._conversation, data, is_signal)
        return Arrival(data["conversation"], data["signal" if is_signal else "event"], is_signal)

    def _block(self) -> Block:
        assert self._response is not None, "not connected"
        fields: dict[str, str] = {}
        while (line := self._response.readline().decode()) != "\n":
            if not line:
                raise ConnectionError("the stream ended without a word")
            name, _, value = line.rstrip("\n").partition(": ")
            if name != ":":
                fields[name] = value
        return Block(fields)
