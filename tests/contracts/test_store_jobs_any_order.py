"""The Store port's jobs against a model that is plain dicts: any order of claims, and of what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from recado.ports import Claim, Job, JobFilter, LaneKey, Sink, Wanted
from tests.contracts.stores import ADAPTERS, NewDatabase, Shelf, message, new_conversation

SINKS = (Sink("hook"), Sink("later", delay_ms=40))
SINK_NAMES = st.sampled_from([sink.name for sink in SINKS])
CONVERSATIONS = ("a", "b", "c")
STATES = st.sampled_from([None, "waiting", "claimed", "dead"])
LEASE_MS = 100
START = 10_000


@dataclass
class Expected:
    """One job as it should be. `due_at` is when its lease expires if it is claimed; `is_dead`: a dead letter."""

    created_at: int
    due_at: int
    attempt: int = 0
    is_claimed: bool = False
    is_dead: bool = False

    @property
    def state(self) -> str:
        return "dead" if self.is_dead else "claimed" if self.is_claimed else "waiting"


class JobsMachine(RuleBasedStateMachine):
    new_shelf: Callable[[], Coroutine[Any, Any, Shelf]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.shelf = self.runner.run(type(self).new_shelf())
        self.store = self.runner.run(self.shelf.open(SINKS))
        self.now = START
        self.jobs: dict[Job, Expected] = {}
        self.claims: list[Claim] = []
        """Every one there ever was: also those that were lost since."""
        for conversation in CONVERSATIONS:
            self.call("put_conversation", new_conversation(conversation, ["ana"]))

    def call(self, method: str, *arguments: Any) -> Any:
        async def called() -> Any:
            return await getattr(self.store, method)(*arguments)

        return self.runner.run(called())

    def teardown(self) -> None:
        self.runner.run(self.shelf.close())
        self.runner.close()

    # The model

    def lane(self, sink: str, conversation: str) -> list[tuple[Job, Expected]]:
        """The jobs that are not dead, in order."""
        return sorted(
            (job, expected)
            for job, expected in self.jobs.items()
            if (job.sink, job.conversation) == (sink, conversation) and not expected.is_dead
        )

    def expected_of(self, claim: Claim) -> Expected | None:
        """The job that somebody has by this claim."""
        expected = self.jobs.get(claim.job)
        is_held = expected is not None and expected.is_claimed and expected.attempt == claim.attempt
        return expected if is_held else None

    def claimable(self, sink: str, lanes_max: int, lane_jobs_max: int) -> list[Job]:
        found: list[tuple[int, str, list[Job]]] = []
        for conversation in CONVERSATIONS:
            lane = self.lane(sink, conversation)
            if any(each.is_claimed and each.due_at > self.now for _, each in lane):
                continue
            due = list(takewhile(lambda entry: entry[1].due_at <= self.now, lane[:lane_jobs_max]))
            if due:
                found.append((due[0][1].due_at, conversation, [job for job, _ in due]))
        return [job for *_, jobs in sorted(found)[:lanes_max] for job in jobs]

    def meant(self, which: JobFilter) -> list[Job]:
        """Those that an operator may change by that filter."""
        return [
            job
            for job, expected in self.jobs.items()
            if not expected.is_claimed
            and which.sink in (None, job.sink)
            and which.state in (None, expected.state)
            and which.conversation in (None, job.conversation)
        ]

    # Calls

    @rule(conversation=st.sampled_from(CONVERSATIONS), count=st.integers(1, 4))
    def send(self, conversation: str, count: int) -> None:
        for _ in range(count):
            sent = self.call(
                "append_message", message("ana", f"m{len(self.jobs)}-{self.now}", "hi", conversation, self.now)
            )
            self.now += 1
            for sink in SINKS:
                job = Job(sink.name, conversation, sent.event.seq)
                self.jobs[job] = Expected(sent.event.at, sent.event.at + sink.delay_ms)

    @rule(ms=st.sampled_from([1, 20, LEASE_MS, 1_000]))
    def wait(self, ms: int) -> None:
        self.now += ms

    @rule(sink=SINK_NAMES, lanes_max=st.integers(1, 3), lane_jobs_max=st.integers(1, 4))
    def claim(self, sink: str, lanes_max: int, lane_jobs_max: int) -> None:
        expected = self.claimable(sink, lanes_max, lane_jobs_max)
        self.claimed(expected, Wanted([sink], self.now, LEASE_MS, lanes_max, lane_jobs_max))

    @rule(sink=SINK_NAMES, conversation=st.sampled_from(CONVERSATIONS))
    def claim_one_lane(self, sink: str, conversation: str) -> None:
        expected = [job for job in self.claimable(sink, 3, 4) if job.conversation == conversation]
        self.claimed(expected, Wanted([sink], self.now, LEASE_MS, 3, 4, [LaneKey(sink, conversation)]))

    def claimed(self, jobs: list[Job], wanted: Wanted) -> None:
        for job in jobs:
            expected = self.jobs[job]
            expected.attempt += 1
            expected.is_claimed, expected.due_at = True, self.now + LEASE_MS
        claims = self.call("claim_jobs", wanted)
        assert claims == [Claim(job, self.jobs[job].attempt) for job in jobs]
        self.claims += claims

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        claims = data.draw(st.lists(st.sampled_from(self.claims), min_size=1, max_size=4))
        self.call("settle_jobs", [claim.job for claim in claims])
        for claim in claims:
            self.jobs.pop(claim.job, None)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), delay_ms=st.sampled_from([0, 30, 500, None]))
    def put_off(self, data: st.DataObject, delay_ms: int | None) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self.call("put_off_job", claim, None if delay_ms is None else self.now + delay_ms, "it failed")
        expected = self.expected_of(claim)
        if expected is not None:
            expected.is_claimed = False
            expected.is_dead = delay_ms is None
            if delay_ms is not None:
                expected.due_at = self.now + delay_ms

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        claims = data.draw(st.lists(st.sampled_from(self.claims), min_size=1, max_size=4, unique=True))
        self.call("release_claims", claims)
        for claim in claims:
            expected = self.expected_of(claim)
            if expected is not None:
                expected.is_claimed = False
                expected.attempt -= 1
                expected.due_at = expected.created_at

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), ms=st.integers(1, 300))
    def extend(self, data: st.DataObject, ms: int) -> None:
        claims = data.draw(st.lists(st.sampled_from(self.claims), min_size=1, max_size=4, unique=True))
        self.call("extend_claims", claims, self.now + ms)
        for claim in claims:
            expected = self.expected_of(claim)
            if expected is not None:
                expected.due_at = self.now + ms

    @rule(sink=st.none() | SINK_NAMES, state=STATES, conversation=st.none() | st.sampled_from(CONVERSATIONS))
    def retry(self, sink: str | None, state: str | None, conversation: str | None) -> None:
        which = JobFilter(sink, state, conversation)
        meant = self.meant(which)
        assert self.call("retry_jobs", which, self.now) == len(meant)
        for job in meant:
            self.jobs[job] = Expected(self.jobs[job].created_at, self.now)

    @rule(sink=SINK_NAMES, state=STATES, conversation=st.sampled_from(CONVERSATIONS))
    def drop(self, sink: str, state: str | None, conversation: str) -> None:
        which = JobFilter(sink, state, conversation)
        meant = self.meant(which)
        assert self.call("drop_jobs", which) == len(meant)
        for job in meant:
            del self.jobs[job]

    # What there is

    @invariant()
    def jobs_are_as_expected(self) -> None:
        views = self.call("list_jobs", JobFilter(), 10_000)
        found = {Job(view.sink, view.conversation, view.seq): view for view in views}
        assert found.keys() == self.jobs.keys()
        for job, expected in self.jobs.items():
            view = found[job]
            assert (view.state, view.attempt) == (expected.state, expected.attempt), job
            assert expected.is_dead or view.due_at == expected.due_at, job


def test_any_order_of_calls_leaves_the_jobs_as_a_model_of_dicts_says(adapter: str, new_database: NewDatabase) -> None:
    async def new_shelf() -> Shelf:
        return Shelf(ADAPTERS[adapter], await new_database())

    machine = type("Machine", (JobsMachine,), {"new_shelf": staticmethod(new_shelf)})
    few = settings(max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=few)
