"""One sink's jobs: claimed while there is room and something due, so that a sink that hangs takes no other one's room.

A sink that has failed so often in a row as it has lanes is given one job at a time, with growing pauses, until it takes
one: that costs neither it nor the store a storm of attempts, and jobs few of theirs.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from itertools import groupby
from typing import Any

import structlog

from recado.chat.errors import Unavailable
from recado.ports import Claim, LaneKey, Queue, SinkHandler, Wanted
from recado.worker import metrics
from recado.worker.backoff import delay_ms
from recado.worker.lane import Lane, LaneContext, LeaseOver

log = structlog.get_logger("recado.worker")
_STORE_RETRY_S = 0.5


class SinkJobs:
    """`on_busy` is called when there is something whose lease, or whose message, has to be kept."""

    def __init__(
        self, sink: str, handler: SinkHandler, queue: Queue, context: LaneContext, on_busy: Callable[[], None]
    ) -> None:
        self.lanes: dict[str, Lane] = {}
        self.named: dict[str, None] = {}  # conversations, in the order in which the queue named them
        self.tasks: set[asyncio.Task[None]] = set()
        self._ends: dict[str, asyncio.Task[None]] = {}  # of the lanes
        self._sink = sink
        self._handler = handler
        self._queue = queue
        self._context = context
        self._limits = context.limits
        self._on_busy = on_busy
        self._loop = asyncio.get_running_loop()
        self._may_be_more = False
        self._looking: asyncio.Task[None] | None = None
        self._failures = 0
        self._pause: asyncio.TimerHandle | None = None
        self._stopping = False
        metrics.show_from_the_start(sink)

    def look_at_all(self) -> None:
        """Any conversation may have jobs."""
        self._may_be_more = True
        self._look()

    def look_at(self, conversations: Iterable[str]) -> None:
        """These may have jobs. More than may wait are handed back to the queue, for later."""
        for conversation in conversations:
            if len(self.named) < self._limits.sink_named_max or conversation in self.named:
                self.named[conversation] = None
                self._on_busy()
            else:
                self._queue.done(LaneKey(self._sink, conversation), self._limits.job_backoff_ms)
        self._look()

    def stop(self) -> None:
        """Claim nothing more, and begin no other job of the lanes that run."""
        self._stopping = True
        if self._pause is not None:
            self._pause.cancel()
        for lane in self.lanes.values():
            lane.stop()

    def _look(self) -> None:
        if self._looking is None:
            self._looking = self._spawn(self._claim_while_there_is_room())

    async def _claim_while_there_is_room(self) -> None:
        try:
            while (wanted := self._wanted()) is not None:
                if wanted.only is None:
                    self._may_be_more = False
                try:
                    await self._claim(wanted)
                except Exception as error:  # a worker that gives up looking would be a silent one
                    if not isinstance(error, Unavailable):
                        log.exception("claim_failed", sink=self._sink, error=type(error).__name__)
                    self._may_be_more = self._may_be_more or wanted.only is None
                    await asyncio.sleep(_STORE_RETRY_S)
        finally:
            self._looking = None

    def _wanted(self) -> Wanted | None:
        """None if there is no room, or nothing to look for."""
        limits = self._limits
        room = (1 if self._is_failing() else limits.sink_lanes_max) - len(self.lanes)
        if self._stopping or self._pause is not None or room <= 0 or not (self._may_be_more or self.named):
            return None
        only = None
        if not self._may_be_more:
            only = [LaneKey(self._sink, conversation) for conversation in list(self.named)[:room]]
        now, lease_ms = self._context.now_ms(), limits.job_lease_s * 1000
        return Wanted([self._sink], now, lease_ms, room, limits.lane_jobs_max, only)

    async def _claim(self, wanted: Wanted) -> None:
        lease_until = self._loop.time() + self._limits.job_lease_s
        claims = await self._context.store.claim_jobs(wanted)
        if self._stopping:
            with suppress(Unavailable):
                await self._context.store.release_claims(claims)
            return
        lanes = {each: list(group) for each, group in groupby(claims, key=lambda claim: claim.job.conversation)}
        if wanted.only is None:
            self._may_be_more = self._may_be_more or len(lanes) >= wanted.lanes_max
        for conversation, of_lane in lanes.items():
            self.named.pop(conversation, None)
            self._begin(conversation, of_lane, lease_until, is_named=wanted.only is not None)
        for _, conversation in wanted.only or ():
            if conversation not in lanes:
                await self._tell_of_nothing(conversation)

    async def _tell_of_nothing(self, conversation: str) -> None:
        """There is no job, or one that is not due, or that another worker has: if that one dies, somebody must look."""
        due_at = await self._context.store.lane_due_at(self._sink, conversation)
        wait_ms = None if due_at is None else max(due_at - self._context.now_ms(), self._limits.job_recheck_ms)
        del self.named[conversation]
        self._queue.done(LaneKey(self._sink, conversation), wait_ms)

    def _begin(self, conversation: str, claims: list[Claim], lease_until: float, is_named: bool) -> None:
        before = self._ends.get(conversation)
        lane = self.lanes[conversation] = Lane(self._handler, claims, lease_until, is_named, self._context)
        self._ends[conversation] = self._spawn(self._run(lane, before))
        self._on_busy()

    async def _run(self, lane: Lane, before: asyncio.Task[None] | None) -> None:
        """`before` has settled its last job, or has lost its lease, and is about to end."""
        if before is not None:
            await asyncio.wait([before])
        due_in_ms: int | None = self._limits.job_lease_s * 1000
        metrics.RUNNING.labels(self._sink).inc()
        try:
            due_in_ms = await lane.run()
        except LeaseOver:
            log.warning("lease_over", sink=self._sink, conversation=lane.conversation)
        except Exception as error:  # of ours: the lease ends, and the jobs are tried again
            log.exception("lane_failed", sink=self._sink, error=type(error).__name__)
        finally:
            metrics.RUNNING.labels(self._sink).dec()
            if self.lanes[lane.conversation] is lane:
                del self.lanes[lane.conversation], self._ends[lane.conversation]
        self._note(lane.sink_failed)
        if due_in_ms is None and lane.is_named:
            self.named[lane.conversation] = None  # there may be more, of which the queue tells no more
        else:
            self._queue.done(LaneKey(self._sink, lane.conversation), due_in_ms)
        self._may_be_more = self._may_be_more or not lane.is_named
        self._look()

    def _note(self, sink_failed: bool | None) -> None:
        """None: it was not tried."""
        if sink_failed is None:
            return
        was_failing = self._is_failing()
        self._failures = self._failures + 1 if sink_failed else 0
        if self._is_failing() and not self._stopping:
            if not was_failing:
                log.warning("sink_fails", sink=self._sink)
            failures = self._failures - self._limits.sink_lanes_max + 1
            wait_ms = min(delay_ms(failures, None, self._limits), self._limits.sink_pause_ms_max)
            self._pause = self._pause or self._loop.call_later(wait_ms / 1000, self._go_on)
        elif was_failing and not self._is_failing():
            log.info("sink_takes_jobs_again", sink=self._sink)

    def _is_failing(self) -> bool:
        return self._failures >= self._limits.sink_lanes_max

    def _go_on(self) -> None:
        self._pause = None
        self._look()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task
