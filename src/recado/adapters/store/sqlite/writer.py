"""The writes, run by the one writer thread inside its transaction.

Each method checks before it writes: it either refuses with a `ChatError` and has changed nothing, or it writes, and
what it appended is handed out by `commit`. This process alone writes the file, so the end of a log and its members are
kept in memory between batches; `roll_back` forgets them.
"""

from collections.abc import Sequence
from itertools import takewhile

import apsw
import msgspec

from recado.adapters.store.rows import Detail, Row, encode_detail, event_of
from recado.adapters.store.sqlite import jobs
from recado.adapters.store.sqlite.statements import SQL
from recado.chat.conversation import (
    EMPTY_METADATA,
    Description,
    check_listed,
    check_member,
    check_room,
    described_anew,
)
from recado.chat.cursors import PAIR, Cursors, after_reading, may_be_delivered, sought_from
from recado.chat.errors import id_was_erased, no_such_conversation
from recado.chat.event import (
    CONVERSATION_CHANGED,
    CONVERSATION_ERASED,
    DELETED,
    EDITED,
    MEMBER_ADDED,
    MEMBER_REMOVED,
    USER_ERASED,
    Committed,
    Event,
)
from recado.chat.message import check_change, message_at
from recado.ports import (
    Changed,
    Delivered,
    DeliveredMark,
    MessageChange,
    NewConversation,
    NewMessage,
    ReadMark,
    Sent,
    Sink,
)

_INSERT_EVENT = SQL["insert_event"]
_ADVANCE_DELIVERED = SQL["advance_delivered_up_to"]


class _Log:
    """The end of a conversation's log, and its members."""

    __slots__ = ("active_at", "key", "last_seq", "members", "position")

    def __init__(self, key: int, last_seq: int, members: frozenset[str]) -> None:
        self.key = key
        self.last_seq = last_seq
        self.active_at = 0
        self.position = 0
        self.members = members


class Writer:
    def __init__(self, db: apsw.Connection, logs_max: int, sinks: Sequence[Sink] = ()) -> None:
        self._committed: list[Committed] = []
        self._sinks = sinks
        self._causes: list[tuple[int, Event]] = []  # of jobs, each with the key of its conversation
        self.db = db
        self._execute = db.cursor().execute
        self._logs: dict[str, _Log] = {}
        self._logs_max = logs_max
        self._advanced: dict[str, _Log] = {}
        (self.position,) = self._row("last_position")

    def begin(self) -> None:
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> list[Committed]:
        """Make the batch durable; returns what it appended, in order."""
        rows = ((log.last_seq, log.active_at, log.position, log.key) for log in self._advanced.values())
        self.db.cursor().executemany(SQL["advance_conversation"], rows)
        if self._causes:
            jobs.insert(self.db, self._sinks, self._causes)
        self._execute("COMMIT")
        committed, self._committed = self._committed, []
        self._causes.clear()
        self._advanced.clear()
        while len(self._logs) > self._logs_max:
            del self._logs[next(iter(self._logs))]
        return committed

    def roll_back(self) -> None:
        """Undo the batch, in the file and in memory."""
        self._committed = []
        self._causes.clear()
        self._advanced.clear()
        self._logs.clear()
        if self.db.in_transaction:
            self._execute("ROLLBACK")

    def append_message(self, message: NewMessage) -> Sent:
        log = self._log(message.conversation)
        if message.sender not in log.members:
            raise no_such_conversation(message.conversation)
        event = Event(seq=log.last_seq + 1, sender=message.sender, at=message.at, id=message.id, body=message.body)
        row = (log.key, event.seq, self.position + 1, event.at, event.sender, None, event.id, event.body, None)
        self._execute(_INSERT_EVENT, row)
        is_new = self.db.changes() > 0
        session = message.session
        if session is not None and session.packet_id:
            self._execute(SQL["receive"], (session.key, session.packet_id))
        if not is_new:
            return Sent(self._first_sent(log, message), created=False)
        if session is not None and session.no_local:
            self._execute(SQL["own"], (session.key, log.key, event.seq))
        self._appended(message.conversation, log, event, log.members, message.origin)
        return Sent(event, created=True)

    def change_message(self, change: MessageChange) -> Changed:
        log = self._log(change.conversation)
        check_member(change.conversation, change.by, log.members)
        rows: list[Row] = self._execute(SQL["event_at"], (log.key, change.seq)).fetchall()
        entry = message_at(change.seq, event_of(rows[0]) if rows else None)
        if not check_change(entry, change.body, change.by, change.changeable_since):
            return Changed(entry, changed=False)
        return Changed(self._change(log, change), changed=True)

    def _change(self, log: _Log, change: MessageChange) -> Event:
        seq, kind = log.last_seq + 1, DELETED if change.body is None else EDITED
        if change.body is None:
            self._execute(SQL["delete_message"], (log.key, change.seq))
        else:
            self._execute(SQL["edit_message"], (change.body, change.at, log.key, change.seq))
        self._execute(SQL["insert_change"], (log.key, seq, self.position + 1, change.at, change.by, kind, change.seq))
        event = Event(seq, change.by, change.at, type=kind, body=change.body, target=change.seq)
        self._appended(change.conversation, log, event, log.members, None)
        return event

    def put_conversation(self, new: NewConversation) -> bool:
        """True if it was created."""
        existing = self._find(new.id)
        if existing is not None:
            self._bring_up_to_date(existing, new)
            return False
        if self._erased(new.id) is not None:
            raise id_was_erased(new.id)
        metadata = EMPTY_METADATA if new.metadata is None else new.metadata
        self._execute(SQL["insert_conversation"], (new.id, new.subject, bytes(metadata).decode(), new.at, new.at))
        log = _Log(self.db.last_insert_rowid(), 0, frozenset(new.members))
        self.db.cursor().executemany(SQL["insert_member"], ((log.key, user, 0, 0) for user in new.members))
        self._logs[new.id] = log
        return True

    def _bring_up_to_date(self, log: _Log, new: NewConversation) -> None:
        check_listed(new.id, new.members, log.members)
        stored = Description(*self._row("describe_conversation", log.key))
        wanted = described_anew(stored, new.subject, new.metadata)
        if wanted == stored:
            return
        self._execute(SQL["update_conversation"], (*wanted, log.key))
        detail = Detail(subject=wanted.subject, metadata=msgspec.Raw(wanted.metadata.encode()))
        self._append(new.id, log, CONVERSATION_CHANGED, new.creator, new.at, detail, log.members)

    def put_member(self, conversation: str, user: str, by: str | None, at: int, members_max: int) -> bool:
        """True if the user was added."""
        log = self._log(conversation)
        if user in log.members:
            return False
        check_room(conversation, log.members, members_max)
        members = log.members | {user}
        self._execute(SQL["insert_member"], (log.key, user, log.last_seq, log.last_seq + 1))
        self._execute(SQL["delete_departure"], (user, log.key))
        self._append(conversation, log, MEMBER_ADDED, by, at, Detail(user=user), members)
        log.members = members
        return True

    def remove_member(self, conversation: str, user: str, by: str | None, at: int) -> bool:
        """True if the user was removed."""
        log = self._log(conversation)
        if user not in log.members:
            return False
        self._execute(SQL["delete_member"], (log.key, user))
        self._append(conversation, log, MEMBER_REMOVED, by, at, Detail(user=user), log.members)
        self._execute(SQL["insert_departure"], (user, log.key, log.last_seq))
        log.members -= {user}
        return True

    def erase_conversation(self, conversation: str, at: int) -> int:
        """Returns its key: what is left of its log goes with `clear_log`."""
        log = self._find(conversation)
        if log is None:
            key = self._erased(conversation)
            if key is None:
                raise no_such_conversation(conversation)
            return key
        self.position += 1
        self._execute(SQL["erase_conversation"], (at, self.position, log.last_seq, log.key))
        self._execute(SQL["delete_members"], (log.key,))
        self._execute(SQL["delete_departures_from"], (log.key,))
        self._execute(SQL["insert_erasure"], (log.key, None, log.last_seq))
        event = Event(log.last_seq + 1, None, at, type=CONVERSATION_ERASED)
        self._committed.append(Committed(conversation, event, log.members, None, self.position))
        if self._sinks:
            self._causes.append((log.key, event))
        del self._logs[conversation]
        self._advanced.pop(conversation, None)
        return log.key

    def clear_log(self, key: int, rows_max: int) -> bool:
        """Delete so many rows of an erased conversation: its entries, then what sessions had kept of it; True if there
        may be more."""
        for statement in ("delete_events", "delete_cursors", "delete_own"):
            self._execute(SQL[statement], (key, rows_max))
            rows_max -= self.db.changes()
            if not rows_max:
                return True
        self._execute(SQL["end_erasure"], (key, None))
        return False

    def begin_user_erasures(self, user: str, keys: Sequence[int], at: int) -> None:
        """Take the user out of these conversations; its messages there go with `erase_messages`."""
        for key in keys:
            conversation = self._living(key)
            if conversation is not None and self._execute(SQL["traces_of"], (user, key - 1, key)).fetchall():
                self._execute(SQL["insert_erasure"], (key, user, self._log(conversation).last_seq))
                self.remove_member(conversation, user, None, at)

    def forget_departures(self, user: str) -> None:
        self._execute(SQL["delete_departures_of"], (user,))

    def erase_messages(self, key: int, user: str, after: str, rows_max: int, at: int) -> str | None:
        """Delete so many of a user's messages in a conversation, in the order of their ids and past one. Returns the id
        to go on from; None if that was all, which is told to the members."""
        rows: list[Row] = self._execute(SQL["messages_of"], (key, user, after, rows_max + 1)).fetchall()
        self.db.cursor().executemany(SQL["delete_message"], ((key, seq) for _, seq in rows[:rows_max]))
        if len(rows) > rows_max:
            position: str = rows[rows_max - 1][0]
            return position
        self._execute(SQL["end_erasure"], (key, user))
        conversation = self._living(key) if self.db.changes() else None
        if conversation is not None:
            log = self._log(conversation)
            self._append(conversation, log, USER_ERASED, None, at, Detail(user=user), log.members)
        return None

    def erase_older(self, key: int, than: int, rows_max: int) -> bool:
        """Delete the messages among the next so many entries, up to the first that is not so old; True if there may be
        more."""
        (swept_up_to,) = self._row("swept_up_to", key)
        times = self._execute(SQL["times_after"], (key, swept_up_to, rows_max))
        old = [seq for seq, _ in takewhile(lambda row: row[1] < than, times)]
        if old:
            self._execute(SQL["delete_messages"], (key, swept_up_to, old[-1]))
            self._execute(SQL["set_swept_up_to"], (old[-1], key))
        return len(old) == rows_max

    def _erased(self, conversation: str) -> int | None:
        """The key of a conversation of which only the id is left."""
        return next((key for (key,) in self._execute(SQL["erased_key"], (conversation,))), None)

    def _living(self, key: int) -> str | None:
        return next((conversation for (conversation,) in self._execute(SQL["living_id"], (key,))), None)

    def mark_read(self, conversation: str, user: str, seq: int) -> ReadMark:
        log = self._log(conversation)
        check_member(conversation, user, log.members)
        known = Cursors(*self._row("cursors", log.key, user))
        cursors = after_reading(known, seq, log.last_seq)
        if cursors != known:
            self._execute(SQL["set_cursors"], (*cursors, log.key, user))
        return ReadMark(cursors.read_up_to, cursors != known, log.members)

    def mark_delivered(self, marks: Sequence[DeliveredMark], members_max: int) -> list[Delivered]:
        return [moved for mark in marks if (moved := self._mark_delivered(mark, members_max)) is not None]

    def _mark_delivered(self, mark: DeliveredMark, members_max: int) -> Delivered | None:
        conversation, user, seq = mark
        log = self._find(conversation)
        if log is None or not may_be_delivered(user, seq, log.last_seq, log.members, members_max):
            return None
        if len(log.members) <= PAIR:  # one statement
            senders = log.members - {user}
        else:
            _, delivered_up_to = self._row("cursors", log.key, user)
            senders = self._senders(log, sought_from(delivered_up_to, seq), seq) - {user}
        self._execute(_ADVANCE_DELIVERED, (seq, log.key, user))
        if not self.db.changes():
            return None
        return Delivered(conversation, user, seq, senders, len(log.members))

    def _senders(self, log: _Log, after: int, up_to: int) -> frozenset[str]:
        if after >= up_to:
            return frozenset()
        return frozenset(user for (user,) in self._execute(SQL["senders_among"], (log.key, after, up_to)))

    def touch(self) -> None:
        """Write something that changes nothing: the commit fails if none would succeed."""
        (version,) = self._execute("PRAGMA user_version").fetchall()[0]
        self._execute(f"PRAGMA user_version = {version}")

    def _append(
        self, conversation: str, log: _Log, kind: str, by: str | None, at: int, detail: Detail, to: frozenset[str]
    ) -> None:
        seq, row = log.last_seq + 1, (at, by, kind, None, None, encode_detail(detail))
        self._execute(_INSERT_EVENT, (log.key, seq, self.position + 1, *row))
        self._appended(conversation, log, event_of((seq, *row, None, None)), to, None)

    def _appended(self, conversation: str, log: _Log, event: Event, to: frozenset[str], origin: object) -> None:
        log.last_seq = event.seq
        log.active_at = event.at
        log.position = self.position = self.position + 1
        self._advanced[conversation] = log
        self._committed.append(Committed(conversation, event, to, origin, self.position))
        if self._sinks:
            self._causes.append((log.key, event))

    def _first_sent(self, log: _Log, message: NewMessage) -> Event:
        return event_of(self._row("event_by_id", log.key, message.sender, message.id))

    def _log(self, conversation: str) -> _Log:
        log = self._logs.get(conversation)
        if log is None:
            log = self._find(conversation)
            if log is None:
                raise no_such_conversation(conversation)
        return log

    def _find(self, conversation: str) -> _Log | None:
        if (log := self._logs.get(conversation)) is not None:
            return log
        rows: list[Row] = self._execute(SQL["conversation_state"], (conversation,)).fetchall()
        if not rows:
            return None
        key, last_seq = rows[0]
        members = frozenset(user for (user,) in self._execute(SQL["member_users"], (key,)))
        log = self._logs[conversation] = _Log(key, last_seq, members)
        return log

    def _row(self, statement: str, *parameters: str | int) -> Row:
        """The one row that there must be."""
        (row,) = self._execute(SQL[statement], parameters).fetchall()
        return row
