"""What a connection may get, and what a session is owed: kept from what the server has said and what is on disk.

`Life` is a session on the server's side, from the CONNACK that began it. A request that is not answered yet may hold or
not: then nothing is owed by it, and nothing forbidden. What is written to a connection is checked in the moment in
which it is written: what a user may not have any more may not even be sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recado.chat.event import CONVERSATION_ERASED, MEMBER_ADDED, MEMBER_REMOVED, Committed
from recado.mqtt.packets import Publish
from tests.chat_model.logs import Entry, Log

if TYPE_CHECKING:
    from tests.chat_model.member import Line

FILTERS = ("c/x", "c/y", "c/z", "c/+", "c/#", "#", "c/x/#", "c/+/live", "c/x/live")
Wanted = tuple[int, bool]  # QoS, No Local


def covers(topic_filter: str, conversation: str) -> bool:
    """Whether a filter matches a conversation's log."""
    return topic_filter in ("c/+", "c/#", "#", f"c/{conversation}", f"c/{conversation}/#")


def covers_live(topic_filter: str, conversation: str) -> bool:
    return topic_filter in ("c/#", "#", "c/+/live", f"c/{conversation}/#", f"c/{conversation}/live")


@dataclass
class Filter:
    sure: Wanted | None = None
    possible: list[Wanted] = field(default_factory=list)


@dataclass(eq=False)
class Life:
    """`got` has the QoS at which the client had each event first; `replayed` from where on it asked for some again.
    `is_sure` until something is on its way that may end it. `sessions` are the server's, over its starts."""

    user: str
    is_kept: bool
    is_sure: bool = True
    filters: dict[str, Filter] = field(default_factory=dict)
    got: dict[tuple[str, int], int] = field(default_factory=dict)
    owed: set[tuple[str, int]] = field(default_factory=set)
    replayed: dict[str, int] = field(default_factory=dict)
    sessions: list[object] = field(default_factory=list)

    def sure_qos(self, conversation: str, is_own: bool = False) -> int:
        """At which QoS it surely gets the log's events; -1 if it may not get them."""
        wanted = [each.sure for name, each in self.filters.items() if each.sure and covers(name, conversation)]
        return max((qos for qos, no_local in wanted if not (no_local and is_own)), default=-1)

    def possible_qos(self, conversation: str, is_own: bool = False) -> int:
        return max(
            (
                qos
                for name, each in self.filters.items()
                for qos, no_local in each.possible
                if covers(name, conversation) and not (no_local and is_own)
            ),
            default=-1,
        )

    def sent(self, origin: object) -> bool:
        return any(session is origin for session in self.sessions)

    def forgets(self, conversation: str, up_to: int | None = None) -> None:
        """What it has not had of a log is not owed any more."""
        self.owed = {each for each in self.owed if each[0] != conversation or (up_to is not None and each[1] > up_to)}

    def end(self) -> None:
        self.is_sure = False
        self.owed.clear()


@dataclass
class Stream:
    """A log on one connection: what was sent of it, up to `last`; from `floor` on there may be no gap.

    `restarts` are the positions after which it is to be replayed, by the SUBSCRIBEs that are not answered yet: the
    server takes up one after the other. `is_still` until something is sent in the time in which it may do so.
    """

    sent: set[int] = field(default_factory=set)
    last: int | None = None
    floor: int | None = None
    low: int = 0
    restarts: list[int] = field(default_factory=list)
    is_still: bool = True

    def restarts_after(self, seq: int) -> None:
        """What comes after this may come again."""
        self.sent = {each for each in self.sent if each <= seq}


class Expectations:
    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}
        self.lives: dict[str, Life | None] = {}
        self.unsure_begun: set[str] = set()
        self.ending: list[str] = []
        self.lines: list[Line] = []
        self.is_telling: set[tuple[str, int]] = set()
        self.broken: list[AssertionError] = []

    # The logs

    def created(self, conversation: str, members: frozenset[str]) -> None:
        self.logs[conversation] = Log(conversation, members)
        for line in self.lines:
            if line.life is not None and line.life.user in members and line.life.sure_qos(conversation) >= 0:
                line.stream(conversation).floor = 0

    def committed(self, committed: list[Committed]) -> None:
        for each in committed:
            self.logs[each.conversation].committed(each)

    def told(self, committed: list[Committed]) -> None:
        """The loop is about to be told of a commit, and to hand its events out."""
        self.is_telling = {(each.conversation, each.event.seq) for each in committed}
        for each in committed:
            log, event = self.logs[each.conversation], each.event
            if event.type == CONVERSATION_ERASED:
                log.is_gone = True
                for life in self._living():
                    life.forgets(log.name)
                continue
            log.is_told(event)
            for line in self.lines:
                if line.life is not None and event.type == MEMBER_ADDED and event.user == line.life.user:
                    self._starts(line, log.name, event.seq - 1)
            for life in self._living():
                if life.user not in each.recipients:
                    continue
                is_own = life.sent(each.origin)
                if is_own and life.possible_qos(log.name, is_own) < 0 <= life.sure_qos(log.name):
                    log.entries[event.seq - 1].not_for.append(life)
                if event.type == MEMBER_REMOVED and event.user == life.user:
                    life.forgets(log.name)
                elif life.sure_qos(log.name, is_own) > 0:
                    life.owed.add((log.name, event.seq))

    @staticmethod
    def _starts(line: Line, conversation: str, floor: int) -> None:
        stream = line.stream(conversation)
        stream.last = stream.floor = None
        if line.life is not None and line.life.sure_qos(conversation) >= 0:
            stream.floor = floor

    def _living(self) -> list[Life]:
        return [life for life in self.lives.values() if life is not None and life.is_sure]

    # Connections

    def greeted(self, line: Line, is_present: bool) -> None:
        """CONNACK is being written."""
        name = line.name
        former = self.lives.get(name)
        if is_present:
            assert not line.is_clean, f"{name} wanted a clean start"
            if former is None or not former.is_kept:
                assert name in self.unsure_begun, f"{name} is told of a session that is none of its own"
                former = Life(line.user, True)
            former.is_sure = line.user not in self.ending
        else:
            is_lost = former is not None and former.is_kept and former.is_sure and not line.is_clean
            assert not is_lost, f"{name}'s session is lost"
            former = Life(line.user, line.is_kept, line.user not in self.ending)
        self.unsure_begun.discard(name)
        self.lives[name] = line.life = former
        former.sessions.append(line.session)
        for conversation, log in self.logs.items():
            if former.sure_qos(conversation) == 0 == former.possible_qos(conversation) and log.is_member(line.user):
                line.stream(conversation).floor = line.stream(conversation).low = log.told

    def connects(self, line: Line) -> None:
        """CONNECT is on its way."""
        life = self.lives.get(line.name)
        if line.is_kept:
            self.unsure_begun.add(line.name)
        if life is not None and (line.is_clean or not life.is_kept):
            life.end()

    def gone(self, line: Line) -> None:
        """The server knows that the connection is over."""
        if line in self.lines:
            self.lines.remove(line)
        if line.life is not None and not line.life.is_kept:
            line.life.end()
            if self.lives.get(line.name) is line.life:
                self.lives[line.name] = None

    # Subscriptions

    def subscribes(self, life: Life, line: Line, topic_filter: str, wanted: Wanted, after: dict[str, int]) -> None:
        for conversation, log in self.logs.items():
            if covers(topic_filter, conversation) and life.possible_qos(conversation) < 0:
                line.stream(conversation).low = log.told
        asked = life.filters.setdefault(topic_filter, Filter())
        asked.possible.append(wanted)
        if asked.sure is not None:
            asked.sure = (min(asked.sure[0], wanted[0]), asked.sure[1] or wanted[1])
            self._owe_less(life)
        for conversation, seq in after.items():
            stream = line.stream(conversation)
            stream.is_still = stream.is_still or not stream.restarts
            stream.restarts.append(seq)
            life.replayed[conversation] = min(seq, life.replayed.get(conversation, seq))
            life.forgets(conversation, seq)
            for key in [key for key in life.got if key[0] == conversation and key[1] > seq]:
                del life.got[key]

    def _owe_less(self, life: Life) -> None:
        for conversation in self.logs:
            if life.sure_qos(conversation, is_own=True) < 1:
                life.forgets(conversation)

    def subscribed(self, line: Line, topic_filter: str, wanted: Wanted, after: dict[str, int]) -> None:
        """SUBACK is being written."""
        life = line.life
        assert life is not None
        covered = {name for name in self.logs if life.sure_qos(name) >= 0}
        life.filters[topic_filter] = Filter(wanted, [wanted])
        for conversation, log in self.logs.items():
            if conversation in after or not log.is_member(life.user) or life.sure_qos(conversation) < 0:
                continue
            stream = line.stream(conversation)
            if conversation not in covered and stream.last is None and stream.floor is None:
                stream.floor = log.told
        self._replays(life, line, after)

    def _replays(self, life: Life, line: Line, after: dict[str, int]) -> None:
        """The server has taken up a SUBSCRIBE that names these logs; it replays those that the session reads."""
        for conversation, seq in after.items():
            log, stream = self.logs[conversation], line.stream(conversation)
            is_read = log.is_member(life.user) and life.sure_qos(conversation) >= 0
            assert stream.restarts.pop(0) == seq
            stream.restarts_after(seq)
            stream.last = stream.floor = None
            if is_read and stream.is_still:
                stream.floor = seq
            stream.low = seq
            stream.is_still = True
            if is_read and life.sure_qos(conversation, is_own=True) > 0:
                life.owed |= {(conversation, each) for each in range(seq + 1, log.told + 1)}
                life.owed -= life.got.keys()

    def refused(self, line: Line, topic_filter: str, wanted: Wanted, after: dict[str, int]) -> None:
        """`after` counts all the same: in what other subscriptions bring."""
        assert line.life is not None
        asked = line.life.filters[topic_filter]
        asked.possible.remove(wanted)
        self._replays(line.life, line, after)

    def unsubscribes(self, life: Life, topic_filter: str) -> None:
        if topic_filter in life.filters:
            life.filters[topic_filter].sure = None
            self._owe_less(life)

    def unsubscribed(self, line: Line, topic_filter: str) -> None:
        assert line.life is not None
        line.life.filters.pop(topic_filter, None)
        for conversation in self.logs:
            if line.life.sure_qos(conversation) < 0:
                line.stream(conversation).last = line.stream(conversation).floor = None

    # What is written to a connection

    def written(self, line: Line, publish: Publish) -> None:
        life = line.life
        assert life is not None
        _, conversation, *below = publish.topic_name.split("/")
        log = self.logs[conversation]
        user = life.user
        assert not publish.retain
        if below:
            assert publish.qos == 0
            assert log.is_member(user), f"{user} gets a signal of {conversation}: {publish.payload!r}"
            assert any(covers_live(name, conversation) for name in life.filters)
            return
        if b'"conversation_erased"' in publish.payload:
            assert log.is_erased
            return
        entry = log.check(publish.payload)
        seq = entry.event.seq
        who = f"{line.name} gets {conversation} {seq}"
        assert life not in entry.not_for, f"{who}, which it sent itself, under No Local"
        stream = line.stream(conversation)
        is_asked_for = self._is_asked_for(life, stream, log, seq)
        assert log.was_member(user, seq) or is_asked_for, f"{who}, when it was no member"
        is_now = (conversation, seq) in self.is_telling
        is_last = entry.event.type == MEMBER_REMOVED and entry.event.user == user and not publish.dup
        is_granted = publish.qos <= life.possible_qos(conversation)
        assert is_granted or is_last or publish.dup, f"{who}, which it has not subscribed to so"
        assert log.is_member(user) or is_now or is_last or self._was_about_to(stream, life, log, publish, seq), (
            f"{who}, when it is no member any more"
        )
        assert not log.is_gone or is_now, f"{who}, when it is erased"
        if publish.dup:
            assert seq not in stream.sent or is_asked_for, f"{who} again"
            if not is_asked_for:  # else it may come once more, as what was asked for
                stream.sent.add(seq)
        else:
            self._goes_on(stream, life, log, entry, who)

    @staticmethod
    def _was_about_to(stream: Stream, life: Life, log: Log, publish: Publish, seq: int) -> bool:
        """At QoS 2 a publish waits for its packet id to be stored; the removal waits behind it."""
        last = log.stays[life.user][-1].last or 0
        return life.is_kept and publish.qos == 2 and not publish.dup and seq <= last and last not in stream.sent

    @staticmethod
    def _is_asked_for(life: Life, stream: Stream, log: Log, seq: int) -> bool:
        """A member may read the whole log, if it asks for it."""
        return seq > life.replayed.get(log.name, len(log.entries)) and log.is_member(life.user)

    def _goes_on(self, stream: Stream, life: Life, log: Log, entry: Entry, who: str) -> None:
        seq = entry.event.seq
        last = stream.floor if stream.last is None else stream.last
        stream.is_still = False
        if entry.event.type == MEMBER_REMOVED and entry.event.user == life.user:
            # What it was behind in does not come any more; and this may wait until it is a member again.
            is_replay = seq > life.replayed.get(log.name, seq)
            assert stream.last is None or seq > stream.last or is_replay, f"{who} after {stream.last}"
            stream.sent.add(seq)
            is_next = last is not None and seq > last and self._are_excused(stream, life, log, last, seq)
            if last is None or is_next or (seq > last and not is_replay):
                stream.last = seq
            return
        if last is not None and (seq <= last or not self._are_excused(stream, life, log, last, seq)):
            restart = stream.restarts[0] if stream.restarts else len(log.entries)
            is_restart = restart < seq and self._are_excused(stream, life, log, restart, seq)
            is_low = stream.last is None and stream.floor is not None and stream.low < seq <= stream.floor
            assert is_restart or is_low, f"{who} after {last}"
            if is_restart:
                stream.restarts_after(restart)
        assert seq not in stream.sent, f"{who} twice on a connection"
        stream.sent.add(seq)
        stream.last = seq

    def _are_excused(self, stream: Stream, life: Life, log: Log, after: int, before: int) -> bool:
        """Whether what lies between may be left out."""
        is_read = life.replayed.get(log.name, before)
        return all(
            seq in stream.sent
            or (not log.was_member(life.user, seq) and seq <= is_read)
            or life.sent(log.entries[seq - 1].origin)
            for seq in range(after + 1, before)
        )

    # What arrives

    def arrived(self, life: Life, line: Line, publish: Publish) -> None:
        conversation = publish.topic_name[2:]
        if "/" in conversation or b'"conversation_erased"' in publish.payload:
            return
        entry = self.logs[conversation].check(publish.payload)
        key = (conversation, entry.event.seq)
        before = life.got.get(key)
        is_replay = key[1] > life.replayed.get(conversation, key[1])
        if before is not None and not is_replay:
            assert not before == publish.qos == 2, f"{line.name} gets {key} twice at QoS 2"
        life.got[key] = publish.qos if before is None else min(before, publish.qos)
        life.owed.discard(key)

    def check_all_arrived(self) -> None:
        for name, life in self.lives.items():
            if life is not None and life.is_sure:
                assert not life.owed, f"{name} never got {sorted(life.owed)}"
