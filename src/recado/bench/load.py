"""The clients of one run, in a process of their own, so that their processor time can be told from everything else's.

    python -m recado.bench.load < task

Says how far it is, and at the end what it measured or why it failed. When its standard input ends, so does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import sys

import uvloop

from recado.bench.failure import RunFailed
from recado.bench.idle import IdleRun
from recado.bench.task import Failed, IdleMeasured, Progress, Said, Task, TrafficMeasured, decode_task, encode
from recado.bench.traffic import TrafficRun

_PROGRESS_STEP = 0.02


class _Teller:
    """Tells of progress, in steps that are worth telling."""

    def __init__(self) -> None:
        self._told = 0.0

    def progress(self, done: float) -> None:
        if done >= self._told + _PROGRESS_STEP:
            self._told = done
            _say(Progress(done))


def _say(said: Said) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(encode(said) + b"\n")
        sys.stdout.buffer.flush()


async def _perform(task: Task) -> TrafficMeasured | IdleMeasured | Failed:
    tell = _Teller().progress
    run: IdleRun | TrafficRun = IdleRun(task, tell) if task.is_idle else TrafficRun(task, tell)
    performing: asyncio.Future[TrafficMeasured | IdleMeasured] = asyncio.ensure_future(run.run())
    asyncio.get_running_loop().add_reader(sys.stdin, performing.cancel)  # who asked is gone
    try:
        return await performing
    except RunFailed as error:
        return Failed(str(error))
    except asyncio.CancelledError:
        return Failed("it was given up")


def main() -> None:
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    task = decode_task(sys.stdin.buffer.readline())
    gc.disable()  # a pause of the client's is none of the server's
    _say(uvloop.run(_perform(task)))


if __name__ == "__main__":
    main()
