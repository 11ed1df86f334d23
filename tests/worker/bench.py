"""A real store, real workers on it, and sinks that block, fail and give up when a test says so."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from recado.adapters.queue.embedded import EmbeddedQueue
from recado.adapters.store.sqlite import SqliteLimits, SqliteStore
from recado.app.limits import DEFAULT
from recado.chat.errors import Unavailable
from recado.ports import (
    Claim,
    Job,
    JobEvent,
    JobFilter,
    LaneKey,
    NewConversation,
    NewMessage,
    Queue,
    Sink,
    Store,
    Wanted,
)
from recado.worker import Worker, WorkerLimits

_ROUNDS_MAX = 50
_TURNS = 20  # of the event loop, for what was woken to go on
SOON_S = 20  # a test that waits for longer has failed
HOOK = Sink("hook")
CALL = Sink("call")
LIMITS = replace(DEFAULT.worker, job_backoff_ms=1, job_backoff_ms_max=20, job_recheck_ms=50)

T = TypeVar("T")
Act = Callable[[], Awaitable[None]]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, SOON_S)


class ScriptedSink:
    """A handler that does for each job what it was told to do, once for each attempt, and else takes it."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.ended: list[tuple[str, int]] = []
        self.taken: list[tuple[str, int]] = []
        self.bodies: list[str | None] = []
        self.at_once: list[int] = []
        """How many were under way as each attempt began, with itself."""
        self._under_way = 0
        self._acts: dict[tuple[str, int], list[Act]] = defaultdict(list)
        self._changed = asyncio.Condition()

    def block(self, conversation: str, seq: int) -> asyncio.Event:
        """At its next attempt the job waits until this is set, and is taken then."""
        gate = asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        self._acts[conversation, seq].append(wait)
        return gate

    def linger(self, conversation: str, seq: int) -> asyncio.Event:
        """At its next attempt the job is never taken, and does not end when it is told to; set when it has been told
        once, it ends when it is told again."""
        told = asyncio.Event()

        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                told.set()
                await asyncio.Event().wait()

        self._acts[conversation, seq].append(wait)
        return told

    def fail(self, conversation: str, seq: int, *errors: Exception) -> None:
        """So its next attempts end."""
        self._acts[conversation, seq] += [_raising(error) for error in errors]

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        job = (conversation, entry.event.seq)
        self._under_way += 1
        self.at_once.append(self._under_way)
        await self._note(self.begun, job)
        try:
            if acts := self._acts[job]:
                await acts.pop(0)()
        finally:
            self._under_way -= 1
            await self._note(self.ended, job)
        self.bodies.append(entry.event.body)
        await self._note(self.taken, job)

    async def close(self) -> None: ...

    async def _note(self, jobs: list[tuple[str, int]], job: tuple[str, int]) -> None:
        async with self._changed:
            jobs.append(job)
            self._changed.notify_all()

    async def has_begun(self, count: int) -> None:
        """So many attempts, over all jobs."""
        await self._wait_for(lambda: len(self.begun) >= count)

    async def has_ended(self, count: int) -> None:
        """So many attempts, one way or the other."""
        await self._wait_for(lambda: len(self.ended) >= count)

    async def has_taken(self, count: int) -> None:
        await self._wait_for(lambda: len(self.taken) >= count)

    async def _wait_for(self, is_so: Callable[[], bool]) -> None:
        async with self._changed:
            await soon(self._changed.wait_for(is_so))

    def taken_of(self, conversation: str) -> list[int]:
        return [seq for each, seq in self.taken if each == conversation]


def _raising(error: Exception) -> Act:
    async def fail() -> None:
        await asyncio.sleep(0)  # others go on meanwhile, as during every call
        raise error

    return fail


class WatchedStore(SqliteStore):
    """It counts what a worker asks of it, and is away for as many calls of a kind as a test says."""

    def __init__(self, path: Path, limits: SqliteLimits, sinks: Sequence[Sink] = ()) -> None:
        super().__init__(path, limits, sinks)
        self._away: dict[str, int] = defaultdict(int)
        self.calls: list[str] = []
        self.under_way = 0
        self._changed = asyncio.Condition()

    def go_away(self, name: str, calls: int) -> None:
        self._away[name] = calls

    async def claim_jobs(self, wanted: Wanted) -> list[Claim]:
        return await self._watched("claim_jobs", partial(super().claim_jobs, wanted))

    async def extend_claims(self, claims: Sequence[Claim], until: int) -> None:
        await self._watched("extend_claims", partial(super().extend_claims, claims, until))

    async def release_claims(self, claims: Sequence[Claim]) -> None:
        await self._watched("release_claims", partial(super().release_claims, claims))

    async def settle_jobs(self, settled: Sequence[Job]) -> None:
        await self._watched("settle_jobs", partial(super().settle_jobs, settled))

    async def put_off_job(self, claim: Claim, due_at: int | None, error: str) -> None:
        await self._watched("put_off_job", partial(super().put_off_job, claim, due_at, error))

    async def next_job_at(self, sinks: Sequence[str]) -> int | None:
        return await self._watched("next_job_at", partial(super().next_job_at, sinks))

    async def lane_due_at(self, sink: str, conversation: str) -> int | None:
        return await self._watched("lane_due_at", partial(super().lane_due_at, sink, conversation))

    async def job_events(self, conversation: str, first: int, last: int) -> list[JobEvent]:
        return await self._watched("job_events", partial(super().job_events, conversation, first, last))

    async def _watched(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(name)
        self.under_way += 1
        try:
            if self._away[name] > 0:
                self._away[name] -= 1
                raise Unavailable("the store is away")
            return await call()
        finally:
            self.under_way -= 1
            async with self._changed:
                self._changed.notify_all()

    async def is_asked_for_nothing(self) -> None:
        """At the moment."""
        async with self._changed:
            await soon(self._changed.wait_for(lambda: self.under_way == 0))

    async def has_called(self, name: str, count: int) -> None:
        async with self._changed:
            await soon(self._changed.wait_for(lambda: self.calls.count(name) >= count))

    async def has_no_jobs(self) -> None:
        """Everything is settled."""
        async with self._changed:
            while await self.count_jobs():
                await soon(self._changed.wait())


class Timers:
    """Those that the event loop has from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._set: list[asyncio.TimerHandle] = []
        call_at = self._loop.call_at

        def noted(
            when: float, callback: Callable[..., object], *arguments: object, context: Context | None = None
        ) -> asyncio.TimerHandle:
            handle = call_at(when, callback, *arguments, context=context)
            self._set.append(handle)
            return handle

        monkeypatch.setattr(self._loop, "call_at", noted)

    async def run_out(self, store: WatchedStore) -> None:
        """Wait until none is left and the store is asked for nothing: from then on nothing happens unless something
        comes from outside. Fails if one is followed by the next."""
        for _ in range(_ROUNDS_MAX):
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            now = self._loop.time()
            self._set = [handle for handle in self._set if not handle.cancelled() and handle.when() > now]
            if store.under_way:
                await store.is_asked_for_nothing()
            elif self._set:
                await asyncio.sleep(max(handle.when() for handle in self._set) - now)
            else:
                return
        pytest.fail("one timer after the other")


class Bench:
    """One database with the conversations that a test needs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = count(1)
        self._store: WatchedStore | None = None

    @property
    def store(self) -> WatchedStore:
        assert self._store is not None, "it was not opened"
        return self._store

    async def open(self, *sinks: Sink) -> WatchedStore:
        self._store = WatchedStore(self._path, DEFAULT.store, sinks or (HOOK,))
        return self._store

    async def reopen(self, *sinks: Sink) -> WatchedStore:
        """As after a crash: what was claimed is not released."""
        await self.store.close()
        return await self.open(*sinks)

    async def create(self, *conversations: str) -> None:
        for conversation in conversations:
            await self.store.put_conversation(
                NewConversation(conversation, ["ana", "bruno"], None, None, None, now_ms())
            )

    async def send(self, messages: int, conversation: str = "c") -> None:
        for _ in range(messages):
            n = next(self._numbers)
            await self.store.append_message(NewMessage(conversation, "ana", f"m{n}", f"body {n}", now_ms()))

    async def claim(self, sink: str = "hook", lease_ms: int = 60_000) -> None:
        """As a worker that then dies."""
        await self.store.claim_jobs(Wanted([sink], now_ms(), lease_ms, 100, 100))

    async def lease_end(self) -> int:
        """Of the only lane that there is, in ms since the epoch."""
        ends_at = await self.store.next_job_at(["hook"])
        assert ends_at is not None
        return ends_at

    async def states(self) -> list[tuple[str, int, str, int]]:
        """(conversation, seq, state, attempt) of each job."""
        views = await self.store.list_jobs(JobFilter(), 1_000)
        return [(view.conversation, view.seq, view.state, view.attempt) for view in views]


class Clock:
    """It goes as the system's, and jumps when a test says so."""

    ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms


@asynccontextmanager
async def working(
    store: Store,
    limits: WorkerLimits = LIMITS,
    queue: Queue | None = None,
    clock: Callable[[], int] = now_ms,
    **handlers: ScriptedSink,
) -> AsyncIterator[Worker]:
    if queue is None:
        queue = EmbeddedQueue(store, list(handlers), limits.job_recheck_ms, clock)
    try:
        async with Worker(store, queue, handlers, limits, clock) as worker:
            yield worker
    finally:
        await queue.close()


class ScriptedQueue:
    """A queue that names lanes, as SQS does, and remembers what it was told of them."""

    def __init__(self) -> None:
        self._named: asyncio.Queue[Sequence[LaneKey]] = asyncio.Queue()
        self.told: list[tuple[LaneKey, int | None]] = []
        self.kept: list[LaneKey] = []
        self._changed = asyncio.Event()

    def name(self, *lanes: tuple[str, str]) -> None:
        """(sink, conversation) of each."""
        self._named.put_nowait([LaneKey(*lane) for lane in lanes])

    async def next(self) -> Sequence[LaneKey]:
        return await self._named.get()

    def done(self, lane: LaneKey, due_in_ms: int | None) -> None:
        self.told.append((lane, due_in_ms))
        self._changed.set()

    def busy(self, lane: LaneKey) -> None:
        self.kept.append(lane)
        self._changed.set()

    async def close(self) -> None: ...

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed.clear()
            await soon(self._changed.wait())
