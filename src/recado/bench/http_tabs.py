"""Pages that follow by polls, held polls and event streams; and the sending by POST, which the WebSocket needs too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from recado.bench import browser_headers
from recado.bench.failure import RunFailed
from recado.bench.http_wire import HttpWire
from recado.bench.ledger import Event
from recado.bench.tabs import OPEN_TIMEOUT_S, Repeating, Surroundings, User
from recado.bench.wire import Wire

POLL_EVERY_S = 1.0
_DATA = b"data: "


class _Placed(msgspec.Struct, gc=False):
    """In an event stream a signal takes the event's place."""

    conversation: str
    event: Event | None = None


class _Answer(msgspec.Struct, gc=False):
    events: list[_Placed]
    cursor: str


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_placed = msgspec.json.Decoder(_Placed).decode


class PollingTab:
    """Asks on at once after each answer if it `holds` its polls, else every second, whatever the answer was."""

    def __init__(self, user: User, around: Surroundings, holds: bool) -> None:
        self.wire = Wire(user.radio, around.failure)
        self._http = HttpWire(self.wire)
        self._user = user
        self._around = around
        self._wait_s = around.interval_s if holds else 0
        self._cursor = ""
        self._repeating: Repeating | None = None
        self._opened = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        await self.wire.connect(self._around.ports.http)
        self._get("/v1/events", self._begin)
        await self._around.failure.unless(self._opened, OPEN_TIMEOUT_S, "the first poll")

    def rest(self) -> None:
        if self._repeating is not None:
            self._repeating.stop()

    def close(self) -> None:
        self.rest()
        self.wire.close()

    def _begin(self, status: int, body: bytes) -> None:
        _check(status, body)
        self.handshake = self.wire.traffic()
        self._reader = self._around.ledger.reader(self._user.name, self._user.conversation)
        self._cursor = _decode_answer(body).cursor
        if self._wait_s:
            self._poll()
        else:
            self._repeating = Repeating(POLL_EVERY_S, self._poll_now)
        self._opened.set_result(None)

    def _poll_now(self) -> None:
        self._around.ledger.answers.add()
        self._poll()

    def _poll(self) -> None:
        self._get(f"/v1/events?cursor={self._cursor}&wait={self._wait_s}", self._take)

    def _get(self, path: str, on_answer: Callable[[int, bytes], None]) -> None:
        request = browser_headers.get(path, self._around.ports.http, self._user.token)
        self._http.request(request, on_answer)

    def _take(self, status: int, body: bytes) -> None:
        if status != 204:
            _check(status, body)
            answer = _decode_answer(body)
            self._cursor = answer.cursor
            for placed in answer.events:
                if placed.event is not None:
                    self._around.ledger.arrived(self._reader, placed.conversation, placed.event)
        if self._wait_s:
            self._poll()
        else:
            self._around.ledger.answers.came()


class StreamTab:
    """One answer that goes on: server-sent events."""

    def __init__(self, user: User, around: Surroundings) -> None:
        self.wire = Wire(user.radio, around.failure)
        self._http = HttpWire(self.wire, on_part=self._take)
        self._user = user
        self._around = around
        self._rest = b""
        self._opened = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        port = self._around.ports.http
        await self.wire.connect(port)
        self._http.request(browser_headers.get_stream("/v1/events", port, self._user.token), self._ended)
        await self._around.failure.unless(self._opened, OPEN_TIMEOUT_S, "the event stream's opening")

    def rest(self) -> None:
        pass

    def close(self) -> None:
        self.wire.close()

    def _ended(self, status: int, body: bytes) -> None:
        self._around.failure.fail(f"the event stream ended: {status} {body!r}")

    def _take(self, part: bytes) -> None:
        if not self._opened.done():
            self.handshake = self.wire.traffic()
            self._reader = self._around.ledger.reader(self._user.name, self._user.conversation)
            self._opened.set_result(None)
        *blocks, self._rest = (self._rest + part).split(b"\n\n")
        for block in blocks:
            if block.startswith(b"event: end"):
                raise RunFailed(f"the server ended the event stream: {block!r}")
            data = next((line for line in block.split(b"\n") if line.startswith(_DATA)), None)
            if data is not None and not block.startswith(b"event: signal"):
                placed = _decode_placed(data[len(_DATA) :])
                assert placed.event is not None, "neither an event nor a signal"
                self._around.ledger.arrived(self._reader, placed.conversation, placed.event)


class HttpSender:
    """Messages go up by POST, over a connection of their own: a browser's other one is taken by a held poll, a stream
    or a WebSocket."""

    def __init__(self, user: User, around: Surroundings) -> None:
        self.wire = Wire(user.radio, around.failure)
        self._http = HttpWire(self.wire)
        self._user = user
        self._around = around
        self._path = f"/v1/conversations/{user.conversation}/messages"

    async def open(self) -> None:
        await self.wire.connect(self._around.ports.http)

    def send(self, message_id: str) -> None:
        body = msgspec.json.encode({"id": message_id, "body": self._around.ledger.body})
        request = browser_headers.post(self._path, self._around.ports.http, self._user.token, body)
        self._around.ledger.answers.add()
        self._http.request(request, self._sent)

    def _sent(self, status: int, body: bytes) -> None:
        if status != 201:
            self._around.failure.fail(f"a message was refused: {status} {body!r}")
        self._around.ledger.answers.came()


def _check(status: int, body: bytes) -> None:
    if status != 200:
        raise RunFailed(f"a poll was answered {status}: {body!r}")
