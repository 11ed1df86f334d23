"""The outbox: tells SQS of jobs that are in the store, and again of those that stay undone.

Of all processes one relays, the store says which; should two, jobs are told of twice, and nothing comes of that. What
is read together needs one message for each lane (sink, conversation). A job is noted as queued once SQS has that, so a
crash in between sends it twice and loses nothing. What SQS may have lost is sent again: at once after an outage, else
when the job has stayed undone for `queue_requeue_s`.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from math import inf

import msgspec
from prometheus_client import Counter

from recado.adapters.queue.sqs.client import SqsAway, SqsClient, SqsMessage, batches
from recado.adapters.queue.sqs.limits import SqsLimits
from recado.ports import Job, QueueOutbox

_BACKOFF_S = 0.1
_log = logging.getLogger(__name__)
_SENT = Counter("recado_sqs_messages_sent", "Messages that tell workers of a conversation with jobs.")


class Relay:
    """Make it inside the running event loop; it takes the store's `on_jobs`, and relays from then on."""

    def __init__(
        self, store: QueueOutbox, client: SqsClient, sinks: Sequence[str], limits: SqsLimits, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._client = client
        self._sinks = sinks
        self._limits = limits
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._checked_at = -inf
        """When it was last looked for what SQS has lost, as the loop's time."""
        self._has_jobs = asyncio.Event()
        store.on_jobs = self._has_jobs.set
        self._task = asyncio.ensure_future(self._relay_for_ever())

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _relay_for_ever(self) -> None:
        backoff_s = _BACKOFF_S
        while True:
            self._has_jobs.clear()
            try:
                if not await self._store.lead():
                    await asyncio.sleep(self._limits.queue_relay_interval_ms / 1000)
                    continue
                await self._relay_what_is_lost()
                while await self._relay_some():
                    pass
            except SqsAway:  # the client says so by itself
                pass
            except Exception as error:  # the next time may go well; its text may quote what people wrote
                if backoff_s == _BACKOFF_S:  # it is said once
                    _log.warning("no jobs are relayed to SQS: %s; it is tried again", type(error).__name__)
            else:
                backoff_s = _BACKOFF_S
                await self._wait_for_jobs()
                continue
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311  to spread the processes
            backoff_s = min(backoff_s * 2, self._limits.queue_backoff_ms_max / 1000)

    async def _wait_for_jobs(self) -> None:
        """Until the next commit, or the next look for what has become due."""
        try:
            async with asyncio.timeout(self._limits.queue_relay_interval_ms / 1000):
                await self._has_jobs.wait()
        except TimeoutError:
            pass

    async def _relay_some(self) -> bool:
        """True if there may be more. Raises SqsAway, and Unavailable if the store is."""
        now, most = self._now_ms(), self._limits.queue_relay_jobs_max
        jobs = await self._store.unqueued_jobs(self._sinks, now, most)
        await self._tell_of(jobs, now)
        return len(jobs) == most

    async def _relay_what_is_lost(self) -> None:
        """After an outage, and else now and then: it costs the store a walk over all jobs. New ones do not wait for it.
        Raises what `_relay_some` does; then the next walk finds what this one has not told of."""
        begun_at, now, most = self._loop.time(), self._now_ms(), self._limits.queue_relay_jobs_max
        before = self._lost_before(now)
        after: Job | None = None
        while before and (jobs := await self._store.jobs_queued_before(self._sinks, now, before, after, most)):
            await self._tell_of(jobs, self._now_ms())
            after = jobs[-1]
            await self._relay_some()
        if before:
            self._checked_at = begun_at

    def _lost_before(self, now: int) -> int:
        """Messages of an earlier time may be lost; 0 for not to look for those."""
        lost_at, requeue_s = self._client.lost_at, self._limits.queue_requeue_s
        if lost_at > self._checked_at:
            return now - int(1000 * min(self._loop.time() - lost_at, requeue_s))
        return now - 1000 * requeue_s if self._loop.time() - self._checked_at > requeue_s / 2 else 0

    async def _tell_of(self, jobs: Sequence[Job], now: int) -> None:
        named = list({job.lane: job for job in jobs}.values())  # whoever looks finds the others
        sent = [job for batch in await asyncio.gather(*map(self._send, batches(named))) for job in batch]
        _SENT.inc(len(sent))
        if sent:
            lanes = {job.lane for job in sent}
            await self._store.note_queued([job for job in jobs if job.lane in lanes], now)
        if len(sent) < len(named):
            raise SqsAway

    async def _send(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that SQS has now."""
        try:
            taken = await self._client.send([SqsMessage(encode_job(job)) for job in jobs])
        except SqsAway:
            return []
        return [job for job, is_taken in zip(jobs, taken, strict=True) if is_taken]


def encode_job(job: Job) -> str:
    """A message's body: where to look, and nothing that anybody wrote."""
    return msgspec.json.encode(job).decode()
