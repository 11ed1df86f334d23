"""A WebSocket's client, with no more of RFC 6455 than the two servers use: whole frames, no extension.

Its masks are zeros: as many bytes on the wire as a browser's random ones, and no work for the client.
"""

from __future__ import annotations

from collections.abc import Callable

from recado.bench.failure import RunFailed
from recado.bench.wire import Wire

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_FIN, _MASKED = 0x80, 0x80
_NO_MASK = bytes(4)
_HEAD_END = b"\r\n\r\n"


class WebSocketWire:
    """`on_open` is called after the upgrade, `on_message` with each message's payload."""

    def __init__(
        self, wire: Wire, opcode: int, on_open: Callable[[], None], on_message: Callable[[bytes], None]
    ) -> None:
        self.wire = wire
        wire.receive = self._receive_head
        self._opcode = opcode
        self._on_open = on_open
        self._on_message = on_message
        self._rest = b""

    def send(self, payload: bytes) -> None:
        self._send_frame(self._opcode, payload)

    def _send_frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((_FIN | opcode, _MASKED | size))
        else:
            head = bytes((_FIN | opcode, _MASKED | 126)) + size.to_bytes(2, "big")
        self.wire.write(head + _NO_MASK + payload)

    def _receive_head(self, data: bytes) -> None:
        self._rest += data
        head, found, rest = self._rest.partition(_HEAD_END)
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 101 "):
            raise RunFailed(f"no WebSocket: {head!r}")
        self._rest = b""
        self.wire.receive = self._receive
        self._on_open()
        if rest:
            self._receive(rest)

    def _receive(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        offset = 0
        while (frame := _frame_at(data, offset)) is not None:
            opcode, start, offset = frame
            payload = data[start:offset]
            if opcode == self._opcode:
                self._on_message(payload)
            elif opcode == PING:
                self._send_frame(PONG, payload)
            elif opcode == CLOSE:
                code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")
                raise RunFailed(f"the server closed a WebSocket: {code} {reason}")
            else:
                raise RunFailed(f"a WebSocket frame with the opcode {opcode}: {payload!r}")
        self._rest = data[offset:]


def _frame_at(data: bytes, offset: int) -> tuple[int, int, int] | None:
    """Its opcode, and where its payload starts and ends; None if it is not whole yet."""
    start = offset + 2
    if len(data) < start:
        return None
    size = data[offset + 1]
    if size == 126:
        start += 2
        size = int.from_bytes(data[offset + 2 : start], "big")
    elif size == 127:
        start += 8
        size = int.from_bytes(data[offset + 2 : start], "big")
    end = start + size
    return None if len(data) < end else (data[offset] & 0x0F, start, end)
