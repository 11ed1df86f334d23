"""The clock of every process of Recado: events, jobs and pages are compared by it across processes."""

import time


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
