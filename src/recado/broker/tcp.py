"""MQTT over a stream: TCP, TLS or a Unix socket."""

from __future__ import annotations

import asyncio
from typing import cast

from recado.broker.connection import Connection
from recado.broker.listener import Listener
from recado.broker.server import Server


class TcpConnection(Connection, asyncio.Protocol):
    """`peer` is what a PROXY header said, None if it said nothing."""

    __slots__ = ("_announced", "_transport", "write")

    def __init__(self, server: Server, listener: Listener, peer: str | None = None) -> None:
        super().__init__(server, listener)
        self._announced = peer

    @property
    def peer(self) -> str:
        """The client's address and port, such as 203.0.113.7:51234 or [2001:db8::7]:51234, or unix."""
        return self._announced or peer_of(self._transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self.server.limits.send_buffer_bytes_max)
        # The transport gathers what is written in one turn of the loop into one send.
        self.write = self._transport.write  # type: ignore[method-assign]  # saves a call per packet
        self.opened()

    def data_received(self, data: bytes) -> None:
        self.receive(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost()

    def pause_writing(self) -> None:
        self.congest()

    def resume_writing(self) -> None:
        self.writable()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def close_transport(self) -> None:
        self._transport.close()

    def abort_transport(self) -> None:
        self._transport.abort()

    def buffered_bytes(self) -> int:
        return self._transport.get_write_buffer_size()


def peer_of(transport: asyncio.BaseTransport) -> str:
    """Who is at the other end, as the socket knows it: for a proxy's client that is the proxy."""
    match transport.get_extra_info("peername"):
        case (str(host), int(port), *_):
            return address(host, port)
        case None:
            return "unknown"
        case _:
            return "unix"


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
