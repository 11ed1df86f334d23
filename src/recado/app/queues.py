"""The SQS queues that the settings name. `aiobotocore` is imported only for those."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from recado.adapters.queue.sqs.address import SqsAddress
from recado.app.config import Settings
from recado.app.extras import needing
from recado.app.limits import Limits
from recado.ports import QueueOutbox

if TYPE_CHECKING:
    from recado.adapters.queue.sqs.client import SqsClient
    from recado.adapters.queue.sqs.queue import SqsQueue
    from recado.adapters.queue.sqs.relay import Relay


async def open_sqs(setting: str, url: str, limits: Limits, receivers: int = 0) -> SqsClient:
    """`receivers` are those who wait for messages at a time. Raises Unusable."""
    with needing("sqs", setting):
        from recado.adapters.queue.sqs.client import SqsClient
    return await SqsClient.open(setting, SqsAddress.parse(setting, url), limits.sqs, receivers)


async def open_sqs_of_jobs(settings: Settings, limits: Limits) -> SqsClient:
    """The queue that tells workers of jobs; who opens it closes it. Raises Unusable."""
    return await open_sqs("queue", settings.queue, limits, limits.sqs.queue_receivers)


def sqs_queue(client: SqsClient, limits: Limits, sinks: Collection[str]) -> SqsQueue:
    """The worker's side of it."""
    from recado.adapters.queue.sqs.queue import SqsQueue

    return SqsQueue(client, sinks, limits.sqs)


def sqs_relay(
    client: SqsClient, limits: Limits, store: QueueOutbox, sinks: Sequence[str], now_ms: Callable[[], int]
) -> Relay:
    """What fills it; it takes the store's `on_jobs`."""
    from recado.adapters.queue.sqs.relay import Relay

    return Relay(store, client, sinks, limits.sqs, now_ms)
