"""The article's scenario from what was measured: 10,000 users with one tab each, and with three, and nothing happens.

What was measured with fewer users, or at a shorter keep-alive, is extrapolated in proportion, and says so.
"""

from __future__ import annotations

from typing import NamedTuple

from recado.bench.parameters import SCENARIO_USERS, Parameters
from recado.bench.results import Comparison, IdleCost, TransportCost
from recado.bench.transports import TRANSPORTS

INTERVAL_S = 60
_MS_PER_MINUTE = 60_000
_BITS_PER_MEGABIT = 1e6


class Load(NamedTuple):
    """On the server, at every moment. `cores` are of the machine that measured. `users_factor` is what the measured was
    multiplied by, and `interval_factor` what it was divided by; 1 is as measured."""

    title: str
    tabs: int
    connections: int
    requests_per_s: float
    megabits_per_s: float
    cores: float
    memory_bytes: float
    measured_users: int
    users_factor: float
    interval_factor: float

    @property
    def is_extrapolated(self) -> bool:
        return self.users_factor != 1 or self.interval_factor != 1

    @property
    def how(self) -> str:
        parts = [f"{self.measured_users:,} users"]
        if self.users_factor != 1:
            parts.append(f"\N{MULTIPLICATION SIGN} {self.users_factor:,.4g}")
        if self.interval_factor != 1:
            parts.append(f"\N{DIVISION SIGN} {self.interval_factor:.3g}")
        return " ".join(parts)


def loads(comparison: Comparison) -> list[Load]:
    """By transport, then by tabs."""
    return [
        _load(transport, idle, comparison.parameters) for transport in comparison.transports for idle in transport.idle
    ]


def _load(transport: TransportCost, idle: IdleCost, given: Parameters) -> Load:
    polls = TRANSPORTS[transport.name].kind == "polling"
    interval_factor = 1.0 if polls else INTERVAL_S / given.interval_s
    rate = SCENARIO_USERS / interval_factor
    return Load(
        title=transport.title,
        tabs=idle.tabs,
        connections=SCENARIO_USERS * idle.tabs,
        requests_per_s=idle.requests / 60 * rate,
        megabits_per_s=idle.bytes_with_tcp_ip_estimate * 8 / 60 * rate / _BITS_PER_MEGABIT,
        cores=idle.server_cpu_ms / _MS_PER_MINUTE * rate,
        memory_bytes=idle.server_memory_bytes * SCENARIO_USERS,
        measured_users=idle.users,
        users_factor=SCENARIO_USERS / idle.users,
        interval_factor=interval_factor,
    )
