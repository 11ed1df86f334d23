"""One transaction of the store: what several writes do, in the order in which they were asked for.

Locks are taken in one order by everybody, so nobody waits in a circle: the ids of new conversations, then the
conversations' rows, each in the order of the ids, and last the row that counts positions. It is held until the commit:
so commits are in the order of their positions, and who sees an event sees all before it. Every write that touches a
conversation, its members, cursors or log names it beforehand (`Write.conversations`).

A write checks first: it either refuses with a `ChatError` and has changed nothing, or it writes. What the many small
ones write is kept here and goes to the database together; `execute` and `fetch` send that first, so a statement sees
all that was written before it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from asyncpg import Record

from recado.adapters.store.postgres.database import Db, columns, rows_changed
from recado.adapters.store.postgres.members import MemberCache
from recado.adapters.store.postgres.statements import SQL
from recado.adapters.store.rows import Detail, encode_detail, event_of
from recado.chat.conversation import EMPTY_METADATA
from recado.chat.cursors import PAIR, Cursors, sought_from
from recado.chat.errors import no_such_conversation
from recado.chat.event import CONVERSATION_ERASED, MEMBER_ADDED, MEMBER_REMOVED, Committed, Event
from recado.ports import DeliveredMark, NewConversation, NewMessage, Sink

T = TypeVar("T")
CHANNEL = "recado"
ERASED_NOTICE, JOBS_NOTICE = "erased", "jobs"
"""What other processes are told on CHANNEL, beside positions."""
_OF_MEMBERSHIP = (MEMBER_ADDED, MEMBER_REMOVED)


class Write(NamedTuple, Generic[T]):
    """What is asked of the store: `run` does it inside a batch that has locked `conversations`. With `ends_batch`
    nothing comes after it in that batch. The rest names what `run` will need, to be read for all writes together."""

    run: "Callable[[Batch], Awaitable[T]]"
    conversations: Sequence[str] = ()
    ends_batch: bool = False
    weight: int = 1
    created: NewConversation | None = None
    message: NewMessage | None = None
    marks: Sequence[DeliveredMark] = ()


class Log:
    """A conversation that the batch has locked: the end of its log, and its members. Only the batch changes it."""

    __slots__ = (
        "active_at",
        "appended",
        "cursors",
        "id",
        "key",
        "last_seq",
        "members",
        "members_seq",
        "place",
        "senders",
    )

    def __init__(self, key: int, conversation: str, last_seq: int, members_seq: int) -> None:
        self.key = key
        self.id = conversation
        self.last_seq = last_seq
        self.members_seq = members_seq
        self.members: frozenset[str] = frozenset()
        self.cursors: dict[str, Cursors] = {}
        """Of the members whom `Write.marks` named, and of the new ones."""
        self.senders: dict[int, str] = {}
        """Of the stored messages that those members have not had, by seq; not in a conversation of two."""
        self.appended: list[Event] = []
        """In this batch."""
        self.active_at = 0
        self.place = 0


class _Entry(NamedTuple):
    """An event that gets the next position. `is_stored`: there is to be a row of it."""

    log: Log
    event: Event
    recipients: frozenset[str]
    origin: object
    detail: str | None
    is_stored: bool


class Batch:
    """`db` is the transaction's connection. Once `finish` has returned, `committed` is what was appended."""

    def __init__(self, db: Db, sinks: Sequence[Sink], cache: MemberCache) -> None:
        self.db = db
        self.committed: list[Committed] = []
        self.has_erased = False
        """Bodies are gone that no event tells of: `Store.on_erased` is called in every process."""
        self.has_freed_jobs = False
        """Jobs may be claimed that are not new: `Store.on_jobs` is called in every process."""
        self.sent: dict[tuple[int, str, str], Event] = {}
        """The first events of the ids that messages of this batch have, by conversation's key, sender and id."""
        self._sinks = sinks
        self._cache = cache
        self._logs: dict[str, Log] = {}
        self._created: dict[str, Log] = {}
        self._entries: list[_Entry] = []
        self._advanced: dict[int, Log] = {}
        self._joins: list[tuple[int, str, int, int]] = []
        self._moved: dict[tuple[int, str], Cursors] = {}
        self._changed: set[Log] = set()

    # What there is

    def find(self, conversation: str) -> Log | None:
        """A conversation that was named beforehand; None if it is not there, or erased."""
        return self._logs.get(conversation)

    def log(self, conversation: str) -> Log:
        """Raises NotFound."""
        log = self._logs.get(conversation)
        if log is None:
            raise no_such_conversation(conversation)
        return log

    async def fetch(self, statement: str, *parameters: Any) -> "list[Record]":
        """The rows that a named statement returns; it sees what was written before it."""
        await self.flush()
        rows: list[Record] = await self.db.fetch(SQL[statement], *parameters)
        return rows

    async def execute(self, statement: str, *parameters: Any) -> int:
        """How many rows a named statement has changed; it sees what was written before it."""
        await self.flush()
        return rows_changed(await self.db.execute(SQL[statement], *parameters))

    # What is written

    def create(self, conversation: str) -> Log | None:
        """The conversation that was named as `Write.created`, if there was none of that id. It is there from now on."""
        log = self._created.pop(conversation, None)
        if log is not None:
            self._logs[conversation] = log
        return log

    def append(
        self, log: Log, event: Event, recipients: frozenset[str], detail: Detail | None = None, origin: object = None
    ) -> None:
        """The next event of a log: its seq is `log.last_seq + 1`. What it has beside a message's fields and `target` is
        in `detail`, too."""
        self._entries.append(
            _Entry(log, event, recipients, origin, None if detail is None else encode_detail(detail), True)
        )
        log.last_seq = event.seq
        log.active_at = event.at
        log.place = len(self._entries)
        log.appended.append(event)
        if event.type in _OF_MEMBERSHIP:
            log.members_seq = event.seq
        self._advanced[log.key] = log

    def append_detail(
        self, log: Log, kind: str, by: str | None, at: int, detail: Detail, recipients: frozenset[str]
    ) -> None:
        """The next event of a log, one that is no message and no change of one."""
        event = event_of((log.last_seq + 1, at, by, kind, None, None, encode_detail(detail), None, None))
        self.append(log, event, recipients, detail)

    def join(self, log: Log, users: Sequence[str], joined_seq: int) -> None:
        """They are members from now on, and have read what is there."""
        for user in users:
            self._joins.append((log.key, user, log.last_seq, joined_seq))
            log.cursors[user] = Cursors(log.last_seq, log.last_seq)
        log.members |= frozenset(users)
        self._changed.add(log)

    async def leave(self, log: Log, user: str) -> None:
        """A member is none from now on."""
        await self.execute("delete_member", log.key, user)
        log.members -= {user}
        self._changed.add(log)

    def move(self, log: Log, user: str, cursors: Cursors) -> None:
        """Set a member's cursors."""
        log.cursors[user] = self._moved[log.key, user] = cursors

    async def end(self, log: Log, at: int) -> None:
        """The conversation is not there any more: its members are told by an event that no log has. It has a position,
        its jobs, and a row in `erased_conversations`."""
        await self.flush()
        event = Event(log.last_seq + 1, None, at, type=CONVERSATION_ERASED)
        self._entries.append(_Entry(log, event, log.members, None, None, False))
        del self._logs[log.id]
        await self.flush()
        position = self.committed[-1].position
        await self.execute("insert_erased_conversation", position, log.key, event.seq, at, sorted(log.members))

    async def senders(self, log: Log, after: int, up_to: int) -> frozenset[str]:
        """Who sent messages past one seq and up to another, among the last `SENDERS_SOUGHT_MAX` entries there; for a
        member whom `Write.marks` named, as far as it is."""
        after = sought_from(after, up_to)
        if log in self._changed:  # when the senders were read for all, it may have been a conversation of two
            rows = await self.fetch("senders_among", [log.key], [after], [up_to])
            return frozenset(sender for _, _, sender in rows)
        stored = {sender for seq, sender in log.senders.items() if after < seq <= up_to}
        new = {str(each.sender) for each in log.appended if each.type is None and after < each.seq <= up_to}
        return frozenset(stored | new)

    # How a transaction goes

    async def lock(self, writes: "Sequence[Write[Any]]") -> None:
        """Lock what the writes have named, and read what they will need."""
        await self._create([write.created for write in writes if write.created is not None])
        if names := sorted({name for write in writes for name in write.conversations} - self._created.keys()):
            for row in await self.db.fetch(SQL["lock_conversations"], names):
                self._logs[row[1]] = Log(*row)
        await self._read_members()
        await self._read_sent([write.message for write in writes if write.message is not None])
        await self._read_cursors([mark for write in writes for mark in write.marks])

    async def _create(self, asked: Sequence[NewConversation]) -> None:
        """A row for each id that has none; it is there for nobody until its write has its turn."""
        firsts = {each.id: each for each in reversed(asked)}
        if not firsts:
            return
        rows = [_conversation_row(firsts[name]) for name in sorted(firsts)]
        for key, conversation in await self.db.fetch(SQL["create_conversations"], *columns(rows, 4)):
            self._created[conversation] = Log(key, conversation, 0, 0)

    async def _read_members(self) -> None:
        unknown: dict[int, Log] = {}
        for log in self._logs.values():
            members = self._cache.get(log.key, log.members_seq)
            if members is None:
                unknown[log.key] = log
            else:
                log.members = members
        if unknown:
            for key, users in await self.db.fetch(SQL["members_of_each"], list(unknown)):
                unknown[key].members = frozenset(users)
            for log in unknown.values():
                self._cache.put(log.key, log.members_seq, log.members)

    async def _read_sent(self, messages: Sequence[NewMessage]) -> None:
        asked = {(log.key, each.sender, each.id) for each in messages if (log := self.find(each.conversation))}
        if asked:
            for key, *row in await self.db.fetch(SQL["events_by_ids"], *zip(*asked, strict=True)):
                event = event_of(tuple(row))
                self.sent[key, str(event.sender), str(event.id)] = event

    async def _read_cursors(self, marks: Sequence[DeliveredMark]) -> None:
        logs = {log.key: log for mark in marks if (log := self.find(mark.conversation))}
        asked = {(self._logs[mark.conversation].key, mark.user) for mark in marks if mark.conversation in self._logs}
        if not asked:
            return
        for key, user, *cursors in await self.db.fetch(SQL["cursors_of_each"], *zip(*asked, strict=True)):
            logs[key].cursors[user] = Cursors(*cursors)
        groups = [
            (log.key, sought_from(log.cursors[mark.user].delivered_up_to, mark.seq), mark.seq)
            for mark in marks
            if (log := self.find(mark.conversation)) and len(log.members) > PAIR and mark.user in log.cursors
        ]
        if groups:
            for key, seq, sender in await self.db.fetch(SQL["senders_among"], *zip(*groups, strict=True)):
                logs[key].senders[seq] = sender

    async def flush(self) -> None:
        """Send what is kept to the database."""
        if self._joins:
            joins, self._joins = self._joins, []
            await self.db.execute(SQL["insert_members"], *zip(*joins, strict=True))
        if self._moved:
            moved, self._moved = self._moved, {}
            rows = ((key, user, *cursors) for (key, user), cursors in moved.items())
            await self.db.execute(SQL["set_cursors"], *zip(*rows, strict=True))
        if self._entries:
            await self._flush_entries()

    async def _flush_entries(self) -> None:
        entries, self._entries = self._entries, []
        advanced, self._advanced = list(self._advanced.values()), {}
        stored = [(place, *_event_row(entry)) for place, entry in enumerate(entries, 1) if entry.is_stored]
        ends = [(log.key, log.last_seq, log.active_at, log.place, log.members_seq) for log in advanced]
        before = await self.db.fetchval(
            SQL["append_events"], len(entries), CHANNEL, *columns(stored, 10), *columns(ends, 5)
        )
        for position, (log, event, recipients, origin, _, _) in enumerate(entries, before + 1):
            self.committed.append(Committed(log.id, event, recipients, origin, position))
        await self._insert_jobs(entries)

    async def _insert_jobs(self, entries: Sequence[_Entry]) -> None:
        rows = [
            (sink.name, log.key, event.seq, event.at, event.at + sink.delay_ms)
            for log, event, *_ in entries
            for sink in self._sinks
            if sink.wants(event)
        ]
        if rows:
            await self.db.execute(SQL["insert_jobs"], *zip(*rows, strict=True))

    async def finish(self) -> None:
        """Everything is sent to the database, and the others are told of what has no position."""
        await self.flush()
        for is_due, notice in ((self.has_erased, ERASED_NOTICE), (self.has_freed_jobs, JOBS_NOTICE)):
            if is_due:
                await self.db.execute("SELECT pg_notify($1, $2)", CHANNEL, notice)

    def remember(self) -> None:
        """It is committed: what is known of the members now is a fact."""
        for log in self._changed:
            self._cache.put(log.key, log.members_seq, log.members)


def _conversation_row(new: NewConversation) -> tuple[str, str | None, str, int]:
    metadata = EMPTY_METADATA if new.metadata is None else new.metadata
    return new.id, new.subject, bytes(metadata).decode(), new.at


def _event_row(entry: _Entry) -> tuple[Any, ...]:
    event = entry.event
    body = event.body if event.target is None else None  # of a change: it is the message's
    return (
        entry.log.key,
        event.seq,
        event.at,
        event.sender,
        event.type,
        event.id,
        body,
        entry.detail,
        event.target,
    )
