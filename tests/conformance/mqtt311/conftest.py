"""Here a client that says nothing else speaks MQTT 3.1.1."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recado.mqtt.packets import MQTT_3_1_1
from tests.conformance.node import Node


@pytest.fixture
def level() -> int:
    return MQTT_3_1_1


@pytest.fixture
def pass_seconds(node: Node) -> Callable[[int], None]:
    """The server's clock, stopped: seconds pass when a test says so, and at once."""
    node.server._ticker.cancel()

    def advance(seconds: int) -> None:
        for _ in range(seconds):
            node.server.deadlines.advance()

    return advance
