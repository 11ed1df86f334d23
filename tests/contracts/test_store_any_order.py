"""The Store port against a model that is plain lists: any order of calls, with restarts in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from recado.chat.errors import ChatError, Conflict, Forbidden, Invalid, NotFound, TooLarge
from recado.chat.event import (
    CONVERSATION_CHANGED,
    CONVERSATION_ERASED,
    DELETED,
    EDITED,
    MEMBER_ADDED,
    MEMBER_REMOVED,
    USER_ERASED,
    Event,
)
from recado.ports import MessageChange
from tests.contracts.stores import ADAPTERS, PAGE, UNREAD_COUNT_MAX, NewDatabase, Shelf, message, new_conversation

CONVERSATIONS = st.sampled_from(["a", "b", "c"])
USERS = st.sampled_from(["ana", "bruno", "carla"])
MESSAGE_IDS = st.sampled_from(["m1", "m2", "m3", "m4"])
SUBJECTS = st.sampled_from([None, "Order 1", "Order 2"])
MEMBERS_MAX = 2


class Entry(NamedTuple):
    """`name` is the user's or the message's id, `text` the body or the subject."""

    type: str | None
    sender: str | None
    name: str | None = None
    text: str | None = None
    target: int | None = None

    @property
    def is_message(self) -> bool:
        return self.type is None or (self.type == DELETED and self.target is None)


@dataclass
class Expected:
    """One conversation as it should be. `read` is each member's cursor, in the order of joining."""

    read: dict[str, int]
    subject: str | None
    log: list[Entry] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    sent: dict[tuple[str, str], int] = field(default_factory=dict)
    told: list[tuple[str | None, frozenset[str]]] = field(default_factory=list)

    def append(self, entry: Entry, at: int, recipients: frozenset[str]) -> None:
        self.log.append(entry)
        self.times.append(at)
        self.told.append((entry.type, recipients))

    def delete(self, seq: int) -> None:
        self.log[seq - 1] = self.log[seq - 1]._replace(type=DELETED, text=None)

    def seqs_of(self, user: str) -> list[int]:
        """Its messages that are not deleted."""
        return [seq for seq, entry in enumerate(self.log, 1) if entry.type is None and entry.sender == user]

    def remove(self, user: str, at: int) -> None:
        self.append(Entry(MEMBER_REMOVED, None, user), at, frozenset(self.read))
        del self.read[user]

    def as_read(self) -> list[Entry]:
        """The log, where an edit shows the body that its message has now."""
        return [
            entry._replace(text=self.log[entry.target - 1].text) if entry.target is not None else entry
            for entry in self.log
        ]

    def unread(self, user: str) -> int:
        newer = self.log[self.read[user] :]
        return min(UNREAD_COUNT_MAX, sum(entry.type is None and entry.sender != user for entry in newer))


def entry_of(event: Event) -> Entry:
    return Entry(event.type, event.sender, event.id or event.user, event.body or event.subject, event.target)


class StoreMachine(RuleBasedStateMachine):
    new_shelf: Callable[[], Coroutine[Any, Any, Shelf]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.shelf = self.runner.run(type(self).new_shelf())
        self.store = self.runner.run(self.shelf.open())
        self.expected: dict[str, Expected] = {}
        self.erased: dict[str, Expected] = {}
        self.bodies = 0
        self.now = 0

    def call(self, method: str, *arguments: Any) -> Any:
        async def called() -> Any:
            return await getattr(self.store, method)(*arguments)

        return self.runner.run(called())

    def at(self) -> int:
        self.now += 1
        return self.now

    @rule(conversation=CONVERSATIONS, members=st.lists(USERS, max_size=MEMBERS_MAX, unique=True), subject=SUBJECTS)
    def put_conversation(self, conversation: str, members: list[str], subject: str | None) -> None:
        new = new_conversation(conversation, members, subject, at=self.at())
        there = self.expected.get(conversation)
        if conversation in self.erased:
            with pytest.raises(Conflict):
                self.call("put_conversation", new)
        elif there is None:
            self.expected[conversation] = Expected(dict.fromkeys(members, 0), subject)
            assert self.call("put_conversation", new)[1]
        elif set(members) - set(there.read):
            with pytest.raises(Conflict):
                self.call("put_conversation", new)
        else:
            if subject not in (None, there.subject):
                there.subject = subject
                there.append(Entry(CONVERSATION_CHANGED, None, None, subject), new.at, frozenset(there.read))
            assert not self.call("put_conversation", new)[1]

    @rule(conversation=CONVERSATIONS, user=USERS)
    def put_member(self, conversation: str, user: str) -> None:
        arguments = (conversation, user, None, self.at(), MEMBERS_MAX)
        there = self.expected.get(conversation)
        if there is None:
            with pytest.raises(NotFound):
                self.call("put_member", *arguments)
        elif user in there.read:
            assert not self.call("put_member", *arguments)
        elif len(there.read) >= MEMBERS_MAX:
            with pytest.raises(TooLarge):
                self.call("put_member", *arguments)
        else:
            there.read[user] = len(there.log)
            there.append(Entry(MEMBER_ADDED, None, user), arguments[3], frozenset(there.read))
            assert self.call("put_member", *arguments)

    @rule(conversation=CONVERSATIONS, user=USERS)
    def remove_member(self, conversation: str, user: str) -> None:
        arguments = (conversation, user, None, self.at())
        there = self.expected.get(conversation)
        if there is None:
            with pytest.raises(NotFound):
                self.call("remove_member", *arguments)
        elif user not in there.read:
            assert not self.call("remove_member", *arguments)
        else:
            there.remove(user, arguments[3])
            assert self.call("remove_member", *arguments)

    @rule(conversation=CONVERSATIONS, sender=USERS, message_id=MESSAGE_IDS)
    def send(self, conversation: str, sender: str, message_id: str) -> None:
        self.bodies += 1
        body = f"body {self.bodies}"
        new = message(sender, message_id, body, conversation, self.at())
        there = self.expected.get(conversation)
        if there is None or sender not in there.read:
            with pytest.raises(NotFound):
                self.call("append_message", new)
            return
        first = there.sent.get((sender, message_id))
        if first is None:
            there.append(Entry(None, sender, message_id, body), new.at, frozenset(there.read))
            there.sent[sender, message_id] = len(there.log)
        sent = self.call("append_message", new)
        assert sent.created == (first is None)
        assert sent.event.seq == there.sent[sender, message_id]
        assert entry_of(sent.event) == there.log[sent.event.seq - 1]

    @rule(conversation=CONVERSATIONS, user=USERS, seq=st.integers(0, 12))
    def mark_read(self, conversation: str, user: str, seq: int) -> None:
        there = self.expected.get(conversation)
        if there is None or user not in there.read:
            with pytest.raises(NotFound):
                self.call("mark_read", conversation, user, seq)
        elif seq > len(there.log):
            with pytest.raises(Invalid):
                self.call("mark_read", conversation, user, seq)
        else:
            moved = seq > there.read[user]
            there.read[user] = max(seq, there.read[user])
            assert self.call("mark_read", conversation, user, seq) == (
                there.read[user],
                moved,
                set(there.read),
            )
            assert self.call("unread_count", conversation, user, there.read[user]) == there.unread(user)

    @rule(conversation=CONVERSATIONS, seq=st.integers(0, 12), by=st.none() | USERS, is_edit=st.booleans())
    def change(self, conversation: str, seq: int, by: str | None, is_edit: bool) -> None:
        self.bodies += is_edit
        body = f"body {self.bodies}" if is_edit else None
        change = MessageChange(conversation, seq, by, body, self.at(), 0)
        refusal = self.refusal_of(change)
        if refusal is not None:
            with pytest.raises(refusal):
                self.call("change_message", change)
            return
        there = self.expected[conversation]
        is_news = there.log[seq - 1].text != body
        if is_news and is_edit:
            there.log[seq - 1] = there.log[seq - 1]._replace(text=body)
            there.append(Entry(EDITED, by, None, body, seq), change.at, frozenset(there.read))
        elif is_news:
            there.delete(seq)
            there.append(Entry(DELETED, by, target=seq), change.at, frozenset(there.read))
        changed = self.call("change_message", change)
        assert changed.changed == is_news
        assert entry_of(changed.event) == (there.as_read()[-1] if is_news else there.log[seq - 1])

    def refusal_of(self, change: MessageChange) -> type[ChatError] | None:
        there = self.expected.get(change.conversation)
        if there is None or (change.by is not None and change.by not in there.read):
            return NotFound
        if not 1 <= change.seq <= len(there.log):
            return NotFound
        entry = there.log[change.seq - 1]
        if not entry.is_message:
            return Conflict
        if change.by not in (None, entry.sender):
            return Forbidden
        return Conflict if entry.type == DELETED and change.body is not None else None

    @precondition(lambda self: self.now > 10)
    @rule(conversation=CONVERSATIONS)
    def erase_conversation(self, conversation: str) -> None:
        at = self.at()
        there = self.expected.pop(conversation, None)
        if there is not None:
            there.told.append((CONVERSATION_ERASED, frozenset(there.read)))
            self.erased[conversation] = there
        if conversation in self.erased:
            self.call("erase_conversation", conversation, at)
            with pytest.raises(NotFound):
                self.call("membership", conversation)
        else:
            with pytest.raises(NotFound):
                self.call("erase_conversation", conversation, at)

    @rule(user=USERS)
    def erase_user(self, user: str) -> None:
        at = self.at()
        for there in self.expected.values():
            seqs = there.seqs_of(user)
            if user not in there.read and not seqs:
                continue
            if user in there.read:
                there.remove(user, at)
            for seq in seqs:
                there.delete(seq)
            there.append(Entry(USER_ERASED, None, user), at, frozenset(there.read))
        self.call("erase_user", user, at)

    @rule(age=st.integers(0, 20))
    def erase_older(self, age: int) -> None:
        than = self.now - age
        for there in self.expected.values():
            for seq, (entry, at) in enumerate(zip(there.log, there.times, strict=True), 1):
                if entry.type is None and at < than:
                    there.delete(seq)
        self.call("erase_older", than)

    @precondition(lambda self: self.expected)
    @rule()
    def restart(self) -> None:
        self.store = self.runner.run(self.shelf.reopen())

    @invariant()
    def the_store_is_as_expected(self) -> None:
        for conversation, there in self.expected.items():
            page = self.call("events", conversation, None, 0, None, PAGE)
            assert [entry_of(event) for event in page.events] == there.as_read()
            assert [event.seq for event in page.events] == list(range(1, page.last_seq + 1))
            view = self.call("conversation", conversation, None)
            assert (view.members, view.subject, view.last_seq) == (list(there.read), there.subject, len(there.log))
            assert view.last_event == (page.events[-1] if page.events else None)
            for user in there.read:
                seen = self.call("conversation", conversation, user)
                assert (seen.read_up_to, seen.unread_count) == (there.read[user], there.unread(user))

    @invariant()
    def what_was_committed_was_told_to_the_members_in_order(self) -> None:
        for conversation, there in (self.expected | self.erased).items():
            told = [entry for entry in self.shelf.committed if entry.conversation == conversation]
            assert [(entry.event.type, entry.recipients) for entry in told] == there.told
            assert [entry.event.seq for entry in told] == list(range(1, len(told) + 1))

    @invariant()
    def everyone_sees_their_own_conversations(self) -> None:
        for user in ("ana", "bruno", "carla"):
            listed = [view.id for view in self.call("conversations", user, None, PAGE).conversations]
            assert sorted(listed) == sorted(name for name, there in self.expected.items() if user in there.read)

    def teardown(self) -> None:
        self.runner.run(self.shelf.close())
        self.runner.close()


def test_any_order_of_calls_leaves_the_store_as_a_model_of_lists_says(adapter: str, new_database: NewDatabase) -> None:
    async def new_shelf() -> Shelf:
        return Shelf(ADAPTERS[adapter], await new_database())

    machine = type("Machine", (StoreMachine,), {"new_shelf": staticmethod(new_shelf)})
    few = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=few)
