"""What one round of the crash suite recorded: who was a member, what was sent and answered, what each receiver saw.

Facts only, no verdict: `judge.py` reads them. Times are ms since the epoch, of the one clock that the server's events
(`at`) and the clients share. A message is known by its body, which no other message of a run has.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Event = dict[str, Any]
Door = Literal["http", "mqtt3", "mqtt5", "client"]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Publish:
    """One message as its sender knows it. A retry through another door is a Publish of its own, with the same id."""

    conversation: str
    sender: str
    body: str
    id: str | None
    door: Door
    qos: int
    sent_ms: int
    connection: int = 0
    """The sender's connection when it was sent first."""
    acknowledged: bool = False
    refused: bool = False
    answered_ms: int = 0
    answered_connection: int = 0
    seq: int | None = None
    """As the answer said, if it did."""


class Connection(NamedTuple):
    """One that got its CONNACK; `began_ms` is from before it was opened."""

    began_ms: int
    session_present: bool


class Sight(NamedTuple):
    """One thing that was delivered. `seq` is 0 for what is no event: a signal, or text that says nothing."""

    conversation: str
    seq: int
    event: Event
    connection: int
    """Its place in `Receiver.connections`."""
    at_ms: int
    qos: int
    was_there: bool = False
    """At QoS 2: its PUBLISH had come on an earlier connection, and on this one only PUBREL."""


@dataclass(slots=True)
class Receiver:
    """A client, over all its connections, and what it may count on.

    kept: the server granted it a session that outlives the connection. resumes: on each connection it asks for what
    comes after the last seq that it saw. deduplicates: it promises to show no event twice.
    """

    name: str
    user: str
    qos: int
    kept: bool = False
    resumes: bool = False
    deduplicates: bool = False
    conversations: frozenset[str] | None = None
    """Those that it subscribed to by name; None for a wildcard."""
    connections: list[Connection] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)

    @property
    def misses_nothing(self) -> bool:
        return self.qos > 0 and (self.kept or self.resumes)


@dataclass(slots=True)
class Conversation:
    """`removals` are (user, ms when the host had the answer), in order; `log` is the whole log after the round."""

    id: str
    first_members: frozenset[str]
    log: list[Event] = field(default_factory=list)
    removals: list[tuple[str, int]] = field(default_factory=list)


class Trespass(NamedTuple):
    """A refusal that should have come and did not."""

    user: str
    conversation: str
    what: str


@dataclass(slots=True)
class History:
    conversations: list[Conversation]
    publishes: list[Publish]
    receivers: list[Receiver]
    trespasses: list[Trespass] = field(default_factory=list)


class Spell(NamedTuple):
    """A time of membership: events `first_seq` to `last_seq`, or to the end of the log.

    `last_seq` is that of the member's own `member_removed`; `joined_ms` is 0 for the first members, and `removed_ms` is
    when the removal was answered, None if that is not known.
    """

    first_seq: int
    joined_ms: int
    last_seq: int | None = None
    left_ms: int | None = None
    removed_ms: int | None = None

    def holds(self, seq: int) -> bool:
        return self.first_seq <= seq and (self.last_seq is None or seq <= self.last_seq)

    def stays(self, seq: int) -> bool:
        """Whether the user was a member and stayed one after it."""
        return self.holds(seq) and seq != self.last_seq


def spells(conversation: Conversation, user: str) -> list[Spell]:
    """The user's times of membership, from the log alone; the answers to removals give only the moments."""
    answers = iter([at_ms for who, at_ms in conversation.removals if who == user])
    found = [Spell(1, 0)] if user in conversation.first_members else []
    for event in conversation.log:
        if event.get("user") != user:
            continue
        if event.get("type") == "member_added":
            found.append(Spell(event["seq"], event["at"]))
        elif event.get("type") == "member_removed":
            found[-1] = found[-1]._replace(last_seq=event["seq"], left_ms=event["at"], removed_ms=next(answers, None))
    return found
