"""Deadlines of everything that waits, on one timer: a wheel of short slots, which turns only while somebody waits."""

import math
from typing import Protocol

from recado.chat.presence import Timer, Timers

_SLOT_S = 0.25


class Waiting(Protocol):
    slot: int

    def on_deadline(self) -> None: ...


class Wheel:
    """Times are those of `timers`, in seconds. A deadline is never early, and late by a slot at most."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._timer: Timer | None = None
        self._slots: dict[int, set[Waiting]] = {}
        self._turned_to = 0

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._slots.values()))

    def set(self, item: Waiting, due: float) -> None:
        """Call `item.on_deadline` once, when it is due; replaces the deadline that it had."""
        self.clear(item)
        if due == math.inf:
            return
        if self._timer is None:
            self._turned_to = int(self._timers.time() / _SLOT_S)
            self._timer = self._timers.call_later(_SLOT_S, self._turn)
        item.slot = max(math.ceil(due / _SLOT_S), self._turned_to + 1)
        slot = self._slots.get(item.slot)
        if slot is None:
            self._slots[item.slot] = {item}
        else:
            slot.add(item)

    def clear(self, item: Waiting) -> None:
        slot = self._slots.get(item.slot)
        if slot is not None:
            slot.discard(item)
            if not slot:
                del self._slots[item.slot]
        item.slot = 0

    def _turn(self) -> None:
        now = int(self._timers.time() / _SLOT_S)
        while self._turned_to < now:
            self._turned_to += 1
            for item in self._slots.pop(self._turned_to, ()):
                item.slot = 0
                item.on_deadline()
        self._timer = self._timers.call_later(_SLOT_S, self._turn) if self._slots else None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slots.clear()
