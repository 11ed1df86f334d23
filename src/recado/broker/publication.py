"""A publication on its way to many connections: each form of its packet is built once, whoever gets it."""

from __future__ import annotations

from typing import Any

import msgspec

from recado.mqtt.codec import publish_frame
from recado.mqtt.packets import MQTT_5
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId

Frame = tuple[bytes, bytes]

_FRAMES_MAX = 16  # clients choose identifiers, and a frame has the whole payload
_START_BYTES = 128
_PAIR_BYTES = 200  # what a user property takes beside its text: two strings and a tuple


class Place(msgspec.Struct, frozen=True, eq=False):
    """What is remembered of a publication of a log while it is in flight: where it is, and not what it says. `start`
    has its payload's first bytes; `position` is None once it says nothing any more of how far the session is;
    `accepted_at_ms` is the publication's."""

    topic_name: str
    position: int | None
    is_followed: bool
    is_last: bool
    start: bytes
    accepted_at_ms: int = 0


class Publication(msgspec.Struct, eq=False):
    """`position` is its place in the topic's log, None if the topic is no log. `retain` is as it was published.

    `properties` are forwarded as they are [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]; `expires_at_ms` (Unix time, 0 for never)
    stands for the message expiry interval, which is not among them. `is_followed` asks for `Hooks.on_acknowledged`;
    `is_last` says that those it goes to may not read the log any more: who has no room has it waiting in memory.
    `accepted_at_ms` (Unix time, 0 if it is not known) is when the hooks took it: they get it back when it is
    acknowledged. The server does not look at it.
    `frames` are the forms built so far, at most `frames_max`.
    """

    topic_name: str
    payload: bytes
    qos: int
    position: int | None = None
    retain: bool = False
    properties: Properties = EMPTY_PROPERTIES
    expires_at_ms: int = 0
    is_followed: bool = True
    is_last: bool = False
    accepted_at_ms: int = 0
    frames: dict[Any, Frame] = {}
    frames_max: int = _FRAMES_MAX
    _size: int = 0
    _place: Place | None = None

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory: payload, topic name and properties. What bounds count."""
        if not self._size:
            self._size = len(self.payload) + _text_bytes(self.topic_name) + _properties_bytes(self.properties)
        return self._size

    def held(self) -> Publication | Place:
        """What a session holds of it while it is in flight."""
        if self.position is None:
            return self
        if self._place is None:
            start = self.payload[:_START_BYTES]
            self._place = Place(
                self.topic_name, self.position, self.is_followed, self.is_last, start, self.accepted_at_ms
            )
        return self._place

    def as_retained(self) -> Publication:
        """The same, to be kept as long as it is retained: it has one form at most at a time, the last one."""
        return msgspec.structs.replace(self, frames={}, frames_max=1)

    def frame(self, protocol_level: int, qos: int, retain: bool = False) -> Frame:
        """The packet's bytes before and after its packet id; at QoS 0 the first part is all of it."""
        key = qos | retain << 2 | (protocol_level == MQTT_5) << 3
        frame = self.frames.get(key)
        if frame is None:
            frame = publish_frame(self.topic_name, self.payload, qos, retain, protocol_level, self.properties)
            if not qos:
                frame = frame[0] + frame[1], b""
            if len(self.frames) >= self.frames_max:
                self.frames.clear()
            self.frames[key] = frame
        return frame

    def use_wire(self, protocol_level: int, wire: Frame) -> None:
        """It came in these bytes: they are its packet for all of the same level and QoS."""
        self.frames[self.qos | (protocol_level == MQTT_5) << 3] = wire

    def frame_5(
        self, qos: int, retain: bool, identifiers: tuple[int, ...], alias: int, is_alias_known: bool, now_ms: int
    ) -> Frame:
        """The same for an MQTT 5 client that gets more: its subscription identifiers, a topic alias (0 for none), or
        what is left of the message expiry interval."""
        left_s = self.seconds_left(now_ms) if self.expires_at_ms else 0
        key = (qos, retain, identifiers, alias, is_alias_known, left_s)
        frame = self.frames.get(key)
        if frame is None:
            properties = dict(self.properties)
            if self.expires_at_ms:
                properties[PropertyId.MESSAGE_EXPIRY_INTERVAL] = left_s  # [MQTT5-3.3.2-6]
            if identifiers:
                properties[PropertyId.SUBSCRIPTION_IDENTIFIER] = list(identifiers)  # [MQTT5-3.3.4-3] [MQTT5-3.3.4-4]
            if alias:
                properties[PropertyId.TOPIC_ALIAS] = alias
            topic_name = "" if is_alias_known else self.topic_name
            frame = self._remember(key, publish_frame(topic_name, self.payload, qos, retain, MQTT_5, properties))
        return frame

    def _remember(self, key: Any, frame: Frame) -> Frame:
        if len(self.frames) >= self.frames_max:
            self.frames.clear()
        self.frames[key] = frame
        return frame

    def seconds_left(self, now_ms: int) -> int:
        """Of the message expiry interval, rounded up; 0 once it has passed, as it may have for what is sent again."""
        return max(0, -((now_ms - self.expires_at_ms) // 1000))

    def has_expired(self, now_ms: int) -> bool:
        return 0 < self.expires_at_ms <= now_ms  # [MQTT5-3.3.2-5]


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)  # one character beyond ASCII may widen all of them


def _properties_bytes(properties: Properties) -> int:
    total = 0
    for identifier, value in properties.items():
        if identifier == PropertyId.USER_PROPERTY:
            total += sum(_PAIR_BYTES + _text_bytes(name) + _text_bytes(text) for name, text in value)
        elif isinstance(value, str):
            total += _text_bytes(value)
        elif isinstance(value, bytes):
            total += len(value)
    return total
