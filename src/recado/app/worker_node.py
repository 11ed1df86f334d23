"""`recado worker`, put together: the store, the queue, the sinks' handlers, the worker and the operators' pages.

It needs no key that lets users in. Stopping ends the jobs that are running and releases the others; the pages go last,
so that `/readyz` tells that the worker is stopping.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from recado.app import limits as all_limits
from recado.app.config import Settings, SettingsError
from recado.app.http_server import serving_http
from recado.app.limits import Limits
from recado.app.metrics import operators_pages
from recado.app.sinks import Surroundings, sinks_of
from recado.app.stores import open_store
from recado.app.tracing import open_tracer
from recado.app.working import working
from recado.broker.deadlines import Deadlines
from recado.worker import Worker

log = structlog.get_logger("recado")
_HOST = "127.0.0.1"  # the pages are for who is on this machine


class WorkerNode:
    """A running worker."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.http_port = 0

    def unreadiness(self) -> str | None:
        """Why jobs are not run now; None if they are."""
        if self.worker is None:
            return "stopping or starting"
        return "the store is away" if self.worker.is_store_away else None


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
    sinks = sinks_of(settings)
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
        around = Surroundings(settings, limits, store, tracer=tracer)
        node.worker = await stack.enter_async_context(working(around, sinks, _now_ms))
        log.info("ready", http_port=node.http_port, sinks=[sink.name for sink in sinks])
        yield node
        node.worker = None
        log.info("stopping")


async def _serve_pages(settings: Settings, limits: Limits, node: WorkerNode, stack: AsyncExitStack) -> int:
    deadlines = TickingDeadlines()
    stack.callback(deadlines.close)
    pages = operators_pages(node.unreadiness)
    serving = serving_http(pages, _HOST, settings.worker_port, limits, deadlines, port_setting="worker_port")
    return await stack.enter_async_context(serving)


class TickingDeadlines(Deadlines):
    """Those of the pages' connections, with the one-second timer that a server of clients has anyway."""

    def __init__(self) -> None:
        super().__init__()
        self._tick()

    def _tick(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(1, self._tick)
        self.advance()

    def close(self) -> None:
        self._ticker.cancel()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
