"""The network between a client and the server, which a test may cut, make deaf or wrap in TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import TracebackType


class Relay:
    """Passes on what comes at `port`.

    `is_deaf`: what the server says is thrown away, and its end is not passed on. `is_closed`: nobody gets in.
    """

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target_port = target_port
        self._tls = tls
        self._pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self.port = 0
        self.connections = 0
        self.is_deaf = False
        self.is_closed = False

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Every connection ends, with no word to either side."""
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()
        self._pairs.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.is_closed:
            writer.transport.abort()
            return
        with contextlib.suppress(ConnectionError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._pairs.append((writer, server_writer))
            await asyncio.gather(
                self._pass_on(reader, server_writer, False), self._pass_on(server_reader, writer, True)
            )

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_down: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if not (is_down and self.is_deaf):
                    writer.write(data)
                    await writer.drain()
        if not (is_down and self.is_deaf):
            writer.close()
