"""The Store port's contract on what operators see of jobs, and do with them.

Every adapter runs it.
"""

from __future__ import annotations

from recado.ports import JobCount, JobFilter, LaneKey
from tests.contracts.jobs import (
    CALL,
    EVERYTHING,
    HOOK,
    LEASE_MS,
    NOW,
    attempts,
    claim,
    send_many,
    seqs,
    states,
    store_with_messages,
)
from tests.contracts.stores import Shelf, create


async def test_jobs_are_listed_the_oldest_first_and_filtered(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2, HOOK, CALL)
    await create(store, "ana", conversation="d")
    await send_many(store, 1, "d", at=1_500)
    (died,) = await claim(store, ["call"], only=[LaneKey("call", "d")])
    await store.put_off_job(died, None, "no")
    await claim(store, ["hook"], only=[LaneKey("hook", "c")], lane_jobs_max=1)

    views = await store.list_jobs(EVERYTHING, 10)

    assert [(view.sink, view.conversation, view.seq, view.state) for view in views] == [
        ("call", "d", 1, "dead"),
        ("hook", "d", 1, "waiting"),
        ("call", "c", 1, "waiting"),
        ("hook", "c", 1, "claimed"),
        ("call", "c", 2, "waiting"),
        ("hook", "c", 2, "waiting"),
    ]
    assert await store.list_jobs(EVERYTHING, 2) == views[:2]
    assert await store.list_jobs(JobFilter(sink="call"), 10) == [view for view in views if view.sink == "call"]
    assert await store.list_jobs(JobFilter(conversation="d"), 10) == views[:2]
    assert await store.list_jobs(JobFilter(seq=2), 10) == views[4:]
    assert await store.list_jobs(JobFilter(state="claimed"), 10) == [views[3]]
    assert await store.list_jobs(JobFilter(sink="hook", state="dead"), 10) == []
    assert await store.list_jobs(JobFilter(conversation="unknown"), 10) == []


async def test_jobs_are_counted_by_sink_and_state_with_the_age_of_the_oldest(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 4, HOOK, CALL)
    first, second, _ = await claim(store, ["hook"], lane_jobs_max=3)
    await store.put_off_job(first, None, "no")
    await store.put_off_job(second, None, "no")

    assert sorted(await store.count_jobs()) == [
        JobCount("call", "waiting", 4, 2_000),
        JobCount("hook", "claimed", 1, 2_002),
        JobCount("hook", "dead", 2, 2_000),
        JobCount("hook", "waiting", 1, 2_003),
    ]


async def test_dead_letters_and_jobs_that_wait_are_retried_as_if_never_tried(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 12)
    claims = await claim(store)
    for each in claims[:5]:
        await store.put_off_job(each, None, "no")
    await store.put_off_job(claims[5], NOW * 10, "later")
    await store.release_claims(claims[6:])

    assert await store.retry_jobs(JobFilter(sink="hook"), NOW) == 12

    again = await claim(store)
    assert seqs(again) == list(range(1, 13))
    assert attempts(again) == [1] * 12
    assert [view.error for view in await store.list_jobs(EVERYTHING, 100)] == [None] * 12


async def test_only_what_is_meant_is_retried_and_nothing_that_somebody_is_at(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 3)
    first, second, third = await claim(store)
    await store.put_off_job(first, None, "no")
    await store.put_off_job(second, None, "no")

    assert await store.retry_jobs(JobFilter(conversation="unknown"), NOW) == 0
    assert await store.retry_jobs(JobFilter(state="claimed"), NOW) == 0
    assert await store.retry_jobs(JobFilter(state="dead", seq=2), NOW) == 1

    assert await states(store) == [(1, "dead"), (2, "waiting"), (3, "claimed")]
    assert await claim(store) == [], "the conversation's turn is the third job's"
    await store.settle_jobs([third.job])
    assert seqs(await claim(store)) == [2]


async def test_a_retried_dead_letter_waits_for_who_is_at_a_later_job_of_its_conversation(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2)
    first, second = await claim(store)
    await store.put_off_job(first, None, "no")
    await store.retry_jobs(JobFilter(state="dead"), NOW)

    assert await claim(store, lane_jobs_max=1) == []
    await store.settle_jobs([second.job])
    assert seqs(await claim(store, lane_jobs_max=1)) == [1]


async def test_a_dead_letter_that_is_retried_goes_before_those_that_wait(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 3)
    first, *others = await claim(store)
    await store.put_off_job(first, None, "no")
    await store.release_claims(others)

    await store.retry_jobs(JobFilter(state="dead"), NOW)

    (again,) = await claim(store, lane_jobs_max=1)
    assert again.job.seq == 1
    assert await store.next_job_at(["hook"]) == NOW + LEASE_MS, "the others wait for it"
    await store.put_off_job(again, NOW + 500, "no")
    assert await store.next_job_at(["hook"]) == NOW + 500
    assert seqs(await claim(store, now=NOW + 500, lane_jobs_max=2)) == [1, 2]


async def test_jobs_are_dropped_but_nothing_that_somebody_is_at(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 12)
    first, *_ = await claim(store, lane_jobs_max=2)
    await store.put_off_job(first, None, "no")

    assert await store.drop_jobs(JobFilter(state="dead")) == 1
    assert await store.drop_jobs(JobFilter(seq=7)) == 1
    assert await store.drop_jobs(JobFilter(sink="another")) == 0
    assert await store.drop_jobs(EVERYTHING) == 9

    assert await states(store) == [(2, "claimed")]


async def test_after_the_first_jobs_are_dropped_those_behind_them_are_claimed(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 4)

    assert await store.drop_jobs(JobFilter(seq=1)) == 1

    assert seqs(await claim(store)) == [2, 3, 4]
