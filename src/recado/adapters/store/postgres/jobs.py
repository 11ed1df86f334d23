"""Jobs: what is asked of them, each in a transaction of its own beside the batches.

The jobs of one sink in one conversation are a lane, and its first job is the head. Who claims locks heads first, skips
those that others have locked unless a queue has named them, and then looks at the lanes again: whoever was there before
has committed by then, so two processes never share a lane. Nothing here makes a batch wait: a batch only adds rows.

Behind a head that is not due, any number of jobs may be due. Where they are many they are parked, each once: looking
for work costs what there is to do.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeAlias

from asyncpg import Connection, Record

from recado.adapters.store.postgres.batch import CHANNEL, JOBS_NOTICE
from recado.adapters.store.postgres.statements import SQL
from recado.adapters.store.rows import event_of
from recado.chat.event import CONVERSATION_ERASED, MEMBER_REMOVED, Event
from recado.ports import Claim, Job, JobCount, JobEvent, JobFilter, JobView, Wanted

Db: TypeAlias = "Connection[Record]"
_LOOKED_AT = 500  # due jobs among which heads are sought; if there are more, those that are none are parked
_CHUNK = 1_000  # jobs that one transaction retries or drops
_START = ("", 0, 0)


# For workers


async def claim(db: Db, wanted: Wanted) -> list[Claim]:
    claims: list[Claim] = []
    lanes_max = wanted.lanes_max
    for sink in wanted.sinks:
        if lanes_max:
            found = await _claim_of_sink(db, sink, wanted, lanes_max)
            lanes_max -= len({each.job.conversation for each in found})
            claims += found
    return claims


async def _claim_of_sink(db: Db, sink: str, wanted: Wanted, lanes_max: int) -> list[Claim]:
    if wanted.only is not None:
        named = [conversation for of, conversation in wanted.only if of == sink]
        async with db.transaction():
            heads = await db.fetch(SQL["lock_named_heads"], sink, named, wanted.now, lanes_max)
            return await _claim_lanes(db, sink, wanted, heads)
    looked_at = max(_LOOKED_AT, lanes_max)
    while True:
        async with db.transaction():
            heads = await db.fetch(SQL["lock_due_heads"], sink, wanted.now, looked_at, lanes_max)
            claims = await _claim_lanes(db, sink, wanted, heads)
        if claims or not await _changed(db, "park_blocked", sink, wanted.now, looked_at):
            return claims


async def _claim_lanes(db: Db, sink: str, wanted: Wanted, heads: Sequence[Record]) -> list[Claim]:
    if not heads:
        return []
    keys, seqs = _columns(heads, 2)
    expires_at = wanted.now + wanted.lease_ms
    rows = await db.fetch(SQL["claim_lanes"], sink, keys, seqs, wanted.now, wanted.lane_jobs_max, expires_at)
    place = {key: place for place, key in enumerate(keys)}
    in_order = sorted(rows, key=lambda row: (place[row[0]], row[1]))
    return [Claim(Job(sink, conversation, seq), attempt) for _, seq, conversation, attempt in in_order]


async def extend(db: Db, claims: Sequence[Claim], until: int) -> None:
    await db.execute(SQL["extend_claims"], *_columns_of_claims(claims), until)


async def release(db: Db, claims: Sequence[Claim]) -> None:
    async with db.transaction():
        await db.execute(SQL["release_claims"], *_columns_of_claims(claims))
        await _tell(db)


async def settle(db: Db, jobs: Sequence[Job]) -> None:
    async with db.transaction():
        await _unpark(db, await db.fetch(SQL["settle_jobs"], *_columns(jobs, 3)))


async def put_off(db: Db, claimed: Claim, due_at: int | None, error: str) -> None:
    row = (*claimed.job, claimed.attempt)
    if due_at is not None:
        await db.execute(SQL["put_off_job"], *row, due_at, error)
        return
    async with db.transaction():
        await _unpark(db, await db.fetch(SQL["bury_job"], *row, error))


async def next_at(db: Db, sinks: Sequence[str]) -> int | None:
    found: int | None = await db.fetchval(SQL["next_job_at"], sinks)
    return found


async def lane_due_at(db: Db, sink: str, conversation: str) -> int | None:
    due_at: int | None = await db.fetchval(SQL["lane_due_at"], sink, conversation)
    return due_at


async def events(db: Db, conversation: str, first: int, last: int) -> list[JobEvent]:
    rows = [tuple(row) for row in await db.fetch(SQL["job_events"], conversation, first, last)]
    if not rows:
        return []
    last_seq, erased_at = rows[0][:2]
    if erased_at is not None:
        ending = Event(last_seq + 1, None, erased_at, type=CONVERSATION_ERASED)
        return [JobEvent(ending, frozenset())] if first <= ending.seq <= last else []
    return [_job_event(row[2], event_of(row[3:])) for row in rows if row[3] is not None]


def _job_event(users: Sequence[str], event: Event) -> JobEvent:
    members = frozenset(users)
    if event.type == MEMBER_REMOVED and event.user is not None:
        members |= {event.user}
    return JobEvent(event, members)


# For queues


async def unqueued(db: Db, sinks: Sequence[str], now: int, queued_before: int, limit: int) -> list[Job]:
    return [Job(*row) for row in await db.fetch(SQL["unqueued_jobs"], sinks, now, queued_before, limit)]


async def note_queued(db: Db, jobs: Sequence[Job], at: int) -> None:
    """Not waiting for the disk: a worker waits for this, and what a crash forgets of it is only told again."""
    async with db.transaction():
        await db.execute("SET LOCAL synchronous_commit TO off")
        await db.execute(SQL["note_queued"], *_columns(jobs, 3), at)


# For operators


async def listed(db: Db, which: JobFilter, limit: int) -> list[JobView]:
    rows = await db.fetch(SQL["list_jobs"], which.sink, which.state, which.conversation, which.seq, limit)
    return [JobView(*row) for row in rows]


async def counted(db: Db) -> list[JobCount]:
    return [JobCount(*row) for row in await db.fetch(SQL["count_jobs"])]


async def retry(db: Db, which: JobFilter, at: int) -> int:
    return await _walk(db, {"waiting": "retry_waiting", "dead": "retry_dead"}, which, at)


async def drop(db: Db, which: JobFilter) -> int:
    return await _walk(db, {"waiting": "drop_waiting", "dead": "drop_dead"}, which)


async def _walk(db: Db, statements: dict[str, str], which: JobFilter, *more: int) -> int:
    """Chunk by chunk: nobody else waits for long."""
    count = 0
    for state, statement in statements.items():
        last: tuple[Any, ...] | None = _START if which.state in (None, state) else None
        while last is not None:
            async with db.transaction():
                rows = await db.fetch(SQL[statement], *last, which.sink, which.conversation, which.seq, _CHUNK, *more)
                await _unpark(db, rows)
                await _tell(db)
            count += len(rows)
            last = max(map(tuple, rows)) if len(rows) == _CHUNK else None
    return count


async def _unpark(db: Db, rows: Iterable[Iterable[Any]]) -> None:
    """Heads of these rows' lanes may have gone."""
    lanes = {(sink, key) for sink, key, *_ in rows}
    if lanes:
        await db.execute(SQL["unpark_heads"], *_columns(lanes, 2))


async def _tell(db: Db) -> None:
    """Every process, this one too, once it is committed: there may be jobs to claim."""
    await db.execute("SELECT pg_notify($1, $2)", CHANNEL, JOBS_NOTICE)


async def _changed(db: Db, statement: str, *parameters: Any) -> bool:
    status: str = await db.execute(SQL[statement], *parameters)
    return not status.endswith(" 0")


def _columns(rows: Collection[Iterable[Any]], width: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _columns_of_claims(claims: Sequence[Claim]) -> list[tuple[Any, ...]]:
    return _columns([(*each.job, each.attempt) for each in claims], 4)
