"""The store as the worker's queue: what wakes the worker, and that nothing else does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recado.adapters.queue.embedded import EmbeddedQueue
from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.ports import LaneKey, NewConversation, NewMessage, Sink, Wanted
from tests.worker.bench import SOON_S, Timers, WatchedStore, now_ms

RECHECK_MS = 20


async def open_store(path: Path) -> WatchedStore:
    store = WatchedStore(path, DEFAULT.store, [Sink("hook")])
    await store.put_conversation(NewConversation("c", ["ana", "bruno"], None, None, None, now_ms()))
    return store


async def send(store: SqliteStore, name: str) -> None:
    await store.append_message(NewMessage("c", "ana", name, "hi", now_ms()))


async def returns(queue: EmbeddedQueue) -> float:
    """After how many seconds."""
    began_at = time.monotonic()
    await asyncio.wait_for(queue.next(), SOON_S)
    return time.monotonic() - began_at


async def test_it_tells_of_what_an_earlier_run_may_have_left_and_then_of_each_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch)
    store = await open_store(tmp_path / "recado.db")
    queue = EmbeddedQueue(store, ["hook"], RECHECK_MS, now_ms)

    await returns(queue)
    waiting = asyncio.create_task(queue.next())
    await asyncio.sleep(0)
    await timers.run_out(store)
    assert not waiting.done()
    await send(store, "m1")
    await asyncio.wait_for(waiting, SOON_S)

    await queue.close()
    await store.close()


async def test_it_tells_when_a_job_that_was_put_off_is_due_and_when_a_lease_expires(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "recado.db")
    queue = EmbeddedQueue(store, ["hook"], RECHECK_MS, now_ms)
    await send(store, "m1")
    await store.claim_jobs(Wanted(["hook"], now_ms(), 600, 1, 1))
    await returns(queue)

    assert 0.3 < await returns(queue) < 5, "the lease"
    await store.claim_jobs(Wanted(["hook"], now_ms(), 60_000, 1, 1))
    queue.done(LaneKey("hook", "c"), 400)
    assert 0.3 < await returns(queue) < 5, "as the worker has said"

    await queue.close()
    await store.close()


async def test_a_job_that_waits_for_room_is_looked_at_now_and_then_and_not_all_the_time(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "recado.db")
    queue = EmbeddedQueue(store, ["hook"], 100, now_ms)
    await send(store, "m1")
    await returns(queue)

    assert await returns(queue) >= 0.1
    assert await returns(queue) >= 0.1
    assert store.calls.count("next_job_at") == 2

    await queue.close()
    await store.close()


async def test_while_commits_come_the_store_is_asked_for_nothing(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "recado.db")
    queue = EmbeddedQueue(store, ["hook"], 10_000, now_ms)

    for n in range(50):
        await send(store, f"m{n}")
        await returns(queue)

    assert store.calls.count("next_job_at") == 0
    await queue.close()
    await store.close()


@pytest.mark.parametrize("steps", range(6))
async def test_who_waits_for_it_can_be_stopped_also_just_as_jobs_come(tmp_path: Path, steps: int) -> None:
    """A worker did not stop when a commit came in the same moment."""
    store = await open_store(tmp_path / "recado.db")
    queue = EmbeddedQueue(store, ["hook"], 10_000, now_ms)

    async def wait_for_ever() -> None:
        while True:
            await queue.next()

    waiting = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0.01)
    wake: Callable[[], None] = store.on_jobs
    wake()
    for _ in range(steps):
        await asyncio.sleep(0)
    waiting.cancel()
    ended, _ = await asyncio.wait([waiting], timeout=2)
    assert ended

    await queue.close()
    await store.close()
