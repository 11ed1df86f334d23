"""Here a client that says nothing else speaks MQTT 3.1.1."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import MQTT_3_1_1


@pytest.fixture
def level() -> int:
    return MQTT_3_1_1
