"""What is done behind the commit, as a part of a process: by a worker here, or by telling the queue of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from recado.adapters.queue.embedded import EmbeddedQueue
from recado.app.config import Settings, SettingsError
from recado.app.queues import is_sqs, open_sqs_of_jobs, sqs_queue, sqs_relay
from recado.app.sinks import Surroundings, open_handlers
from recado.ports import Queue, Sink
from recado.worker import Worker

if TYPE_CHECKING:
    from recado.adapters.queue.sqs.client import SqsClient


@asynccontextmanager
async def behind_the_commit(
    around: Surroundings, sinks: Sequence[Sink], now_ms: Callable[[], int]
) -> AsyncIterator[None]:
    """A server's part in it, until the end of the block; none without sinks. Raises SettingsError, Unusable."""
    settings = around.settings
    async with AsyncExitStack() as stack:
        if sinks:
            _check_who_works(settings)
            if is_sqs(settings):
                await _relayed_queue(around, sinks, now_ms, stack)
            elif settings.worker:
                await stack.enter_async_context(working(around, sinks, now_ms))
        yield


@asynccontextmanager
async def working(around: Surroundings, sinks: Sequence[Sink], now_ms: Callable[[], int]) -> AsyncIterator[Worker]:
    """A worker for all sinks, until the end of the block. Raises Unusable."""
    async with AsyncExitStack() as stack:
        handlers = await open_handlers(around, stack)
        queue = await _open_queue(around, sinks, now_ms, stack)
        worker = Worker(around.store, queue, handlers, around.limits.worker, now_ms, around.tracer)
        yield await stack.enter_async_context(worker)


async def _open_queue(
    around: Surroundings, sinks: Sequence[Sink], now_ms: Callable[[], int], stack: AsyncExitStack
) -> Queue:
    names = [sink.name for sink in sinks]
    queue: Queue
    if is_sqs(around.settings):
        queue = sqs_queue(await _relayed_queue(around, sinks, now_ms, stack), around.limits, names)
    else:
        queue = EmbeddedQueue(around.store, names, around.limits.worker.job_recheck_ms, now_ms)
    stack.push_async_callback(queue.close)
    return queue


async def _relayed_queue(
    around: Surroundings, sinks: Sequence[Sink], now_ms: Callable[[], int], stack: AsyncExitStack
) -> SqsClient:
    """SQS, with a relay that fills it until the end of the stack."""
    client = await open_sqs_of_jobs(around.settings, around.limits)
    stack.push_async_callback(client.close)
    relay = sqs_relay(client, around.limits, around.store, [sink.name for sink in sinks], now_ms)
    stack.push_async_callback(relay.close)
    return client


def _check_who_works(settings: Settings) -> None:
    """No other process can have the file."""
    if not settings.is_postgres() and (is_sqs(settings) or not settings.worker):
        what = "queue is SQS" if is_sqs(settings) else "worker is off"
        raise SettingsError(
            f"{what}, but nobody else can run the jobs of a SQLite database: set database to a postgresql:// URL, "
            "or leave that setting out"
        )
