"""How far a member is in a log: what it has read, and what a device of it has. Both only move forward."""

from typing import NamedTuple

from recado.chat.errors import Invalid

PAIR = 2
"""Members of most conversations: what one of them has got, the other one sent."""
SENDERS_SOUGHT_MAX = 100
"""Entries before a cursor of delivery in which it is looked for who sent them: those are told of it."""


class Cursors(NamedTuple):
    """How far a member is."""

    read_up_to: int
    delivered_up_to: int


def after_reading(cursors: Cursors, seq: int, last_seq: int) -> Cursors:
    """A member's cursors once it has read up to `seq`, the same if it had before: what is read has been delivered.
    Raises Invalid for a seq past the log's end."""
    if seq > last_seq:
        raise Invalid(f"seq {seq} is past the end of the log, which is {last_seq}")
    if seq <= cursors.read_up_to:
        return cursors
    return Cursors(seq, max(seq, cursors.delivered_up_to))


def may_be_delivered(user: str, seq: int, last_seq: int, members: frozenset[str], members_max: int) -> bool:
    """Whether a device of the user can have the event: a member's can, if the event is there. Above so many members
    nobody is told of it."""
    return user in members and seq <= last_seq and len(members) <= members_max


def sought_from(delivered_up_to: int, seq: int) -> int:
    """Past which entry the senders are sought who are told that everything up to `seq` is delivered now."""
    return max(delivered_up_to, seq - SENDERS_SOUGHT_MAX)
