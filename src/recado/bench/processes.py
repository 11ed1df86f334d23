"""What a process used, from the kernel: processor time in nanoseconds, waiting for a core, memory of its own."""

from __future__ import annotations

import time
from pathlib import Path

_CPUCLOCK_SCHED = 2  # of clock_getcpuclockid(3): all threads, those that have ended too


def cpu_ns(pid: int) -> int:
    return time.clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED)


def waited_ns(pid: int) -> int:
    """How long its threads could have run and had no core: whether the machine was quiet."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks)


def private_bytes(pid: int) -> int:
    """Resident memory that it shares with no other process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = [int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:"))]
    return sum(kib) * 1024
