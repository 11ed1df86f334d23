"""Messages on their way up: each is sent until it is acknowledged, in the order of sending, within the server's window.

Pure. Invariants: a message is in flight at most once on a connection; none is forgotten unless it is acknowledged or
nobody waits for it; after a lost connection those that were in flight come first again. The message's own id makes one
message of all its copies, so a copy too many does no harm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
PUBLISH_IDS = 0x7FFF  # packet ids above it are SUBSCRIBE's and UNSUBSCRIBE's


@dataclass(slots=True, eq=False)
class Sending(Generic[T]):
    """One message; `waiter` is who waits for it, None once nobody does."""

    topic_name: str
    payload: bytes
    waiter: T | None


class Outbox(Generic[T]):
    def __init__(self) -> None:
        self._waiting: deque[Sending[T]] = deque()
        self._inflight: dict[int, Sending[T]] = {}
        self._again: dict[int, Sending[T]] = {}  # what is in flight and not on this connection yet
        self._window = 0
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._inflight)

    def add(self, sending: Sending[T]) -> None:
        self._waiting.append(sending)

    def give_up(self, sending: Sending[T]) -> None:
        """Nobody waits for it any more; what is in flight stays so until its answer comes."""
        sending.waiter = None
        if sending in self._waiting:
            self._waiting.remove(sending)

    def opened(self, window: int, is_session_present: bool) -> None:
        """There is a connection, on which the server takes `window` at a time. In the same session what was in flight
        goes out under its old packet id [MQTT5-4.4.0-1]."""
        self._window = window
        if is_session_present:
            self._again = self._inflight.copy()
            return
        self._waiting.extendleft(each for each in reversed(self._inflight.values()) if each.waiter is not None)
        self._inflight.clear()

    def lost(self) -> None:
        self._window = 0
        self._again.clear()

    def next(self) -> tuple[int, Sending[T], bool] | None:
        """What may be written now, as (packet id, message, DUP); None if there is nothing, or no room for it."""
        if len(self._inflight) - len(self._again) >= self._window:  # [MQTT5-3.3.4-7]
            return None
        if self._again:
            packet_id = next(iter(self._again))
            return packet_id, self._again.pop(packet_id), True
        if not self._waiting:
            return None
        packet_id = self._free_id()
        sending = self._inflight[packet_id] = self._waiting.popleft()
        return packet_id, sending, False

    def acknowledged(self, packet_id: int) -> T | None:
        """Its answer came, yes or no. Returns who waits for it."""
        self._again.pop(packet_id, None)
        sending = self._inflight.pop(packet_id, None)
        return None if sending is None else sending.waiter

    def drain(self) -> Iterator[T]:
        """Forget all of them; returns who waited."""
        pending = [*self._inflight.values(), *self._waiting]
        self._inflight.clear()
        self._again.clear()
        self._waiting.clear()
        return (each.waiter for each in pending if each.waiter is not None)

    def _free_id(self) -> int:
        packet_id = self._last_id % PUBLISH_IDS + 1
        while packet_id in self._inflight:
            packet_id = packet_id % PUBLISH_IDS + 1
        self._last_id = packet_id
        return packet_id
