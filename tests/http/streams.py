"""Calls that go on, made in memory: an event stream and a WebSocket, as the ASGI application sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from recado.http.listening import CUT, GONE

Json = dict[str, Any]
TIMEOUT_S = 5.0


def scope_of(kind: str, path: str, headers: dict[str, str]) -> Scope:
    path, _, query = path.partition("?")
    pairs = [(name.lower().encode(), value.encode()) for name, value in {"host": "chat.test:8000", **headers}.items()]
    return {
        **{"type": kind, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode()},
        **{"headers": pairs, "client": ("192.0.2.7", 50_000), "root_path": "", "extensions": {GONE: []}},
    }


@dataclass
class Block:
    """One block of an event stream."""

    kind: str = "message"
    id: str | None = None
    data: Json | None = None
    retry: int | None = None


def parse_block(text: str) -> Block:
    block = Block()
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        if name == "event":
            block.kind = value
        elif name == "data":
            block.data = json.loads(value)
        elif name == "id":
            block.id = value
        elif name == "retry":
            block.retry = int(value)
        else:
            block.kind = "comment"
    return block


@dataclass
class Exchange:
    """What the application sends, in order; `may_send` unset is a client that does not read."""

    sent: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    received: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    may_send: asyncio.Event = field(default_factory=asyncio.Event)
    is_cut: bool = False

    def cut(self) -> None:
        """The server ends the connection: nothing that waits is sent any more."""
        self.is_cut = True
        self.may_send.set()

    async def send(self, message: Message) -> None:
        await self.may_send.wait()
        if self.is_cut:
            return
        if message["type"] == "websocket.close":
            self.received.put_nowait({"type": "websocket.disconnect", "code": message.get("code", 1000)})
        self.sent.put_nowait(message)

    async def next_sent(self) -> Message:
        return await asyncio.wait_for(self.sent.get(), TIMEOUT_S)


class Stream(Exchange):
    """An event stream; `status` and `headers` are known once it has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.may_send.set()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_over = False
        self._text = ""
        self.gone: list[Callable[[], None]] = []

    async def begin(self) -> None:
        start = await self.next_sent()
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}

    async def next(self) -> Block:
        while "\n\n" not in self._text:
            message = await self.next_sent()
            self._text += message["body"].decode()
            self.is_over = not message.get("more_body", False)
        text, _, self._text = self._text.partition("\n\n")
        return parse_block(text)

    async def next_event(self) -> Block:
        """The next block that is no comment, and does not tell who has come."""
        while (block := await self.next()).kind == "comment" or '"presence"' in json.dumps(block.data):
            pass
        return block

    async def events(self, count: int) -> list[Block]:
        return [await self.next_event() for _ in range(count)]


@asynccontextmanager
async def streaming(app: ASGIApp, path: str, headers: dict[str, str]) -> AsyncIterator[Stream]:
    stream = Stream()
    scope = scope_of("http", path, {"accept": "text/event-stream", **headers})
    stream.gone = scope["extensions"][GONE]
    scope["extensions"][CUT] = stream.cut
    call = asyncio.ensure_future(app(scope, stream.received.get, stream.send))
    try:
        await stream.begin()
        yield stream
    finally:
        stream.may_send.set()
        for leave in list(stream.gone):
            leave()
        await asyncio.wait_for(call, TIMEOUT_S)


class OpenSocket(Exchange):
    """A WebSocket; `closed` is its close frame's code and reason."""

    def __init__(self) -> None:
        super().__init__()
        self.may_send.set()
        self.closed: tuple[int, str] | None = None

    def put(self, frame: Json | str | bytes) -> None:
        if isinstance(frame, bytes):
            self.received.put_nowait({"type": "websocket.receive", "bytes": frame})
        else:
            text = frame if isinstance(frame, str) else json.dumps(frame)
            self.received.put_nowait({"type": "websocket.receive", "text": text})

    async def get(self) -> Json:
        """The next frame that does not tell who has come."""
        while (frame := await self.next_frame()).get("signal", {}).get("type") == "presence":
            pass
        return frame

    async def next_frame(self) -> Json:
        message = await self.next_sent()
        assert message["type"] == "websocket.send", f"closed: {message}"
        frame: Json = json.loads(message["text"])
        return frame

    async def many(self, count: int) -> list[Json]:
        return [await self.get() for _ in range(count)]

    async def close_code(self) -> int:
        """Of the close frame, with which everything must end now."""
        message = await self.next_sent()
        assert message["type"] == "websocket.close", f"not closed: {message}"
        code: int = message.get("code", 1000)
        return code

    async def sign_in(self, token: str) -> None:
        self.put({"type": "auth", "token": token})
        assert (await self.get())["type"] == "ready"

    async def subscribe(self, conversations: Json | str, **more: Any) -> Json:
        self.put({"type": "subscribe", "conversations": conversations, **more})
        while (frame := await self.get())["type"] != "subscribed":
            pass
        return frame


@asynccontextmanager
async def connected(app: ASGIApp, headers: dict[str, str] | None = None) -> AsyncIterator[OpenSocket]:
    """A WebSocket at /v1/ws that is accepted; it ends as if its client had gone."""
    client = OpenSocket()
    client.received.put_nowait({"type": "websocket.connect"})
    scope = scope_of("websocket", "/v1/ws", headers or {})
    scope["extensions"][CUT] = client.cut
    call = asyncio.ensure_future(app(scope, client.received.get, client.send))
    try:
        assert (await client.next_sent())["type"] == "websocket.accept"
        yield client
    finally:
        client.may_send.set()
        client.received.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await asyncio.wait_for(call, TIMEOUT_S)
