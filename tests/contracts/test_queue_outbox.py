"""The QueueOutbox port's contract: the book of what a queue outside the store has been told.

The adapters for several processes run it.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from recado.adapters.store.postgres.store import PostgresStore
from recado.ports import Job, Sink
from tests.contracts.jobs import CALL, HOOK, LATER, LEASE_MS, NOW, claim, send_many
from tests.contracts.stores import Shelf, create


@pytest.fixture
def adapter() -> str:
    return "postgres"


async def open_outbox(shelf: Shelf, *sinks: Sink) -> PostgresStore:
    store = await shelf.open(sinks or (HOOK,))
    assert isinstance(store, PostgresStore)
    return store


async def outbox_with_messages(shelf: Shelf, count: int, *sinks: Sink) -> PostgresStore:
    """A store with these sinks, or HOOK, and a conversation in which ana has sent so many messages."""
    store = await open_outbox(shelf, *sinks)
    await create(store, "ana", "bruno")
    await send_many(store, count)
    return store


async def queued_before(store: PostgresStore, before: int, now: int = NOW) -> list[Job]:
    return await store.jobs_queued_before(["hook"], now, before, None, 10)


async def test_jobs_are_unqueued_until_it_is_noted_that_a_queue_has_them_and_again_much_later(shelf: Shelf) -> None:
    store = await outbox_with_messages(shelf, 3)
    jobs = [Job("hook", "c", seq) for seq in (1, 2, 3)]
    assert await store.unqueued_jobs(["hook"], NOW, 10) == jobs
    assert await store.unqueued_jobs(["hook"], NOW, 2) == jobs[:2]
    assert await queued_before(store, NOW + 1) == [], "none has been told of"

    await store.note_queued(jobs[:2], NOW)

    assert await store.unqueued_jobs(["hook"], NOW + 1, 10) == jobs[2:]
    assert await store.unqueued_jobs(["call"], NOW, 10) == []
    assert await queued_before(store, NOW) == []
    assert await queued_before(store, NOW + 1) == jobs[:2]
    assert await store.jobs_queued_before(["call"], NOW, NOW + 1, None, 10) == []


async def test_what_a_queue_may_have_lost_is_walked_in_pages_over_conversations_and_sinks(shelf: Shelf) -> None:
    store = await open_outbox(shelf, HOOK, CALL)
    for conversation in ("z", "a"):  # the order is the store's, not the names'
        await create(store, "ana", "bruno", conversation=conversation)
        await send_many(store, 3, conversation=conversation)
    jobs = await store.unqueued_jobs(["hook", "call"], NOW, 100)
    assert len(jobs) == 12
    await store.note_queued(jobs, NOW)

    walked: list[Job] = []
    while page := await store.jobs_queued_before(["hook", "call"], NOW + 1, NOW + 1, walked[-1] if walked else None, 5):
        walked += page

    assert sorted(walked) == sorted(jobs)
    lanes = [job.lane for job in walked]
    assert sum(lane != after for lane, after in pairwise(lanes)) == 3, "a lane's jobs stand together"


async def test_jobs_are_queued_once_they_are_due(shelf: Shelf) -> None:
    store = await outbox_with_messages(shelf, 1, LATER)

    assert await store.unqueued_jobs(["later"], 4_999, 10) == []
    assert await store.unqueued_jobs(["later"], 5_000, 10) == [Job("later", "c", 1)]


async def test_claimed_and_dead_jobs_are_not_queued_but_those_of_a_worker_that_is_gone(shelf: Shelf) -> None:
    store = await outbox_with_messages(shelf, 2)
    first, second = await claim(store)
    await store.put_off_job(first, None, "no")

    assert await store.unqueued_jobs(["hook"], NOW + LEASE_MS - 1, 10) == []
    assert await store.unqueued_jobs(["hook"], NOW + LEASE_MS, 10) == [second.job]


async def test_a_queue_is_given_a_job_again_when_it_is_due_again_or_its_worker_is_gone(shelf: Shelf) -> None:
    """What a queue was told before that may have been looked at too early."""
    store = await outbox_with_messages(shelf, 1)
    (job,) = await store.unqueued_jobs(["hook"], NOW, 10)
    await store.note_queued([job], NOW)
    assert await store.unqueued_jobs(["hook"], NOW + 1_000_000, 10) == []

    (first,) = await claim(store)
    assert await store.unqueued_jobs(["hook"], NOW + LEASE_MS - 1, 10) == []
    assert await store.unqueued_jobs(["hook"], NOW + LEASE_MS, 10) == [job]

    await store.put_off_job(first, NOW + 5_000, "no")
    assert await store.unqueued_jobs(["hook"], NOW + 4_999, 10) == []
    assert await store.unqueued_jobs(["hook"], NOW + 5_000, 10) == [job]
    await store.note_queued([job], NOW + 5_000)
    assert await store.unqueued_jobs(["hook"], NOW + 5_000, 10) == []
    today = 1_790_000_000_000
    assert await store.unqueued_jobs(["hook"], today, 10) == []
    assert await queued_before(store, NOW + 5_000, today) == []
    assert await queued_before(store, today - 1, today) == [job]


async def test_one_store_of_all_leads_until_it_is_closed(shelf: Shelf) -> None:
    first, second = await open_outbox(shelf), await open_outbox(shelf)
    assert await first.lead()
    assert await first.lead(), "it goes on"
    assert not await second.lead()

    await first.close()

    async with asyncio.timeout(10):  # the server sees a moment later that it has gone
        while not await second.lead():
            pass
