"""What the broker has not acknowledged, as data: which publishes are under way and which wait, in order. No I/O.

A publish stays here until its PUBACK. When the connection is lost, what was under way waits again before the rest: the
next connection begins with it, so the order stays and nothing is skipped. Both together are bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from recado.mqtt.codec import publish_frame
from recado.mqtt.packets import MQTT_3_1_1

_PACKET_IDS = 65_535


class Announcement:
    """One event on its way to `remaining` topics. `done` is called once: True when each was acknowledged, False as soon
    as one is given up."""

    __slots__ = ("done", "remaining")

    def __init__(self, remaining: int, done: Callable[[bool], None]) -> None:
        self.remaining = remaining
        self.done = done

    def acknowledged(self) -> None:
        self.remaining -= 1
        if self.remaining == 0:
            self.done(True)

    def given_up(self) -> None:
        if self.remaining > 0:
            self.remaining = 0
            self.done(False)


class Outgoing:
    """One publish: what stands before and after its packet id. `losses` are the connections that ended while it was the
    next to be acknowledged."""

    __slots__ = ("announcement", "head", "losses", "size", "tail")

    def __init__(self, topic_name: str, payload: bytes, announcement: Announcement) -> None:
        self.head, self.tail = publish_frame(topic_name, payload, 1, False, MQTT_3_1_1)
        self.size = len(self.head) + len(self.tail)
        self.announcement = announcement
        self.losses = 0


class Window:
    """`inflight_max` publishes are under way at a time; `waiting_max` wait; `bytes_max` bounds both together."""

    def __init__(self, inflight_max: int, waiting_max: int, bytes_max: int, losses_max: int) -> None:
        self._inflight_max = inflight_max
        self._waiting_max = waiting_max
        self._bytes_max = bytes_max
        self._losses_max = losses_max
        self._inflight: dict[int, Outgoing] = {}
        self._waiting: deque[Outgoing] = deque()
        self._bytes = 0
        self._last_packet_id = 0

    @property
    def inflight(self) -> int:
        return len(self._inflight)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_empty(self) -> bool:
        return not self._inflight and not self._waiting

    def add(self, publishes: list[Outgoing]) -> bool:
        """Take all of them, to be sent after what is there; False, and none is taken, if there is no room."""
        size = sum(each.size for each in publishes)
        if len(self._waiting) + len(publishes) > self._waiting_max or self._bytes + size > self._bytes_max:
            return False
        self._waiting.extend(publishes)
        self._bytes += size
        return True

    def take(self, bytes_max: int) -> bytes:
        """What may be written now, up to about so many bytes: it is under way from here on."""
        frames: list[bytes] = []
        size = 0
        while self._waiting and len(self._inflight) < self._inflight_max and size < bytes_max:
            outgoing = self._waiting.popleft()
            packet_id = self._next_packet_id()
            self._inflight[packet_id] = outgoing
            frames += (outgoing.head, packet_id.to_bytes(2, "big"), outgoing.tail)
            size += outgoing.size
        return b"".join(frames)

    def acknowledge(self, packet_id: int) -> bool:
        """The broker has it; False if nothing is under way with that id."""
        outgoing = self._inflight.pop(packet_id, None)
        if outgoing is None:
            return False
        self._bytes -= outgoing.size
        outgoing.announcement.acknowledged()
        return True

    def lose(self) -> bool:
        """The connection is gone: what was under way waits again. True if its first was given up, because it may be
        what the broker ends connections for."""
        again = list(self._inflight.values())
        self._inflight.clear()
        given_up = None
        if again:
            again[0].losses += 1
            if again[0].losses >= self._losses_max:
                given_up = again.pop(0)
        self._waiting.extendleft(reversed(again))
        if given_up is None:
            return False
        self._bytes -= given_up.size
        given_up.announcement.given_up()
        return True

    def give_up(self) -> None:
        """Nothing more is sent."""
        left = [*self._inflight.values(), *self._waiting]
        self._inflight.clear()
        self._waiting.clear()
        self._bytes = 0
        for outgoing in left:
            outgoing.announcement.given_up()

    def _next_packet_id(self) -> int:
        while True:
            self._last_packet_id = self._last_packet_id % _PACKET_IDS + 1
            if self._last_packet_id not in self._inflight:
                return self._last_packet_id
