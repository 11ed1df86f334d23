"""Deadlines of all connections on one timer: a wheel of one-second slots. An idle connection costs one set entry."""

from __future__ import annotations

import logging
from typing import Protocol

_log = logging.getLogger(__name__)


class HasDeadline(Protocol):
    deadline: int

    def on_deadline(self, tick: int) -> None: ...


class Deadlines:
    """`tick` counts seconds. Deadlines are kept to the second, and are never early."""

    def __init__(self) -> None:
        self.tick = 0
        self._slots: dict[int, set[HasDeadline]] = {}

    def set(self, item: HasDeadline, delay_s: float) -> None:
        """Call `item.on_deadline` once, in `delay_s` seconds; replaces the deadline that it had."""
        self.clear(item)
        item.deadline = self.tick + int(delay_s) + 1
        self._slots.setdefault(item.deadline, set()).add(item)

    def clear(self, item: HasDeadline) -> None:
        slot = self._slots.get(item.deadline)
        if slot is not None:
            slot.discard(item)
            if not slot:
                del self._slots[item.deadline]
        item.deadline = 0

    def advance(self) -> None:
        """A second has passed."""
        self.tick += 1
        for item in self._slots.pop(self.tick, ()):
            item.deadline = 0
            try:
                item.on_deadline(self.tick)
            except Exception:  # the others' time has come all the same
                _log.exception("a deadline could not be handled")
