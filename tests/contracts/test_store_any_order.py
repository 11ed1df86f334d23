"""The Store port against a model that is plain lists: any order of calls, with restarts in between."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from recado.chat.errors import Conflict, Invalid, NotFound, TooLarge
from recado.chat.event import CONVERSATION_CHANGED, MEMBER_ADDED, MEMBER_REMOVED, Event
from recado.ports import Store
from tests.contracts.stores import ADAPTERS, PAGE, UNREAD_COUNT_MAX, Shelf, message, new_conversation

CONVERSATIONS = st.sampled_from(["a", "b", "c"])
USERS = st.sampled_from(["ana", "bruno", "carla"])
MESSAGE_IDS = st.sampled_from(["m1", "m2", "m3", "m4"])
SUBJECTS = st.sampled_from([None, "Order 1", "Order 2"])
MEMBERS_MAX = 2
Entry = tuple[str | None, str | None, str | None, str | None]  # type, sender, user or message id, body or subject


@dataclass
class Expected:
    """One conversation as it should be. `read` is each member's cursor, in the order of joining."""

    read: dict[str, int]
    subject: str | None
    log: list[Entry] = field(default_factory=list)
    sent: dict[tuple[str, str], int] = field(default_factory=dict)
    told: list[frozenset[str]] = field(default_factory=list)

    def append(self, entry: Entry, recipients: frozenset[str]) -> None:
        self.log.append(entry)
        self.told.append(recipients)

    def unread(self, user: str) -> int:
        newer = self.log[self.read[user] :]
        return min(UNREAD_COUNT_MAX, sum(kind is None and sender != user for kind, sender, _, _ in newer))


def entry_of(event: Event) -> Entry:
    if event.type is None:
        return None, event.sender, event.id, event.body
    return event.type, event.sender, event.user, event.subject


class StoreMachine(RuleBasedStateMachine):
    open_store: Callable[[Path], Store]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.shelf = Shelf(type(self).open_store, Path(self.folder.name))
        self.store = self.runner.run(self._opened())
        self.expected: dict[str, Expected] = {}
        self.bodies = 0
        self.now = 0

    async def _opened(self) -> Store:
        return self.shelf.open()

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
        if there is None:
            self.expected[conversation] = Expected(dict.fromkeys(members, 0), subject)
            assert self.call("put_conversation", new)[1]
        elif set(members) - set(there.read):
            with pytest.raises(Conflict):
                self.call("put_conversation", new)
        else:
            if subject not in (None, there.subject):
                there.subject = subject
                there.append((CONVERSATION_CHANGED, None, None, subject), frozenset(there.read))
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
            there.append((MEMBER_ADDED, None, user, None), frozenset(there.read))
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
            there.append((MEMBER_REMOVED, None, user, None), frozenset(there.read))
            del there.read[user]
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
            there.append((None, sender, message_id, body), frozenset(there.read))
            there.sent[sender, message_id] = len(there.log)
        sent = self.call("append_message", new)
        assert sent.created == (first is None)
        assert sent.event.seq == there.sent[sender, message_id]

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

    @precondition(lambda self: self.expected)
    @rule()
    def restart(self) -> None:
        self.store = self.runner.run(self.shelf.reopen())

    @invariant()
    def the_store_is_as_expected(self) -> None:
        for conversation, there in self.expected.items():
            page = self.call("events", conversation, None, 0, None, PAGE)
            assert [entry_of(event) for event in page.events] == there.log
            assert [event.seq for event in page.events] == list(range(1, page.last_seq + 1))
            told = [entry for entry in self.shelf.committed if entry.conversation == conversation]
            assert [entry.event for entry in told] == page.events
            assert [entry.recipients for entry in told] == there.told
            view = self.call("conversation", conversation, None)
            assert (view.members, view.subject, view.last_seq) == (list(there.read), there.subject, len(there.log))
            assert view.last_event == (page.events[-1] if page.events else None)
            for user in there.read:
                seen = self.call("conversation", conversation, user)
                assert (seen.read_up_to, seen.unread_count) == (there.read[user], there.unread(user))

    @invariant()
    def everyone_sees_their_own_conversations(self) -> None:
        for user in ("ana", "bruno", "carla"):
            listed = [view.id for view in self.call("conversations", user, None, PAGE).conversations]
            assert sorted(listed) == sorted(name for name, there in self.expected.items() if user in there.read)

    def teardown(self) -> None:
        self.runner.run(self.shelf.close())
        self.runner.close()
        self.folder.cleanup()


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_any_order_of_calls_leaves_the_store_as_a_model_of_lists_says(adapter: str) -> None:
    machine = type("Machine", (StoreMachine,), {"open_store": staticmethod(ADAPTERS[adapter])})
    few = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=few)
