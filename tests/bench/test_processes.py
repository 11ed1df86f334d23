"""What the kernel says of a process is what that process did."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from recado.bench.processes import cpu_ns, private_bytes, waited_ns

WORK_S = 0.2
GROWN_BYTES = 32 * 1024 * 1024


def test_the_processor_time_of_another_process_is_what_it_used() -> None:
    work = f"import time\nwhile time.process_time() < {WORK_S}: pass\nprint(time.process_time(), flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as busy:
        assert busy.stdout is not None, "it was given a pipe"
        used_s = float(busy.stdout.readline())
        assert cpu_ns(busy.pid) / 1e9 == pytest.approx(used_s, rel=0.1)
        assert waited_ns(busy.pid) >= 0
        busy.communicate("\n")


def test_processor_time_counts_threads_that_have_ended_too() -> None:
    def work() -> None:
        until = time.thread_time() + WORK_S
        while time.thread_time() < until:
            pass

    before = cpu_ns(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert cpu_ns(os.getpid()) - before >= WORK_S * 1e9


def test_private_memory_grows_by_what_is_written_to() -> None:
    before = private_bytes(os.getpid())
    held = bytearray(os.urandom(1024)) * (GROWN_BYTES // 1024)
    assert private_bytes(os.getpid()) - before == pytest.approx(len(held), rel=0.1)
