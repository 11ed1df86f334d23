"""One TCP connection of a tab, and what it carried: bytes as the program saw them, bytes and segments as the kernel.

The kernel's figures are those of TCP_INFO (Linux). The two counts of bytes must agree, and a run in which they do not
measured nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from recado.bench.failure import Failure, RunFailed
from recado.bench.radio import Radio

# Where struct tcp_info of linux/tcp.h has tcpi_bytes_received, tcpi_segs_out and tcpi_segs_in; and further on
# tcpi_bytes_sent and tcpi_bytes_retrans.
_RECEIVED_AND_SEGMENTS = Struct("=QII")
_RECEIVED_AT = 128
_SENT_AND_RETRANSMITTED = Struct("=QQ")
_SENT_AT = 200
SILENCE_S = 0.3  # parts one exchange from the next: shorter than a second, longer than an answer takes
_TCP_INFO_BYTES = _SENT_AT + _SENT_AND_RETRANSMITTED.size


class Traffic(NamedTuple):
    """Up is from client to server. Packets are TCP segments, those without data too. Requests are HTTP's, without those
    that become a WebSocket."""

    bytes_up: int = 0
    bytes_down: int = 0
    packets_up: int = 0
    packets_down: int = 0
    requests: int = 0

    def plus(self, other: Traffic) -> Traffic:
        return Traffic(*(mine + its for mine, its in zip(self, other, strict=True)))

    def minus(self, other: Traffic) -> Traffic:
        return Traffic(*(mine - its for mine, its in zip(self, other, strict=True)))


class Wire(asyncio.Protocol):
    """`receive` gets what came. `on_exchange` is called with the time when bytes go after a silence, before they are
    counted. That the server closes it is a failure, as nothing here asks it to."""

    def __init__(self, radio: Radio, failure: Failure) -> None:
        self.receive: Callable[[bytes], None]
        self.on_exchange: Callable[[float], None] | None = None
        self.bytes_up = 0
        self.bytes_down = 0
        self.requests = 0
        self.answers = 0
        self._radio = radio
        self._failure = failure
        self._time = asyncio.get_running_loop().time
        self._last = 0.0
        self._is_closed = False

    async def connect(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(self._socket, ("127.0.0.1", port))
        self._transport, _ = await loop.create_connection(lambda: self, sock=self._socket)

    def write(self, data: bytes) -> None:
        self._touch()
        self.bytes_up += len(data)
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._touch()
        self.bytes_down += len(data)
        try:
            self.receive(data)
        except RunFailed as failed:
            self._failure.fail(str(failed))
        except Exception as error:
            self._failure.fail(f"an answer was not understood: {error!r}")

    def _touch(self) -> None:
        now = self._time()
        if self.on_exchange is not None and now - self._last > SILENCE_S:
            self.on_exchange(now)
        self._last = now
        self._radio.touch(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_closed:
            self._failure.fail(f"the server closed a connection: {exc}")

    def traffic(self) -> Traffic:
        _, segments_out, segments_in = _RECEIVED_AND_SEGMENTS.unpack_from(self._tcp_info(), _RECEIVED_AT)
        return Traffic(self.bytes_up, self.bytes_down, segments_out, segments_in, self.requests)

    def check_against_kernel(self) -> None:
        """When nothing is under way: both counted the same bytes."""
        info = self._tcp_info()
        sent, retransmitted = _SENT_AND_RETRANSMITTED.unpack_from(info, _SENT_AT)
        received, _, _ = _RECEIVED_AND_SEGMENTS.unpack_from(info, _RECEIVED_AT)
        if (sent - retransmitted, received) != (self.bytes_up, self.bytes_down):
            here = f"{self.bytes_up} bytes up and {self.bytes_down} down"
            self._failure.fail(f"{here}, but the kernel counted {sent - retransmitted} and {received}")

    def close(self) -> None:
        self._is_closed = True
        self._transport.abort()

    def _tcp_info(self) -> bytes:
        return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
