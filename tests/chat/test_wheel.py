"""Deadlines on one timer: never early, soon after, and no timer when nobody waits."""

from __future__ import annotations

import math
from collections.abc import Callable

from recado.chat.wheel import Wheel

SLOT_S = 0.25


class Clock:
    """An event loop's time, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Clock:
        self.timers.append((self.now + delay, callback))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def pass_(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            self.now, callback = self.timers.pop(0)
            callback()
        self.now = end


class Item:
    def __init__(self, clock: Clock) -> None:
        self.slot = 0
        self.fired_at: list[float] = []
        self._clock = clock

    def on_deadline(self) -> None:
        self.fired_at.append(self._clock.now)


def test_a_deadline_is_never_early_and_late_by_a_slot_at_most() -> None:
    clock = Clock()
    wheel = Wheel(clock)
    for delay in (0.0, 0.1, 0.25, 1.0, 1.01, 59.9):
        item = Item(clock)
        due = clock.now + delay
        wheel.set(item, due)
        clock.pass_(61)
        (fired_at,) = item.fired_at
        assert due <= fired_at <= due + 2 * SLOT_S
    assert clock.timers == []


def test_ten_thousand_that_wait_have_one_timer_and_nobody_has_none() -> None:
    clock = Clock()
    wheel = Wheel(clock)
    items = [Item(clock) for _ in range(10_000)]
    for number, item in enumerate(items):
        wheel.set(item, clock.now + 1 + number % 60)
    assert (len(clock.timers), len(wheel)) == (1, 10_000)
    for item in items:
        wheel.clear(item)
    clock.pass_(1)
    assert (clock.timers, len(wheel)) == ([], 0)
    assert not any(item.fired_at for item in items)


def test_setting_again_replaces_and_never_is_no_deadline() -> None:
    clock = Clock()
    wheel = Wheel(clock)
    item = Item(clock)
    wheel.set(item, clock.now + 1)
    wheel.set(item, clock.now + 5)
    clock.pass_(4)
    assert item.fired_at == []
    wheel.set(item, math.inf)
    clock.pass_(10)
    assert item.fired_at == []


def test_one_that_sets_itself_again_goes_on() -> None:
    clock = Clock()
    wheel = Wheel(clock)

    class Again(Item):
        def on_deadline(self) -> None:
            super().on_deadline()
            wheel.set(self, clock.now + 1)

    item = Again(clock)
    wheel.set(item, clock.now + 1)
    clock.pass_(10)
    assert len(item.fired_at) in (8, 9, 10)
