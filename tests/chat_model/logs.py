"""The conversations as plain lists: what was committed, and who was a member when."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from recado.chat.event import (
    CONVERSATION_ERASED,
    DELETED,
    MEMBER_ADDED,
    MEMBER_REMOVED,
    Committed,
    Event,
    encode_event,
)

_CHANGES = ("body", "edited_at", "type")


@dataclass
class Entry:
    """`bodies` are those that it ever had, and `may_be_deleted` if that ever was the last of it. `not_for` are the
    sessions' lives that sent it under No Local."""

    event: Event
    fields: dict[str, Any]
    origin: object
    bodies: set[str] = field(default_factory=set)
    may_be_deleted: bool = False
    not_for: list[Any] = field(default_factory=list)


@dataclass
class Stay:
    """A membership, from one seq to another; `last` is the member_removed, once the loop was told of it. 0 is for who
    was a member from the start."""

    first: int
    last: int | None = None


@dataclass
class Log:
    """`entries` are on disk; of the first `told` of them the loop knows, as of its end if it `is_gone`. `turns` counts
    changes of membership."""

    name: str
    members: frozenset[str]
    entries: list[Entry] = field(default_factory=list)
    told: int = 0
    turns: int = 0
    is_erased: bool = False
    is_gone: bool = False
    stays: dict[str, list[Stay]] = field(default_factory=dict)
    ids: dict[tuple[str, str], int] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.stays = {user: [Stay(0)] for user in self.members}

    # What was committed

    def committed(self, entry: Committed) -> None:
        event = entry.event
        assert event.seq == len(self.entries) + 1, f"{self.name} has no gap and nothing twice: {event}"
        if event.type == CONVERSATION_ERASED:
            self.is_erased = True
            return
        if event.type == MEMBER_ADDED and event.user is not None:
            self.members |= {event.user}
            self.stays.setdefault(event.user, []).append(Stay(event.seq))
            self.turns += 1
        assert entry.recipients == self.members, f"{event} goes to {set(entry.recipients)}, not to {set(self.members)}"
        if event.type == MEMBER_REMOVED and event.user is not None:
            self.members -= {event.user}
            self.turns += 1
        if event.type is None and event.sender is not None and event.id is not None:
            assert (event.sender, event.id) not in self.ids, f"{self.name} has {event} twice"
            self.ids[event.sender, event.id] = event.seq
        self.entries.append(Entry(event, json.loads(encode_event(event)), entry.origin))
        self._remember_body(event)

    def _remember_body(self, event: Event) -> None:
        entry = self.entries[-1]
        if event.body is not None:
            entry.bodies.add(event.body)
        if event.target is None:
            return
        about = [self.entries[event.target - 1]]
        about += [each for each in self.entries if each.event.target == event.target]
        bodies = set().union(*(each.bodies for each in about))
        for each in about:
            each.bodies = bodies
            each.may_be_deleted = each.may_be_deleted or event.type == DELETED

    def erase(self, user: str) -> None:
        """Any message of that user may be gone from now on, and what it says until it is."""
        self.erased.add(user)

    def may_be_deleted(self, entry: Entry) -> bool:
        target = entry.event.target
        about = self.entries[target - 1] if target else entry
        return entry.may_be_deleted or about.event.sender in self.erased

    def is_told(self, event: Event) -> None:
        """The loop is about to be told of it."""
        self.told = event.seq
        self.turns += event.type in (MEMBER_ADDED, MEMBER_REMOVED)
        if event.user is not None and event.type == MEMBER_REMOVED:
            (stay,) = [each for each in self.stays[event.user] if each.last is None and each.first <= event.seq][:1]
            stay.last = event.seq

    # What there is to see

    def was_member(self, user: str, seq: int) -> bool:
        return any(stay.first <= seq and seq <= (stay.last or seq) for stay in self.stays.get(user, ()))

    def is_member(self, user: str) -> bool:
        """Whether the loop may still take the user for one."""
        return any(stay.last is None for stay in self.stays.get(user, ()))

    def always_member(self, user: str) -> bool:
        return [(stay.first, stay.last) for stay in self.stays.get(user, ())] == [(0, None)]

    def check(self, payload: bytes) -> Entry:
        """What an event reads like is what it is, or was at some time."""
        fields = json.loads(payload)
        seq = fields["seq"]
        assert 0 < seq <= len(self.entries), f"{fields} is not in the log of {self.name}"
        entry: Entry = self.entries[seq - 1]
        for name in fields.keys() | entry.fields.keys():
            if name not in _CHANGES:
                assert fields.get(name) == entry.fields.get(name), (name, fields, entry.fields)
        body = fields.get("body")
        if body is None:
            assert self.may_be_deleted(entry) or entry.event.body is None, f"{fields} has lost its body"
        else:
            assert body in entry.bodies, f"{fields} has a body that it never had"
        kind = entry.event.type
        assert fields.get("type") == kind or (kind is None and self.may_be_deleted(entry) and fields["type"] == DELETED)
        return entry
