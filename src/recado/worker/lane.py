"""One conversation's claimed jobs of one sink: run in order, one after the other.

What is done is settled before the next one begins, so who dies repeats one job at most. A job that fails ends the
lane: those behind it wait for it. A dead letter does not. A lane whose lease is over is somebody else's: from then on
nothing more is said about it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar

import structlog

from recado.chat.errors import Unavailable
from recado.chat.stages import Tracer
from recado.ports import Claim, GiveUp, Job, JobEvent, Jobs, SinkHandler, TryLater
from recado.worker import metrics
from recado.worker.backoff import delay_ms
from recado.worker.limits import WorkerLimits

T = TypeVar("T")
log = structlog.get_logger("recado.worker")
_STORE_RETRY_S = 0.25
# What was read ahead is tried within this time, or it is read again: an edit or an erasure may have been acknowledged
# since. It is no longer than an attempt takes that was under way at that moment anyway.
_READ_AHEAD_S = 0.1


class LeaseOver(Exception):
    """Somebody else may have the jobs by now."""


@dataclass(frozen=True, slots=True)
class LaneContext:
    """What the lanes of a worker have in common. `settle` groups what several lanes have done into one write."""

    store: Jobs
    limits: WorkerLimits
    now_ms: Callable[[], int]
    settle: Callable[[Job], Awaitable[None]]
    tracer: Tracer | None = None


class Lane:
    """`claims` are those that are neither settled nor put off; the first one is running. `is_named`: a queue has named
    the conversation, and is to be told when nothing is left of it."""

    def __init__(
        self, handler: SinkHandler, claims: Sequence[Claim], lease_until: float, is_named: bool, context: LaneContext
    ) -> None:
        self.sink, self.conversation, _ = claims[0].job
        self.claims = list(claims)
        self.lease_until = lease_until
        self.is_named = is_named
        self.sink_failed: bool | None = None
        """Whether the last attempt found the sink in no state to take anything; None before the first."""
        self._handler = handler
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._entries: dict[int, JobEvent] = {}
        self._read_up_to = 0
        self._read_at = inf
        self._attempt: asyncio.Timeout | None = None
        self._stopping = False

    def stop(self) -> None:
        """Begin no other job: what has not begun is released."""
        self._stopping = True

    def cut(self) -> None:
        """End the attempt that is running, as if its time were over. One whose time is over may still be ending."""
        if self._attempt is not None and not self._attempt.expired():
            self._attempt.reschedule(self._loop.time())

    async def run(self) -> int | None:
        """Returns in how many ms the first of the rest is due again, None if nothing was put off. Raises LeaseOver."""
        if self.claims[0].attempt > 1:  # it failed, or ended its worker: those behind it must not be tried with it
            await self._release(self.claims[1:])
        due_in_ms = None
        while self.claims and due_in_ms is None and not self._stopping:
            due_in_ms = await self._run_first()
        await self._release(self.claims)
        return due_in_ms

    async def _run_first(self) -> int | None:
        claim = self.claims[0]
        if claim.attempt > self._context.limits.job_attempts_max:
            return await self._put_off(claim, GiveUp("the attempts before this one ended with their worker"))
        entry = await self._entry(claim.job.seq)
        if entry is not None and (error := await self._traced_try(entry)) is not None:
            return await self._put_off(claim, error)
        await self._insist(lambda: self._context.settle(claim.job))
        self.claims.remove(claim)
        metrics.CLAIMED.labels(self.sink, metrics.DONE).inc()
        if entry is not None:
            metrics.SECONDS.labels(self.sink).observe(max(0, self._context.now_ms() - entry.event.at) / 1000)
        return None

    async def _traced_try(self, entry: JobEvent) -> Exception | None:
        """Try it, in a span of its own if the event is traced. Returns what went wrong."""
        tracer, conversation, seq = self._context.tracer, self.conversation, entry.event.seq
        if tracer is None or not tracer.follows(conversation, seq):
            return await self._try(entry)
        start_ms = self._context.now_ms()
        error = await self._try(entry)
        end_ms = self._context.now_ms()
        tracer.span(f"job {self.sink}", conversation, seq, start_ms, end_ms, failed=error is not None)
        return error

    async def _try(self, entry: JobEvent) -> Exception | None:
        """Returns what went wrong."""
        self._check_lease()
        seconds = self._context.limits.job_deadline_s
        try:
            async with asyncio.timeout(seconds) as self._attempt:
                await self._handler.deliver(self.conversation, entry)
        except Exception as error:  # whatever it is, the other jobs go on
            timed_out = self._attempt is not None and self._attempt.expired()
            self.sink_failed = not (isinstance(error, GiveUp) or (isinstance(error, TryLater) and error.sink_is_well))
            return TryLater(f"it took longer than {seconds} s, or the worker stopped") if timed_out else error
        finally:
            self._attempt = None
        self.sink_failed = False
        return None

    async def _put_off(self, claim: Claim, error: Exception) -> int | None:
        """None if it is a dead letter."""
        limits = self._context.limits
        is_dead = isinstance(error, GiveUp) or claim.attempt >= limits.job_attempts_max
        wait_ms = None
        if not is_dead:
            wait_ms = delay_ms(claim.attempt, error.retry_after_s if isinstance(error, TryLater) else None, limits)
        text = describe(error)[: limits.job_error_chars_max]
        due_at = None if wait_ms is None else self._context.now_ms() + wait_ms
        await self._insist(lambda: self._context.store.put_off_job(claim, due_at, text))
        self.claims.remove(claim)
        metrics.CLAIMED.labels(self.sink, metrics.DEAD if is_dead else metrics.FAILED).inc()
        if is_dead:
            log.error("dead_letter", **claim.job._asdict(), attempt=claim.attempt, error=text)
        return wait_ms

    async def _release(self, claims: Sequence[Claim]) -> None:
        released = list(claims)
        if released:
            await self._insist(lambda: self._context.store.release_claims(released))
            metrics.CLAIMED.labels(self.sink, metrics.RELEASED).inc(len(released))
            self.claims = [claim for claim in self.claims if claim not in released]

    async def _entry(self, seq: int) -> JobEvent | None:
        """As the log has it now. Entries are read for the next claims together, as far as they lie close to one
        another, unless the sink takes its time."""
        now = self._loop.time()
        is_late = now - self._read_at > _READ_AHEAD_S
        if seq > self._read_up_to or is_late:
            span = 1 if is_late else self._context.limits.lane_jobs_max
            last = min(self.claims[-1].job.seq, seq + span - 1)
            self._read_at = now
            found = await self._insist(lambda: self._context.store.job_events(self.conversation, seq, last))
            self._entries = {entry.event.seq: entry for entry in found}
            self._read_up_to = last
        return self._entries.pop(seq, None)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Until the store is back, as long as the lease holds. Raises LeaseOver."""
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(_STORE_RETRY_S)
                self._check_lease()

    def _check_lease(self) -> None:
        if self._loop.time() >= self.lease_until:
            raise LeaseOver


def describe(error: Exception) -> str:
    """What operators are shown. The text of an error that is not the sink's own may quote what people wrote."""
    return str(error) if isinstance(error, (TryLater, GiveUp)) else type(error).__name__
