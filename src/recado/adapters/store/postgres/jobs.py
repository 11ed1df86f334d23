"""Jobs: what is asked of them, each in a transaction of its own beside the batches.

The jobs of one sink in one conversation are a lane, and its first job is the head. Who claims locks heads, skips those
that others have locked unless a queue has named them, locks their lanes, and then looks at these again: whoever claimed
there before has committed by then, so two processes never share a lane. Nothing here makes a batch wait.

Behind a head that is not due, any number of jobs may be due. Where they are many they are parked, each once: looking
for work costs what there is to do. Jobs are parked behind a head that is locked, and who removes jobs unparks the head
that is left once that is committed: the last one to commit sees what all have left, so no head stays parked. Should it
die in between, the next look that finds nothing else unparks the head.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from asyncpg import Record

from recado.adapters.store.postgres.batch import CHANNEL, JOBS_NOTICE
from recado.adapters.store.postgres.database import Db, columns, rows_changed
from recado.adapters.store.postgres.statements import SQL
from recado.adapters.store.rows import event_of, job_event, job_events_of_erased
from recado.ports import Claim, Job, JobCount, JobEvent, JobFilter, JobView, Wanted

_START = ("", 0, 0)
_PARKED_AT_ONCE = 20_000  # a large backlog is out of the way after a few statements, of which none takes long
_LOOKS_PER_LEASE = 3  # a lease that is handed out has most of its time before it


# For workers


async def claim(db: Db, wanted: Wanted, looked_at: int) -> list[Claim]:
    """Heads are sought among so many due jobs; if there are more, those of them that are none are parked."""
    claims: list[Claim] = []
    lanes_max = wanted.lanes_max
    for sink in wanted.sinks:
        if lanes_max:
            found = await _claim_of_sink(db, sink, wanted, lanes_max, max(looked_at, lanes_max))
            lanes_max -= len({each.job.conversation for each in found})
            claims += found
    return claims


async def _claim_of_sink(db: Db, sink: str, wanted: Wanted, lanes_max: int, looked_at: int) -> list[Claim]:
    if wanted.only is not None:
        named = [conversation for of, conversation in wanted.only if of == sink]
        async with db.transaction():
            heads = await db.fetch(SQL["lock_named_heads"], sink, named, wanted.now, lanes_max)
            return await _claim_lanes(db, sink, wanted, heads)
    loop = asyncio.get_running_loop()
    end = loop.time() + wanted.lease_ms / 1000 / _LOOKS_PER_LEASE
    while True:
        async with db.transaction():
            heads = await db.fetch(SQL["lock_due_heads"], sink, wanted.now, looked_at, lanes_max)
            claims = await _claim_lanes(db, sink, wanted, heads)
        if claims or not await _clear_the_way(db, sink, wanted.now, looked_at):
            return claims
        if loop.time() > end:
            await _tell(db)  # what is left of the lease is too little: whoever looks next begins another
            return []


async def _clear_the_way(db: Db, sink: str, now: int, looked_at: int) -> bool:
    """Whether there may be heads now that were not found before."""
    parked = rows_changed(await db.execute(SQL["park_blocked"], sink, now, looked_at, _PARKED_AT_ONCE))
    return parked > 0 or await _unpark_stranded(db, [sink])


async def _claim_lanes(db: Db, sink: str, wanted: Wanted, heads: Sequence[Record]) -> list[Claim]:
    if not heads:
        return []
    keys, seqs = columns(heads, 2)
    locked = columns(await db.fetch(SQL["lock_lanes"], sink, keys, seqs), 2)
    expires_at = wanted.now + wanted.lease_ms
    rows = await db.fetch(SQL["claim_lanes"], sink, *locked, wanted.now, wanted.lane_jobs_max, expires_at)
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
    await _unpark(db, await db.fetch(SQL["settle_jobs"], *columns(jobs, 3)))


async def put_off(db: Db, claimed: Claim, due_at: int | None, error: str) -> None:
    row = (*claimed.job, claimed.attempt)
    if due_at is not None:
        await db.execute(SQL["put_off_job"], *row, due_at, error)
    else:
        await _unpark(db, await db.fetch(SQL["bury_job"], *row, error))


async def next_at(db: Db, sinks: Sequence[str]) -> int | None:
    await _unpark_stranded(db, sinks)
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
        return job_events_of_erased(last_seq, erased_at, first, last)
    return [job_event(event_of(row[3:]), frozenset(row[2])) for row in rows if row[3] is not None]


# For queues


async def unqueued(db: Db, sinks: Sequence[str], now: int, limit: int) -> list[Job]:
    return [Job(*row) for row in await db.fetch(SQL["unqueued_jobs"], sinks, now, limit)]


async def queued_before(
    db: Db, sinks: Sequence[str], now: int, before: int, after: Job | None, limit: int
) -> list[Job]:
    place = ("", "", 0) if after is None else (after.sink, after.conversation, after.seq)  # no sink's name is empty
    return [Job(*row) for row in await db.fetch(SQL["jobs_queued_before"], sinks, now, before, *place, limit)]


async def note_queued(db: Db, jobs: Sequence[Job], at: int) -> None:
    """Not waiting for the disk: a worker waits for this, and what a crash forgets of it is only told again."""
    async with db.transaction():
        await db.execute("SET LOCAL synchronous_commit TO off")
        await db.execute(SQL["note_queued"], *columns(jobs, 3), at)


# For operators


async def listed(db: Db, which: JobFilter, limit: int) -> list[JobView]:
    rows = await db.fetch(SQL["list_jobs"], which.sink, which.state, which.conversation, which.seq, limit)
    return [JobView(*row) for row in rows]


async def counted(db: Db) -> list[JobCount]:
    return [JobCount(*row) for row in await db.fetch(SQL["count_jobs"])]


async def retry(db: Db, which: JobFilter, rows_max: int, at: int) -> int:
    return await _walk(db, {"waiting": "retry_waiting", "dead": "retry_dead"}, which, rows_max, at)


async def drop(db: Db, which: JobFilter, rows_max: int) -> int:
    return await _walk(db, {"waiting": "drop_waiting", "dead": "drop_dead"}, which, rows_max)


async def _walk(db: Db, statements: dict[str, str], which: JobFilter, rows_max: int, *more: int) -> int:
    """So many rows at a time: nobody else waits for long."""
    count = 0
    for state, statement in statements.items():
        last: tuple[Any, ...] | None = _START if which.state in (None, state) else None
        while last is not None:
            rows = await db.fetch(SQL[statement], *last, which.sink, which.conversation, which.seq, rows_max, *more)
            await _unpark(db, rows)
            await _tell(db)
            count += len(rows)
            last = max(map(tuple, rows)) if len(rows) == rows_max else None
    return count


async def _unpark(db: Db, removed: Collection[Record]) -> bool:
    """Heads of these rows' lanes may have gone. Call it when that is committed; returns whether it changed anything."""
    lanes = {(sink, key) for sink, key, *_ in removed}
    return bool(lanes) and rows_changed(await db.execute(SQL["unpark_heads"], *columns(lanes, 2))) > 0


async def _unpark_stranded(db: Db, sinks: Sequence[str]) -> bool:
    """What was left by who died before it could unpark a head. Returns whether there was anything."""
    return await _unpark(db, await db.fetch(SQL["stranded_lanes"], sinks))


async def _tell(db: Db) -> None:
    """Every process, this one too, once it is committed: there may be jobs to claim."""
    await db.execute("SELECT pg_notify($1, $2)", CHANNEL, JOBS_NOTICE)


def _columns_of_claims(claims: Sequence[Claim]) -> list[tuple[Any, ...]]:
    return columns([(*each.job, each.attempt) for each in claims], 4)
