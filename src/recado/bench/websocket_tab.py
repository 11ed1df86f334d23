"""A page that follows by `GET /v1/ws`; its messages go up by POST."""

from __future__ import annotations

import asyncio

import msgspec

from recado.bench import browser_headers
from recado.bench.failure import RunFailed
from recado.bench.ledger import Event, Reader
from recado.bench.tabs import OPEN_TIMEOUT_S, Surroundings, User
from recado.bench.websocket_wire import TEXT, WebSocketWire
from recado.bench.wire import Wire


class _Frame(msgspec.Struct, gc=False):
    type: str
    conversation: str = ""
    event: Event | None = None


_decode = msgspec.json.Decoder(_Frame).decode


class WebSocketTab:
    def __init__(self, user: User, around: Surroundings) -> None:
        self.wire = Wire(user.radio, around.failure)
        self._ws = WebSocketWire(self.wire, TEXT, self._sign_in, self._take)
        self._user = user
        self._around = around
        self._reader: Reader
        self._opened = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        port = self._around.ports.http
        await self.wire.connect(port)
        self.wire.write(browser_headers.upgrade("/v1/ws", port, port))
        await self._around.failure.unless(self._opened, OPEN_TIMEOUT_S, "the WebSocket's opening")

    def rest(self) -> None:
        pass

    def close(self) -> None:
        self.wire.close()

    def _sign_in(self) -> None:
        self._ws.send(msgspec.json.encode({"type": "auth", "token": self._user.token}))

    def _take(self, payload: bytes) -> None:
        frame = _decode(payload)
        if frame.event is not None:
            self._around.ledger.arrived(self._reader, frame.conversation, frame.event)
        elif frame.type == "ready":
            self._ws.send(b'{"type":"subscribe","conversations":"*"}')
        elif frame.type == "subscribed":
            self.handshake = self.wire.traffic()
            self._reader = self._around.ledger.reader(self._user.name, self._user.conversation)
            self._opened.set_result(None)
        elif frame.type != "signal":
            raise RunFailed(f"the server said {payload!r}")
