"""A server with any listeners, and clients of each kind: what the tests of the listeners need."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from recado.broker.listening import ListenerSettings, Listening, listen
from recado.broker.tls import TlsCertificates
from tests.broker.application import Application
from tests.broker.certificates import Certificate
from tests.broker.client import CHUNK, TIMEOUT_S, Client, WsStream

TRANSPORTS = ("tcp", "tls", "ws", "wss", "unix")


class LoopStream:
    """A client's bytes through the event loop's own streams: they know TLS and Unix sockets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def certificate(self) -> dict[str, Any]:
        """The server's."""
        shown: dict[str, Any] = self._writer.get_extra_info("peercert")
        return shown

    @property
    def address(self) -> str:
        host, port = self._writer.get_extra_info("sockname")
        return f"{host}:{port}"

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._reader.read(CHUNK)
        except (ConnectionError, ssl.SSLError):
            return b""

    async def ends(self) -> bool:
        """Whether the server closes, having said nothing more."""
        return await self.receive() == b""

    def close(self) -> None:
        self._writer.transport.abort()


class Places:
    """`certificate` is what the TLS listeners show."""

    def __init__(self, application: Application, certificate: Certificate, directory: Path, stack: AsyncExitStack):
        self.application = application
        self.certificate = certificate
        self.certificates = TlsCertificates(certificate.certificate, certificate.key)
        self.socket_file = directory / "mqtt.sock"
        self._stack = stack

    @property
    def refusals(self) -> dict[str, int]:
        return dict(self.application.server.counters.refusals)

    async def listen(self, transport: Any, **settings: Any) -> Listening:
        if transport in ("tls", "wss"):
            settings.setdefault("certificates", self.certificates)
        if transport == "unix":
            settings.setdefault("path", self.socket_file)
        listening = await listen(self.application.server, ListenerSettings(transport, **settings))
        self._stack.callback(listening.close)
        return listening

    async def stream(
        self, listening: Listening, context: ssl.SSLContext | None = None, sock: socket.socket | None = None
    ) -> LoopStream:
        """An open connection; over TLS if it is a listener for that. `sock` is connected already."""
        name = listening.listener.name
        if name == "unix":
            stream = LoopStream(*await asyncio.open_unix_connection(listening.where))
        else:
            tls = (context or self.certificate.trusted()) if name in ("tls", "wss") else None
            where: dict[str, Any] = {"host": "127.0.0.1", "port": listening.port}
            if sock is not None:
                where = {"sock": sock, "server_hostname": "127.0.0.1" if tls else None}
            stream = LoopStream(*await asyncio.open_connection(**where, ssl=tls))
        self._stack.callback(stream.close)
        return stream

    async def raw_stream(self, listening: Listening) -> LoopStream:
        """An open connection that does not begin with TLS, whatever the listener."""
        stream = LoopStream(*await asyncio.open_connection("127.0.0.1", listening.port))
        self._stack.callback(stream.close)
        return stream

    async def client(self, listening: Listening, stream: Any = None) -> Client:
        """A client that has not sent CONNECT yet. `stream` is a connection that is open already."""
        stream = stream or await self.stream(listening)
        if listening.listener.name not in ("ws", "wss"):
            return Client(stream)
        frames = WsStream(stream)
        assert (await frames.upgrade())[0] == 101
        return Client(frames)

    async def connected(self, listening: Listening, user: str = "ana", client_id: str = "phone") -> Client:
        client = await self.client(listening)
        assert (await client.connect(user, client_id)).reason_code == 0
        return client

    def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            self.application.server.deadlines.advance()

    async def until(self, holds: Any) -> None:
        """Let the server run until something holds that no client is told."""
        async with asyncio.timeout(TIMEOUT_S):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0)


@asynccontextmanager
async def running(application: Application, certificate: Certificate, directory: Path) -> AsyncIterator[Places]:
    application.server._ticker.cancel()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(application.server.drain)
        yield Places(application, certificate, directory, stack)
    assert application.server.counters.connections.total() == 0
