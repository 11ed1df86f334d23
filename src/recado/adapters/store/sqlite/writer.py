"""The writes, run by the one writer thread inside its transaction.

Each method checks before it writes: it either refuses with a `ChatError` and has changed nothing, or it writes, and
what it appended is handed out by `commit`. This process alone writes the file, so the end of a log and its members are
kept in memory between batches; `roll_back` forgets them.
"""

import apsw
import msgspec

from recado.adapters.store.sqlite.rows import Detail, Row, encode_detail, event_of
from recado.adapters.store.sqlite.statements import SQL
from recado.chat.conversation import EMPTY_METADATA
from recado.chat.errors import Conflict, Invalid, TooLarge, no_such_conversation
from recado.chat.event import CONVERSATION_CHANGED, MEMBER_ADDED, MEMBER_REMOVED, Committed, Event
from recado.ports import NewConversation, NewMessage, ReadMark, Sent

_INSERT_EVENT = SQL["insert_event"]


class _Log:
    """The end of a conversation's log, and its members."""

    __slots__ = ("active_at", "key", "last_seq", "members")

    def __init__(self, key: int, last_seq: int, members: frozenset[str]) -> None:
        self.key = key
        self.last_seq = last_seq
        self.active_at = 0
        self.members = members


class Writer:
    def __init__(self, db: apsw.Connection, logs_max: int) -> None:
        self._committed: list[Committed] = []
        self._db = db
        self._execute = db.cursor().execute
        self._logs: dict[str, _Log] = {}
        self._logs_max = logs_max
        self._advanced: dict[str, _Log] = {}

    def begin(self) -> None:
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> list[Committed]:
        """Make the batch durable; returns what it appended, in order."""
        rows = ((log.last_seq, log.active_at, log.key) for log in self._advanced.values())
        self._db.cursor().executemany(SQL["advance_conversation"], rows)
        self._execute("COMMIT")
        committed, self._committed = self._committed, []
        self._advanced.clear()
        while len(self._logs) > self._logs_max:
            del self._logs[next(iter(self._logs))]
        return committed

    def roll_back(self) -> None:
        """Undo the batch, in the file and in memory."""
        self._committed = []
        self._advanced.clear()
        self._logs.clear()
        if self._db.in_transaction:
            self._execute("ROLLBACK")

    def append_message(self, message: NewMessage) -> Sent:
        log = self._log(message.conversation)
        if message.sender not in log.members:
            raise no_such_conversation(message.conversation)
        event = Event(seq=log.last_seq + 1, sender=message.sender, at=message.at, id=message.id, body=message.body)
        row = (log.key, event.seq, event.at, event.sender, None, event.id, event.body, None)
        self._execute(_INSERT_EVENT, row)
        if not self._db.changes():
            return Sent(self._first_sent(log, message), created=False)
        self._appended(message.conversation, log, event, log.members, message.origin)
        return Sent(event, created=True)

    def put_conversation(self, new: NewConversation) -> bool:
        """True if it was created."""
        existing = self._find(new.id)
        if existing is not None:
            self._bring_up_to_date(existing, new)
            return False
        metadata = EMPTY_METADATA if new.metadata is None else new.metadata
        self._execute(SQL["insert_conversation"], (new.id, new.subject, bytes(metadata).decode(), new.at, new.at))
        log = _Log(self._db.last_insert_rowid(), 0, frozenset(new.members))
        self._db.cursor().executemany(SQL["insert_member"], ((log.key, user, 0) for user in new.members))
        self._logs[new.id] = log
        return True

    def _bring_up_to_date(self, log: _Log, new: NewConversation) -> None:
        if strangers := [user for user in new.members if user not in log.members]:
            raise Conflict(
                f"conversation {new.id!r} exists and {', '.join(strangers)} is not a member of it: "
                "add members with PUT /v1/conversations/{id}/members/{user}"
            )
        subject, metadata = self._row("describe_conversation", log.key)
        wanted_subject = subject if new.subject is None else new.subject
        wanted_metadata = metadata if new.metadata is None else bytes(new.metadata).decode()
        if (wanted_subject, wanted_metadata) == (subject, metadata):
            return
        self._execute(SQL["update_conversation"], (wanted_subject, wanted_metadata, log.key))
        detail = Detail(subject=wanted_subject, metadata=msgspec.Raw(wanted_metadata.encode()))
        self._append(new.id, log, CONVERSATION_CHANGED, new.creator, new.at, detail, log.members)

    def put_member(self, conversation: str, user: str, by: str | None, at: int, members_max: int) -> bool:
        """True if the user was added."""
        log = self._log(conversation)
        if user in log.members:
            return False
        if len(log.members) >= members_max:
            raise TooLarge(f"conversation {conversation!r} has {members_max} members, which is the most it may have")
        members = log.members | {user}
        self._execute(SQL["insert_member"], (log.key, user, log.last_seq))
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
        log.members -= {user}
        return True

    def mark_read(self, conversation: str, user: str, seq: int) -> ReadMark:
        log = self._log(conversation)
        if user not in log.members:
            raise no_such_conversation(conversation)
        if seq > log.last_seq:
            raise Invalid(f"seq {seq} is past the end of the log, which is {log.last_seq}")
        (read_up_to,) = self._row("read_up_to", log.key, user)
        moved = seq > read_up_to
        if moved:
            read_up_to = seq
            self._execute(SQL["set_read_up_to"], (seq, log.key, user))
        return ReadMark(read_up_to, moved, log.members)

    def touch(self) -> None:
        """Write something that changes nothing: the commit fails if none would succeed."""
        (version,) = self._execute("PRAGMA user_version").fetchall()[0]
        self._execute(f"PRAGMA user_version = {version}")

    def _append(
        self, conversation: str, log: _Log, kind: str, by: str | None, at: int, detail: Detail, to: frozenset[str]
    ) -> None:
        row = (log.last_seq + 1, at, by, kind, None, None, encode_detail(detail))
        self._execute(_INSERT_EVENT, (log.key, *row))
        self._appended(conversation, log, event_of(row), to, None)

    def _appended(self, conversation: str, log: _Log, event: Event, to: frozenset[str], origin: object) -> None:
        log.last_seq = event.seq
        log.active_at = event.at
        self._advanced[conversation] = log
        self._committed.append(Committed(conversation, event, to, origin))

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
