"""A publication on its way to many connections: each form of its packet is built once, whoever gets it."""

from __future__ import annotations

from recado.mqtt.codec import publish_frame
from recado.mqtt.packets import MQTT_5


class Publication:
    """`position` is its place in the topic's log, None for a signal, which is in no log and may be dropped."""

    __slots__ = ("_frames", "payload", "position", "qos", "topic_name")

    def __init__(self, topic_name: str, payload: bytes, qos: int, position: int | None = None) -> None:
        self.topic_name = topic_name
        self.payload = payload
        self.qos = qos
        self.position = position
        self._frames: dict[int, tuple[bytes, bytes]] = {}

    def frame(self, protocol_level: int, qos: int) -> tuple[bytes, bytes]:
        """The packet's bytes before and after its packet id; at QoS 0 the first part is all of it."""
        key = qos if protocol_level != MQTT_5 else qos + 4
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = publish_frame(self.topic_name, self.payload, qos, False, protocol_level)
        return frame
