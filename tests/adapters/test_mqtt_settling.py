"""What the direct path has done: its jobs are settled in the store, or stay there for a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from recado.adapters.broker.mqtt.settling import Settling
from recado.app.limits import DEFAULT
from recado.ports import Job, Sink
from tests.worker.bench import Bench

LIMITS = replace(DEFAULT.direct_path, settle_pending_max=4, settle_batch_max=3)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A conversation with six events for the broker."""
    bench = Bench(tmp_path / "recado.db")
    await bench.open(Sink("notify"))
    await bench.create("c")
    await bench.send(6)
    yield bench
    await bench.store.close()


async def left(bench: Bench) -> list[int]:
    return [seq for _, seq, _, _ in await bench.states()]


async def test_jobs_are_settled_together_and_those_without_room_stay(bench: Bench) -> None:
    settling = Settling(bench.store, LIMITS)
    for seq in range(1, 7):
        settling.settle(Job("notify", "c", seq))
    await settling.close()
    assert await left(bench) == [5, 6]
    assert bench.store.calls == ["settle_jobs", "settle_jobs"]


async def test_what_cannot_be_settled_stays_and_the_next_is_settled(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.store.go_away("settle_jobs", 1)
    settling = Settling(bench.store, LIMITS)
    for seq in range(1, 5):
        settling.settle(Job("notify", "c", seq))
    await settling.close()
    assert await left(bench) == [1, 2, 3, 5, 6]
    assert "3 jobs were done and could not be settled" in caplog.text
