"""Clients of the shared server, and what tests of all of them need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from recado.client import ClientLimits, Reader
from tests.support.server import Server

T = TypeVar("T")

# Connecting again takes a test no longer than it must.
QUICK = ClientLimits(backoff_first_s=0.02, backoff_max_s=0.2, opening_s=10.0, settled_s=0.0)


@pytest.fixture
def mqtt_url(shared_server: Server) -> str:
    return f"mqtt://127.0.0.1:{shared_server.mqtt_port}"


@pytest.fixture
def conversation(shared_server: Server) -> str:
    """One between ana and bruno, with an empty log."""
    return shared_server.host_api.create_conversation(["ana", "bruno"])


async def take(reader: Reader[T], count: int) -> list[T]:
    return [await anext(reader) for _ in range(count)]


async def until(holds: Callable[[], bool]) -> None:
    """For what a client is not told."""
    deadline = asyncio.get_running_loop().time() + 10
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to hold"
        await asyncio.sleep(0.01)
