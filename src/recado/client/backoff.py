"""How long to wait before connecting again: full jitter, so that a server that comes back is not stormed at once."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """`random` returns a number from 0 to 1."""

    def __init__(self, first_s: float, max_s: float, random: Callable[[], float]) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._random = random
        self._longest_s = first_s

    def next_s(self) -> float:
        wait_s = self._longest_s * self._random()
        self._longest_s = min(self._longest_s * 2, self._max_s)
        return wait_s

    def reset(self) -> None:
        self._longest_s = self._first_s
