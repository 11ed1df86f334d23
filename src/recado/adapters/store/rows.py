"""Between rows and the conversations' own types."""

from typing import Any

import msgspec

from recado.chat.event import CONVERSATION_ERASED, MEMBER_REMOVED, Event
from recado.ports import JobEvent

Row = tuple[Any, ...]


NO_METADATA = msgspec.Raw()  # a Raw cannot be decoded as "or None"


class Detail(msgspec.Struct, omit_defaults=True):
    """The fields of an event that is no message."""

    user: str | None = None
    subject: str | None = None
    metadata: msgspec.Raw = NO_METADATA


_encode_detail = msgspec.json.Encoder().encode
_decode_detail = msgspec.json.Decoder(Detail).decode


def encode_detail(detail: Detail) -> str:
    return _encode_detail(detail).decode()


def event_of(row: Row) -> Event:
    """An event from (seq, at, sender, type, id, body, detail, target, edited_at)."""
    seq, at, sender, kind, message_id, body, detail, target, edited_at = row
    if detail is None:
        return Event(seq, sender, at, message_id, kind, body, target=target, edited_at=edited_at)
    own = _decode_detail(detail)
    metadata = None if own.metadata is NO_METADATA else own.metadata
    return Event(seq=seq, sender=sender, at=at, type=kind, user=own.user, subject=own.subject, metadata=metadata)


def job_event(event: Event, members: frozenset[str]) -> JobEvent:
    """What a job is about, with those of the members who had joined by then, and the subject of its own removal."""
    if event.type == MEMBER_REMOVED and event.user is not None:
        members |= {event.user}
    return JobEvent(event, members)


def job_events_of_erased(last_seq: int, erased_at: int, first: int, last: int) -> list[JobEvent]:
    """What a range of an erased conversation's log still has: the event that ended it, which no row is left of."""
    ending = Event(last_seq + 1, None, erased_at, type=CONVERSATION_ERASED)
    return [JobEvent(ending, frozenset())] if first <= ending.seq <= last else []
