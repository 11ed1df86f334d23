"""uvicorn's WebSocket protocol, with its turns: a client that sends without a pause leaves the loop to the others.

Invariant: while `_unread` has something, nothing is read. It is parsed once the handshake is complete and the
application has taken the messages that there were, _TURN_BYTES in a turn of the loop.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_TURN_BYTES = 4 * 1024


class PacedWebSocketProtocol(WebSocketsSansIOProtocol):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._unread = bytearray()
        self._is_parse_due = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._unread.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            self.parse(data)
            if self.conn.handshake_exc is not None and not self.transport.is_closing():
                self.refuse_handshake(self.conn.handshake_exc)
        elif self._unread or not self.handshake_complete or len(data) > _TURN_BYTES:
            self._unread += data
            self.parse_later()
        else:
            self.parse(data)

    def parse(self, data: bytes) -> None:
        """What is read now, at most a turn's bytes once the handshake is complete."""
        super().data_received(data)

    def refuse_handshake(self, error: Exception) -> None:
        """Answer what the HTTP parser took and the WebSocket's does not: nobody else does."""
        raise NotImplementedError

    async def receive(self) -> Any:
        message = await super().receive()
        self.parse_later()
        return message

    def parse_later(self) -> None:
        """Go on with what is unread, if it may be parsed now."""
        if not self._unread or self.transport.is_closing():
            return
        self.transport.pause_reading()
        if self.handshake_complete and not self.read_paused and not self._is_parse_due:
            self._is_parse_due = True
            self.loop.call_soon(self._parse_next)

    def _parse_next(self) -> None:
        self._is_parse_due = False
        if self.transport.is_closing():
            self._unread.clear()
            return
        data = bytes(self._unread[:_TURN_BYTES])
        del self._unread[:_TURN_BYTES]
        self.parse(data)
        if self._unread:
            self.parse_later()
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
