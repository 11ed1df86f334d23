"""Whether two comparisons agree: bytes within 3 %, processor time within 30 %.

Bytes are the protocol's and nearly the same each time; processor time depends on what else the machine does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from recado.bench.results import Comparison

BYTES_WITHIN = 0.03
CPU_WITHIN = 0.30
_BYTES = ("bytes_up", "bytes_down")
_MESSAGE_CPU = ("server_cpu_ms_per_1000", "client_cpu_ms_per_1000")
_IDLE_CPU = ("server_cpu_ms", "client_cpu_ms")


class NotComparable(Exception):
    """The two were not made with the same parameters."""


class Pair(NamedTuple):
    what: str
    first: float
    second: float
    within: float

    @property
    def difference(self) -> float:
        """As a part of the larger."""
        largest = max(abs(self.first), abs(self.second))
        return abs(self.first - self.second) / largest if largest else 0.0

    @property
    def agrees(self) -> bool:
        return self.difference <= self.within


def pairs(first: Comparison, second: Comparison) -> list[Pair]:
    """Raises NotComparable."""
    if first.parameters != second.parameters:
        raise NotComparable("the two were not made with the same options")
    return list(_pairs(first, second))


def _pairs(first: Comparison, second: Comparison) -> Iterator[Pair]:
    for one, other in zip(first.transports, second.transports, strict=True):
        yield from _of(f"{one.title}, a message", one.message, other.message, _MESSAGE_CPU)
        for mine, its in zip(one.idle, other.idle, strict=True):
            yield from _of(f"{one.title}, idle with {mine.tabs} tab(s)", mine, its, _IDLE_CPU)


def _of(what: str, mine: msgspec.Struct, its: msgspec.Struct, cpu: tuple[str, ...]) -> Iterator[Pair]:
    for names, within in ((_BYTES, BYTES_WITHIN), (cpu, CPU_WITHIN)):
        for name in names:
            yield Pair(f"{what}: {name}", getattr(mine, name), getattr(its, name), within)
