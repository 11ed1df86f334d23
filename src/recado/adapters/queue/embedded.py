"""The store itself as the queue: a commit that makes jobs wakes the worker, and one timer what is due later.

While commits come, nothing is asked of the store. Once they have stopped for a moment, it is asked once when the next
job is due: of another process's worker that died, of an attempt that it put off, of an earlier run.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

from recado.ports import Jobs, LaneKey


class EmbeddedQueue:
    """A `recado.ports.Queue`; it takes the store's `on_jobs`. Make it inside the running event loop."""

    def __init__(self, store: Jobs, sinks: Collection[str], recheck_ms: int, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._sinks = list(sinks)
        self._recheck_ms = recheck_ms
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._woken.set()  # an earlier run may have left jobs
        self._timer: asyncio.TimerHandle | None = None
        store.on_jobs = self._woken.set

    async def next(self) -> None:
        """Every time, any conversation may have jobs. Raises Unavailable."""
        with suppress(TimeoutError):  # wait_for would swallow a cancellation that comes with the sign (Python 3.11)
            async with asyncio.timeout(self._recheck_ms / 1000):
                await self._woken.wait()
        if not self._woken.is_set():
            due_at = await self._store.next_job_at(self._sinks)
            if due_at is not None:  # one that is overdue waits for room, or was made just now
                self._wake_in(max(due_at - self._now_ms(), self._recheck_ms if due_at <= self._now_ms() else 1))
            await self._woken.wait()
        self._woken.clear()

    def done(self, lane: LaneKey, due_in_ms: int | None) -> None:
        if due_in_ms is not None:
            self._wake_in(due_in_ms)

    def busy(self, lane: LaneKey) -> None:
        """Its lease says so."""

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wake_in(self, ms: int) -> None:
        at = self._loop.time() + ms / 1000
        if self._timer is not None and self._timer.when() <= at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._woken.set()
