"""When a user's radio would be up: a phone's modem stays in its expensive state for a tail after the last byte."""

from __future__ import annotations

import math


class Radio:
    """One for each user, whatever number of tabs and connections. Times are the loop's, in seconds.

    The time after a byte is charged when the next one goes, so over whole cycles it comes out even.
    """

    __slots__ = ("_last", "_tail_s", "on_s", "wakeups")

    def __init__(self, tail_s: float) -> None:
        self._tail_s = tail_s
        self._last = -math.inf
        self.wakeups = 0
        self.on_s = 0.0

    def touch(self, now: float) -> None:
        gap = now - self._last
        if gap > self._tail_s:
            self.wakeups += 1
            self.on_s += self._tail_s
        else:
            self.on_s += gap
        self._last = now
