"""What happens behind the commit, by the settings: which sinks get jobs, and who does them.

Each row of `SINKS` is a sink that there may be. Its driver is imported by its `open`, so that a default install needs
none; without its extra, or with a setting that cannot be used, `open` raises Unusable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import NamedTuple

from recado.adapters.queue.sqs.address import SqsAddress
from recado.adapters.sinks.capture_file import CaptureFile
from recado.app.config import Settings
from recado.app.external_mqtt import notify_sink, open_notify
from recado.app.extras import needing
from recado.app.limits import Limits
from recado.app.push import open_push
from recado.app.queues import open_sqs
from recado.chat.stages import Tracer
from recado.ports import Broker, Sink, SinkHandler, Store


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a handler may need. `broker` is this process's own, and `is_here` tells which users are connected to it; a
    worker has neither."""

    settings: Settings
    limits: Limits
    store: Store
    broker: Broker | None = None
    is_here: Callable[[str], bool] = lambda user: False
    tracer: Tracer | None = None


class SinkKind(NamedTuple):
    """`sink` is None if the settings do not ask for it."""

    sink: Callable[[Settings], Sink | None]
    open: Callable[[Surroundings], Awaitable[SinkHandler]]


async def _open_webhook(around: Surroundings) -> SinkHandler:
    with needing("webhooks", "webhook_url"):
        from recado.adapters.sinks.webhook import Webhook
    settings = around.settings
    assert settings.webhook_url is not None
    assert settings.webhook_secret is not None, "Settings.check has seen to it"
    return Webhook(settings.webhook_url, settings.webhook_secret, settings.webhook_private, around.limits.sinks)


async def _open_capture_file(around: Surroundings) -> SinkHandler:
    assert around.settings.capture_file is not None
    return CaptureFile.open(around.settings.capture_file, around.limits.sinks)


async def _open_capture_queue(around: Surroundings) -> SinkHandler:
    url = around.settings.capture_queue
    assert url is not None
    client = await open_sqs("capture_queue", url, around.limits.sqs.queue_requests_max)
    from recado.adapters.sinks.capture_queue import CaptureQueue

    return CaptureQueue(client, SqsAddress.parse("capture_queue", url).is_fifo)


async def _open_notify(around: Surroundings) -> SinkHandler:
    return await open_notify(around.settings, around.limits, around.broker)


SINKS: tuple[SinkKind, ...] = (
    SinkKind(lambda settings: Sink("push", messages_only=True) if settings.push_key is not None else None, open_push),
    SinkKind(notify_sink, _open_notify),
    SinkKind(lambda settings: Sink("webhook") if settings.webhook_url is not None else None, _open_webhook),
    SinkKind(lambda settings: Sink("capture_file") if settings.capture_file is not None else None, _open_capture_file),
    SinkKind(
        lambda settings: Sink("capture_queue") if settings.capture_queue is not None else None, _open_capture_queue
    ),
)


def sinks_of(settings: Settings) -> tuple[Sink, ...]:
    """Those for which jobs are written. What is not configured writes none."""
    return tuple(sink for kind in SINKS if (sink := kind.sink(settings)) is not None)


async def open_handlers(surroundings: Surroundings, stack: AsyncExitStack) -> Mapping[str, SinkHandler]:
    """A handler for each sink that is configured, by its name; closed with the stack. Raises Unusable."""
    handlers: dict[str, SinkHandler] = {}
    for kind in SINKS:
        if (sink := kind.sink(surroundings.settings)) is not None:
            handler = await kind.open(surroundings)
            stack.push_async_callback(handler.close)
            handlers[sink.name] = handler
    return handlers
