"""The real MQTT server in this process, with real TCP and WebSocket listeners, and what a test asks of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from recado.broker.connection import Connection
from recado.broker.holds import CONGESTED
from recado.broker.server import Server
from recado.mqtt.packets import MQTT_5
from recado.mqtt.session import Session
from tests.broker.application import Application
from tests.broker.client import TIMEOUT_S, Client, TcpStream, WsStream

Transport = Literal["tcp", "ws"]


@dataclass
class Node:
    """A running server, and its clients. `clock` is its one timer, stopped: `tick` lets seconds pass."""

    application: Application
    tcp_port: int
    ws_port: int
    clients: list[Client] = field(default_factory=list)

    @property
    def server(self) -> Server:
        return self.application.server

    async def client(
        self, transport: Transport = "tcp", level: int = MQTT_5, receive_buffer_bytes: int | None = None
    ) -> Client:
        """A client that has not sent CONNECT yet."""
        stream = (
            await TcpStream.open(self.tcp_port, receive_buffer_bytes)
            if transport == "tcp"
            else await WsStream.open(self.ws_port, receive_buffer_bytes)
        )
        self.clients.append(Client(stream, level))
        return self.clients[-1]

    async def connected(
        self, user: str, client_id: str = "phone", transport: Transport = "tcp", level: int = MQTT_5, **connect: Any
    ) -> Client:
        client = await self.client(transport, level)
        connack = await client.connect(user, client_id, **connect)
        assert connack.reason_code == 0
        return client

    def tick(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.server._tick()
            self.server._ticker.cancel()

    def session_of(self, user: str, client_id: str = "phone") -> Session:
        return self.server.sessions._by_user[user][client_id]

    def users(self) -> set[str]:
        """Who has a session."""
        return {session.user for session in self.server.sessions}

    def connection_of(self, user: str, client_id: str = "phone") -> Connection:
        """The one that has the session, or is about to get it."""
        session = self.session_of(user, client_id)
        connection = session.connection or session.claimant
        assert isinstance(connection, Connection)
        return connection

    def is_congested(self, user: str, client_id: str = "phone") -> bool:
        return bool(self.connection_of(user, client_id).held & CONGESTED)

    async def gone(self, count: int = 0) -> None:
        """Wait until only so many connections are left."""
        await self.until(lambda: len(self.server._connections) <= count)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the server run until something holds that no client is told."""
        async with asyncio.timeout(TIMEOUT_S):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0)

    def narrow(self, user: str, client_id: str = "phone") -> None:
        """Give the system little room to send to this connection, so that the server's own buffer fills soon."""
        fd = self.transport_of(user, client_id).get_extra_info("socket").fileno()
        with socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)

    def transport_of(self, user: str, client_id: str = "phone") -> asyncio.Transport:
        transport: Any = self.connection_of(user, client_id)._transport  # type: ignore[attr-defined]
        return cast(asyncio.Transport, getattr(transport, "underlying_transport", transport))
