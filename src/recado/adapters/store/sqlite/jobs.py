"""Jobs: what the writer thread does with them inside its transaction, and what reading threads see of them.

Of the jobs of one sink in one conversation the first is marked, and the index by when they are due has only the marked
ones: however many wait behind one that fails, looking for work costs what there is to do. Dead letters lie in a table
of their own, so that they are in nobody's way.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

import apsw

from recado.adapters.store.rows import Row, event_of, job_event, job_events_of_erased
from recado.adapters.store.sqlite.statements import SQL, value_of
from recado.chat.event import Event
from recado.ports import Claim, Job, JobCount, JobEvent, JobFilter, JobView, Sink, Wanted

_INSERT_JOB = SQL["insert_job"]
START: Row | None = ("", 0, 0)


class Walked(NamedTuple):
    """So many rows of a walk in their order were `changed`; it goes on past `last`, None if that was all."""

    changed: int
    last: Row | None


# Writes


def insert(db: apsw.Connection, sinks: Sequence[Sink], events: Sequence[tuple[int, Event]]) -> None:
    """The jobs that events cause, each with the key of its conversation."""
    rows = [
        (sink.name, key, event.seq, event.at, event.at + sink.delay_ms)
        for key, event in events
        for sink in sinks
        if sink.wants(event)
    ]
    db.cursor().executemany(_INSERT_JOB, rows)


def end_leases(db: apsw.Connection) -> None:
    """No worker can have outlived the process that had the file before."""
    db.execute(SQL["end_leases"])


def claim(db: apsw.Connection, wanted: Wanted) -> list[Claim]:
    claims: list[Claim] = []
    lanes = 0
    for sink in wanted.sinks:
        for key in _due_lanes(db, sink, wanted, wanted.lanes_max - lanes):
            found = _claim_lane(db, sink, key, wanted)
            claims += found
            lanes += bool(found)
    return claims


def _due_lanes(db: apsw.Connection, sink: str, wanted: Wanted, lanes_max: int) -> list[int]:
    if wanted.only is None:
        return [key for (key,) in db.execute(SQL["due_lanes"], (sink, wanted.now, lanes_max))]
    keys = (_key(db, conversation) for named, conversation in wanted.only if named == sink)
    return [key for key in keys if key is not None][:lanes_max]


def _claim_lane(db: apsw.Connection, sink: str, key: int, wanted: Wanted) -> list[Claim]:
    if value_of(db, "lane_is_taken", sink, key, wanted.now):
        return []
    rows: list[Row] = db.execute(SQL["lane"], (sink, key, wanted.lane_jobs_max)).fetchall()
    due = list(takewhile(lambda row: row[1] <= wanted.now, rows))
    conversation = value_of(db, "conversation_id", key)
    expires_at = wanted.now + wanted.lease_ms
    return [Claim(Job(sink, conversation, seq), value_of(db, "claim", expires_at, sink, key, seq)) for seq, *_ in due]


def extend(db: apsw.Connection, claims: Iterable[Claim], until: int) -> None:
    for each in claims:
        db.execute(SQL["extend_claim"], (until, *_row_of(db, each.job), each.attempt))


def release(db: apsw.Connection, claims: Iterable[Claim]) -> None:
    rows = [(*_row_of(db, each.job), each.attempt) for each in claims]
    db.cursor().executemany(SQL["release_claim"], rows)
    _find_first(db, ((sink, key) for sink, key, *_ in rows))


def settle(db: apsw.Connection, jobs: Iterable[Job]) -> None:
    rows = [_row_of(db, job) for job in jobs]
    db.cursor().executemany(SQL["delete_job"], rows)
    db.cursor().executemany(SQL["delete_dead_letter"], rows)
    _find_first(db, ((sink, key) for sink, key, _ in rows))


def put_off(db: apsw.Connection, claimed: Claim, due_at: int | None, error: str) -> None:
    row = _row_of(db, claimed.job)
    if due_at is not None:
        db.execute(SQL["put_off_job"], (due_at, error, *row, claimed.attempt))
    else:
        db.execute(SQL["bury_job"], (error, *row, claimed.attempt))
        if db.changes():
            db.execute(SQL["delete_job"], row)
    _find_first(db, [row[:2]])


def retry_waiting(db: apsw.Connection, which: JobFilter, at: int, after: Row, rows_max: int) -> Walked:
    rows = _matching(db, "waiting_jobs", which, after, rows_max)
    db.cursor().executemany(SQL["retry_job"], ((at, *row) for row in rows))
    return _walked(rows, rows_max)


def retry_dead(db: apsw.Connection, which: JobFilter, at: int, after: Row, rows_max: int) -> Walked:
    rows = _matching(db, "dead_letters", which, after, rows_max)
    db.cursor().executemany(SQL["revive_dead_letter"], ((at, *row) for row in rows))
    db.cursor().executemany(SQL["delete_dead_letter"], rows)
    lanes = dict.fromkeys((sink, key) for sink, key, _ in rows)
    db.cursor().executemany(SQL["forget_first"], lanes)
    _find_first(db, lanes)
    return _walked(rows, rows_max)


def drop_waiting(db: apsw.Connection, which: JobFilter, after: Row, rows_max: int) -> Walked:
    rows = _matching(db, "waiting_jobs", which, after, rows_max)
    db.cursor().executemany(SQL["delete_job"], rows)
    _find_first(db, ((sink, key) for sink, key, _ in rows))
    return _walked(rows, rows_max)


def drop_dead(db: apsw.Connection, which: JobFilter, after: Row, rows_max: int) -> Walked:
    rows = _matching(db, "dead_letters", which, after, rows_max)
    db.cursor().executemany(SQL["delete_dead_letter"], rows)
    return _walked(rows, rows_max)


def _matching(db: apsw.Connection, statement: str, which: JobFilter, after: Row, rows_max: int) -> list[Row]:
    key = None
    if which.conversation is not None and (key := _key(db, which.conversation)) is None:
        return []
    return db.execute(SQL[statement], (*after, which.sink, key, which.seq, rows_max)).fetchall()


def _walked(rows: Sequence[Row], rows_max: int) -> Walked:
    return Walked(len(rows), rows[-1] if len(rows) == rows_max else None)


def _find_first(db: apsw.Connection, lanes: Iterable[Sequence[object]]) -> None:
    """Each sink's first job in a conversation may be another one now. One that is claimed stays marked."""
    db.cursor().executemany(SQL["make_first"], dict.fromkeys(tuple(lane) for lane in lanes))


def _row_of(db: apsw.Connection, job: Job) -> Row:
    return job.sink, _key(db, job.conversation), job.seq


def _key(db: apsw.Connection, conversation: str) -> int | None:
    key: int | None = value_of(db, "conversation_key", conversation)
    return key


# Reads


def first_due_at(db: apsw.Connection, sinks: Iterable[str]) -> int | None:
    found = [due_at for sink in sinks for (due_at,) in db.execute(SQL["first_due_at"], (sink,)) if due_at is not None]
    return min(found, default=None)


def lane_due_at(db: apsw.Connection, sink: str, conversation: str) -> int | None:
    due_at: int | None = value_of(db, "lane_due_at", sink, conversation)
    return due_at


def events(db: apsw.Connection, conversation: str, first: int, last: int) -> list[JobEvent]:
    rows: list[Row] = db.execute(SQL["log_end"], (conversation,)).fetchall()
    if not rows:
        return []
    key, last_seq, erased_at = rows[0]
    if erased_at is not None:
        return job_events_of_erased(last_seq, erased_at, first, last)
    joined: list[Row] = db.execute(SQL["members_since"], (key,)).fetchall()
    found = db.execute(SQL["events_after"], (key, first - 1, last + 1, last - first + 1))
    return [job_event(event, _members_at(event.seq, joined)) for event in map(event_of, found)]


def _members_at(seq: int, joined: Sequence[Row]) -> frozenset[str]:
    return frozenset(user for user, joined_seq in joined if joined_seq <= seq)


def listed(db: apsw.Connection, which: JobFilter, limit: int) -> list[JobView]:
    found = db.execute(SQL["list_jobs"], (which.sink, which.state, which.conversation, which.seq, limit))
    return [JobView(*row) for row in found]


def counted(db: apsw.Connection) -> list[JobCount]:
    return [JobCount(*row) for row in db.execute(SQL["count_jobs"])]
