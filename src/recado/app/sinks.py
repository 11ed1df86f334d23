"""What happens behind the commit, by the settings: which sinks get jobs, and who does them.

Each row of `SINKS` is a sink that there may be. Its driver is imported by its `open`, so that a default install needs
none; without its extra, or with a setting that cannot be used, `open` raises Unusable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

from recado.adapters.queue.sqs.address import SqsAddress
from recado.adapters.sinks.capture_file import CaptureFile
from recado.app.config import Settings
from recado.app.external_mqtt import notify_sink, open_notify
from recado.app.extras import needing
from recado.app.limits import Limits
from recado.app.push import open_push
from recado.app.queues import open_sqs
from recado.app.sink_context import SinkContext
from recado.ports import Sink, SinkHandler


class SinkKind(NamedTuple):
    """`sink` is None if the settings do not ask for it."""

    sink: Callable[[Settings, Limits], Sink | None]
    open: Callable[[SinkContext], Awaitable[SinkHandler]]


async def _open_webhook(context: SinkContext) -> SinkHandler:
    with needing("webhooks", "webhook_url"):
        from recado.adapters.sinks.webhook import Webhook
    settings = context.settings
    assert settings.webhook_url is not None
    assert settings.webhook_secret is not None, "Settings.check has seen to it"
    return Webhook(settings.webhook_url, settings.webhook_secret, settings.webhook_private, context.limits.sinks)


async def _open_capture_file(context: SinkContext) -> SinkHandler:
    assert context.settings.capture_file is not None
    return CaptureFile.open(context.settings.capture_file, context.limits.sinks)


async def _open_capture_queue(context: SinkContext) -> SinkHandler:
    url = context.settings.capture_queue
    assert url is not None
    client = await open_sqs("capture_queue", url, context.limits)
    from recado.adapters.sinks.capture_queue import CaptureQueue

    return CaptureQueue(client, SqsAddress.parse("capture_queue", url).is_fifo)


SINKS: tuple[SinkKind, ...] = (
    SinkKind(
        lambda settings, _: Sink("push", messages_only=True) if settings.push_key is not None else None, open_push
    ),
    SinkKind(notify_sink, open_notify),
    SinkKind(lambda settings, _: Sink("webhook") if settings.webhook_url is not None else None, _open_webhook),
    SinkKind(
        lambda settings, _: Sink("capture_file") if settings.capture_file is not None else None, _open_capture_file
    ),
    SinkKind(
        lambda settings, _: Sink("capture_queue") if settings.capture_queue is not None else None, _open_capture_queue
    ),
)


NAMES = ("push", "notify", "webhook", "capture_file", "capture_queue")
"""Of every sink that there may be."""


def sinks_of(settings: Settings, limits: Limits) -> tuple[Sink, ...]:
    """Those for which jobs are written. What is not configured writes none."""
    return tuple(sink for kind in SINKS if (sink := kind.sink(settings, limits)) is not None)


async def open_handlers(context: SinkContext, stack: AsyncExitStack) -> Mapping[str, SinkHandler]:
    """A handler for each sink that is configured, by its name; closed with the stack. Raises Unusable."""
    handlers: dict[str, SinkHandler] = {}
    for kind in SINKS:
        if (sink := kind.sink(context.settings, context.limits)) is not None:
            handler = await kind.open(context)
            stack.push_async_callback(handler.close)
            handlers[sink.name] = handler
    return handlers
