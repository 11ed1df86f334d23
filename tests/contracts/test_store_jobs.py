"""The Store port's contract on jobs: which events cause them, who gets them, and what becomes of them.

Every adapter runs it. Times are the tests' own: events happen at 2,000 and later, and `NOW` is after all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from recado.chat.event import CONVERSATION_ERASED, DELETED, EDITED, MEMBER_ADDED, MEMBER_REMOVED
from recado.ports import Claim, Job, JobCount, JobFilter, Sink, Store, Wanted
from tests.contracts.stores import MEMBERS_MAX, Shelf, change, create, new_conversation, send

NOW = 100_000
LEASE_MS = 10_000
HOOK = Sink("hook")
CALL = Sink("call", messages_only=True)
LATER = Sink("later", delay_ms=3_000)
EVERYTHING = JobFilter()


async def claim(
    store: Store,
    sinks: Sequence[str] = ("hook",),
    now: int = NOW,
    lanes_max: int = 100,
    lane_jobs_max: int = 100,
    only: Sequence[tuple[str, str]] | None = None,
) -> list[Claim]:
    return await store.claim_jobs(Wanted(sinks, now, LEASE_MS, lanes_max, lane_jobs_max, only))


async def send_many(store: Store, count: int, conversation: str = "c", at: int = 2_000) -> None:
    for n in range(count):
        await send(store, "ana", f"{conversation}-{at}-{n}", conversation=conversation, at=at + n)


async def store_with_messages(shelf: Shelf, count: int, *sinks: Sink) -> Store:
    """A store with these sinks, or HOOK, and a conversation in which ana has sent so many messages."""
    store = await shelf.open(sinks or (HOOK,))
    await create(store, "ana", "bruno")
    await send_many(store, count)
    return store


def seqs(claims: Iterable[Claim]) -> list[int]:
    return [each.job.seq for each in claims]


def attempts(claims: Iterable[Claim]) -> list[int]:
    return [each.attempt for each in claims]


async def states(store: Store, which: JobFilter = EVERYTHING) -> list[tuple[int, str]]:
    return [(view.seq, view.state) for view in await store.list_jobs(which, 1_000)]


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


async def test_only_the_conversations_and_sinks_that_are_named_are_claimed(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1, HOOK, CALL)
    await create(store, "ana", conversation="d")
    await send_many(store, 1, "d")

    claims = await claim(store, ["hook", "call"], only=[("hook", "d"), ("call", "c"), ("hook", "unknown")])

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


# The queue's book


async def test_jobs_are_unqueued_until_it_is_noted_that_a_queue_has_them_and_again_much_later(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 3)
    jobs = [Job("hook", "c", seq) for seq in (1, 2, 3)]
    assert await store.unqueued_jobs(["hook"], NOW, NOW, 10) == jobs
    assert await store.unqueued_jobs(["hook"], NOW, NOW, 2) == jobs[:2]

    await store.note_queued(jobs[:2], NOW)

    assert await store.unqueued_jobs(["hook"], NOW + 1, NOW, 10) == jobs[2:]
    assert await store.unqueued_jobs(["call"], NOW, NOW, 10) == []
    assert await store.unqueued_jobs(["hook"], NOW + 1, NOW + 1, 10) == jobs


async def test_jobs_are_queued_once_they_are_due(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 1, LATER)

    assert await store.unqueued_jobs(["later"], 4_999, 4_999, 10) == []
    assert await store.unqueued_jobs(["later"], 5_000, 5_000, 10) == [Job("later", "c", 1)]


async def test_claimed_and_dead_jobs_are_not_queued_but_those_of_a_worker_that_is_gone(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2)
    first, second = await claim(store)
    await store.put_off_job(first, None, "no")

    assert await store.unqueued_jobs(["hook"], NOW + LEASE_MS - 1, NOW + LEASE_MS, 10) == []
    assert await store.unqueued_jobs(["hook"], NOW + LEASE_MS, NOW + LEASE_MS, 10) == [second.job]


async def test_a_queue_is_given_a_job_again_when_it_is_due_again_or_its_worker_is_gone(shelf: Shelf) -> None:
    """What a queue was told before that may have been looked at too early."""
    store = await store_with_messages(shelf, 1)
    (job,) = await store.unqueued_jobs(["hook"], NOW, 0, 10)
    await store.note_queued([job], NOW)
    assert await store.unqueued_jobs(["hook"], NOW + 1_000_000, 0, 10) == []

    (first,) = await claim(store)
    assert await store.unqueued_jobs(["hook"], NOW + LEASE_MS - 1, 0, 10) == []
    assert await store.unqueued_jobs(["hook"], NOW + LEASE_MS, 0, 10) == [job]

    await store.put_off_job(first, NOW + 5_000, "no")
    assert await store.unqueued_jobs(["hook"], NOW + 4_999, NOW + 4_999, 10) == []
    assert await store.unqueued_jobs(["hook"], NOW + 5_000, 0, 10) == [job]
    await store.note_queued([job], NOW + 5_000)
    assert await store.unqueued_jobs(["hook"], NOW + 5_000, 0, 10) == []
    today = 1_790_000_000_000
    assert await store.unqueued_jobs(["hook"], today, NOW + 5_000, 10) == []
    assert await store.unqueued_jobs(["hook"], today, today - 1, 10) == [job]


async def test_one_store_of_all_leads_until_it_is_closed(shelf: Shelf) -> None:
    first = await shelf.open()
    assert await first.lead()
    assert await first.lead(), "it goes on"
    await first.close()
    assert await (await shelf.open()).lead()


# Operators


async def test_jobs_are_listed_the_oldest_first_and_filtered(shelf: Shelf) -> None:
    store = await store_with_messages(shelf, 2, HOOK, CALL)
    await create(store, "ana", conversation="d")
    await send_many(store, 1, "d", at=1_500)
    (died,) = await claim(store, ["call"], only=[("call", "d")])
    await store.put_off_job(died, None, "no")
    await claim(store, ["hook"], only=[("hook", "c")], lane_jobs_max=1)

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
