"""The store's face on the event loop.

Writes go to one connection, which commits whatever has arrived while its last commit ran. When a commit is done, its
events are handed out in the order of everything that any process commits, and then the writes are settled: so nothing
is acknowledged or delivered before it is on disk. Reads run on a few connections, which users share by turns, and see
every write that was acknowledged. While the server is away, everything is refused at once, and goes on by itself once
it is back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

from asyncpg import DataError

from recado.adapters.store.admission import Admission
from recado.adapters.store.job_notices import JobNotices
from recado.adapters.store.pages import unknown_position
from recado.adapters.store.postgres import jobs as job_rows
from recado.adapters.store.postgres import people, writes
from recado.adapters.store.postgres.batch import Batch, Write
from recado.adapters.store.postgres.database import FAILURES, Database, Db, unusable
from recado.adapters.store.postgres.erasing import Erasing
from recado.adapters.store.postgres.following import Follower
from recado.adapters.store.postgres.group_commit import GroupCommit
from recado.adapters.store.postgres.leading import Leading
from recado.adapters.store.postgres.limits import PostgresLimits
from recado.adapters.store.postgres.members import MemberCache
from recado.adapters.store.postgres.pool import Pool
from recado.adapters.store.postgres.reads import Reads
from recado.adapters.store.postgres.statements import SQL
from recado.chat.conversation import ConversationView
from recado.chat.errors import Unavailable
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

T = TypeVar("T")


class PostgresStore:
    """A database on a PostgreSQL server as a `recado.ports.Store`, and as its `QueueOutbox`. Make it with `open`."""

    def __init__(self, database: Database, limits: PostgresLimits, sinks: Sequence[Sink]) -> None:
        self.on_committed: Callable[[Sequence[Committed]], None] = lambda committed: None
        self.on_erased: Callable[[], None] = lambda: None
        self.on_jobs: Callable[[], None] = lambda: None
        self._limits = limits
        self._admission = Admission(limits, limits.read_connections)
        self._closed = False
        self._pool = Pool(database.connect, limits.read_connections)
        cache = MemberCache(limits.logs_in_memory_max)
        self._follower = Follower(
            database,
            limits,
            cache,
            self._committed,
            lambda: self.on_erased(),
            lambda: self.on_jobs(),
        )
        self._leading = Leading(database.connect)
        self._writes = GroupCommit(database, limits, sinks, cache, self._follower)
        self._job_notices = JobNotices(sinks, lambda: self.on_jobs())
        self._erasing = Erasing(self.write, self.on_connection, limits.erase_rows_max)

    @classmethod
    async def open(cls, url: str, limits: PostgresLimits, sinks: Sequence[Sink] = ()) -> "PostgresStore":
        """Jobs are written for `sinks`. Raises database.DatabaseUnusable."""
        database = Database(url, limits)
        await database.prepare()
        store = cls(database, limits, sinks)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            with unusable(database):
                await store._follower.start()
                await store._writes.start()
            stack.pop_all()
        return store

    # Writes

    def append_message(self, message: NewMessage) -> Awaitable[Sent]:
        return self.write(writes.append_message(message), message.sender)

    async def put_conversation(self, new: NewConversation) -> tuple[ConversationView, bool]:
        created = await self.write(writes.put_conversation(new))
        return await self.conversation(new.id, None), created

    async def put_member(self, conversation: str, user: str, by: str | None, at: int, members_max: int) -> bool:
        return await self.write(writes.put_member(conversation, user, by, at, members_max))

    async def remove_member(self, conversation: str, user: str, by: str | None, at: int) -> bool:
        return await self.write(writes.remove_member(conversation, user, by, at))

    async def change_message(self, change: MessageChange) -> Changed:
        return await self.write(writes.change_message(change), change.by)

    async def erase_conversation(self, conversation: str, at: int) -> None:
        await self._erasing.conversation(conversation, at)

    async def erase_user(self, user: str, at: int) -> None:
        await self._erasing.user(user, at)

    async def finish_erasures(self, at: int) -> None:
        await self._erasing.finish(at)
        told_by_now = at - self._limits.erased_notice_s * 1000
        await self.on_connection(lambda db: db.execute(SQL["forget_erased_conversations"], told_by_now))

    async def erase_older(self, than: int) -> None:
        await self._erasing.older(than)

    async def mark_read(self, conversation: str, user: str, seq: int) -> ReadMark:
        return await self.write(writes.mark_read(conversation, user, seq))

    async def mark_delivered(self, marks: Sequence[DeliveredMark], members_max: int) -> list[Delivered]:
        return await self.write(writes.mark_delivered(marks, members_max))

    def write(self, write: Write[T], sender: str | None = None) -> "asyncio.Future[T]":
        """What it returns, once that is durable and handed out. Raises its refusal; Unavailable, and then nothing was
        written, unless the connection was lost just while it was committed."""
        self._writes.check_up()
        future, told = self._admission.write(sender)
        self._writes.put(write, told)
        return future

    # People

    async def put_user(self, user: str, name: str | None) -> None:
        await self.on_connection(lambda db: people.put_user(db, user, name))

    async def names(self, users: Sequence[str]) -> dict[str, str]:
        return await self.on_connection(lambda db: people.names(db, users))

    async def set_muted(self, conversation: str, user: str, muted: bool) -> bool:
        return await self.on_connection(lambda db: people.set_muted(db, conversation, user, muted))

    async def note_page(self, user: str, page: str, visible: bool | None, at: int, until: int, pages_max: int) -> None:
        await self.on_connection(lambda db: people.note_page(db, user, page, visible, at, until, pages_max))

    async def pages(self, users: Sequence[str], now: int) -> dict[str, bool]:
        return await self.on_connection(lambda db: people.pages(db, users, now))

    async def put_push_subscription(self, user: str, subscription: PushSubscription, at: int, most: int) -> bool:
        return await self.on_connection(lambda db: people.put_push_subscription(db, user, subscription, at, most))

    async def delete_push_subscription(self, user: str | None, endpoint: str) -> None:
        await self.on_connection(lambda db: people.delete_push_subscription(db, user, endpoint))

    async def push_targets(self, conversation: str, seq: int, recipients: Sequence[str]) -> list[PushTarget]:
        return await self.on_connection(lambda db: people.push_targets(db, conversation, seq, recipients))

    # Jobs

    async def claim_jobs(self, wanted: Wanted) -> list[Claim]:
        return await self.on_connection(lambda db: job_rows.claim(db, wanted, self._limits.due_jobs_looked_at))

    async def extend_claims(self, claims: Sequence[Claim], until: int) -> None:
        await self.on_connection(lambda db: job_rows.extend(db, claims, until))

    async def release_claims(self, claims: Sequence[Claim]) -> None:
        await self.on_connection(lambda db: job_rows.release(db, claims))

    async def settle_jobs(self, jobs: Sequence[Job]) -> None:
        await self.on_connection(lambda db: job_rows.settle(db, jobs))

    async def put_off_job(self, claim: Claim, due_at: int | None, error: str) -> None:
        await self.on_connection(lambda db: job_rows.put_off(db, claim, due_at, error))

    async def next_job_at(self, sinks: Sequence[str]) -> int | None:
        return await self.on_connection(lambda db: job_rows.next_at(db, sinks))

    async def lane_due_at(self, sink: str, conversation: str) -> int | None:
        return await self.on_connection(lambda db: job_rows.lane_due_at(db, sink, conversation))

    async def job_events(self, conversation: str, first: int, last: int) -> list[JobEvent]:
        return await self.on_connection(lambda db: job_rows.events(db, conversation, first, last))

    async def unqueued_jobs(self, sinks: Sequence[str], now: int, limit: int) -> list[Job]:
        return await self.on_connection(lambda db: job_rows.unqueued(db, sinks, now, limit))

    async def jobs_queued_before(
        self, sinks: Sequence[str], now: int, before: int, after: Job | None, limit: int
    ) -> list[Job]:
        return await self.on_connection(lambda db: job_rows.queued_before(db, sinks, now, before, after, limit))

    async def note_queued(self, jobs: Sequence[Job], at: int) -> None:
        await self.on_connection(lambda db: job_rows.note_queued(db, jobs, at))

    async def list_jobs(self, which: JobFilter, limit: int) -> list[JobView]:
        return await self.on_connection(lambda db: job_rows.listed(db, which, limit))

    async def count_jobs(self) -> list[JobCount]:
        return await self.on_connection(job_rows.counted)

    async def retry_jobs(self, which: JobFilter, at: int) -> int:
        return await self.on_connection(lambda db: job_rows.retry(db, which, self._limits.erase_rows_max, at))

    async def drop_jobs(self, which: JobFilter) -> int:
        return await self.on_connection(lambda db: job_rows.drop(db, which, self._limits.erase_rows_max))

    # Reads

    async def unread_count(self, conversation: str, user: str, read_up_to: int) -> int:
        return await self._read(lambda reads: reads.unread_count(conversation, user, read_up_to), user)

    async def conversation(self, conversation: str, viewer: str | None) -> ConversationView:
        return await self._read(lambda reads: reads.conversation(conversation, viewer), viewer)

    async def conversations(self, user: str, cursor: str | None, limit: int) -> ConversationPage:
        return await self._read(lambda reads: reads.conversations(user, cursor, limit), user)

    async def events(
        self, conversation: str, viewer: str | None, after: int | None, before: int | None, limit: int
    ) -> EventPage:
        return await self._read(lambda reads: reads.events(conversation, viewer, after, before, limit), viewer)

    async def feed(self, user: str, after: int | None, limit: int) -> FeedPage:
        if after is not None and after > self._follower.position:
            newest: int = await self.on_connection(lambda db: db.fetchval(SQL["log_end"]))
            if after > newest:  # else another process is ahead
                raise unknown_position()
        return await self._read(lambda reads: reads.feed(user, after, limit), user)

    async def receipts(self, conversation: str, viewer: str | None, members_max: int) -> list[Receipt]:
        return await self._read(lambda reads: reads.receipts(conversation, viewer, members_max), viewer)

    async def circles(self, user: str, conversations_max: int, members_max: int) -> list[Circle]:
        return await self._read(lambda reads: reads.circles(user, conversations_max, members_max))

    async def membership(self, conversation: str) -> Membership:
        return await self._read(lambda reads: reads.membership(conversation))

    async def _read(self, run: Callable[[Reads], Awaitable[T]], user: str | None = None) -> T:
        limits = self._limits
        return await self.on_connection(lambda db: run(Reads(db, limits.unread_count_max, limits.page_bytes_max)), user)

    async def on_connection(self, run: Callable[[Db], Awaitable[T]], user: str | None = None) -> T:
        """Run it on a connection of its own: it reads, or writes what no batch locks. With a user it is that user's
        read, and waits for its turn. Raises Unavailable; a write that was under way then may have been done."""
        self._check_up()
        try:
            return await self._admission.read(lambda: self._pool.run(partial(self._run_on, run)), user)
        except DataError:  # a fault of what was asked, not of the server: to try again would not help
            raise
        except FAILURES as error:
            raise Unavailable("the store cannot be reached now; try again") from error

    def _run_on(self, run: Callable[[Db], Awaitable[T]], db: Db) -> Awaitable[T]:
        self._check_up()  # it may have waited for its turn
        return run(db)

    def _check_up(self) -> None:
        self._admission.check_open()
        if not self._writes.is_up:
            raise Unavailable("the store cannot be reached now; try again")

    def _committed(self, committed: Sequence[Committed]) -> None:
        self._job_notices.committed(committed)
        self.on_committed(committed)

    async def lead(self) -> bool:
        try:
            return await self._leading.lead()
        except FAILURES as error:
            raise Unavailable("the store cannot be reached now; try again") from error

    async def ping(self) -> None:
        await self.write(Write(_touch))

    async def stop(self) -> None:
        """Refuse what is asked for from now on, and return once what was accepted is settled."""
        self._admission.is_stopping = True
        await self._writes.settled()

    async def close(self) -> None:
        """Commit what was accepted, then let go of the connections. Idempotent."""
        if self._closed:
            return
        self._admission.is_stopping = self._closed = True
        await self._writes.close()
        await self._follower.close()
        await self._leading.close()
        self._job_notices.close()
        await self._pool.close()


async def _touch(batch: Batch) -> None:
    """Fails if no write would succeed."""
    await batch.fetch("check_writable")
