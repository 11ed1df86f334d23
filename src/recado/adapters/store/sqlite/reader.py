"""The reads, run by reading threads, each on its own connection and in one read transaction."""

from collections.abc import Sequence

import apsw
import msgspec

from recado.adapters.store.pages import END, cursor_of, parse_cursor, within_bytes
from recado.adapters.store.rows import Row, event_of
from recado.adapters.store.sqlite import feed, jobs, people
from recado.adapters.store.sqlite.limits import SqliteLimits
from recado.adapters.store.sqlite.statements import SQL
from recado.chat.conversation import ConversationView
from recado.chat.errors import no_such_conversation
from recado.ports import (
    Circle,
    ConversationPage,
    EventPage,
    FeedPage,
    JobCount,
    JobEvent,
    JobFilter,
    JobView,
    Membership,
    PushTarget,
    Receipt,
)


class Reader:
    def __init__(self, db: apsw.Connection, limits: SqliteLimits) -> None:
        self._db = db
        self._limits = limits

    def conversation(self, conversation: str, viewer: str | None) -> ConversationView:
        with self._db:
            row = self._row("conversation_row", conversation)
            if row is None:
                raise no_such_conversation(conversation)
            view = self._view(row, viewer, *self._member(row[0], conversation, viewer))
        return view  # noqa: RET504  # `with` a connection may swallow errors, as far as a type checker knows

    def conversations(self, user: str, cursor: str | None, limit: int) -> ConversationPage:
        active_at, key = parse_cursor(cursor)
        with self._db:
            rows: list[Row] = self._db.execute(
                SQL["conversation_rows_of"], (user, active_at, key, limit + 1)
            ).fetchall()
            views = [self._view(row[:-2], user, *row[-2:]) for row in rows[:limit]]
        more = cursor_of(views[-1].active_at, rows[limit - 1][0]) if len(rows) > limit else None
        return ConversationPage(views, more)

    def events(
        self, conversation: str, viewer: str | None, after: int | None, before: int | None, limit: int
    ) -> EventPage:
        with self._db:
            key, last_seq = self._state(conversation)
            self._member(key, conversation, viewer)
            end = END if before is None else before
            if after is None:
                rows = self._db.execute(SQL["events_before"], (key, end, limit)).fetchall()[::-1]
            else:
                rows = self._db.execute(SQL["events_after"], (key, after, end, limit)).fetchall()
        events = [event_of(row) for row in rows]
        return EventPage(within_bytes(events, self._limits.page_bytes_max, newest_first=after is None), last_seq)

    def feed(self, user: str, after: int | None, limit: int) -> FeedPage:
        with self._db:
            page = feed.read(self._db, user, after, limit, self._limits.page_bytes_max)
        return page  # noqa: RET504  # `with` a connection may swallow errors, as far as a type checker knows

    def unread_count(self, conversation: str, user: str, read_up_to: int) -> int:
        with self._db:
            key, last_seq = self._state(conversation)
            count = self._count_unread(key, last_seq, user, read_up_to)
        return count  # noqa: RET504  # `with` a connection may swallow errors, as far as a type checker knows

    def last_key(self) -> int:
        row = self._row("last_key")
        return row[0] if row else 0

    def traces_of(self, user: str, after: int, up_to: int) -> list[int]:
        """Keys of the conversations in a range in which the user is a member or has messages."""
        return [key for (key,) in self._db.execute(SQL["traces_of"], (user, after, up_to))]

    def overdue(self, than: int, after: int, up_to: int) -> list[int]:
        """Keys of the conversations in a range in which retention has something to do."""
        return [key for (key,) in self._db.execute(SQL["overdue"], (than, after, up_to))]

    def erasures(self) -> list[tuple[int, str | None]]:
        """What was begun to be erased and is not over: a conversation's key, and whose messages or None for all."""
        return [(key, user) for key, user in self._db.execute(SQL["erasures"])]

    def membership(self, conversation: str) -> Membership:
        with self._db:
            key, last_seq = self._state(conversation)
            members = self._members(key)
        return Membership(frozenset(members), last_seq)

    def receipts(self, conversation: str, viewer: str | None, members_max: int) -> list[Receipt]:
        with self._db:
            key, _ = self._state(conversation)
            self._member(key, conversation, viewer)
            found = [Receipt(*row) for row in self._db.execute(SQL["receipts"], (key, members_max + 1))]
        return found if len(found) <= members_max else []

    def circles(self, user: str, conversations_max: int, members_max: int) -> list[Circle]:
        with self._db:
            rows: list[Row] = self._db.execute(SQL["circles_of"], (user, members_max, conversations_max)).fetchall()
            circles = [Circle(conversation, frozenset(self._members(key))) for key, conversation in rows]
        return circles  # noqa: RET504  # `with` a connection may swallow errors, as far as a type checker knows

    def names(self, users: Sequence[str]) -> dict[str, str]:
        return people.names(self._db, users)

    def pages(self, users: Sequence[str], now: int) -> dict[str, bool]:
        return people.pages(self._db, users, now)

    def push_targets(self, conversation: str, seq: int, recipients: Sequence[str]) -> list[PushTarget]:
        return people.push_targets(self._db, conversation, seq, recipients)

    def first_job_at(self, sinks: Sequence[str]) -> int | None:
        return jobs.first_due_at(self._db, sinks)

    def lane_due_at(self, sink: str, conversation: str) -> int | None:
        return jobs.lane_due_at(self._db, sink, conversation)

    def job_events(self, conversation: str, first: int, last: int) -> list[JobEvent]:
        with self._db:
            found = jobs.events(self._db, conversation, first, last)
        return found  # noqa: RET504  # `with` a connection may swallow errors, as far as a type checker knows

    def list_jobs(self, which: JobFilter, limit: int) -> list[JobView]:
        return jobs.listed(self._db, which, limit)

    def count_jobs(self) -> list[JobCount]:
        return jobs.counted(self._db)

    def _state(self, conversation: str) -> tuple[int, int]:
        row = self._row("conversation_state", conversation)
        if row is None:
            raise no_such_conversation(conversation)
        return row[0], row[1]

    def _member(self, key: int, conversation: str, viewer: str | None) -> tuple[int, bool]:
        """The viewer's read cursor, and whether it has muted the conversation; the host itself has neither. Who is no
        member is refused."""
        if viewer is None:
            return 0, False
        row = self._row("member_row", key, viewer)
        if row is None:
            raise no_such_conversation(conversation)
        return row[0], bool(row[1])

    def _view(self, row: Row, viewer: str | None, read_up_to: int, muted: bool) -> ConversationView:
        key, conversation, subject, metadata, created_at, active_at, last_seq, *last_event = row
        unread_count = 0 if viewer is None else self._count_unread(key, last_seq, viewer, read_up_to)
        members: list[Row] = self._db.execute(SQL["member_names"], (key,)).fetchall()
        return ConversationView(
            id=conversation,
            subject=subject,
            metadata=msgspec.Raw(metadata.encode()),
            members=[user for user, _ in members],
            created_at=created_at,
            active_at=active_at,
            last_seq=last_seq,
            last_event=event_of(tuple(last_event)) if last_event[0] is not None else None,
            read_up_to=read_up_to,
            unread_count=unread_count,
            names={user: name for user, name in members if name is not None} or None,
            muted=bool(muted),
        )

    def _count_unread(self, key: int, last_seq: int, user: str, read_up_to: int) -> int:
        if last_seq <= read_up_to:
            return 0
        row = self._row("unread_count", key, read_up_to, self._limits.unread_count_max, user)
        return row[0] if row else 0

    def _members(self, key: int) -> list[str]:
        return [user for (user,) in self._db.execute(SQL["member_users"], (key,))]

    def _row(self, statement: str, *parameters: object) -> Row | None:
        row: Row | None = self._db.execute(SQL[statement], parameters).fetchone()
        return row
