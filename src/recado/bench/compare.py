"""The whole comparison: servers and clients as processes of their own, in a folder that goes away with them.

Messages are measured one transport after the other, as latency and processor time need a machine that does nothing
else. Idle tabs may be measured beside each other: what they cost is counted for each process, not taken from the clock.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from recado.app.limits import DEFAULT
from recado.bench import machine
from recado.bench.failure import RunFailed, together
from recado.bench.idle import duration_s
from recado.bench.own_server import own_server, prepare
from recado.bench.parameters import Parameters
from recado.bench.people import conversations
from recado.bench.results import SCHEMA, Comparison, transport_cost
from recado.bench.task import Failed, IdleMeasured, Progress, Task, TrafficMeasured, decode_said, encode
from recado.bench.traffic import warm_up_s
from recado.bench.transports import TRANSPORTS

_LINE_BYTES_MAX = 64 * 1024 * 1024  # the latencies of a whole run
_START_S = 1.5  # about what a server and its clients take to start; for the progress bar alone
_SPARE_CONNECTIONS = 500


class Step(NamedTuple):
    """One of the things that take time; `seconds` is about how long."""

    transport: str
    is_idle: bool
    seconds: float


OnProgress = Callable[[Step, float], None]
"""Gets a step and which part of it is done, 0 to 1."""


def steps(given: Parameters) -> list[Step]:
    """All of them, in the order in which they are taken, or started."""
    found = [Step(name, False, _START_S + warm_up_s(name) + given.seconds) for name in given.transports]
    found += [Step(name, True, _START_S + duration_s(given)) for name in given.transports]
    return found


async def compare(given: Parameters, on_progress: OnProgress) -> Comparison:
    """Leaves no process and no folder behind, however it ends. Raises RunFailed."""
    with tempfile.TemporaryDirectory(prefix="recado-bench-") as name:
        runs = _Runs(given, Path(name), on_progress)
        await runs.prepare()
        traffic: dict[str, TrafficMeasured] = {}
        idle: dict[str, IdleMeasured] = {}
        planned = steps(given)
        for step in planned:
            if not step.is_idle:
                traffic[step.transport] = await runs.traffic(step)
        idle_steps = [step for step in planned if step.is_idle]
        for first in range(0, len(idle_steps), given.idle_at_a_time):
            idle |= await runs.idle(idle_steps[first : first + given.idle_at_a_time])
    return Comparison(
        schema=SCHEMA,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(["recado", *sys.argv[1:]]),
        machine=machine.machine(),
        versions=machine.versions(),
        parameters=given,
        transports=[transport_cost(each, TRANSPORTS[each], traffic[each], idle[each]) for each in given.transports],
    )


class _Runs:
    def __init__(self, given: Parameters, folder: Path, on_progress: OnProgress) -> None:
        self._given = given
        self._folder = folder
        self._on_progress = on_progress
        self._secret = secrets.token_urlsafe(32)

    async def prepare(self) -> None:
        users = max(self._given.users, self._given.idle_users)
        self._prepared = await prepare(self._folder, conversations(users))

    async def traffic(self, step: Step) -> TrafficMeasured:
        measured = await self._run(step, {})
        assert isinstance(measured, TrafficMeasured), measured
        return measured

    async def idle(self, idle_steps: Sequence[Step]) -> dict[str, IdleMeasured]:
        limits = _idle_limits(self._given)
        async with together() as group:
            running = {step.transport: group.create_task(self._run(step, limits)) for step in idle_steps}
        measured: dict[str, IdleMeasured] = {}
        for name, task in running.items():
            result = task.result()
            assert isinstance(result, IdleMeasured), result
            measured[name] = result
        return measured

    async def _run(self, step: Step, limits: dict[str, int]) -> TrafficMeasured | IdleMeasured:
        folder = self._folder / f"{step.transport}-{'idle' if step.is_idle else 'traffic'}"
        async with own_server(folder, self._prepared, self._secret, limits) as server:
            task = Task(
                transport=step.transport,
                is_idle=step.is_idle,
                parameters=self._given,
                ports=server.ports,
                server_pid=server.pid,
                secret=self._secret,
            )
            return await perform(task, lambda done: self._on_progress(step, done))


def _idle_limits(given: Parameters) -> dict[str, int]:
    """Every keep-alive of the server's at the interval, and room for everybody."""
    connections = given.idle_users * max(given.tabs) + _SPARE_CONNECTIONS
    defaults = {**asdict(DEFAULT.http), **asdict(DEFAULT.feed), **asdict(DEFAULT.broker)}
    room = ("http_connections_max", "streams_max", "connections_max")
    return {
        "sse_keepalive_s": given.interval_s,
        "ws_ping_s": given.interval_s,
        **{name: connections for name in room if defaults[name] < connections},
    }


async def perform(task: Task, on_progress: Callable[[float], None]) -> TrafficMeasured | IdleMeasured:
    """Have a process of its own do the task. Raises RunFailed."""
    async with _clients() as process:
        assert process.stdin is not None, "it was given a pipe"
        assert process.stdout is not None, "it was given a pipe"
        process.stdin.write(encode(task) + b"\n")
        try:
            while line := await process.stdout.readline():
                said = decode_said(line)
                if isinstance(said, Failed):
                    raise RunFailed(f"{TRANSPORTS[task.transport].title}: {said.text}")
                if not isinstance(said, Progress):
                    on_progress(1.0)
                    return said
                on_progress(said.done)
        except OSError as error:
            raise RunFailed(f"the clients ended: {error}") from None
    raise RunFailed(f"{TRANSPORTS[task.transport].title}: the clients ended without a result")


@asynccontextmanager
async def _clients() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recado.bench.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
        start_new_session=True,  # Ctrl-C is the comparison's, which ends it
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
