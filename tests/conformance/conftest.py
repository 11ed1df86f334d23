"""A real server with real storage, over TCP and over WebSocket: every test here runs on both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from recado.broker.limits import BrokerLimits
from recado.mqtt.packets import MQTT_5
from tests.conformance.node import LIMITS, Node, Transport


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def level() -> int:
    """The protocol level of a client that a test says nothing else about."""
    return MQTT_5


@pytest.fixture(params=["tcp", "ws"])
def transport(request: pytest.FixtureRequest) -> Transport:
    transport: Transport = request.param
    return transport


@pytest.fixture
def limits() -> BrokerLimits:
    return LIMITS


@pytest.fixture
async def node(tmp_path: Path, transport: Transport, level: int, limits: BrokerLimits) -> AsyncIterator[Node]:
    node = Node(tmp_path / "sessions.db", transport, level, limits)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


@pytest.fixture
def pass_seconds(node: Node) -> Callable[[int], None]:
    """The server's clock, stopped: seconds pass when a test says so, and at once."""
    node.server._ticker.cancel()

    def advance(seconds: int) -> None:
        for _ in range(seconds):
            node.server.deadlines.advance()

    return advance
