"""The Store port's contract on jobs: which events cause them, what they are about, and what becomes of them.

Every adapter runs it.
"""

from __future__ import annotations

import asyncio

from recado.chat.event import CONVERSATION_ERASED, DELETED, EDITED, MEMBER_ADDED, MEMBER_REMOVED
from recado.ports import Job, JobFilter, Sink
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
from tests.contracts.stores import MEMBERS_MAX, Shelf, change, create, new_conversation, send

# Which events cause jobs


async def test_an_event_causes_one_job_for_each_sink_and_messages_alone_for_one_that_wants_no_more(
    shelf: Shelf,
) -> None:
    store = await shelf.open((HOOK, CALL))
    await create(store, "ana", "bruno")
    await send(store, "ana", "m1")
    await change(store, 1, "another body")
    await change(store, 1, None)
    await store.put_member("c", "carla", None, 3_000, MEMBERS_MAX)
    await store.remove_member("c", "carla", None, 3_000)
    await store.put_conversation(new_conversation("c", ["ana"], subject="Another", at=3_000))

    hooked, called = await claim(store, ["hook"]), await claim(store, ["call"])

    assert [each.job for each in hooked] == [Job("hook", "c", seq) for seq in range(1, 7)]
    assert [each.job for each in called] == [Job("call", "c", 1)]


async def test_without_a_sink_nothing_is_written_for_it(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send_many(store, 3)

    store = await shelf.reopen((HOOK,))

    assert await claim(store) == []
    assert await store.count_jobs() == []
    assert await store.next_job_at(["hook"]) is None


async def test_a_retry_a_refusal_and_what_changes_nothing_cause_no_job(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1)

    await send(store, "ana", "c-2000-0")
    await asyncio.gather(send(store, "a-stranger", "m"), return_exceptions=True)
    await store.put_member("c", "bruno", None, 3_000, MEMBERS_MAX)
    await change(store, 1, "hi")

    assert seqs(await claim(store)) == [1]


async def test_jobs_outlive_the_store_that_wrote_them(shelf: Shelf) -> None:
    await store_with_messages(shelf, 3)

    store = await shelf.reopen((HOOK,))

    assert seqs(await claim(store)) == [1, 2, 3]


# What becomes of them


async def test_of_a_job_that_is_settled_nothing_is_left(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2)
    await claim(store)

    await store.settle_jobs([Job("hook", "c", 1), Job("hook", "c", 2), Job("hook", "c", 99)])

    assert await states(store) == []
    assert await store.next_job_at(["hook"]) is None


async def test_a_job_can_be_settled_that_nobody_has_claimed(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 3)

    await store.settle_jobs([Job("hook", "c", 1), Job("hook", "c", 3)])

    assert seqs(await claim(store)) == [2]


async def test_a_job_that_was_put_off_holds_up_those_behind_it_until_it_is_due(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 3)
    first, *others = await claim(store)

    await store.put_off_job(first, NOW + 500, "it was away")
    await store.release_claims(others)

    assert await claim(store, now=NOW + 499) == []
    assert await store.next_job_at(["hook"]) == NOW + 500
    again = await claim(store, now=NOW + 500)
    assert seqs(again) == [1, 2, 3]
    assert attempts(again) == [2, 1, 1], "what was released was not tried"


async def test_a_dead_letter_stays_with_its_error_and_stands_in_nobodys_way(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 3)
    first, *others = await claim(store)

    await store.put_off_job(first, None, "it answered 400")
    await store.release_claims(others)

    assert seqs(await claim(store)) == [2, 3]
    (dead,) = await store.list_jobs(JobFilter(state="dead"), 10)
    assert (dead.seq, dead.attempt, dead.error, dead.created_at) == (1, 1, "it answered 400", 2_000)
    assert await claim(store, now=NOW * 10) != []


async def test_who_has_lost_a_claim_can_put_off_extend_and_release_nothing(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1)
    (lost,) = await claim(store)
    (held,) = await claim(store, now=NOW + LEASE_MS)

    await store.put_off_job(lost, NOW, "late")
    await store.put_off_job(lost, None, "late")
    await store.release_claims([lost])

    (view,) = await store.list_jobs(EVERYTHING, 10)
    assert (view.state, view.attempt, view.due_at, view.error) == ("claimed", held.attempt, NOW + 2 * LEASE_MS, None)


async def test_a_dead_letter_that_is_settled_after_all_is_gone(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1)
    await store.put_off_job((await claim(store))[0], None, "no")

    await store.settle_jobs([Job("hook", "c", 1)])

    assert await states(store) == []


async def test_what_comes_while_a_conversation_is_claimed_waits_for_its_turn(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1)
    await claim(store)
    await send_many(store, 2, at=3_000)
    assert await claim(store) == []

    await store.settle_jobs([Job("hook", "c", 1)])

    assert seqs(await claim(store)) == [2, 3]


# The entries that they are about


async def test_a_jobs_entry_goes_to_those_members_who_were_there_and_still_are(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1)
    await store.put_member("c", "carla", None, 3_000, MEMBERS_MAX)
    await send_many(store, 1, at=4_000)
    await store.remove_member("c", "bruno", None, 5_000)

    entries = await store.job_events("c", 1, 4)

    assert [(entry.event.seq, entry.event.type, set(entry.recipients)) for entry in entries] == [
        (1, None, {"ana"}),
        (2, MEMBER_ADDED, {"ana", "carla"}),
        (3, None, {"ana", "carla"}),
        (4, MEMBER_REMOVED, {"ana", "bruno", "carla"}),
    ]


async def test_who_was_removed_and_came_back_gets_what_came_after_that_and_its_own_removal(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1)
    await store.remove_member("c", "bruno", None, 3_000)
    await send_many(store, 1, at=4_000)
    await store.put_member("c", "bruno", None, 5_000, MEMBERS_MAX)

    entries = await store.job_events("c", 1, 4)

    with_bruno = [entry.event.seq for entry in entries if "bruno" in entry.recipients]
    assert with_bruno == [2, 4]


async def test_a_jobs_entry_is_as_the_log_has_it_now(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2)
    await change(store, 1, "what it says now")
    await change(store, 2, None)

    entries = [entry.event for entry in await store.job_events("c", 1, 4)]

    assert [(event.seq, event.type, event.body) for event in entries] == [
        (1, None, "what it says now"),
        (2, DELETED, None),
        (3, EDITED, "what it says now"),
        (4, DELETED, None),
    ]


async def test_a_range_has_the_entries_that_there_are(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 4)

    assert [entry.event.seq for entry in await store.job_events("c", 2, 3)] == [2, 3]
    assert [entry.event.seq for entry in await store.job_events("c", 4, 9)] == [4]
    assert await store.job_events("unknown", 1, 9) == []


async def test_the_end_of_an_erased_conversation_is_a_job_and_nothing_else_is_left_of_it(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2)
    await asyncio.gather(send(store, "ana", "last", at=2_900), store.erase_conversation("c", 3_000))

    claims = await claim(store)
    entries = await store.job_events("c", 1, 4)

    assert seqs(claims) == [1, 2, 3, 4]
    assert [(entry.event.seq, entry.event.type, entry.event.at) for entry in entries] == [
        (4, CONVERSATION_ERASED, 3_000),
    ]
    assert await store.job_events("c", 1, 3) == []


async def test_the_end_of_a_users_erasure_is_a_job(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2)
    await store.erase_user("ana", 3_000)

    claims = await claim(store)
    entries = await store.job_events("c", 1, 4)

    assert seqs(claims) == [1, 2, 3, 4]
    assert [entry.event.body for entry in entries] == [None] * 4


# Waking


async def test_it_is_told_when_there_are_jobs_that_are_due(shelf: Shelf) -> None:
    store = await shelf.open((CALL,))
    told = asyncio.Event()
    store.on_jobs = told.set
    await create(store, "ana", "bruno")
    await store.put_member("c", "carla", None, 2_000, MEMBERS_MAX)
    assert not told.is_set()

    await send(store, "ana", "m1")

    await asyncio.wait_for(told.wait(), 10)


async def test_it_is_told_of_jobs_with_a_delay_once_they_are_due(shelf: Shelf) -> None:
    store = await shelf.open((Sink("soon", delay_ms=200),))
    told = asyncio.Event()
    store.on_jobs = told.set
    await create(store, "ana", "bruno")

    await send(store, "ana", "m1")
    assert not told.is_set()

    await asyncio.wait_for(told.wait(), 10)


async def test_it_is_told_when_jobs_are_retried_and_when_claims_are_released(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1)
    told = asyncio.Event()
    store.on_jobs = told.set
    claims = await claim(store)

    await store.release_claims(claims)
    await asyncio.wait_for(told.wait(), 10)
    told.clear()
    await store.retry_jobs(EVERYTHING, NOW)
    await asyncio.wait_for(told.wait(), 10)
