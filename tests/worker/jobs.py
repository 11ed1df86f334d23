"""A real store, real workers on it, and sinks that block, fail and give up when a test says so."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from recado.adapters.queue.embedded import EmbeddedQueue
from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.chat.errors import Unavailable
from recado.ports import JobEvent, JobFilter, NewConversation, NewMessage, Queue, Sink, Store, Wanted
from recado.worker import Worker, WorkerLimits

SOON_S = 20  # a test that waits for longer has failed
HOOK = Sink("hook")
CALL = Sink("call")
LIMITS = replace(DEFAULT.worker, job_backoff_ms=1, job_backoff_ms_max=20, job_recheck_ms=50)

Act = Callable[[], Awaitable[None]]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def soon(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, SOON_S)


class ScriptedSink:
    """A handler that does for each job what it was told to do, once for each attempt, and else takes it."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.ended: list[tuple[str, int]] = []
        self.taken: list[tuple[str, int]] = []
        self.bodies: list[str | None] = []
        self.at_once = 0
        self.at_once_max = 0
        self._acts: dict[tuple[str, int], list[Act]] = defaultdict(list)
        self._changed = asyncio.Condition()

    def block(self, conversation: str, seq: int) -> asyncio.Event:
        """At its next attempt the job waits until this is set, and is taken then."""
        gate = asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        self._acts[conversation, seq].append(wait)
        return gate

    def fail(self, conversation: str, seq: int, *errors: Exception) -> None:
        """So its next attempts end."""
        self._acts[conversation, seq] += [_raising(error) for error in errors]

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        job = (conversation, entry.event.seq)
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        await self._note(self.begun, job)
        try:
            if acts := self._acts[job]:
                await acts.pop(0)()
        finally:
            self.at_once -= 1
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
        raise error

    return fail


class WatchedStore:
    """The store, with its calls counted, and away for as many calls of a kind as a test says."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._away: dict[str, int] = defaultdict(int)
        self.calls: list[str] = []
        self._changed = asyncio.Condition()

    @property
    def on_jobs(self) -> Callable[[], None]:
        return self._store.on_jobs

    @on_jobs.setter
    def on_jobs(self, told: Callable[[], None]) -> None:
        self._store.on_jobs = told

    def go_away(self, name: str, calls: int) -> None:
        self._away[name] = calls

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            self.calls.append(name)
            try:
                if self._away[name] > 0:
                    self._away[name] -= 1
                    raise Unavailable("the store is away")
                return await getattr(self._store, name)(*arguments)
            finally:
                async with self._changed:
                    self._changed.notify_all()

        return call

    async def has_called(self, name: str, count: int) -> None:
        async with self._changed:
            await soon(self._changed.wait_for(lambda: self.calls.count(name) >= count))

    async def has_no_jobs(self) -> None:
        """Everything is settled."""
        async with self._changed:
            while await self._store.count_jobs():
                await soon(self._changed.wait())


class Bench:
    """One database with the conversations that a test needs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = count(1)
        self.store: Any = None

    async def open(self, *sinks: Sink) -> WatchedStore:
        self.store = WatchedStore(SqliteStore.open(self._path, DEFAULT.store, sinks or (HOOK,)))
        watched: WatchedStore = self.store
        return watched

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

    async def states(self) -> list[tuple[str, int, str, int]]:
        """(conversation, seq, state, attempt) of each job."""
        views = await self.store.list_jobs(JobFilter(), 1_000)
        return [(view.conversation, view.seq, view.state, view.attempt) for view in views]


@asynccontextmanager
async def working(
    store: WatchedStore, limits: WorkerLimits = LIMITS, queue: Queue | None = None, **handlers: ScriptedSink
) -> AsyncIterator[Worker]:
    as_store: Store = store
    if queue is None:
        queue = EmbeddedQueue(as_store, list(handlers), limits.job_recheck_ms, now_ms)
    try:
        async with Worker(as_store, queue, handlers, limits, now_ms) as worker:
            yield worker
    finally:
        await queue.close()


class ScriptedQueue:
    """A queue that names lanes, as SQS does, and remembers what it was told of them."""

    def __init__(self) -> None:
        self._named: asyncio.Queue[Sequence[tuple[str, str]]] = asyncio.Queue()
        self.told: list[tuple[tuple[str, str], int | None]] = []
        self.kept: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def name(self, *lanes: tuple[str, str]) -> None:
        self._named.put_nowait(lanes)

    async def next(self) -> Sequence[tuple[str, str]]:
        return await self._named.get()

    def done(self, lane: tuple[str, str], due_in_ms: int | None) -> None:
        self.told.append((lane, due_in_ms))
        self._changed.set()

    def busy(self, lane: tuple[str, str]) -> None:
        self.kept.append(lane)
        self._changed.set()

    async def close(self) -> None: ...

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed.clear()
            await soon(self._changed.wait())
