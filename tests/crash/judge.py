"""The crash suite's verdict on one round: the log against what was acknowledged and against what each receiver saw.

Pure: a History goes in, faults and figures come out. Each kind of fault in FAULTS has a test that makes it, in
test_judge.py. What is allowed and only counted: a QoS 1 event again on a later connection of its session.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tests.crash.history import Conversation, Event, History, Publish, Receiver, Sight, Spell, spells

FAULTS = (
    "acknowledged_missing",
    "twice_in_log",
    "log_gaps",
    "log_wrong",
    "missed",
    "sessions_lost",
    "duplicates_qos2",
    "duplicates_in_connection",
    "duplicates_client",
    "order_breaks",
    "leaks",
)
_AROUND = 4


@dataclass(frozen=True, slots=True)
class Fault:
    """One breach of a promise, with the part of the log and of what the receiver saw that shows it."""

    kind: str
    text: str
    trace: tuple[str, ...] = ()


@dataclass(slots=True)
class Verdict:
    """`figures` has the number of each kind of fault and of what is no fault: sent, acknowledged, delivered ..."""

    faults: list[Fault] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)


def judge(history: History) -> Verdict:
    faults: list[Fault] = []
    for conversation in history.conversations:
        faults += _log_faults(
            conversation, [each for each in history.publishes if each.conversation == conversation.id]
        )
        for receiver in history.receivers:
            seen = [sight for sight in receiver.sights if sight.conversation == conversation.id]
            faults += _Reading(conversation, receiver, seen).faults()
    faults += _elsewhere(history)
    faults += _lost_sessions(history.receivers)
    faults += [Fault("leaks", f"{user} in {where}: {what}") for user, where, what in history.trespasses]
    counts = Counter(fault.kind for fault in faults)
    return Verdict(faults, {**_figures(history), **{kind: counts[kind] for kind in FAULTS}})


def _figures(history: History) -> dict[str, int]:
    repeated = sum(_repeats(receiver) for receiver in history.receivers if receiver.qos == 1)
    return {
        "sent": len(history.publishes),
        "acknowledged": sum(each.acknowledged for each in history.publishes),
        "refused": sum(each.refused for each in history.publishes),
        "events": sum(len(each.log) for each in history.conversations),
        "delivered": sum(len(each.sights) for each in history.receivers),
        "repeated_qos1": repeated,
    }


def _repeats(receiver: Receiver) -> int:
    return len(receiver.sights) - len({(sight.conversation, sight.seq) for sight in receiver.sights})


def _elsewhere(history: History) -> Iterator[Fault]:
    known = {each.id for each in history.conversations}
    for receiver in history.receivers:
        for sight in receiver.sights:
            if sight.conversation not in known:
                yield Fault("leaks", f"{receiver.name} got something of {sight.conversation or 'no conversation'}")


def _lost_sessions(receivers: Iterable[Receiver]) -> Iterator[Fault]:
    for receiver in receivers:
        if receiver.kept:
            for number, connection in enumerate(receiver.connections[1:], 1):
                if not connection.session_present:
                    yield Fault("sessions_lost", f"{receiver.name}: connection {number} found no session")


# The log


def _log_faults(conversation: Conversation, publishes: list[Publish]) -> Iterator[Fault]:
    yield from _sequence(conversation)
    yield from _copies(conversation)
    yield from _origins(conversation, publishes)
    yield from _acknowledged(conversation, publishes)


def _sequence(conversation: Conversation) -> Iterator[Fault]:
    for expected, event in enumerate(conversation.log, 1):
        if event["seq"] != expected:
            trace = _log_around(conversation, expected)
            yield Fault("log_gaps", f"{conversation.id}: seq {event['seq']} where {expected} belongs", trace)
            return


def _copies(conversation: Conversation) -> Iterator[Fault]:
    first: dict[object, Event] = {}
    for event in conversation.log:
        if "type" in event:
            continue
        for identity in ((event["from"], event["id"]), event["body"]):
            if first.setdefault(identity, event) is not event:
                trace = (f"log {_brief(first[identity])}", *_log_around(conversation, event["seq"]))
                said = first[identity]["seq"]
                yield Fault("twice_in_log", f"{conversation.id}: {event['seq']} is the message {said} again", trace)
                break


def _origins(conversation: Conversation, publishes: list[Publish]) -> Iterator[Fault]:
    sent = {each.body: each for each in publishes}
    members = set(conversation.first_members)
    for event in conversation.log:
        if event.get("type") == "member_added":
            members.add(event["user"])
        elif event.get("type") == "member_removed":
            members.discard(event["user"])
        elif "type" not in event:
            publish = sent.get(event["body"])
            if publish is None or publish.sender != event["from"] or publish.id not in (None, event["id"]):
                yield Fault("log_wrong", f"{conversation.id}: nobody sent {event}")
            elif event["from"] not in members:
                trace = _log_around(conversation, event["seq"])
                yield Fault("log_wrong", f"{conversation.id}: {event['from']} was no member at {event['seq']}", trace)


def _acknowledged(conversation: Conversation, publishes: list[Publish]) -> Iterator[Fault]:
    stored = {event["body"]: event["seq"] for event in conversation.log if "type" not in event}
    for publish in publishes:
        if not publish.acknowledged:
            continue
        seq = stored.get(publish.body)
        if seq is None and not _is_dropped_by_design(conversation, publish):
            yield Fault("acknowledged_missing", f"{conversation.id}: {_who(publish)}", _log_around(conversation, None))
        elif seq is not None and publish.seq not in (None, seq):
            yield Fault("log_wrong", f"{conversation.id}: {_who(publish)} as {publish.seq}, stored as {seq}")


def _is_dropped_by_design(conversation: Conversation, publish: Publish) -> bool:
    """MQTT 3.1.1 has no refusal, so what a user sends who is no member is acknowledged and dropped when it comes again
    on the next connection (docs/mqtt.md)."""
    if publish.door != "mqtt3" or publish.answered_connection == publish.connection:
        return False
    absent_from = 0
    for spell in spells(conversation, publish.sender):
        if spell.joined_ms > publish.sent_ms and absent_from <= publish.answered_ms:
            return True
        if spell.left_ms is None:
            return False
        absent_from = spell.left_ms
    return absent_from <= publish.answered_ms


# What one receiver saw of one conversation


class _Reading:
    def __init__(self, conversation: Conversation, receiver: Receiver, seen: list[Sight]) -> None:
        self.conversation = conversation
        self.receiver = receiver
        self.seen = seen
        self.events = [sight for sight in seen if sight.seq]
        self.spells = spells(conversation, receiver.user)

    def faults(self) -> Iterator[Fault]:
        yield from self._leaks()
        yield from self._differences()
        yield from self._duplicates()
        yield from self._order()
        if self.receiver.misses_nothing:
            yield from self._missed()
        elif self.receiver.qos:
            yield from self._holes_in_connections()

    def _fault(self, kind: str, text: str, seq: int) -> Fault:
        trace = (*_log_around(self.conversation, seq), *self._sights_around(seq))
        return Fault(kind, f"{self.conversation.id} at {self.receiver.name}: {text}", trace)

    def _sights_around(self, seq: int) -> Iterator[str]:
        for place in sorted({near for at, sight in enumerate(self.events) if sight.seq == seq for near in _near(at)}):
            if 0 <= place < len(self.events):
                sight = self.events[place]
                yield f"saw {sight.seq} at {sight.at_ms}, QoS {sight.qos}, on connection {sight.connection}"

    def _leaks(self) -> Iterator[Fault]:
        for sight in self.seen:
            why = self._leak(sight)
            if why:
                yield self._fault("leaks", f"{sight.event} {why}", sight.seq)

    def _leak(self, sight: Sight) -> str:
        """Say why the user should not have seen it; nothing if it was the user's to see.

        The history is whole for who is a member again: one who resumes may then see what was said meanwhile.
        """
        if not self.spells:
            return "reached one who never was a member"
        before = [spell for spell in self.spells if sight.seq == 0 or spell.first_seq <= sight.seq]
        last = before[-1] if before else None
        after = next((spell for spell in self.spells if spell.first_seq > sight.seq), None) if sight.seq else None
        is_back = after is not None and sight.at_ms >= after.joined_ms
        if sight.seq and (last is None or not last.holds(sight.seq)):
            return "" if self.receiver.resumes and is_back else "was said when the user was no member"
        if sight.seq and last and not is_back and not sight.was_there and self._is_after(last, sight):
            return "came on a connection that was opened after the removal"
        return ""

    def _is_after(self, spell: Spell, sight: Sight) -> bool:
        began_ms = self.receiver.connections[sight.connection].began_ms
        return spell.removed_ms is not None and began_ms > spell.removed_ms

    def _differences(self) -> Iterator[Fault]:
        log: dict[int, Event] = {event["seq"]: event for event in self.conversation.log}
        for sight in self.events:
            if log.get(sight.seq) != sight.event:
                yield self._fault("log_wrong", f"saw {sight.event}, and the log has {log.get(sight.seq)}", sight.seq)

    def _duplicates(self) -> Iterator[Fault]:
        seen: dict[int, int] = {}
        for sight in self.events:
            before = seen.get(sight.seq)
            seen[sight.seq] = sight.connection
            if before is None:
                continue
            if self.receiver.deduplicates:
                yield self._fault("duplicates_client", f"{sight.seq} came twice", sight.seq)
            elif before == sight.connection:
                yield self._fault("duplicates_in_connection", f"{sight.seq} came twice on one connection", sight.seq)
            elif self.receiver.qos == 2 and self.receiver.kept:
                yield self._fault("duplicates_qos2", f"{sight.seq} came twice to one session", sight.seq)

    def _order(self) -> Iterator[Fault]:
        newest = 0
        met: set[int] = set()
        for sight in self.events:
            if sight.seq not in met and sight.seq < newest:
                yield self._fault("order_breaks", f"{sight.seq} came for the first time after {newest}", sight.seq)
            met.add(sight.seq)
            newest = max(newest, sight.seq)

    def _missed(self) -> Iterator[Fault]:
        """A removal acts at once, so that a time of membership that it ended need only be seen up to some event."""
        if self.receiver.conversations is not None and self.conversation.id not in self.receiver.conversations:
            return
        met = {sight.seq for sight in self.events}
        end = len(self.conversation.log)
        for spell in self.spells:
            within = range(spell.first_seq, (spell.last_seq or end + 1))
            if spell.last_seq is not None:
                last_met = max((seq for seq in met if seq in within), default=spell.first_seq - 1)
                within = range(spell.first_seq, last_met + 1)
            missed = [seq for seq in within if seq not in met]
            if missed:
                text = f"never saw {_ranges(missed)} of {spell.first_seq} to {spell.last_seq or end}"
                yield self._fault("missed", text, max((seq for seq in met if seq < missed[0]), default=missed[0]))

    def _holes_in_connections(self) -> Iterator[Fault]:
        """Who starts live on each connection sees from there on everything, while connected and a member: up to the own
        removal, which may come before what was on its way."""
        by_connection: dict[int, list[int]] = defaultdict(list)
        for sight in self.events:
            by_connection[sight.connection].append(sight.seq)
        for seqs in by_connection.values():
            for before, after in pairwise(seqs):
                if after > before + 1 and any(spell.holds(before) and spell.stays(after) for spell in self.spells):
                    yield self._fault("missed", f"{after} came right after {before}", after)


def _near(place: int) -> range:
    return range(place - _AROUND, place + _AROUND + 1)


def _log_around(conversation: Conversation, seq: int | None) -> tuple[str, ...]:
    """The log's entries near a seq, or its end."""
    seq = len(conversation.log) if seq is None else seq
    return tuple(f"log {_brief(event)}" for event in conversation.log if abs(event["seq"] - seq) <= _AROUND)


def _brief(event: Event) -> str:
    who = f" {event['user']}" if "user" in event else ""
    what = event.get("type") or f"{event.get('id')} {str(event.get('body'))[:24]}"
    return f"{event['seq']} at {event['at']} from {event['from']}: {what}{who}"


def _who(publish: Publish) -> str:
    return (
        f"{publish.body[:40].split()[0]} of {publish.sender}, id {publish.id}, by {publish.door} at QoS {publish.qos},"
        f" sent at {publish.sent_ms}, acknowledged at {publish.answered_ms}"
    )


def _ranges(seqs: list[int]) -> str:
    groups: list[list[int]] = []
    for seq in seqs:
        if groups and groups[-1][-1] == seq - 1:
            groups[-1].append(seq)
        else:
            groups.append([seq])
    return ", ".join(str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in groups)
