"""Nothing happens, and what that costs: users with a tab open, then with more of them, and no message.

The tabs are opened over one keep-alive, each at a moment of its own, a user's own evenly spread. Bytes and packets are
those of whole cycles of each connection; processor time is that of the whole time, and long enough for that.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from recado.bench.counting import Reading, check_requests
from recado.bench.cycles import Cycles, sum_of_traffic
from recado.bench.failure import Failure, together
from recado.bench.http_tabs import POLL_EVERY_S
from recado.bench.ledger import Ledger
from recado.bench.parameters import IDLE_POLLS_PER_S_MAX, Parameters
from recado.bench.people import make_tab, make_users, phase
from recado.bench.processes import private_bytes
from recado.bench.tabs import Surroundings, Tab
from recado.bench.task import IdleMeasured, IdleStretch, Task
from recado.bench.transports import TRANSPORTS

CYCLES = 2  # are measured, about
EMPTY_S = 1.5
SETTLE_S = 0.5
WARM_UP_USERS = 20
STALL_TIMEOUT_S = 30.0
PROGRESS_EVERY_S = 0.5


def duration_s(given: Parameters) -> float:
    """About how long a run takes."""
    return EMPTY_S + len(given.tabs) * (SETTLE_S + (1 + CYCLES) * given.interval_s)


class IdleRun:
    def __init__(self, task: Task, on_progress: Callable[[float], None]) -> None:
        given = task.parameters
        self._task = task
        self._on_progress = on_progress
        self._failure = Failure()
        self._interval_s = given.interval_s
        self._loop = asyncio.get_running_loop()
        self._transport = TRANSPORTS[task.transport]
        self._whole_s = duration_s(given)
        self._tabs: list[tuple[int, Tab]] = []
        self._rhythms: dict[int, tuple[float, float]] = {}
        self._around = Surroundings(
            task.ports, given.interval_s, Ledger(given.body_bytes, self._failure), self._failure
        )
        self._users = make_users(self._user_count(), task.secret, given.radio_tail_s)

    def _user_count(self) -> int:
        given = self._task.parameters
        if self._transport.kind != "polling":
            return given.idle_users
        most = int(IDLE_POLLS_PER_S_MAX * POLL_EVERY_S) // max(given.tabs)
        return min(given.idle_users, most - most % 2)

    async def run(self) -> IdleMeasured:
        """Raises RunFailed."""
        self._started = self._loop.time()
        before = Reading(self._task.server_pid, ())
        await self._pass(self._started + EMPTY_S)
        empty = before.until(Reading(self._task.server_pid, ()))
        try:
            warm_up_users = min(WARM_UP_USERS, len(self._users) // 2)
            async with together() as group:
                for user in range(warm_up_users):
                    group.create_task(self._open_tab(user, 0))
            warmed_up_bytes = private_bytes(self._task.server_pid)
            stretches = await self._measure_all(warm_up_users)
            self._check()
        finally:
            for _, tab in self._tabs:
                tab.close()
        return IdleMeasured(len(self._users), warm_up_users, warmed_up_bytes, empty, stretches)

    async def _measure_all(self, warm_up_users: int) -> list[IdleStretch]:
        stretches: list[IdleStretch] = []
        start = self._loop.time()
        opened = [(number, 0) for number in range(warm_up_users)]
        for tabs in self._task.parameters.tabs:
            all_tabs = {(number, tab) for number in range(len(self._users)) for tab in range(tabs)}
            await self._open(sorted(all_tabs.difference(opened)), start)
            opened = sorted(all_tabs)
            await self._pass(self._loop.time() + SETTLE_S)
            stretches.append(await self._measure(tabs))
            start = self._loop.time()
        return stretches

    async def _open(self, tabs: list[tuple[int, int]], start: float) -> None:
        """Over one cycle from `start` on. A tab is a user's number and its own."""
        due = sorted((start + self._due_s(user, tab, start), user, tab) for user, tab in tabs)
        async with together() as group:
            for at, user, tab in due:
                await self._pass(at)
                group.create_task(self._open_tab(user, tab))

    def _due_s(self, user: int, tab: int, start: float) -> float:
        if tab == 0:
            return phase(user) * self._interval_s
        most = max(self._task.parameters.tabs)
        last_at, period_s = self._rhythms[user]
        in_period_s = (last_at + tab / most * period_s - start) % period_s
        return in_period_s + math.floor(phase(user) * self._interval_s / period_s) * period_s

    async def _open_tab(self, user: int, number: int) -> None:
        tab = make_tab(self._transport, self._users[user], self._around, number)
        await tab.open()
        self._tabs.append((user, tab))

    async def _measure(self, tabs: int) -> IdleStretch:
        pid, wires = self._task.server_pid, [tab.wire for _, tab in self._tabs]
        cycles = [Cycles(tab.wire, self._users[user].radio) for user, tab in self._tabs]
        start, before = self._loop.time(), Reading(pid, wires)
        await self._pass(start + CYCLES * self._interval_s)
        for each in cycles:
            await self._failure.unless(each.complete(), CYCLES * self._interval_s + STALL_TIMEOUT_S, "an idle tab")
        stretch, used_bytes = before.until(Reading(pid, wires)), private_bytes(pid)
        for each in cycles:
            each.end()
        of_users = {user: each for (user, _), each in zip(self._tabs, cycles, strict=True)}
        self._rhythms = {user: each.rhythm() for user, each in of_users.items()}
        radios = [each.radio_per_s() for each in of_users.values()]
        wakeups, on_s = (sum(values) for values in zip(*radios, strict=True))
        return IdleStretch(tabs, stretch, sum_of_traffic(cycles), wakeups, on_s, used_bytes)

    async def _pass(self, until: float) -> None:
        """In steps, so that progress shows."""
        while (left_s := until - self._loop.time()) > 0:
            step_s = min(left_s, PROGRESS_EVERY_S)
            await self._failure.unless(asyncio.sleep(step_s), step_s + STALL_TIMEOUT_S, "waiting")
            self._on_progress(min(1.0, (self._loop.time() - self._started) / self._whole_s))

    def _check(self) -> None:
        check_requests(self._task.ports.http, [tab.wire for _, tab in self._tabs])
        self._failure.check()
