"""The store's face on the event loop.

Writes go to one thread, which commits whatever has arrived while its last commit ran: one fsync for all of them. When
a commit is done, one call on the loop hands out the events and settles the writes, so nothing is acknowledged or
delivered before it is on disk. Reads run on a few threads, which users share by turns, and see every write that was
acknowledged.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from recado.adapters.store.admission import Admission, Told
from recado.adapters.store.job_notices import JobNotices
from recado.adapters.store.pages import unknown_position
from recado.adapters.store.rows import Row
from recado.adapters.store.sqlite import files, jobs, people
from recado.adapters.store.sqlite.erasing import Erasing
from recado.adapters.store.sqlite.group_commit import GroupCommit, Outcome
from recado.adapters.store.sqlite.jobs import Walked
from recado.adapters.store.sqlite.limits import SqliteLimits
from recado.adapters.store.sqlite.reader import Reader
from recado.adapters.store.sqlite.truncation import Truncation
from recado.adapters.store.sqlite.writer import Writer
from recado.chat.conversation import ConversationView
from recado.chat.errors import ChatError, Unavailable
from recado.chat.event import Committed
from recado.ports import (
    Changed,
    Circle,
    Claim,
    ConversationPage,
    Delivered,
    DeliveredMark,
    EventPage,
    FeedPage,
    Job,
    JobCount,
    JobEvent,
    JobFilter,
    JobView,
    Membership,
    MessageChange,
    NewConversation,
    NewMessage,
    PushSubscription,
    PushTarget,
    ReadMark,
    Receipt,
    Sent,
    Sink,
    Wanted,
)

_log = logging.getLogger(__name__)
T = TypeVar("T")
_Step = Callable[..., Walked]  # of a walk over jobs: (db, after, rows_max)


class SqliteStore:
    """One SQLite file as a `recado.ports.Store`. Make it with `open`, inside the running event loop."""

    def __init__(self, path: Path, limits: SqliteLimits, sinks: Sequence[Sink] = ()) -> None:
        self.on_committed: Callable[[Sequence[Committed]], None] = lambda committed: None
        self.on_erased: Callable[[], None] = lambda: None
        self.on_jobs: Callable[[], None] = lambda: None
        self._path = path
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._lock = files.lock(path)
        try:
            self._db = files.open_writer(path, files.CONVERSATIONS, limits.write_cache_bytes_max)
        except BaseException:
            self._lock.close()
            raise
        self._admission = Admission(limits, limits.reader_threads)
        self._closed = False
        self._readers = threading.local()
        self._reader_connections: list[apsw.Connection] = []
        self._reads = ThreadPoolExecutor(limits.reader_threads, "recado-read")
        self._truncation = Truncation(path, limits.wal_truncate_interval_ms / 1000)
        self._erasing = Erasing(
            self._write, self._read, limits.erase_rows_max, self._truncation.soon, lambda: self.on_erased()
        )
        jobs.end_leases(self._db)
        self._job_notices = JobNotices(sinks, lambda: self.on_jobs())
        writer = Writer(self._db, limits.logs_in_memory_max, sinks)
        self._position = writer.position
        self._writes: GroupCommit[Writer, Told] = GroupCommit(
            writer,
            limits.batch_writes_max,
            self._settle,
            (ChatError,),
            name=str(path),
        )

    @classmethod
    def open(cls, path: Path, limits: SqliteLimits, sinks: Sequence[Sink] = ()) -> "SqliteStore":
        """Jobs are written for `sinks`. Raises files.DatabaseUnusable, or DatabaseInUse if another process holds the
        file."""
        return cls(path, limits, sinks)

    # Writes

    def append_message(self, message: NewMessage) -> Awaitable[Sent]:
        return self._write(lambda writer: writer.append_message(message), sender=message.sender)

    async def put_conversation(self, new: NewConversation) -> tuple[ConversationView, bool]:
        created: bool = await self._write(lambda writer: writer.put_conversation(new))
        return await self.conversation(new.id, None), created

    async def put_member(self, conversation: str, user: str, by: str | None, at: int, members_max: int) -> bool:
        return await self._write(lambda writer: writer.put_member(conversation, user, by, at, members_max))

    async def remove_member(self, conversation: str, user: str, by: str | None, at: int) -> bool:
        return await self._write(lambda writer: writer.remove_member(conversation, user, by, at))

    async def mark_read(self, conversation: str, user: str, seq: int) -> ReadMark:
        return await self._write(lambda writer: writer.mark_read(conversation, user, seq))

    async def change_message(self, change: MessageChange) -> Changed:
        changed = await self._write(lambda writer: writer.change_message(change), sender=change.by)
        if changed.changed:
            self._truncation.soon()
        return changed

    async def erase_conversation(self, conversation: str, at: int) -> None:
        await self._erasing.conversation(conversation, at)

    async def erase_user(self, user: str, at: int) -> None:
        await self._erasing.user(user, at)

    async def finish_erasures(self, at: int) -> None:
        await self._erasing.finish(at)

    async def erase_older(self, than: int) -> None:
        await self._erasing.older(than)

    async def mark_delivered(self, marks: Sequence[DeliveredMark], members_max: int) -> list[Delivered]:
        return await self._write(lambda writer: writer.mark_delivered(marks, members_max), len(marks))

    def _write(self, run: Callable[[Writer], T], weight: int = 1, sender: str | None = None) -> "asyncio.Future[T]":
        future, told = self._admission.write(sender)
        self._writes.put(run, told, weight)
        return future

    def run(
        self, work: Callable[[apsw.Connection], T], told: Callable[[T | None, Exception | None], None], weight: int = 1
    ) -> None:
        """Do `work` on the database in the batch of the writes asked for now, in its place among them; `told` hears on
        the event loop how it ended, once that is durable. It weighs as much as so many writes. Whoever asks bounds how
        much of it waits."""
        self._writes.put(lambda writer: work(writer.db), told, weight)

    def _settle(self, committed: list[Committed] | None, outcomes: list[Outcome[Told]]) -> None:
        try:
            if committed:
                self._position = committed[-1].position
                self._job_notices.committed(committed)
                self.on_committed(committed)
        except Exception:  # it is on disk, whatever became of telling others: the senders must know
            _log.exception("committed events could not be handed out")
        for told, result, error in outcomes:
            try:
                told(result, error)
            except Exception:  # the others must be told whatever one of them does with it
                _log.exception("the end of a write could not be told")

    # People: writes, then reads

    async def put_user(self, user: str, name: str | None) -> None:
        await self._write(lambda writer: people.put_user(writer.db, user, name))

    async def set_muted(self, conversation: str, user: str, muted: bool) -> bool:
        return await self._write(lambda writer: people.set_muted(writer.db, conversation, user, muted))

    async def note_page(self, user: str, page: str, visible: bool | None, at: int, until: int, pages_max: int) -> None:
        await self._write(lambda writer: people.note_page(writer.db, user, page, visible, at, until, pages_max))

    async def put_push_subscription(self, user: str, subscription: PushSubscription, at: int, most: int) -> bool:
        return await self._write(lambda writer: people.put_push_subscription(writer.db, user, subscription, at, most))

    async def delete_push_subscription(self, user: str | None, endpoint: str) -> None:
        await self._write(lambda writer: people.delete_push_subscription(writer.db, user, endpoint))

    async def names(self, users: Sequence[str]) -> dict[str, str]:
        return await self._read(lambda reader: reader.names(users))

    async def pages(self, users: Sequence[str], now: int) -> dict[str, bool]:
        return await self._read(lambda reader: reader.pages(users, now))

    async def push_targets(self, conversation: str, seq: int, recipients: Sequence[str]) -> list[PushTarget]:
        return await self._read(lambda reader: reader.push_targets(conversation, seq, recipients))

    # Reads

    async def unread_count(self, conversation: str, user: str, read_up_to: int) -> int:
        return await self._read(lambda reader: reader.unread_count(conversation, user, read_up_to), user)

    async def conversation(self, conversation: str, viewer: str | None) -> ConversationView:
        return await self._read(lambda reader: reader.conversation(conversation, viewer), viewer)

    async def conversations(self, user: str, cursor: str | None, limit: int) -> ConversationPage:
        return await self._read(lambda reader: reader.conversations(user, cursor, limit), user)

    async def events(
        self, conversation: str, viewer: str | None, after: int | None, before: int | None, limit: int
    ) -> EventPage:
        return await self._read(lambda reader: reader.events(conversation, viewer, after, before, limit), viewer)

    async def feed(self, user: str, after: int | None, limit: int) -> FeedPage:
        if after is not None and after > self._position:
            await self._settled()  # a reader may have seen it just before this loop was told
            if after > self._position:
                raise unknown_position()
        return await self._read(lambda reader: reader.feed(user, after, limit), user)

    async def receipts(self, conversation: str, viewer: str | None, members_max: int) -> list[Receipt]:
        return await self._read(lambda reader: reader.receipts(conversation, viewer, members_max), viewer)

    async def circles(self, user: str, conversations_max: int, members_max: int) -> list[Circle]:
        return await self._read(lambda reader: reader.circles(user, conversations_max, members_max))

    async def membership(self, conversation: str) -> Membership:
        return await self._read(lambda reader: reader.membership(conversation))

    # Jobs

    async def claim_jobs(self, wanted: Wanted) -> list[Claim]:
        weight = wanted.lanes_max * wanted.lane_jobs_max
        return await self._write(lambda writer: jobs.claim(writer.db, wanted), weight)

    async def extend_claims(self, claims: Sequence[Claim], until: int) -> None:
        await self._write(lambda writer: jobs.extend(writer.db, claims, until), len(claims))

    async def release_claims(self, claims: Sequence[Claim]) -> None:
        await self._write(lambda writer: jobs.release(writer.db, claims), len(claims))
        self.on_jobs()

    async def settle_jobs(self, settled: Sequence[Job]) -> None:
        await self._write(lambda writer: jobs.settle(writer.db, settled), len(settled))

    async def put_off_job(self, claim: Claim, due_at: int | None, error: str) -> None:
        await self._write(lambda writer: jobs.put_off(writer.db, claim, due_at, error))

    async def next_job_at(self, sinks: Sequence[str]) -> int | None:
        return await self._read(lambda reader: reader.first_job_at(sinks))

    async def lane_due_at(self, sink: str, conversation: str) -> int | None:
        return await self._read(lambda reader: reader.lane_due_at(sink, conversation))

    async def job_events(self, conversation: str, first: int, last: int) -> list[JobEvent]:
        return await self._read(lambda reader: reader.job_events(conversation, first, last))

    async def list_jobs(self, which: JobFilter, limit: int) -> list[JobView]:
        return await self._read(lambda reader: reader.list_jobs(which, limit))

    async def count_jobs(self) -> list[JobCount]:
        return await self._read(Reader.count_jobs)

    async def retry_jobs(self, which: JobFilter, at: int) -> int:
        waiting = partial(jobs.retry_waiting, which=which, at=at)
        dead = partial(jobs.retry_dead, which=which, at=at)
        count = await self._walk_jobs(which, waiting, dead)
        self.on_jobs()
        return count

    async def drop_jobs(self, which: JobFilter) -> int:
        waiting, dead = partial(jobs.drop_waiting, which=which), partial(jobs.drop_dead, which=which)
        return await self._walk_jobs(which, waiting, dead)

    async def _walk_jobs(self, which: JobFilter, waiting: _Step, dead: _Step) -> int:
        steps = [step for state, step in (("waiting", waiting), ("dead", dead)) if which.state in (None, state)]
        return sum([await self._walk(step) for step in steps])

    async def _walk(self, step: _Step) -> int:
        """So many rows at a time: everybody else's writes go in between."""
        rows_max = self._limits.erase_rows_max
        changed, last = 0, jobs.START
        while last is not None:
            done = await self._write(partial(_walk_on, step=step, after=last, rows_max=rows_max), rows_max)
            changed, last = changed + done.changed, done.last
        return changed

    async def ping(self) -> None:
        await self._write(lambda writer: writer.touch())

    async def _read(self, run: Callable[[Reader], T], user: str | None = None) -> T:
        return await self._admission.read(lambda: self._on_thread(run), user)

    def _on_thread(self, run: Callable[[Reader], T]) -> "asyncio.Future[T]":
        if self._closed:  # while it waited for its turn
            raise Unavailable("the server is stopping; try again")
        return self._loop.run_in_executor(self._reads, self._run_read, run)

    def _run_read(self, run: Callable[[Reader], T]) -> T:
        reader: Reader | None = getattr(self._readers, "reader", None)
        try:
            if reader is None:
                db = files.open_reader(self._path)
                self._reader_connections.append(db)
                reader = self._readers.reader = Reader(db, self._limits)
            return run(reader)
        except apsw.Error as error:
            _log.error("the store could not read: %s", error)
            raise Unavailable("the store cannot be read now; try again") from error

    async def stop(self) -> None:
        """Refuse what is asked for from now on, and return once what was accepted is settled. `run` goes on."""
        self._admission.is_stopping = True
        await self._settled()

    async def _settled(self) -> None:
        """Everything that was asked for before is on disk and told."""
        settled: asyncio.Future[None] = self._loop.create_future()
        self.run(lambda _: None, lambda *_: None if settled.done() else settled.set_result(None))
        await settled

    async def close(self) -> None:
        """Commit what was accepted, then close the files. Idempotent."""
        if self._closed:
            return
        self._admission.is_stopping = self._closed = True
        self._job_notices.close()
        await self._writes.close()
        await self._truncation.close()
        await asyncio.to_thread(self._reads.shutdown)
        for db in self._reader_connections:
            db.close()
        await asyncio.to_thread(self._db.close)  # the last one, so that everything ends up in the one file
        self._lock.close()


def _walk_on(writer: Writer, step: _Step, after: Row, rows_max: int) -> Walked:
    return step(writer.db, after=after, rows_max=rows_max)
