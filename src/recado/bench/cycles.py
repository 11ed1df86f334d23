"""The rates of what repeats, over whole cycles: from the start of one exchange to that of a later one.

A stretch of the clock has now more and now fewer exchanges of a connection in it, whatever their period is, which the
server chooses where it holds something. Between the starts of two exchanges there is a whole number of cycles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from recado.bench.failure import RunFailed
from recado.bench.radio import Radio
from recado.bench.wire import Traffic, Wire

EXCHANGES_MIN = 2


class _Mark(NamedTuple):
    at: float
    traffic: Traffic
    wakeups: int
    on_s: float


class Cycles:
    """Of one connection, from now on, and of the radio of its user."""

    def __init__(self, wire: Wire, radio: Radio) -> None:
        self._wire = wire
        self._radio = radio
        self._first: _Mark | None = None
        self._last: _Mark | None = None
        self._period_s = 0.0
        self._complete = asyncio.Event()
        wire.on_exchange = self._mark

    async def complete(self) -> None:
        """At least one cycle has passed."""
        await self._complete.wait()

    def end(self) -> None:
        self._wire.on_exchange = None

    def traffic_per_s(self) -> list[float]:
        first, last = self._ends()
        return [count / (last.at - first.at) for count in last.traffic.minus(first.traffic)]

    def rhythm(self) -> tuple[float, float]:
        """When the last exchange started, and how long after the one before."""
        return self._ends()[1].at, self._period_s

    def radio_per_s(self) -> tuple[float, float]:
        """Wake-ups, and seconds for which it is up."""
        first, last = self._ends()
        seconds = last.at - first.at
        return (last.wakeups - first.wakeups) / seconds, (last.on_s - first.on_s) / seconds

    def _mark(self, now: float) -> None:
        mark = _Mark(now, self._wire.traffic(), self._radio.wakeups, self._radio.on_s)
        if self._first is None:
            self._first = mark
        else:
            self._period_s = now - (self._last or self._first).at
            self._last = mark
            self._complete.set()

    def _ends(self) -> tuple[_Mark, _Mark]:
        if self._first is None or self._last is None:
            raise RunFailed("a tab had no whole cycle")
        return self._first, self._last


def sum_of_traffic(cycles: Sequence[Cycles]) -> list[float]:
    """Of all of them, per second, in the order of Traffic."""
    return [sum(counts) for counts in zip(*(each.traffic_per_s() for each in cycles), strict=True)]
