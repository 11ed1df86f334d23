"""Where a reader is in a conversation's log: which event is next, what came twice, and when to read the log again.

Pure. Invariant: what `take` answers NEW for has seqs that go up by one from the first, whatever comes, in any order.

An event out of turn means that something was lost on the way: the server is asked to replay after the last one that was
taken (`SUBSCRIBE` with `after`). Until it has answered, later events are dropped: they come again. After its answer the
next one must be the one that is due, or it is asked again. Only the last event of all, an erasure, may follow a gap.
"""

from __future__ import annotations

from enum import Enum, auto


class Verdict(Enum):
    NEW = auto()
    """It is the next one."""
    TWICE = auto()
    """It was taken before."""
    GAP = auto()
    """It is not the next one: ask for a replay."""
    LATER = auto()
    """It will come again."""
    MISSING = auto()
    """The server replayed, and left out the one that is due."""


class _State(Enum):
    LIVE = auto()
    WANTED = auto()  # a replay is to be asked for
    ASKED = auto()
    REPLAYING = auto()
    FULL = auto()  # a replay is to be asked for when there is room


# The server replays nothing to who is no member when it is asked. With no change of membership in between, one answer
# may be from before the last change, and one from after the next: the third in vain is a fault.
_ASKED_IN_VAIN_MAX = 3


class Cursor:
    """`seq` is the last event that was taken; None: start with whatever comes first."""

    __slots__ = ("_answers_due", "_changed_at", "_in_vain", "_state", "seq")

    def __init__(self, seq: int | None) -> None:
        self.seq = seq
        self._state = _State.LIVE if seq is None else _State.WANTED
        self._answers_due = 0
        self._in_vain = 0
        self._changed_at = 0

    def take(self, seq: int, is_last: bool = False) -> Verdict:
        """`is_last`: none follows it, and what is missing before it cannot be had any more."""
        if self.seq is not None and seq <= self.seq:
            return Verdict.TWICE
        if is_last:
            self.seq = seq
            return Verdict.NEW
        if self._state is _State.FULL:
            return Verdict.LATER
        if self.seq is None or seq == self.seq + 1:
            self.seq = seq
            self._in_vain = 0
            if self._state is _State.REPLAYING:
                self._state = _State.LIVE
            return Verdict.NEW
        if self._state in (_State.WANTED, _State.ASKED):
            return Verdict.LATER
        return self._out_of_turn()

    def _out_of_turn(self) -> Verdict:
        self._in_vain += self._state is _State.REPLAYING
        if self._in_vain >= _ASKED_IN_VAIN_MAX:
            return Verdict.MISSING
        self._state = _State.WANTED
        return Verdict.GAP

    def membership_changed(self, seq: int) -> None:
        """That event says that its user came or went: what was asked for until now counts for nothing."""
        if seq <= self._changed_at:
            return  # it came again: a server that leaves out an event is not asked for ever
        self._changed_at = seq
        self._in_vain = 0
        if self._state in (_State.ASKED, _State.REPLAYING):
            self._state = _State.LIVE

    def want(self) -> None:
        """Have a replay asked for, whatever came."""
        if self.seq is not None:
            self._state = _State.WANTED

    def is_wanted(self) -> bool:
        return self._state is _State.WANTED and self.seq is not None

    def asked(self) -> None:
        """A replay after `seq` was asked for."""
        self._state = _State.ASKED
        self._answers_due += 1

    def answered(self) -> None:
        """The server agreed: it replays."""
        self._answers_due -= 1
        if self._state is _State.ASKED and not self._answers_due:
            self._state = _State.REPLAYING

    def reconnected(self, is_session_present: bool) -> None:
        """What was asked for on the former connection has no answer. A session that is kept goes on by itself."""
        self._answers_due = self._in_vain = 0
        if self._state is _State.FULL or (is_session_present and self._state is _State.LIVE):
            return
        self._state = _State.LIVE if self.seq is None else _State.WANTED

    def put_off(self, seq: int) -> None:
        """There is no room for `seq`: it and what follows are asked for when there is."""
        if self.seq is None:
            self.seq = seq - 1
        if seq > self.seq:
            self._state = _State.FULL

    def make_room(self) -> bool:
        """There is room again; True if a replay is to be asked for."""
        if self._state is not _State.FULL:
            return False
        self._state = _State.WANTED
        return True


class Cursors:
    """Those of many conversations; beyond `kept_max` the one that was quiet for longest is forgotten."""

    def __init__(self, after: dict[str, int], kept_max: int) -> None:
        self._kept_max = kept_max
        self._of = {conversation: Cursor(seq) for conversation, seq in after.items()}

    def values(self) -> list[Cursor]:
        return list(self._of.values())

    def items(self) -> list[tuple[str, Cursor]]:
        return list(self._of.items())

    def of(self, conversation: str) -> Cursor:
        """That of a conversation which has news."""
        cursor = self._of.pop(conversation, None) or Cursor(None)
        self._of[conversation] = cursor
        if len(self._of) > self._kept_max:
            del self._of[next(iter(self._of))]
        return cursor

    def forget(self, conversation: str) -> None:
        self._of.pop(conversation, None)
