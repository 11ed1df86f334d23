"""Traces, if the settings ask for them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from recado.app.config import Settings
from recado.app.extras import needing
from recado.app.limits import Limits
from recado.chat.stages import Tracer

_PATH = "/v1/traces"


async def open_tracer(settings: Settings, limits: Limits, service: str, stack: AsyncExitStack) -> Tracer | None:
    """Until the end of the stack. Raises Unusable without the extra."""
    if settings.traces is None:
        return None
    with needing("otel", "traces"):
        from recado.adapters.tracing.otlp import OtlpTracer
    tracer = OtlpTracer(endpoint(settings.traces), service, limits.traces)
    stack.push_async_callback(tracer.close)
    return tracer


def endpoint(url: str) -> str:
    """A URL without a path is a collector's own address."""
    return url if urlsplit(url).path.strip("/") else url.rstrip("/") + _PATH
