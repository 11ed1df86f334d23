"""The real MQTT server in this process, with real TCP and WebSocket listeners, on either event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import pytest
import uvloop

from recado.broker.connection import Connection
from recado.broker.limits import BrokerLimits
from recado.broker.server import Server
from recado.broker.tcp import listen_tcp
from recado.broker.websocket import listen_websocket
from recado.mqtt.packets import MQTT_3_1_1, MQTT_5
from tests.broker.application import LIMITS, Application
from tests.broker.client import Client, TcpStream, WsStream

Transport = Literal["tcp", "ws"]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


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
            self.server.deadlines.advance()

    def connection_of(self, user: str, client_id: str = "phone") -> Connection:
        connection = self.server._sessions[user][client_id].connection
        assert isinstance(connection, Connection)
        return connection

    async def gone(self, count: int = 0) -> None:
        """Wait until only so many connections are left."""
        await self.until(lambda: len(self.server._connections) <= count)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the server run until something holds that no client is told."""
        async with asyncio.timeout(5):
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


@pytest.fixture
def limits() -> BrokerLimits:
    return LIMITS


@pytest.fixture
async def node(limits: BrokerLimits) -> AsyncIterator[Node]:
    application = Application(limits)
    server = application.server
    server._ticker.cancel()
    tcp, tcp_port = await listen_tcp(server, "127.0.0.1", 0)
    ws, ws_port = await listen_websocket(server, "127.0.0.1", 0, "/mqtt", ("https://shop.example.com",))
    node = Node(application, tcp_port, ws_port)
    yield node
    for client in node.clients:
        client.close()
    await node.gone()
    tcp.close()
    ws.close()
    await server.drain()
    assert server.counters.connections.total() == 0
    assert (server._sessions, server.router._exact, server.router._wildcards) == ({}, {}, {}), "sessions are left"


@pytest.fixture(params=["tcp", "ws"])
def transport(request: pytest.FixtureRequest) -> Transport:
    transport: Transport = request.param
    return transport


@pytest.fixture(params=[MQTT_3_1_1, MQTT_5], ids=["3.1.1", "5"])
def level(request: pytest.FixtureRequest) -> int:
    level: int = request.param
    return level
