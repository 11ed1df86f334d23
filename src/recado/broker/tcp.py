"""MQTT over TCP."""

from __future__ import annotations

import asyncio
from typing import cast

from recado.broker.connection import Connection
from recado.broker.server import Server


class TcpConnection(Connection, asyncio.Protocol):
    transport_name = "tcp"

    __slots__ = ("_transport", "write")

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


async def listen_tcp(server: Server, host: str, port: int) -> tuple[asyncio.Server, int]:
    """Listen; port 0 is any free one. Returns the listener and its port."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: TcpConnection(server), host, port, backlog=4096)
    return listener, bound_port(listener)


def bound_port(listener: asyncio.Server) -> int:
    address: tuple[str, int] = listener.sockets[0].getsockname()
    return address[1]
