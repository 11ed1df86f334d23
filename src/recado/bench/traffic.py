"""The messages: every user sends one each period, at a moment of its own, and everything must arrive.

Before that, everybody sends a first message, which is where MQTT's topics get their aliases, and the server's caches
their entries. Then the traffic begins, and what is measured of it is a whole number of periods: as much is under way at
the start as at the end, and nothing but for the polls of naive polling.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import NamedTuple

from recado.bench.counting import Reading, Stretch, check_requests, total
from recado.bench.failure import Failure, together
from recado.bench.http_tabs import POLL_EVERY_S, HttpSender
from recado.bench.ledger import Ledger
from recado.bench.people import make_sender, make_tab, make_users, opening_phase, phase
from recado.bench.tabs import Sender, Surroundings, Tab, User
from recado.bench.task import Handshake, Task, TrafficMeasured
from recado.bench.transports import TRANSPORTS
from recado.bench.wire import Traffic, Wire

FIRST_MESSAGES_S = 0.6
POLLING_WARM_UP_S = 1.2  # longer than the second from one poll to the next
WARM_UP_S = 0.3
ARRIVE_TIMEOUT_S = 20.0
POLLING_OPENING_S = 0.9  # within the second that polls are apart
OPENING_S = 0.3
KEEP_ALIVE_S = 60  # as it is outside of measurements of idle tabs: none falls into the traffic


def warm_up_s(transport: str) -> float:
    """From the start of the sending to that of the measured part."""
    return FIRST_MESSAGES_S + (POLLING_WARM_UP_S if TRANSPORTS[transport].kind == "polling" else WARM_UP_S)


class _Due(NamedTuple):
    at: float
    user: int
    message_id: str


class TrafficRun:
    def __init__(self, task: Task, on_progress: Callable[[float], None]) -> None:
        self._task = task
        self._on_progress = on_progress
        self._failure = Failure()
        self._ledger = Ledger(task.parameters.body_bytes, self._failure)
        self._tabs: list[Tab] = []
        self._senders: list[Sender] = []
        self._late_ms: list[float] = []
        self._polls = TRANSPORTS[task.transport].kind == "polling"
        self._warm_up_s = warm_up_s(task.transport)
        self._whole_s = self._warm_up_s + task.parameters.seconds

    async def run(self) -> TrafficMeasured:
        """Raises RunFailed."""
        users = await self._open()
        handshake = _mean([tab.handshake for tab in self._tabs])
        try:
            stretch, sending = await self._send_all(users)
            await self._settle()
            self._check()
        finally:
            for each in self._tabs:
                each.close()
            for wire in self._sending_wires():
                wire.close()
        messages = round(len(users) * self._task.parameters.seconds / self._task.parameters.period_s)
        return TrafficMeasured(
            messages,
            stretch,
            sending.bytes_up,
            sending.bytes_down,
            handshake,
            self._ledger.arrivals_ms,
            self._late_ms,
        )

    async def _open(self) -> list[User]:
        """Each tab at a moment of its own."""
        task, given = self._task, self._task.parameters
        users = make_users(given.users, task.secret, given.radio_tail_s)
        around = Surroundings(task.ports, KEEP_ALIVE_S, self._ledger, self._failure)
        self._tabs = [make_tab(TRANSPORTS[task.transport], user, around, 0) for user in users]
        self._senders = [make_sender(tab, user, around) for tab, user in zip(self._tabs, users, strict=True)]
        self._opening_at = asyncio.get_running_loop().time()
        async with together() as group:
            for number in range(len(users)):
                group.create_task(self._open_one(number))
        return users

    async def _open_one(self, number: int) -> None:
        await self._pass(self._opening_at + opening_phase(number) * (POLLING_OPENING_S if self._polls else OPENING_S))
        tab, sender = self._tabs[number], self._senders[number]
        await tab.open()
        if isinstance(sender, HttpSender):
            await sender.open()

    async def _send_all(self, users: list[User]) -> tuple[Stretch, Traffic]:
        """What the measured periods cost, and the part of it that connections for sending alone had."""
        given, pid = self._task.parameters, self._task.server_pid
        start = self._start_at()
        due = _schedule(users, given.period_s, self._whole_s)
        warm_up = [each for each in due if each.at < self._warm_up_s]
        await self._send(users, warm_up, start, is_measured=False)
        began = await self._quiet(start + self._warm_up_s)
        before, sent_before = Reading(pid, self._wires()), total(self._sending_wires())
        await self._send(users, due[len(warm_up) :], began - self._warm_up_s, is_measured=True)
        await self._quiet(began + given.seconds)
        after, sent_after = Reading(pid, self._wires()), total(self._sending_wires())
        return before.until(after), sent_after.minus(sent_before)

    def _start_at(self) -> float:
        """Now, or whole seconds after the opening: polls and messages fall upon each other alike in every run."""
        now = asyncio.get_running_loop().time()
        if not self._polls:
            return now
        return self._opening_at + math.ceil((now - self._opening_at) / POLL_EVERY_S) * POLL_EVERY_S

    async def _send(self, users: list[User], due: list[_Due], start: float, *, is_measured: bool) -> None:
        loop = asyncio.get_running_loop()
        for each in due:
            if each.at > loop.time() - start:
                await self._pass(start + each.at)
                self._on_progress(each.at / self._whole_s)
            user = users[each.user]
            self._ledger.sending(user.conversation, each.message_id, is_measured)
            self._senders[each.user].send(each.message_id)
            self._late_ms.append((loop.time() - start - each.at) * 1e3)

    async def _quiet(self, at: float) -> float:
        """Return that time, or the later one at which nothing is under way; with polls there always is something."""
        await self._pass(at)
        if self._polls:
            return at
        await self._ledger.deliveries.none_left(ARRIVE_TIMEOUT_S)
        await self._ledger.answers.none_left(ARRIVE_TIMEOUT_S)
        return asyncio.get_running_loop().time()

    async def _pass(self, until: float) -> None:
        left_s = until - asyncio.get_running_loop().time()
        await self._failure.unless(asyncio.sleep(left_s), left_s + ARRIVE_TIMEOUT_S, "the sending")

    async def _settle(self) -> None:
        await self._ledger.deliveries.none_left(ARRIVE_TIMEOUT_S)
        for tab in self._tabs:
            tab.rest()
        await self._ledger.answers.none_left(ARRIVE_TIMEOUT_S)
        await asyncio.sleep(0)  # for what the last turn of the loop wrote

    def _check(self) -> None:
        check_requests(self._task.ports.http, self._wires())
        for wire in self._wires():
            wire.check_against_kernel()
        self._failure.check()

    def _http_senders(self) -> list[HttpSender]:
        return [sender for sender in self._senders if isinstance(sender, HttpSender)]

    def _sending_wires(self) -> list[Wire]:
        return [sender.wire for sender in self._http_senders()]

    def _wires(self) -> list[Wire]:
        return [*(tab.wire for tab in self._tabs), *self._sending_wires()]


def _schedule(users: list[User], period_s: float, until_s: float) -> list[_Due]:
    """In the order of time. In the measured part every user sends once each period."""
    due = [_Due(phase(number) * FIRST_MESSAGES_S, number, f"m{number}-first") for number in range(len(users))]
    due += [
        _Due(at, number, f"m{number}-{turn}")
        for number in range(len(users))
        for turn in range(int(until_s / period_s) + 1)
        if (at := FIRST_MESSAGES_S + (phase(number) + turn) * period_s) < until_s
    ]
    return sorted(due)


def _mean(handshakes: list[Traffic]) -> Handshake:
    sums = Traffic()
    for handshake in handshakes:
        sums = sums.plus(handshake)
    return Handshake(*(part / len(handshakes) for part in sums[:4]))
