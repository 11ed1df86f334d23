"""What is done behind the commit, as a part of a process: by a worker here, or by telling the queue of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from recado.adapters.queue.embedded import EmbeddedQueue
from recado.app.config import Settings, SettingsError
from recado.app.queues import open_sqs_of_jobs, sqs_queue, sqs_relay
from recado.app.sink_context import SinkContext
from recado.app.sinks import open_handlers
from recado.ports import Queue, QueueOutbox, Sink
from recado.worker import Worker

if TYPE_CHECKING:
    from recado.adapters.queue.sqs.client import SqsClient


@asynccontextmanager
async def behind_the_commit(
    context: SinkContext, sinks: Sequence[Sink], now_ms: Callable[[], int]
) -> AsyncIterator[None]:
    """A server's part in it, until the end of the block; none without sinks. Raises SettingsError, Unusable."""
    settings = context.settings
    async with AsyncExitStack() as stack:
        _check_who_works(settings, sinks)
        if sinks:
            if settings.is_sqs():
                await _relayed_queue(context, sinks, now_ms, stack)
            elif settings.worker:
                await stack.enter_async_context(working(context, sinks, now_ms))
        yield


@asynccontextmanager
async def working(context: SinkContext, sinks: Sequence[Sink], now_ms: Callable[[], int]) -> AsyncIterator[Worker]:
    """A worker for all sinks, until the end of the block. Raises Unusable."""
    async with AsyncExitStack() as stack:
        handlers = await open_handlers(context, stack)
        queue = await _open_queue(context, sinks, now_ms, stack)
        worker = Worker(context.store, queue, handlers, context.limits.worker, now_ms, context.tracer)
        yield await stack.enter_async_context(worker)


async def _open_queue(
    context: SinkContext, sinks: Sequence[Sink], now_ms: Callable[[], int], stack: AsyncExitStack
) -> Queue:
    names = [sink.name for sink in sinks]
    queue: Queue
    if context.settings.is_sqs():
        queue = sqs_queue(await _relayed_queue(context, sinks, now_ms, stack), context.limits, names)
    else:
        queue = EmbeddedQueue(context.store, names, context.limits.worker.job_recheck_ms, now_ms)
    stack.push_async_callback(queue.close)
    return queue


async def _relayed_queue(
    context: SinkContext, sinks: Sequence[Sink], now_ms: Callable[[], int], stack: AsyncExitStack
) -> SqsClient:
    """SQS, with a relay that fills it until the end of the stack."""
    outbox = context.store
    assert isinstance(outbox, QueueOutbox), "SQS is refused with a database that nobody else can have"
    client = await open_sqs_of_jobs(context.settings, context.limits)
    stack.push_async_callback(client.close)
    relay = sqs_relay(client, context.limits, outbox, [sink.name for sink in sinks], now_ms)
    stack.push_async_callback(relay.close)
    return client


def _check_who_works(settings: Settings, sinks: Sequence[Sink]) -> None:
    """No other process can have the file. A queue has no use there, whatever the sinks are."""
    if not settings.is_postgres() and (settings.is_sqs() or (sinks and not settings.worker)):
        what = "queue is SQS" if settings.is_sqs() else "worker is off"
        raise SettingsError(
            f"{what}, but nobody else can run the jobs of a SQLite database: set database to a postgresql:// URL, "
            "or leave that setting out"
        )
