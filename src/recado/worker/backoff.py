"""How long to wait before the next attempt.

Each wait is an eighth longer than the one before, so that at any time a job waits for about an eighth of the time that
it has been failing: what was away for a minute gets everything within eight seconds of its return, and what was away
for a day was not asked more than some hundred times.
"""

import random

from recado.worker.limits import WorkerLimits

_GROWTH = 1.125
_JITTER = 0.2  # of the wait, so that those that failed together do not come back together


def delay_ms(attempt: int, retry_after_s: float | None, limits: WorkerLimits) -> int:
    """After the `attempt`th attempt, from 1; not sooner than a sink asked for."""
    longest = limits.job_backoff_ms_max
    steps = min(attempt - 1, 1_000)  # more would overflow, and is past any longest wait
    wait = min(limits.job_backoff_ms * _GROWTH**steps, longest)
    wait *= random.uniform(1 - _JITTER, 1)  # noqa: S311  no secret
    asked = 0.0 if retry_after_s is None else min(retry_after_s * 1000, longest)
    return round(max(wait, asked))
