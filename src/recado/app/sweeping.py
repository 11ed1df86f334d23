"""What is done now and then, from the start on: erasures that a crash interrupted, and messages past their retention.

A sweep that fails, or that the server's stop cuts short, is taken up by the next one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from recado.chat.errors import Unavailable
from recado.ports import Conversations

log = structlog.get_logger("recado")
_DAY_MS = 24 * 3600 * 1000


@asynccontextmanager
async def sweeping(
    store: Conversations,
    now_ms: Callable[[], int],
    retention_days: int | None,
    interval_s: float,
) -> AsyncIterator[None]:
    """Sweep now and every so many seconds, until the end of the block."""
    task = asyncio.ensure_future(_sweep_for_ever(store, now_ms, retention_days, interval_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep_for_ever(
    store: Conversations,
    now_ms: Callable[[], int],
    retention_days: int | None,
    interval_s: float,
) -> None:
    while True:
        try:
            await sweep(store, now_ms(), retention_days)
        except Unavailable as error:
            log.warning("sweep_failed", error=error.message)
        except Exception as error:  # the next one may go well, and the server goes on anyhow
            log.error("sweep_failed", error=type(error).__name__)  # noqa: TRY400  # its text may quote what people wrote
        await asyncio.sleep(interval_s)


async def sweep(store: Conversations, now_ms: int, retention_days: int | None) -> None:
    """Raises Unavailable."""
    await store.finish_erasures(now_ms)
    if retention_days is not None:
        await store.erase_older(now_ms - retention_days * _DAY_MS)
