"""The Store port's contract on who gets which jobs, and when.

Every adapter runs it.
"""

from __future__ import annotations

import asyncio

from recado.ports import Claim, Job, LaneKey
from tests.contracts.jobs import (
    CALL,
    HOOK,
    LATER,
    LEASE_MS,
    NOW,
    attempts,
    claim,
    send_many,
    seqs,
    store_with_messages,
)
from tests.contracts.stores import Shelf, create

# Claiming


async def test_a_conversations_jobs_are_claimed_in_order_and_as_many_as_are_asked_for(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 5)

    claims = await claim(store, lane_jobs_max=3)

    assert claims == [Claim(Job("hook", "c", seq), 1) for seq in (1, 2, 3)]


async def test_nobody_else_gets_a_conversation_of_which_a_job_is_claimed(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 5)
    await create(store, "ana", conversation="d")
    await send_many(store, 1, "d")
    first = await claim(store, lanes_max=1, lane_jobs_max=2)
    assert [each.job for each in first] == [Job("hook", "c", 1), Job("hook", "c", 2)]

    assert [each.job for each in await claim(store)] == [Job("hook", "d", 1)]
    await store.settle_jobs([Job("hook", "c", 1)])
    assert await claim(store) == [], "the second job is still somebody's"
    await store.settle_jobs([Job("hook", "c", 2)])
    assert seqs(await claim(store)) == [3, 4, 5]


async def test_another_sinks_jobs_of_the_conversation_are_nothing_to_wait_for(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2, HOOK, CALL)
    assert seqs(await claim(store, ["hook"])) == [1, 2]

    assert seqs(await claim(store, ["call"])) == [1, 2]


async def test_so_many_conversations_are_claimed_as_are_asked_for_those_first_that_are_due_longest(
    shelf: Shelf,
) -> None:
    store = await shelf.open((HOOK,))
    for conversation, at in (("newest", 5_000), ("oldest", 3_000), ("middle", 4_000)):
        await create(store, "ana", conversation=conversation)
        await send_many(store, 2, conversation, at)

    claims = await claim(store, lanes_max=1)

    assert {each.job.conversation for each in claims} == {"oldest"}
    assert seqs(claims) == [1, 2]


async def test_a_conversation_whose_later_job_somebody_has_takes_no_other_ones_place(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2)
    first, _ = await claim(store)
    await store.release_claims([first])
    await create(store, "ana", conversation="d")
    await send_many(store, 1, "d", at=3_000)

    assert [each.job for each in await claim(store, lanes_max=1)] == [Job("hook", "d", 1)]


async def test_only_the_conversations_and_sinks_that_are_named_are_claimed(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1, HOOK, CALL)
    await create(store, "ana", conversation="d")
    await send_many(store, 1, "d")

    claims = await claim(
        store, ["hook", "call"], only=[LaneKey("hook", "d"), LaneKey("call", "c"), LaneKey("hook", "unknown")]
    )

    assert {each.job for each in claims} == {Job("hook", "d", 1), Job("call", "c", 1)}


async def test_each_of_many_claimers_at_once_gets_jobs_that_no_other_has(shelf: Shelf) -> None:
    store = await shelf.open((HOOK,))
    for n in range(20):
        await create(store, "ana", conversation=f"c{n}")
        await send_many(store, 2, f"c{n}")

    claims = await asyncio.gather(*(claim(store, lanes_max=3) for _ in range(10)))

    jobs = [each.job for some in claims for each in some]
    assert len(jobs) == len(set(jobs))
    rest = [each.job for each in await claim(store)]
    assert sorted(jobs + rest) == sorted(Job("hook", f"c{n}", seq) for n in range(20) for seq in (1, 2))


# When they are due


async def test_a_job_of_a_sink_with_a_delay_is_due_so_long_after_its_event(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1, LATER)

    assert await claim(store, ["later"], now=4_999) == []
    assert await store.next_job_at(["later"]) == 5_000
    assert seqs(await claim(store, ["later"], now=5_000)) == [1]


async def test_jobs_that_are_due_are_claimed_before_others_of_their_conversation_are(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 3, LATER)

    assert seqs(await claim(store, ["later"], now=5_001)) == [1, 2]


async def test_a_lease_that_has_expired_lets_another_worker_have_the_jobs_in_order(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 3)
    await claim(store)

    assert await claim(store, now=NOW + LEASE_MS - 1) == []
    again = await claim(store, now=NOW + LEASE_MS)

    assert seqs(again) == [1, 2, 3]
    assert attempts(again) == [2, 2, 2]


async def test_an_extended_lease_expires_later_unless_the_job_was_claimed_again_since(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2)
    first = await claim(store)
    await store.extend_claims(first, NOW + 50_000)
    assert await claim(store, now=NOW + 49_999) == []

    second = await claim(store, now=NOW + 50_000)
    await store.extend_claims(first, NOW + 900_000)

    assert attempts(second) == [2, 2]
    assert seqs(await claim(store, now=NOW + 50_000 + LEASE_MS)) == [1, 2]


async def test_the_next_job_is_due_when_the_first_one_is_or_when_a_lease_expires(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2, HOOK, CALL)
    assert await store.next_job_at(["hook", "call"]) == 2_000
    await claim(store, ["hook"])
    assert await store.next_job_at(["hook"]) == NOW + LEASE_MS
    assert await store.next_job_at(["hook", "call"]) == 2_000
    assert await store.next_job_at(["nobody"]) is None


async def test_a_lanes_first_job_is_due_when_it_is_or_when_its_lease_expires(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2, HOOK, CALL)
    await create(store, "ana", conversation="d")
    assert await store.lane_due_at("hook", "c") == 2_000
    claims = await claim(store, ["hook"])
    assert await store.lane_due_at("hook", "c") == NOW + LEASE_MS
    await store.put_off_job(claims[0], None, "no")
    assert await store.lane_due_at("hook", "c") == NOW + LEASE_MS
    await store.settle_jobs([claims[1].job])
    assert await store.lane_due_at("hook", "c") is None
    assert await store.lane_due_at("call", "c") == 2_000
    assert await store.lane_due_at("call", "d") is None
    assert await store.lane_due_at("call", "unknown") is None
