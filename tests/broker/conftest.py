"""The servers of the tests, on either event loop: `node` for topics that are logs, `public` for any topics."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from recado.broker.limits import BrokerLimits
from recado.broker.listening import ListenerSettings, listen
from recado.mqtt.packets import MQTT_3_1_1, MQTT_5
from tests.adapters.disk import Disk
from tests.broker.application import LIMITS, Application
from tests.broker.nodes import Node, Transport
from tests.broker.public import PUBLIC_LIMITS, Clock, PublicClient, PublicNode

__all__ = ["Node", "PublicNode", "Transport"]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
def limits() -> BrokerLimits:
    return LIMITS


@pytest.fixture
async def node(limits: BrokerLimits) -> AsyncIterator[Node]:
    application = Application(limits)
    server = application.server
    server._ticker.cancel()
    tcp = await listen(server, ListenerSettings("tcp"))
    ws = await listen(server, ListenerSettings("ws", allowed_origins=("https://shop.example.com",)))
    node = Node(application, tcp.port, ws.port)
    yield node
    for client in node.clients:
        client.close()
    await node.gone()
    tcp.close()
    ws.close()
    await server.drain()
    assert server.counters.connections.total() == 0
    assert (list(server.sessions), len(server.router)) == ([], 0), "sessions are left"


@pytest.fixture
def public_limits() -> BrokerLimits:
    return PUBLIC_LIMITS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time_ns", clock.time_ns)
    return clock


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk(f"disk-{uuid.uuid4().hex}")
    yield disk
    disk.unregister()


@pytest.fixture
async def public(tmp_path: Path, public_limits: BrokerLimits, disk: Disk, clock: Clock) -> AsyncIterator[PublicNode]:
    """Any topics, and a storage on a disk that the test commands."""
    node = PublicNode(tmp_path, public_limits, disk, clock)
    await node.start()
    yield node
    await node.stop()
    assert node.server.counters.connections.total() == 0


@pytest.fixture
async def sender(public: PublicNode) -> PublicClient:
    return await public.connected("bruno", "sender")


@pytest.fixture(params=["tcp", "ws"])
def transport(request: pytest.FixtureRequest) -> Transport:
    transport: Transport = request.param
    return transport


@pytest.fixture(params=[MQTT_3_1_1, MQTT_5], ids=["3.1.1", "5"])
def level(request: pytest.FixtureRequest) -> int:
    level: int = request.param
    return level
