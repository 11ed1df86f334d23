"""Jobs that the direct path has done, settled in the store: what is done while one call runs goes into the next."""

from __future__ import annotations

import asyncio
import logging

from recado.chat.errors import ChatError
from recado.ports import Job, Store

_log = logging.getLogger(__name__)


class Settling:
    """What cannot be settled stays a job: a worker does it again, and the clients see that it is no news."""

    def __init__(self, store: Store, pending_max: int, batch_max: int) -> None:
        self._store = store
        self._pending_max = pending_max
        self._batch_max = batch_max
        self._pending: list[Job] = []
        self._task: asyncio.Task[None] | None = None

    def settle(self, job: Job) -> None:
        if len(self._pending) >= self._pending_max:
            return
        self._pending.append(job)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Settle what is pending, while the store still takes writes."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[: self._batch_max], self._pending[self._batch_max :]
                try:
                    await self._store.settle_jobs(batch)
                except ChatError as error:
                    _log.warning("%d jobs were done and could not be settled: %s", len(batch), error.message)
        finally:
            self._task = None
