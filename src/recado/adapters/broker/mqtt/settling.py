"""Jobs that the direct path has done, settled in the store, many in one call."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from recado.adapters.broker.mqtt.limits import DirectPathLimits
from recado.chat.errors import ChatError
from recado.grouping import Grouping
from recado.ports import Job, Jobs

_log = logging.getLogger(__name__)


class Settling:
    """What cannot be settled stays a job: a worker does it again, and the clients see that it is no news."""

    def __init__(self, store: Jobs, limits: DirectPathLimits) -> None:
        self._store = store
        self._limits = limits
        self._jobs = Grouping(self._settle, limits.settle_batch_max)

    def settle(self, job: Job) -> None:
        if self._jobs.waiting < self._limits.settle_pending_max:
            self._jobs.put(job)

    async def close(self) -> None:
        """Settle what is pending, while the store still takes writes."""
        await self._jobs.close()

    async def _settle(self, jobs: Sequence[Job]) -> None:
        """Raises nothing: nobody waits for it."""
        try:
            await self._store.settle_jobs(jobs)
        except ChatError as error:
            _log.warning("%d jobs were done and could not be settled: %s", len(jobs), error.message)
        except Exception:
            _log.exception("%d jobs were done and could not be settled", len(jobs))
