"""A TCP relay that can be cut: how a client loses its connection that opens connections of its own accord."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Wire:
    """Relays what comes to `port` to a port of the server's; each of its connections ends when either side's does.

    `accepted` counts them.
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.accepted = 0
        self._server_port = server_port
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Wire:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._relays)

    def cut(self, reset: bool = False) -> None:
        """End every connection at once, with what was on its way."""
        for writer in self._open:
            if reset:
                opened: socket.socket = writer.get_extra_info("socket")
                with suppress(OSError):
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()

    def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        relay = asyncio.create_task(self._relay(from_client, to_client))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            to_client.transport.abort()
            return
        ends = {to_client, to_server}
        self._open |= ends
        await asyncio.gather(_pump(from_client, to_server), _pump(from_server, to_client))
        self._open -= ends


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    target.transport.abort()
