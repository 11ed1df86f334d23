"""The reads of conversations: each is one statement, and so one moment."""

import msgspec
from asyncpg import Record

from recado.adapters.store.pages import END, cursor_of, parse_cursor, within_bytes
from recado.adapters.store.postgres.database import Db
from recado.adapters.store.postgres.statements import SQL
from recado.adapters.store.rows import event_of
from recado.chat.conversation import ConversationView
from recado.chat.errors import no_such_conversation
from recado.chat.event import count_within, encoded_size
from recado.ports import Circle, ConversationPage, EventPage, FeedPage, Membership, Placed, Receipt


class Reads:
    """What one connection reads."""

    def __init__(self, db: Db, unread_count_max: int, page_bytes_max: int) -> None:
        self._db = db
        self._unread_count_max = unread_count_max
        self._page_bytes_max = page_bytes_max

    async def conversation(self, conversation: str, viewer: str | None) -> ConversationView:
        row = await self._db.fetchrow(SQL["conversation_row"], conversation, viewer, self._unread_count_max)
        if row is None or (viewer is not None and row[7] is None):
            raise no_such_conversation(conversation)
        return _view(row)

    async def conversations(self, user: str, cursor: str | None, limit: int) -> ConversationPage:
        active_at, key = parse_cursor(cursor)
        rows = await self._db.fetch(
            SQL["conversation_rows_of"], user, self._unread_count_max, active_at, key, limit + 1
        )
        views = [_view(row) for row in rows[:limit]]
        more = cursor_of(views[-1].active_at, rows[limit - 1][0]) if len(rows) > limit else None
        return ConversationPage(views, more)

    async def events(
        self, conversation: str, viewer: str | None, after: int | None, before: int | None, limit: int
    ) -> EventPage:
        end = END if before is None else before
        if after is None:
            rows = await self._db.fetch(SQL["events_before"], conversation, viewer, end, limit)
        else:
            rows = await self._db.fetch(SQL["events_after"], conversation, viewer, after, end, limit)
        if not rows:
            raise no_such_conversation(conversation)
        events = [event_of(tuple(row)) for _, *row in rows if row[0] is not None]
        return EventPage(within_bytes(events, self._page_bytes_max, newest_first=after is None), rows[0][0])

    async def feed(self, user: str, after: int | None, limit: int) -> FeedPage:
        if after is None:
            return FeedPage([], await self._db.fetchval(SQL["newest_position"], user), True)
        rows = await self._db.fetch(SQL["feed"], user, after, limit + 1)
        entries = [Placed(name, event_of(tuple(row)), place) for _, name, place, *row in rows if name is not None]
        kept = count_within((encoded_size(entry.event) for entry in entries[:limit]), self._page_bytes_max)
        is_last = kept == len(entries)
        return FeedPage(entries[:kept], rows[0][0] if is_last else entries[kept - 1].position, is_last)

    async def unread_count(self, conversation: str, user: str, read_up_to: int) -> int:
        row = await self._db.fetchrow(SQL["unread_count"], conversation, read_up_to, self._unread_count_max, user)
        if row is None:
            raise no_such_conversation(conversation)
        count: int = row[0]
        return count

    async def membership(self, conversation: str) -> Membership:
        row = await self._db.fetchrow(SQL["membership"], conversation)
        if row is None:
            raise no_such_conversation(conversation)
        return Membership(frozenset(row[1]), row[0])

    async def receipts(self, conversation: str, viewer: str | None, members_max: int) -> list[Receipt]:
        rows = await self._db.fetch(SQL["receipts"], conversation, viewer, members_max + 1)
        if not rows:
            raise no_such_conversation(conversation)
        return [Receipt(*row) for row in rows if row[0] is not None] if len(rows) <= members_max else []

    async def circles(self, user: str, conversations_max: int, members_max: int) -> list[Circle]:
        rows = await self._db.fetch(SQL["circles_of"], user, members_max, conversations_max)
        return [Circle(conversation, frozenset(users)) for conversation, users in rows]


def _view(columns: Record) -> ConversationView:
    _, conversation, subject, metadata, created_at, active_at, last_seq, read_up_to, muted, *rest = columns
    members, names, unread_count, *last_event = rest
    return ConversationView(
        id=conversation,
        subject=subject,
        metadata=msgspec.Raw(metadata.encode()),
        members=members,
        created_at=created_at,
        active_at=active_at,
        last_seq=last_seq,
        last_event=event_of(tuple(last_event)) if last_event[0] is not None else None,
        read_up_to=read_up_to or 0,
        unread_count=unread_count,
        names={user: name for user, name in zip(members, names, strict=True) if name is not None} or None,
        muted=bool(muted),
    )
