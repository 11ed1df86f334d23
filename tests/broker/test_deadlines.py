"""The wheel of deadlines: each comes once, not early, and what was cleared does not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.broker.deadlines import Deadlines


class Item:
    def __init__(self) -> None:
        self.deadline = 0
        self.reached: list[int] = []

    def on_deadline(self, tick: int) -> None:
        self.reached.append(tick)


def advance(deadlines: Deadlines, seconds: int) -> None:
    for _ in range(seconds):
        deadlines.advance()


@pytest.mark.parametrize("delay_s", [0, 1, 2, 10, 300])
def test_a_deadline_comes_once_after_its_whole_seconds_have_passed(delay_s: int) -> None:
    deadlines, item = Deadlines(), Item()
    advance(deadlines, 5)
    deadlines.set(item, delay_s)
    advance(deadlines, delay_s)
    assert item.reached == [], "the tick that was under way when it was set counts for nothing"
    advance(deadlines, 1)
    assert item.reached == [5 + delay_s + 1]
    advance(deadlines, 1_000)
    assert len(item.reached) == 1


def test_setting_again_replaces_the_deadline() -> None:
    deadlines, item = Deadlines(), Item()
    deadlines.set(item, 1)
    deadlines.set(item, 5)
    advance(deadlines, 5)
    assert item.reached == []
    advance(deadlines, 1)
    assert item.reached == [6]


def test_a_deadline_that_was_cleared_does_not_come() -> None:
    deadlines, item, other = Deadlines(), Item(), Item()
    deadlines.set(item, 1)
    deadlines.set(other, 1)
    deadlines.clear(item)
    deadlines.clear(item)
    advance(deadlines, 10)
    assert (item.reached, len(other.reached)) == ([], 1)


def test_a_deadline_may_set_itself_again() -> None:
    deadlines = Deadlines()

    class Repeating(Item):
        def on_deadline(self, tick: int) -> None:
            super().on_deadline(tick)
            deadlines.set(self, 1)

    item = Repeating()
    deadlines.set(item, 1)
    advance(deadlines, 6)
    assert item.reached == [2, 4, 6]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, 0, 0.5, 1, 1.5, 3, 20]), st.integers(0, 3))))
def test_any_order_of_setting_and_clearing_is_never_early_and_keeps_nothing(
    steps: list[tuple[int, float | None, int]],
) -> None:
    deadlines = Deadlines()
    items = [Item() for _ in range(10)]
    earliest: dict[int, int] = {}
    for index, delay_s, seconds in steps:
        items[index].reached.clear()
        if delay_s is None:
            deadlines.clear(items[index])
            earliest.pop(index, None)
        else:
            deadlines.set(items[index], delay_s)
            earliest[index] = deadlines.tick + math.floor(delay_s) + 1
        advance(deadlines, seconds)
        for each, tick in earliest.items():
            assert items[each].reached == ([tick] if tick <= deadlines.tick else [])
    advance(deadlines, 30)
    assert [len(item.reached) for item in items] == [1 if index in earliest else 0 for index in range(10)]
    assert deadlines._slots == {}
