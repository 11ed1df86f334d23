"""`recado worker`, put together: the store, the queue, the sinks' handlers, the worker and the operators' pages.

It needs no key that lets users in. Stopping ends the jobs that are running and releases the others; the pages go last,
so that `/readyz` tells that the worker is stopping.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import structlog

from recado.app import limits as all_limits
from recado.app.access import JwtAccess
from recado.app.clock import now_ms
from recado.app.config import Settings, SettingsError
from recado.app.http_server import serving_http
from recado.app.limits import Limits
from recado.app.metrics import operators_pages
from recado.app.sink_context import SinkContext
from recado.app.sinks import sinks_of
from recado.app.stores import open_store
from recado.app.ticking_deadlines import TickingDeadlines
from recado.app.tracing import open_tracer
from recado.app.working import working
from recado.chat.errors import Unavailable
from recado.http.metrics_access import check_may_read_metrics
from recado.ports import Store

log = structlog.get_logger("recado")
_PING_TIMEOUT_S = 5


class WorkerNode:
    """A running worker."""

    def __init__(self) -> None:
        self.store: Store | None = None
        """While jobs are run."""
        self.http_port = 0

    async def unreadiness(self) -> str | None:
        """Why no job could be run now; None if one could. The store is asked: a worker with nothing to do asks it
        nothing."""
        if self.store is None:
            return "stopping or starting"
        try:
            async with asyncio.timeout(_PING_TIMEOUT_S):
                await self.store.ping()
        except (Unavailable, TimeoutError):
            return "the store is away"
        return None


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[WorkerNode]:
    """Start everything; at the end of the block, stop it. Raises SettingsError, Unusable."""
    settings.check_without_keys()
    limits = all_limits.with_changes(settings.limit)
    if not settings.is_postgres():
        raise SettingsError(
            "recado worker needs a database that processes can share: set database to a postgresql:// URL; "
            "a SQLite database belongs to one `recado serve`, which runs its jobs itself"
        )
    sinks = sinks_of(settings, limits)
    if not sinks:
        raise SettingsError(
            "there is nothing to do: no sink is configured; give the worker the settings of `recado serve`, "
            "such as webhook_url, capture_file, capture_queue, push_key or broker"
        )
    node = WorkerNode()
    async with AsyncExitStack() as stack:
        node.http_port = await _serve_pages(settings, limits, node, stack)
        store = await open_store(settings, limits, sinks)
        stack.push_async_callback(store.close)
        tracer = await open_tracer(settings, limits, "recado-worker", stack)
        context = SinkContext(settings, limits, store, tracer=tracer)
        await stack.enter_async_context(working(context, sinks, now_ms))
        node.store = store
        log.info("ready", http_port=node.http_port, sinks=[sink.name for sink in sinks])
        yield node
        node.store = None
        log.info("stopping")


async def _serve_pages(settings: Settings, limits: Limits, node: WorkerNode, stack: AsyncExitStack) -> int:
    deadlines = TickingDeadlines()
    stack.callback(deadlines.close)
    host_only = JwtAccess(replace(settings, secret=None, jwks=None))  # it knows no users
    pages = operators_pages(node.unreadiness, partial(check_may_read_metrics, host_only, is_behind_proxy=False))
    host, port = settings.worker_host, settings.worker_port
    serving = serving_http(pages, host, port, limits, deadlines, "worker_host", "worker_port")
    return await stack.enter_async_context(serving)
