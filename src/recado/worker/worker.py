"""The worker: it waits for its queue, has each sink look for jobs, and keeps the leases of what is running.

It polls nothing: without jobs there is no timer and no task but the one that waits for the queue. A worker that stops
ends what it has begun and releases the rest; what it could not end in time is tried again, by whoever comes next.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self

import structlog

from recado.chat.errors import Unavailable
from recado.chat.stages import Tracer
from recado.grouping import Grouping
from recado.ports import Jobs, LaneKey, Queue, SinkHandler
from recado.worker.lane import Lane, LaneContext
from recado.worker.limits import WorkerLimits
from recado.worker.sink import SinkJobs

log = structlog.get_logger("recado.worker")
_EXTENSIONS_PER_LEASE = 3
_CUT_S = 1  # what attempts that were cut have to end, and to say so


class Worker:
    """Runs the jobs of these sinks, from the beginning of an `async with` block to its end."""

    def __init__(
        self,
        store: Jobs,
        queue: Queue,
        handlers: Mapping[str, SinkHandler],
        limits: WorkerLimits,
        now_ms: Callable[[], int],
        tracer: Tracer | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._limits = limits
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        settling = Grouping(store.settle_jobs, limits.sink_lanes_max * len(handlers))  # all lanes at once
        context = LaneContext(store, limits, now_ms, settling.put, tracer)
        self._sinks = {
            name: SinkJobs(name, handler, queue, context, self._keep_leases) for name, handler in handlers.items()
        }
        self._dispatching: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._dispatching = asyncio.create_task(self._dispatch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._dispatching is not None:
            await _end(self._dispatching)
        await self._drain()
        if self._keeping is not None:
            await _end(self._keeping)

    async def _dispatch(self) -> None:
        while True:
            try:
                self._look(await self._queue.next())
            except Exception as error:  # a worker that gives up waiting would be a silent one
                if not isinstance(error, Unavailable):
                    log.exception("queue_failed", error=type(error).__name__)
                await asyncio.sleep(self._limits.job_recheck_ms / 1000)

    def _look(self, lanes: Sequence[LaneKey] | None) -> None:
        for name, sink in self._sinks.items():
            if lanes is None:
                sink.look_at_all()
            else:
                sink.look_at([conversation for named, conversation in lanes if named == name])

    def _keep_leases(self) -> None:
        """As long as anything is running, or waits for its turn with a message of the queue's."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_leases_while_busy())

    async def _keep_leases_while_busy(self) -> None:
        interval_s = self._limits.job_lease_s / _EXTENSIONS_PER_LEASE
        try:
            while any(sink.lanes or sink.named for sink in self._sinks.values()):
                await asyncio.sleep(interval_s)
                self._tell_queue()
                try:
                    async with asyncio.timeout(interval_s):
                        await self._extend(self._lanes())
                except (Unavailable, TimeoutError):
                    pass
                except Exception as error:  # without this task every lease would end
                    log.exception("leases_not_extended", error=type(error).__name__)
                for lane in self._lanes():
                    if lane.lease_until - self._loop.time() < interval_s:  # at the next look it may be somebody else's
                        lane.cut()
        finally:
            self._keeping = None

    def _tell_queue(self) -> None:
        for name, sink in self._sinks.items():
            for conversation in (*sink.lanes, *sink.named):
                self._queue.busy(LaneKey(name, conversation))

    async def _extend(self, lanes: Sequence[Lane]) -> None:
        lease_s = self._limits.job_lease_s
        asked_at = self._loop.time()
        held = [lane for lane in lanes if lane.lease_until > asked_at]
        if claims := [claim for lane in held for claim in lane.claims]:
            await self._store.extend_claims(claims, self._now_ms() + lease_s * 1000)
        for lane in held:
            if lane.lease_until > self._loop.time():  # else it may have been claimed again before the store was told
                lane.lease_until = asked_at + lease_s

    async def _drain(self) -> None:
        for sink in self._sinks.values():
            sink.stop()
        if await self._wait(self._limits.worker_drain_s):
            return
        for lane in self._lanes():
            lane.cut()
        if await self._wait(_CUT_S):
            return
        log.warning("jobs_left", why="they did not end when they were told to; their leases will")
        for task in self._tasks():
            task.cancel()
        await self._wait(_CUT_S)

    async def _wait(self, seconds: float) -> bool:
        """Whether everything that was running is over; not longer than so many seconds."""
        end = self._loop.time() + seconds
        while (tasks := self._tasks()) and (left := end - self._loop.time()) > 0:
            await asyncio.wait(tasks, timeout=left)
        return not tasks

    def _lanes(self) -> list[Lane]:
        return [lane for sink in self._sinks.values() for lane in sink.lanes.values()]

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for sink in self._sinks.values() for task in sink.tasks]


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
