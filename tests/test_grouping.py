"""Calls that become one write: in order, bounded, and each told what became of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from recado.grouping import Grouping


class Writes:
    """Each waits until it is let go, and ends as the test says."""

    def __init__(self) -> None:
        self.begun: list[list[str]] = []
        self.fails_with: Exception | None = None
        self.refused: set[str] = set()
        self.has_begun = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def write(self, things: Sequence[str]) -> Sequence[Exception | None] | None:
        self.begun.append(list(things))
        self.has_begun.set()
        await self.goes_on.wait()
        if self.fails_with is not None:
            raise self.fails_with
        return [OSError(each) if each in self.refused else None for each in things] if self.refused else None


async def test_what_comes_while_a_write_is_under_way_goes_into_the_next_ones_in_order_and_bounded() -> None:
    writes = Writes()
    grouping = Grouping(writes.write, 3)
    first = [grouping.put(each) for each in "ab"]
    await writes.has_begun.wait()
    later = [grouping.put(each) for each in "cdefg"]
    assert grouping.waiting == 5
    writes.goes_on.set()
    await asyncio.gather(*first, *later)
    assert writes.begun == [["a", "b"], ["c", "d", "e"], ["f", "g"]]
    assert grouping.waiting == 0


async def test_each_is_told_what_became_of_its_own() -> None:
    writes = Writes()
    writes.refused = {"b"}
    writes.goes_on.set()
    grouping = Grouping(writes.write, 3)
    outcomes = await asyncio.gather(*(grouping.put(each) for each in "abc"), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["None", "b", "None"]


async def test_a_write_that_fails_has_failed_for_all_of_it_and_not_for_the_next() -> None:
    writes = Writes()
    writes.fails_with = OSError("full")
    writes.goes_on.set()
    grouping = Grouping(writes.write, 3)
    outcomes = await asyncio.gather(*(grouping.put(each) for each in "ab"), return_exceptions=True)
    assert outcomes == [writes.fails_with] * 2
    writes.fails_with = None
    await grouping.put("c")


async def test_who_stopped_waiting_is_nobody_elses_trouble() -> None:
    writes = Writes()
    grouping = Grouping(writes.write, 3)
    gone, stays = grouping.put("a"), grouping.put("b")
    gone.cancel()
    writes.goes_on.set()
    await stays
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_closing_waits_for_what_is_under_way_and_what_waits() -> None:
    writes = Writes()
    grouping = Grouping(writes.write, 1)
    put = [grouping.put(each) for each in "ab"]
    closing = asyncio.ensure_future(grouping.close())
    await writes.has_begun.wait()
    assert not closing.done()
    writes.goes_on.set()
    await closing
    assert all(each.done() for each in put)
