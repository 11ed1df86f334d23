"""How long events take from their acceptance to each stage: what operators are shown, and traces are made of.

Plain arrays, because the hot path pays: the clock is read once for a batch of events, and for an acknowledgement. An
event is accepted at its `at`, to the millisecond, by the clock of the process that took it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

from recado.chat.event import Committed, Event

BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000)
_SOON_MS = 256
_INDEX = bytes(bisect_left(BOUNDS_MS, elapsed_ms) for elapsed_ms in range(_SOON_MS))  # a third of what bisecting takes


class Elapsed:
    """A histogram: `counts[n]` are those up to `BOUNDS_MS[n]`, the last one those above all."""

    __slots__ = ("counts", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0

    def note(self, elapsed_ms: int, times: int = 1) -> None:
        """Clocks of two machines may differ: what seems to be over before it began took no time."""
        if elapsed_ms < 0:
            elapsed_ms = 0
        index = _INDEX[elapsed_ms] if elapsed_ms < _SOON_MS else bisect_left(BOUNDS_MS, elapsed_ms)
        self.counts[index] += times
        self.sum_ms += elapsed_ms * times


class Tracer(Protocol):
    """Where the stages of some events are told, as spans of one trace for each event."""

    def follows(self, conversation: str, seq: int) -> bool:
        """Whether this event is one of those; every process decides alike."""

    def span(self, name: str, conversation: str, seq: int, start_ms: int, end_ms: int, failed: bool = False) -> None:
        """Times are ms since the epoch. The span `COMMIT` is the parent of the others."""


COMMIT, PUBLISH, DELIVER = "commit", "publish", "deliver"


class Stages:
    """`accepted` are the messages that were given to the store. An event is published when its broker has it: the one
    in this process when it was written to who is connected, another one when it has acknowledged every recipient's."""

    def __init__(self, now_ms: Callable[[], int], tracer: Tracer | None = None) -> None:
        self.now_ms = now_ms
        self.tracer = tracer
        self.accepted = 0
        self.committed = Elapsed()
        self.published = Elapsed()
        self.delivered = Elapsed()
        self.acknowledged = Elapsed()

    def commit(self, committed: Sequence[Committed]) -> None:
        """This process has committed these, or hears of what others have."""
        now, note = self.now_ms(), self.committed.note
        for entry in committed:
            if not entry.elsewhere:
                note(now - entry.event.at)
        if self.tracer is not None:
            for entry in committed:
                if not entry.elsewhere:
                    self._trace(COMMIT, entry.conversation, entry.event.seq, entry.event.at, now)

    def publish(self, published: Sequence[tuple[str, Event, int]]) -> None:
        """The broker has these, of these conversations; each was written to so many connections at once."""
        now = self.now_ms()
        for _, event, delivered in published:
            self.published.note(now - event.at)
            if delivered:
                self.delivered.note(now - event.at, delivered)
        if self.tracer is not None:
            for conversation, event, _ in published:
                self._trace(PUBLISH, conversation, event.seq, event.at, now)

    def acknowledge(self, conversation: str, seq: int, at: int) -> None:
        """A device has an event of that time."""
        now = self.now_ms()
        self.acknowledged.note(now - at)
        if self.tracer is not None:
            self._trace(DELIVER, conversation, seq, at, now)

    def _trace(self, name: str, conversation: str, seq: int, start_ms: int, end_ms: int) -> None:
        assert self.tracer is not None
        if self.tracer.follows(conversation, seq):
            self.tracer.span(name, conversation, seq, start_ms, end_ms)


_AT = b'"at":'


def accepted_at(encoded: bytes) -> int | None:
    """Of what begins as an event does: `at` is the first there that has this name, for before it are ids only."""
    start = encoded.find(_AT) + len(_AT)
    end = encoded.find(b",", start)
    return int(encoded[start:end]) if start >= len(_AT) and end > start else None
