"""What goes wrong in a round: the server is killed, stopped for a while, its disk is full, its database is held up.

The plan comes from the seed alone. A full disk is a limit to the size of the server's files (RLIMIT_FSIZE), so that a
write fails that would make one longer; a slow store is a write lock on the database that somebody else holds.
"""

from __future__ import annotations

import os
import random
import resource
import signal
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

import apsw

from tests.crash.phases import Actor, Phases
from tests.support.server import Server

What = Literal["kill", "full_disk", "slow_store", "pause"]
ORDINARY: tuple[What, ...] = ("kill", "kill", "kill", "full_disk", "slow_store", "pause")
EVERY: tuple[What, ...] = ("kill", "full_disk", "slow_store", "pause")


class Disturbance(NamedTuple):
    """`after_s` of quiet, then `what` for `for_s`: of a kill, how long the server is away. `kills`: it is killed in the
    middle of it as well."""

    after_s: float
    what: What
    for_s: float
    kills: bool = False


def plan(seed: str, seconds: float) -> list[Disturbance]:
    """Enough for so many seconds; one of each first, in an order of the seed's, as far as there is time."""
    source = random.Random(seed)
    first = list(EVERY)
    source.shuffle(first)
    planned: list[Disturbance] = []
    left_s = seconds
    while True:
        what = first.pop() if first else source.choice(ORDINARY)
        for_s = source.uniform(0.0, 0.8) if what == "kill" else source.uniform(0.1, 1.8)
        kills = what != "kill" and source.random() < 0.3
        each = Disturbance(source.uniform(0.2, 1.6), what, for_s, kills)
        left_s -= each.after_s + each.for_s
        if left_s < 0:
            return planned
        planned.append(each)


class Disturber(Actor):
    """A thread that carries a plan out. When it has ended, the server runs and nothing is in its way."""

    def __init__(self, server: Server, database: Path, planned: list[Disturbance], seed: str, phases: Phases) -> None:
        super().__init__("disturber", seed, phases)
        self.done: Counter[str] = Counter()
        self._server = server
        self._database = database
        self._planned = planned

    def _act(self) -> None:
        for each in self._planned:
            self._wait(each.after_s)
            if self._phases.over.is_set():
                return
            self.done[each.what] += 1
            getattr(self, f"_{each.what}")(each)

    def _kill(self, each: Disturbance) -> None:
        self._server.kill()
        self._wait(each.for_s)
        self._server.start()

    def _full_disk(self, each: Disturbance) -> None:
        """As full as it is now, or with a little room; some of what is written still fits into files that are there."""
        pid = self._server.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        log = self._database.with_name(self._database.name + "-wal")
        room = self._random.choice((0, 20_000))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size + room, hard))
        self._wait(each.for_s)
        if each.kills:
            self._count_and_kill()
            self._server.start()
        else:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    def _slow_store(self, each: Disturbance) -> None:
        holder = apsw.Connection(str(self._database))
        try:
            # The last one that closes a database would tidy up after a killed server, which no crash does.
            holder.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            holder.set_busy_timeout(10_000)
            holder.execute("BEGIN IMMEDIATE")
            self._wait(each.for_s)
            if each.kills:
                self._count_and_kill()
            holder.execute("ROLLBACK")
        finally:
            holder.close()
        if each.kills:
            self._server.start()

    def _pause(self, each: Disturbance) -> None:
        os.kill(self._server.pid, signal.SIGSTOP)
        self._wait(each.for_s)
        if each.kills:
            self._count_and_kill()
            self._server.start()
        else:
            os.kill(self._server.pid, signal.SIGCONT)

    def _count_and_kill(self) -> None:
        self.done["kill"] += 1
        self._server.kill()
