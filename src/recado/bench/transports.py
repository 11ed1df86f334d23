"""The transports that are compared, as a table."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["polling", "long-polling", "sse", "websocket", "mqtt-ws", "mqtt-tcp"]
MQTT_3_1_1, MQTT_5 = 4, 5


class Transport(NamedTuple):
    title: str
    kind: Kind
    qos: int = 0
    protocol_level: int = MQTT_5

    @property
    def sends_by(self) -> Literal["HTTP", "MQTT"]:
        return "MQTT" if self.kind.startswith("mqtt") else "HTTP"


TRANSPORTS = {
    "polling": Transport("Polling every second", "polling"),
    "long-polling": Transport("Long polling", "long-polling"),
    "sse": Transport("Server-sent events", "sse"),
    "websocket": Transport("WebSocket + HTTP", "websocket"),
    "mqtt-ws-qos0": Transport("MQTT 5 · WS · QoS 0", "mqtt-ws"),
    "mqtt-ws-qos1": Transport("MQTT 5 · WS · QoS 1", "mqtt-ws", qos=1),
    "mqtt-ws-qos2": Transport("MQTT 5 · WS · QoS 2", "mqtt-ws", qos=2),
    "mqtt311-ws-qos1": Transport("MQTT 3.1.1 · WS · QoS 1", "mqtt-ws", qos=1, protocol_level=MQTT_3_1_1),
    "mqtt-tcp-qos1": Transport("MQTT 5 · TCP · QoS 1", "mqtt-tcp", qos=1),
}
