"""One connection that writes and commits in groups: what was asked for while the last commit ran shares the next one.

When a commit is over and handed out, its writes are told, in order: so nothing is told before it is on disk. A write
that raises a refusal has changed nothing and ends with it. A write that the database chokes on fails alone. A server
that is away, or has no room, fails its whole batch and all that was asked for up to then: else the second of two writes
could be kept and the first not, and who tries the first again would have turned their order. A connection that is lost
while a commit is under way leaves open whether it was: its writes fail, and if it was, it is handed out as another
process's would be.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import asyncpg

from recado.adapters.store.admission import Told
from recado.adapters.store.postgres.batch import Batch, Write
from recado.adapters.store.postgres.database import FAILURES, Database, Db, first_line
from recado.adapters.store.postgres.following import Follower
from recado.adapters.store.postgres.limits import PostgresLimits
from recado.adapters.store.postgres.members import MemberCache
from recado.chat.errors import ChatError, Unavailable
from recado.ports import Sink

_log = logging.getLogger(__name__)
_CLOSE_S = 2.0
_OF_THE_SERVER = (  # each write of a batch would meet the same
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidTransactionStateError,
    OSError,
    TimeoutError,
)


class Asked(NamedTuple):
    write: Write[Any]
    told: Told


class _Outcome(NamedTuple):
    told: Told
    result: Any
    error: Exception | None


class GroupCommit:
    def __init__(
        self, database: Database, limits: PostgresLimits, sinks: Sequence[Sink], cache: MemberCache, follower: Follower
    ) -> None:
        self._database = database
        self._limits = limits
        self._sinks = sinks
        self._cache = cache
        self._follower = follower
        self._db: Db | None = None
        self._asked: deque[Asked] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether a write would be tried now."""
        return self._db is not None and not self._db.is_closed()

    async def start(self) -> None:
        """Raises one of FAILURES."""
        await self._connect()
        self._task = asyncio.create_task(self._run())

    async def _connect(self) -> None:
        self._db = await self._database.connect()
        self._db.add_termination_listener(lambda _: self._wake.set())
        self._follower.own_pid = self._db.get_server_pid()

    def check_up(self) -> None:
        """Raises Unavailable if the server is away."""
        if not self.is_up:
            raise Unavailable("the store cannot write now; try again")

    def put(self, write: Write[Any], told: Told) -> None:
        """`check_up` comes first: what is put while the server is away waits until it is seen to be."""
        self._asked.append(Asked(write, told))
        self._wake.set()

    async def settled(self) -> None:
        """Everything that was put before is told."""
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.is_up:
            self.put(Write(_nothing), lambda *_: None if settled.done() else settled.set_result(None))
            await settled

    async def close(self) -> None:
        """Commit and tell what was put, then let go of the connection."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._db is not None:
            await close_connection(self._db)

    async def _run(self) -> None:
        while not self._closing or self._asked:
            if not await self._woken(self._limits.follow_interval_ms) and self.is_up:
                self.put(Write(_nothing), lambda *_: None)  # is it still there?
            while self._asked and self.is_up:
                await self._commit(self._next_batch())
            if not self.is_up:
                self._fail(())
                await self._reconnect()

    async def _woken(self, within_ms: int) -> bool:
        """Wait for something to do."""
        if not self._wake.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), within_ms / 1000)
        is_woken = self._wake.is_set()
        self._wake.clear()
        return is_woken

    async def _reconnect(self) -> None:
        is_known = False
        while not self._closing:
            try:
                await self._connect()
            except Exception as error:  # whatever it is, the next try may go well
                if not is_known:
                    _log.warning("%s is away: %s", self._database.name, first_line(error))
                is_known = True
                await self._woken(self._limits.reconnect_interval_ms)
            else:
                self._follower.wake()  # a commit may have been under way
                _log.info("%s is back", self._database.name)
                return

    def _next_batch(self) -> list[Asked]:
        batch: list[Asked] = []
        weight = 0
        while self._asked and weight < self._limits.batch_writes_max:
            asked = self._asked.popleft()
            batch.append(asked)
            weight += asked.write.weight
            if asked.write.ends_batch:
                break
        return batch

    async def _commit(self, asked: Sequence[Asked]) -> None:
        """Run the writes in one transaction. If that fails, nothing of it stays."""
        db = self._db
        assert db is not None, "nothing is committed without a connection"
        batch = Batch(db, self._sinks, self._cache)
        try:
            outcomes = await self._transaction(batch, asked)
        except Exception as error:
            self._follower.expect(None)
            is_over = isinstance(error, _OF_THE_SERVER) or not await self._rolled_back(db)
            if not is_over and len(asked) > 1:
                await self._commit_in_parts(asked)
                return
            name = type(error).__name__
            _log.error("%s: the store could not commit: %s: %s", self._database.name, name, first_line(error))
            if is_over:
                db.terminate()
                self._fail(asked)
            else:
                _tell([_Outcome(each.told, None, error) for each in asked])
            return
        batch.remember()
        await self._follower.hand_out_own(batch)
        _tell(outcomes)

    async def _transaction(self, batch: Batch, asked: Sequence[Asked]) -> list[_Outcome]:
        await batch.db.execute("BEGIN")
        await batch.lock([each.write for each in asked])
        outcomes = [await _outcome(batch, each) for each in asked]
        await batch.finish()
        if batch.committed:
            self._follower.expect(batch.committed[0].position)
        await batch.db.execute("COMMIT")
        return outcomes

    async def _rolled_back(self, db: Db) -> bool:
        try:
            await db.execute("ROLLBACK")
        except FAILURES:
            return False
        return True

    async def _commit_in_parts(self, asked: Sequence[Asked]) -> None:
        """So that one write that the database chokes on fails no neighbour."""
        middle = len(asked) // 2
        for part in (asked[:middle], asked[middle:]):
            if self.is_up:
                await self._commit(part)
            else:
                self._fail(part)

    def _fail(self, asked: Sequence[Asked]) -> None:
        """These, and all that wait."""
        failed = [*asked, *self._asked]
        self._asked.clear()
        error = Unavailable("the store cannot write now; try again")
        _tell([_Outcome(each.told, None, error) for each in failed])


async def _nothing(_: Batch) -> None:
    pass


async def _outcome(batch: Batch, asked: Asked) -> _Outcome:
    try:
        return _Outcome(asked.told, await asked.write.run(batch), None)
    except ChatError as refusal:
        return _Outcome(asked.told, None, refusal)


def _tell(outcomes: Sequence[_Outcome]) -> None:
    for told, result, error in outcomes:
        try:
            told(result, error)
        except Exception:  # the others must be told whatever one of them does with it
            _log.exception("the end of a write could not be told")


async def close_connection(db: Db) -> None:
    """In good order if the server still answers."""
    try:
        await db.close(timeout=_CLOSE_S)
    except FAILURES:
        db.terminate()
