"""The server of a test: permissive hooks, small limits, SQLite on a real disk; it can be stopped and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from recado.adapters.broker.sqlite import SqliteStorage, SqliteStorageLimits
from recado.app.limits import DEFAULT
from recado.broker.limits import BrokerLimits
from recado.broker.listening import ListenerSettings, listen
from recado.broker.server import Server
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.client import TIMEOUT_S
from tests.conformance.client import Client, TcpStream, WsStream
from tests.conformance.hooks import OpenHooks

Transport = Literal["tcp", "ws"]
# Of a test in which seconds pass: they pass in the same way over every transport.
over_tcp = pytest.mark.parametrize("transport", ["tcp"], indirect=True)

LIMITS = replace(
    DEFAULT.broker, packet_bytes_max=20_000, connect_bytes_max=4_000, receive_maximum=5, keep_alive_max_s=600, drain_s=2
)

STORAGE_LIMITS = SqliteStorageLimits(
    pending_transactions_max=10_000, pending_payload_bytes_max=10_000_000, batch_transactions_max=1_000
)


class Node:
    """`level` and `transport` are those of a client that does not say otherwise."""

    def __init__(self, path: Path, transport: Transport, level: int, limits: BrokerLimits = LIMITS) -> None:
        self.path = path
        self.limits = limits
        self.transport = transport
        self.level = level
        self.hooks = OpenHooks()
        self.server: Server
        self.clients: list[Client] = []

    async def start(self) -> None:
        self._storage = SqliteStorage.open(self.path, STORAGE_LIMITS)
        self.server = self.hooks.server = Server(self.hooks, self.limits, self._storage)
        await self.server.start()
        self.server.sys_topics.start()
        self._listeners = [await listen(self.server, ListenerSettings(transport)) for transport in get_args(Transport)]
        self.tcp_port, self.ws_port = (listener.port for listener in self._listeners)

    async def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()
        for listener in self._listeners:
            listener.close()
        await self.server.drain()
        await self._storage.close()

    async def restart(self) -> None:
        """All connections end; what is kept on disk stays."""
        await self.stop()
        await self.start()

    async def client(self, level: int | None = None, transport: Transport | None = None) -> Client:
        """A client that has not sent CONNECT yet."""
        tcp = (transport or self.transport) == "tcp"
        stream = await TcpStream.open(self.tcp_port) if tcp else await WsStream.open(self.ws_port)
        self.clients.append(Client(stream, self.level if level is None else level))
        return self.clients[-1]

    async def connected(self, client_id: str = "ana", level: int | None = None, **connect: Any) -> Client:
        """A client whose CONNECT was accepted; `connect` is as `Client.connect_as` has it."""
        client = await self.client(level)
        connack = await client.connect_as(client_id, **connect)
        assert connack.reason_code is ReasonCode.SUCCESS
        return client

    async def hears_nothing(self, client: Client) -> None:
        """Whatever was published so far, nothing of it comes to this client: the next thing is a probe sent now."""
        assert await client.subscribe_to("probe", 1) == ReasonCode.GRANTED_QOS_1
        probe = await self.connected("probe", level=4)
        await probe.publish_to("probe", b"probe", 1)
        packet = await client.receive()
        assert (packet.topic_name, packet.payload) == ("probe", b"probe"), f"something came: {packet}"
        await client.unsubscribe_from("probe")
        await probe.disconnect()

    @staticmethod
    async def let_pass(seconds: float) -> None:
        """Where time itself is what is tested: expiry and delay are in seconds, and nobody is told that they passed."""
        await asyncio.sleep(seconds)

    async def gone(self, client: Client) -> None:
        """Drop the client's connection without a word, and wait until the server knows."""
        before = len(self.hooks.disconnected)
        client.close()
        await self.until(lambda: len(self.hooks.disconnected) > before)

    async def gone_after_ping(self, client: Client) -> None:
        """The same, once the server has taken everything that the client sent."""
        await client.ping()
        await self.gone(client)

    @staticmethod
    async def until(holds: Callable[[], bool]) -> None:
        """Let the server run until something holds that no client is told."""
        async with asyncio.timeout(TIMEOUT_S):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0)
