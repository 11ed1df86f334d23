"""Hands out what is committed, whichever process did it, in the order of the positions.

What this process commits is handed out at once, with its origin, if no position is missing before it; else what is
missing is read first. The server wakes the process for what others commit (LISTEN), and now and then it looks by
itself: a notification is a hint, and the log the truth. So is it after a connection was lost.

Senders wait while that is read, but not for long: a connection that says nothing is cut, and until another one has
caught up, what this process commits is kept for its turn.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from recado.adapters.store.postgres.batch import CHANNEL, ERASED_NOTICE, JOBS_NOTICE, Batch
from recado.adapters.store.postgres.database import Database, Db, first_line, kept_if_well
from recado.adapters.store.postgres.limits import PostgresLimits
from recado.adapters.store.postgres.log import read_past
from recado.adapters.store.postgres.members import MemberCache
from recado.adapters.store.postgres.statements import SQL
from recado.chat.event import Committed

_log = logging.getLogger(__name__)
_PATIENCE_S = 2.0  # a page is read in milliseconds, and the senders of a batch wait for it


class _Away(OSError):
    """There is no connection."""


class Follower:
    """`on_committed`, `on_erased` and `on_jobs` are the store's. `position` is of the last event that was handed
    out."""

    def __init__(
        self,
        database: Database,
        limits: PostgresLimits,
        cache: MemberCache,
        on_committed: Callable[[Sequence[Committed]], None],
        on_erased: Callable[[], None],
        on_jobs: Callable[[], None],
    ) -> None:
        self.position = 0
        self.own_pid = 0
        """Of the connection that writes: its notifications are no news."""
        self._database = database
        self._limits = limits
        self._cache = cache
        self._on_committed = on_committed
        self._on_erased = on_erased
        self._on_jobs = on_jobs
        self._db: Db | None = None
        self._expected: int | None = None
        self._is_behind = False
        self._is_failing = False
        """What others have committed could not be read, and has not been since."""
        self._own: dict[int, Committed] = {}
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self) -> None:
        """What is committed from now on is handed out. Raises one of FAILURES."""
        db = await self._connect()
        self.position = await db.fetchval(SQL["log_end"])
        self._task = asyncio.create_task(self._run())

    async def _connect(self) -> Db:
        db = await self._database.connect()
        with kept_if_well(db):
            await db.add_listener(CHANNEL, self._on_notification)
        db.add_termination_listener(lambda _: self._wake.set())
        self._db = db
        return db

    def wake(self) -> None:
        """There may be something to read."""
        self._wake.set()

    def _on_notification(self, _: object, pid: int, __: str, payload: object) -> None:
        if pid == self.own_pid:
            return
        if payload == ERASED_NOTICE:
            self._call(self._on_erased)
        elif payload == JOBS_NOTICE:
            self._call(self._on_jobs)
        else:
            self._wake.set()

    def expect(self, position: int | None) -> None:
        """This process is about to commit what begins there, and will hand it out itself; None: it is not, or has."""
        self._expected = position
        if position is None and self._is_behind:
            self._is_behind = False
            self._wake.set()

    async def hand_out_own(self, batch: Batch) -> None:
        """Hand out what is committed now. Returns when that is done, or if it must wait for a connection."""
        if batch.committed:
            await self._hand_out_in_turn(batch.committed)
        if batch.has_erased:
            self._call(self._on_erased)
        if batch.has_freed_jobs:
            self._call(self._on_jobs)

    async def _hand_out_in_turn(self, own: Sequence[Committed]) -> None:
        if self._is_failing and own[0].position > self.position + 1:
            self._keep(own)
            return
        cut = asyncio.get_running_loop().call_later(_PATIENCE_S, self._cut)
        try:
            async with self._turn:
                await self._hand_out_in_order(own)
        finally:
            cut.cancel()

    async def _hand_out_in_order(self, own: Sequence[Committed]) -> None:
        first = own[0].position
        if first > self.position + 1:
            try:
                await self._read_up_to(first - 1)
            except Exception as error:  # whatever it is, what was committed is committed
                self._failed(error)
                self._keep(own)
                return
        self._hand_out(own)
        self.expect(None)

    def _keep(self, own: Sequence[Committed]) -> None:
        """Until what is before it has been read."""
        self._own.update((entry.position, entry) for entry in own[: self._limits.follow_own_max - len(self._own)])
        self.expect(None)
        self._wake.set()

    async def _read_up_to(self, last: int | None) -> None:
        """Hand out everything past the position, up to another if that is given."""
        limit = self._limits.follow_page
        while last is None or self.position < last:
            if self._db is None or self._db.is_closed():
                raise _Away("there is no connection")
            entries = await read_past(self._db, self._cache, self.position, last, limit)
            others = self._before_own(entries)
            if others:
                self._hand_out([self._own.pop(entry.position, entry) for entry in others])
            if len(others) < limit:
                break
        if last is not None:
            self.position = last  # what is not there was erased meanwhile

    def _before_own(self, entries: Sequence[Committed]) -> Sequence[Committed]:
        """What this process is just committing may be there to be read before it knows: it hands that out itself, and
        the rest is read then."""
        if self._expected is None or not entries or entries[-1].position < self._expected:
            return entries
        self._is_behind = True
        return [entry for entry in entries if entry.position < (self._expected or 0)]

    def _hand_out(self, committed: Sequence[Committed]) -> None:
        self.position = committed[-1].position
        try:
            self._on_committed(committed)
        except Exception:  # it is on disk, whatever became of telling others: the senders must know
            _log.exception("committed events could not be handed out")

    async def _run(self) -> None:
        while not self._closing:  # a cancellation can be lost in a connection that fails at the same moment
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._limits.follow_interval_ms / 1000)
            self._wake.clear()
            try:
                await self._catch_up()
            except Exception as error:  # whatever it is, the next try may go well
                self._failed(error)
                await asyncio.sleep(self._limits.reconnect_interval_ms / 1000)
                self._wake.set()

    async def _catch_up(self) -> None:
        if self._db is None or self._db.is_closed():
            await self._connect()
            self._call(self._on_erased)  # what was notified meanwhile is not told again
            self._call(self._on_jobs)
        async with self._turn:
            await self._read_up_to(None)
            self._is_failing = False

    def _failed(self, error: Exception) -> None:
        """It is said once, until it goes well again."""
        if not self._is_failing:
            _log.warning("what others have committed cannot be read now: %s", first_line(error))
        self._is_failing = True
        self._cut()

    def _cut(self) -> None:
        if self._db is not None:
            self._db.terminate()

    def _call(self, told: Callable[[], None]) -> None:
        try:
            told()
        except Exception:  # whoever is told: following goes on
            _log.exception("what is behind the commit could not be told of it")

    async def close(self) -> None:
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._cut()
