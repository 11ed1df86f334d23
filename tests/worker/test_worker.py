"""The worker on a real store: order, attempts, dead letters, leases, and what a sink that hangs or fails holds up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from recado.ports import Claim, GiveUp, JobFilter, LaneKey, MessageChange, Sink, TryLater
from tests.worker.bench import (
    CALL,
    HOOK,
    LIMITS,
    Bench,
    Clock,
    ScriptedQueue,
    ScriptedSink,
    Timers,
    now_ms,
    soon,
    working,
)

ALL = JobFilter()
LONG_ATTEMPT_S = 0.15  # longer than entries may be read ahead


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "recado.db")
    yield bench
    await bench.store.close()


# In order, each once


async def test_a_conversations_jobs_run_one_after_the_other_in_order(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c", "d")
    await bench.send(100)
    await bench.send(50, "d")

    async with working(store, hook=sink):
        await store.has_no_jobs()

    assert sink.taken_of("c") == list(range(1, 101))
    assert sink.taken_of("d") == list(range(1, 51))


async def test_what_is_sent_while_a_conversation_is_at_work_comes_after_it(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    gate = sink.block("c", 1)

    async with working(store, hook=sink):
        await bench.send(1)
        await sink.has_begun(1)
        await bench.send(2)
        gate.set()
        await store.has_no_jobs()

    assert sink.taken == [("c", 1), ("c", 2), ("c", 3)]


async def test_what_is_sent_just_as_a_conversation_is_done_does_not_wait_for_its_lease(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")

    async with working(store, hook=sink):
        began_at = now_ms()
        for n in range(300):
            await bench.send(1)
            if n % 3 == 0:
                await sink.has_taken(n)
        await store.has_no_jobs()

    assert now_ms() - began_at < LIMITS.job_lease_s * 1000
    assert sink.taken_of("c") == list(range(1, 301))


async def test_jobs_that_an_earlier_run_left_are_run(bench: Bench) -> None:
    await bench.open()
    await bench.create("c")
    await bench.send(3)
    await bench.claim()
    store, sink = await bench.reopen(), ScriptedSink()

    async with working(store, hook=sink):
        await store.has_no_jobs()

    assert sink.taken_of("c") == [1, 2, 3]


async def test_a_job_with_a_delay_runs_when_it_is_due_though_nothing_else_happens(bench: Bench) -> None:
    store, sink = await bench.open(Sink("hook", delay_ms=300)), ScriptedSink()
    await bench.create("c")

    async with working(store, hook=sink):
        began_at = now_ms()
        await bench.send(1)
        await sink.has_taken(1)

    assert now_ms() - began_at >= 300


async def test_the_entry_is_as_the_log_has_it_when_the_job_runs(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c", "d")
    await bench.send(1)
    await bench.send(2, "d")
    await store.erase_user("ana", now_ms())
    await store.erase_conversation("d", now_ms())

    async with working(store, hook=sink):
        await store.has_no_jobs()

    assert set(sink.bodies) == {None}, "what was erased went to nobody"
    assert sink.taken_of("d")[-1:] == sink.taken_of("d"), "the end of the log is all that there is of it"


async def test_what_was_erased_or_edited_while_its_job_waited_behind_a_slow_one_goes_out_as_it_is_then(
    bench: Bench,
) -> None:
    """The worker has read more entries than the first when that begins."""
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c", "d")
    gates = [sink.block("c", 1), sink.block("d", 1)]
    await bench.send(3)
    await bench.send(2, "d")

    async with working(store, hook=sink):
        await sink.has_begun(2)
        await store.change_message(MessageChange("c", 2, "ana", "edited", now_ms(), 0))
        await store.change_message(MessageChange("c", 3, "ana", None, now_ms(), 0))
        await store.erase_conversation("d", now_ms())
        await asyncio.sleep(LONG_ATTEMPT_S)
        for gate in gates:
            gate.set()
        await store.has_no_jobs()

    assert sink.taken_of("c") == [1, 2, 3, 4, 5]
    assert sink.taken_of("d") == [1, 3], "the end of the log is all that there is of it"
    assert sorted(map(str, sink.bodies)) == ["None", "None", "None", "body 1", "body 4", "edited", "edited"]


async def test_jobs_far_apart_are_run_without_reading_what_lies_between(bench: Bench) -> None:
    store, sink = await bench.open(Sink("hook", messages_only=True)), ScriptedSink()
    await bench.create("c")
    await bench.send(1)
    for n in range(60):
        await store.put_member("c", f"user-{n}", None, now_ms(), 100)
    await bench.send(1)

    async with working(store, hook=sink):
        await store.has_no_jobs()

    assert sink.taken_of("c") == [1, 62]
    assert store.calls.count("job_events") == 2


# Attempts


async def test_a_job_that_fails_is_tried_again_and_those_behind_it_wait(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    sink.fail("c", 2, TryLater("it was away"), OSError("and then it broke"), TryLater("once more"))
    await bench.send(3)

    async with working(store, hook=sink):
        await store.has_no_jobs()

    assert sink.begun == [("c", 1), ("c", 2), ("c", 2), ("c", 2), ("c", 2), ("c", 3)]
    assert sink.taken_of("c") == [1, 2, 3]


async def test_a_poison_job_is_a_dead_letter_after_its_attempts_and_its_conversation_goes_on(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    sink.fail("c", 2, *(ValueError("what somebody wrote") for _ in range(99)))
    await bench.send(4)

    async with working(store, replace(LIMITS, job_attempts_max=3), hook=sink):
        await sink.has_taken(3)

    assert sink.taken_of("c") == [1, 3, 4]
    assert sink.begun.count(("c", 2)) == 3
    (dead,) = await store.list_jobs(ALL, 10)
    assert (dead.seq, dead.state, dead.attempt) == (2, "dead", 3)
    assert dead.error == "ValueError", "the error's own text may quote a message"


async def test_a_sink_that_gives_up_makes_a_dead_letter_at_once(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    sink.fail("c", 1, GiveUp("it answered 400 " + "!" * 1_000))
    await bench.send(2)

    async with working(store, hook=sink):
        await sink.has_taken(1)

    assert sink.begun == [("c", 1), ("c", 2)]
    (dead,) = await store.list_jobs(ALL, 10)
    assert (dead.seq, dead.state, dead.attempt) == (1, "dead", 1)
    assert dead.error == ("it answered 400 " + "!" * 1_000)[: LIMITS.job_error_chars_max]


async def test_a_sink_is_not_asked_sooner_than_it_wants(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    sink.fail("c", 1, TryLater("too many requests", retry_after_s=600))
    await bench.send(1)
    limits = replace(LIMITS, job_backoff_ms_max=3_600_000)

    async with working(store, limits, hook=sink):
        await store.has_called("put_off_job", 1)

    (view,) = await store.list_jobs(ALL, 10)
    assert now_ms() + 500_000 < view.due_at <= now_ms() + 600_000


async def test_a_job_that_ended_its_worker_so_often_is_a_dead_letter_without_another_attempt(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    await bench.send(2)
    for _ in range(3):
        await bench.claim()
        store = await bench.reopen()
    assert [attempt for *_, attempt in await bench.states()] == [3, 3]

    async with working(store, replace(LIMITS, job_attempts_max=3), hook=sink):
        await store.has_called("put_off_job", 2)

    assert sink.begun == []
    assert [state for _, _, state, _ in await bench.states()] == ["dead", "dead"]


async def test_a_job_that_was_tried_before_is_tried_alone(bench: Bench) -> None:
    """Else one that ends its worker would use up the attempts of those behind it."""
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    await bench.send(3)
    await bench.claim()
    store = await bench.reopen()
    gate = sink.block("c", 1)

    async with working(store, hook=sink):
        await sink.has_begun(1)
        assert [(seq, attempt) for _, seq, _, attempt in await bench.states()] == [(1, 2), (2, 1), (3, 1)]
        gate.set()
        await store.has_no_jobs()


async def test_an_attempt_that_takes_too_long_is_ended_and_made_again(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    sink.block("c", 1)
    await bench.send(2)

    async with working(store, replace(LIMITS, job_deadline_s=1), hook=sink):
        await store.has_no_jobs()

    assert sink.begun == [("c", 1), ("c", 1), ("c", 2)]


# What hangs or fails


async def test_a_sink_that_hangs_holds_up_no_other_sink(bench: Bench) -> None:
    store = await bench.open(HOOK, CALL)
    hanging, other = ScriptedSink(), ScriptedSink()
    conversations = [f"c{n}" for n in range(10)]
    await bench.create(*conversations)
    gates = [hanging.block(each, 1) for each in conversations]
    limits = replace(LIMITS, sink_lanes_max=3)

    async with working(store, limits, hook=hanging, call=other):
        for each in conversations:
            await bench.send(2, each)
        await other.has_taken(20)
        assert hanging.taken == []
        assert max(hanging.at_once) == 3
        assert store.calls.count("claim_jobs") < 200, "without room there is nothing to look for"
        for gate in gates:
            gate.set()
        await store.has_no_jobs()


async def test_a_conversation_that_hangs_holds_up_no_other_conversation(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c", "d")
    gate = sink.block("c", 1)

    async with working(store, hook=sink):
        await bench.send(2)
        await sink.has_begun(1)
        await bench.send(5, "d")
        await sink.has_taken(5)
        gate.set()
        await store.has_no_jobs()

    assert sink.taken[:5] == [("d", seq) for seq in range(1, 6)]


async def test_a_sink_that_keeps_failing_is_asked_by_one_conversation_at_a_time_until_it_takes_something(
    bench: Bench,
) -> None:
    store, sink = await bench.open(), ScriptedSink()
    conversations = [f"c{n}" for n in range(12)]
    await bench.create(*conversations)
    for each in conversations:
        sink.fail(each, 1, *(TryLater("it is away") for _ in range(3)))
        await bench.send(1, each)

    async with working(store, replace(LIMITS, sink_lanes_max=4), hook=sink):
        await store.has_no_jobs()

    assert len(sink.taken) == 12
    assert max(sink.at_once[:8]) > 1
    assert set(sink.at_once[8:24]) == {1}, "though all of them are due"


async def test_a_failure_that_says_nothing_of_the_sink_slows_down_no_other_conversation(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    conversations = [f"c{n}" for n in range(12)]
    await bench.create(*conversations)
    for each in conversations:
        sink.fail(each, 1, *(TryLater("one of its members' service fails", sink_is_well=True) for _ in range(3)))
        await bench.send(1, each)

    async with working(store, replace(LIMITS, sink_lanes_max=4), hook=sink):
        await store.has_no_jobs()

    assert len(sink.taken) == 12
    assert max(sink.at_once[8:]) > 1


# The lease


async def test_a_lease_is_extended_for_as_long_as_its_jobs_are_at_work(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    gate = sink.block("c", 1)
    await bench.send(2)

    async with working(store, replace(LIMITS, job_lease_s=1), hook=sink):
        await sink.has_begun(1)
        first_end = await bench.lease_end()
        await store.has_called("extend_claims", 4)
        assert now_ms() > first_end
        assert await bench.lease_end() > now_ms(), "or another worker would have it by now"
        gate.set()
        await store.has_no_jobs()

    assert sink.begun == [("c", 1), ("c", 2)]


async def test_a_worker_that_could_not_extend_its_lease_ends_what_it_does_before_others_begin_it(
    bench: Bench,
) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    sink.block("c", 1)
    await bench.send(1)
    store.go_away("extend_claims", 1_000)
    store.go_away("put_off_job", 1_000)

    async with working(store, replace(LIMITS, job_lease_s=1), hook=sink):
        await sink.has_begun(1)
        lease_ends_at = await bench.lease_end()
        await sink.has_ended(1)
        assert now_ms() <= lease_ends_at
        await sink.has_taken(1)

    assert sink.begun == [("c", 1), ("c", 1)]


async def test_an_attempt_that_is_slow_to_end_costs_no_other_job_its_lease(bench: Bench) -> None:
    store, sink, queue = await bench.open(), ScriptedSink(), ScriptedQueue()
    await bench.create("c", "d")
    await bench.send(1)
    await bench.send(1, "d")
    was_told, gate = sink.linger("c", 1), sink.block("d", 1)
    store.go_away("extend_claims", 3)

    async with working(store, replace(LIMITS, job_lease_s=1, worker_drain_s=0), queue, hook=sink):
        queue.name(("hook", "c"))
        await soon(was_told.wait())
        queue.name(("hook", "d"))
        await sink.has_begun(2)
        await store.has_called("extend_claims", 10)
        assert ("d", 1, "claimed", 1) in await bench.states(), "once"
        gate.set()
        await sink.has_taken(1)


async def test_a_store_that_fails_in_another_way_ends_no_leases(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    gate, extend = sink.block("c", 1), store.extend_claims
    failures = iter([OSError("of another kind")])

    async def fail_once(claims: Sequence[Claim], until: int) -> None:
        for error in failures:
            raise error
        await extend(claims, until)

    monkeypatch.setattr(store, "extend_claims", fail_once)

    async with working(store, replace(LIMITS, job_lease_s=3), hook=sink):
        await bench.send(1)
        await sink.has_begun(1)
        await store.has_called("extend_claims", 3)
        assert await bench.states() == [("c", 1, "claimed", 1)], "once"
        gate.set()
        await sink.has_taken(1)


# The store


async def test_a_store_that_is_away_is_waited_for(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    for name in ("claim_jobs", "job_events", "settle_jobs", "next_job_at"):
        store.go_away(name, 2)

    async with working(store, hook=sink):
        await bench.send(3)
        await store.has_no_jobs()

    assert sink.taken_of("c") == [1, 2, 3], "what was delivered is not delivered again"


async def test_an_idle_worker_asks_the_store_for_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers(monkeypatch)
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")

    async with working(store, replace(LIMITS, job_recheck_ms=10, job_lease_s=1), hook=sink):
        await bench.send(3)
        await store.has_no_jobs()
        await store.has_called("next_job_at", 1)
        await timers.run_out(store)


# The end


async def test_a_worker_that_stops_ends_the_job_that_runs_and_releases_the_others_untried(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    gate = sink.block("c", 2)
    await bench.send(5)

    async with working(store, hook=sink):
        await sink.has_begun(2)
        asyncio.get_running_loop().call_later(0.1, gate.set)

    assert sink.taken_of("c") == [1, 2]
    assert await bench.states() == [("c", seq, "waiting", 0) for seq in (3, 4, 5)]


async def test_a_job_that_does_not_end_when_the_worker_stops_is_cut_and_waits_for_another_attempt(
    bench: Bench,
) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    sink.block("c", 1)
    await bench.send(2)

    async with working(store, replace(LIMITS, worker_drain_s=1), hook=sink):
        await sink.has_begun(1)
        stopping_at = now_ms()

    assert 1_000 <= now_ms() - stopping_at < 5_000
    assert await bench.states() == [("c", 1, "waiting", 1), ("c", 2, "waiting", 0)]


async def test_a_worker_stops_though_a_job_whose_time_is_over_has_not_ended(bench: Bench) -> None:
    store, sink = await bench.open(), ScriptedSink()
    await bench.create("c")
    was_told = sink.linger("c", 1)
    await bench.send(1)

    async with working(store, replace(LIMITS, job_deadline_s=1, worker_drain_s=0), hook=sink):
        await soon(was_told.wait())

    assert [state for _, _, state, _ in await bench.states()] == ["claimed"], "until its lease ends"


# A queue that names conversations


async def test_a_queue_that_names_a_conversation_is_told_when_nothing_is_left_of_it(bench: Bench) -> None:
    store, sink, queue = await bench.open(), ScriptedSink(), ScriptedQueue()
    await bench.create("c", "d")
    await bench.send(50)
    await bench.send(1, "d")

    async with working(store, replace(LIMITS, lane_jobs_max=20), queue, hook=sink):
        queue.name(("hook", "c"), ("another", "c"))
        await queue.until(lambda: bool(queue.told))
        assert sink.taken == [("c", seq) for seq in range(1, 51)]
        queue.name(("hook", "c"), ("hook", "unknown"))
        await queue.until(lambda: len(queue.told) == 3)

    assert queue.told == [(("hook", "c"), None), (("hook", "c"), None), (("hook", "unknown"), None)]
    assert [conversation for conversation, *_ in await bench.states()] == ["d"], "nobody has named it"


async def test_a_queue_is_told_when_a_job_is_due_again_and_that_it_is_being_worked_at(bench: Bench) -> None:
    store, sink, queue = await bench.open(), ScriptedSink(), ScriptedQueue()
    await bench.create("c")
    await bench.send(1)
    sink.fail("c", 1, TryLater("it was away", retry_after_s=0.5))
    gate = sink.block("c", 1)
    limits, clock = replace(LIMITS, job_lease_s=1, job_backoff_ms_max=10_000), Clock()

    async with working(store, limits, queue, clock, hook=sink):
        queue.name(("hook", "c"))
        await queue.until(lambda: bool(queue.told))
        ((lane, due_in_ms),) = queue.told
        assert (lane, due_in_ms) == (("hook", "c"), 500)
        clock.ahead_ms = 500
        queue.name(("hook", "c"))
        await queue.until(lambda: queue.kept.count(LaneKey("hook", "c")) >= 2)
        gate.set()
        await queue.until(lambda: queue.told[-1] == (("hook", "c"), None))


async def test_a_queue_that_names_a_conversation_which_another_worker_has_is_told_to_look_again_after_its_lease(
    bench: Bench,
) -> None:
    """Else nobody would be told of its jobs any more if that worker died."""
    store, sink, queue = await bench.open(), ScriptedSink(), ScriptedQueue()
    await bench.create("c")
    await bench.send(2)
    await bench.claim(lease_ms=5_000)

    async with working(store, LIMITS, queue, hook=sink):
        queue.name(("hook", "c"))
        await queue.until(lambda: bool(queue.told))

    ((lane, due_in_ms),) = queue.told
    assert lane == ("hook", "c")
    assert due_in_ms is not None
    assert 3_000 < due_in_ms <= 5_000
    assert sink.begun == []


async def test_conversations_beyond_those_that_may_wait_are_handed_back_to_the_queue(bench: Bench) -> None:
    store, sink, queue = await bench.open(), ScriptedSink(), ScriptedQueue()
    conversations = [f"c{n}" for n in range(6)]
    await bench.create(*conversations)
    gates = [sink.block(each, 1) for each in conversations]
    for each in conversations:
        await bench.send(1, each)
    limits = replace(LIMITS, sink_lanes_max=1, sink_named_max=3)

    async with working(store, limits, queue, hook=sink):
        queue.name(("hook", "c0"))
        await sink.has_begun(1)
        queue.name(*(("hook", each) for each in conversations[1:]))
        await queue.until(lambda: len(queue.told) == 2)
        assert queue.told == [(("hook", each), limits.job_backoff_ms) for each in ("c4", "c5")]
        for gate in gates:
            gate.set()
        await sink.has_taken(4)
        await soon(queue.until(lambda: len(queue.told) == 6))

    assert [conversation for conversation, _ in sink.taken] == ["c0", "c1", "c2", "c3"]
