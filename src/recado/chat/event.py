"""Events (entries of a conversation's log) and signals (live hints that are never stored), and their JSON form.

The JSON is the same bytes on every transport: compact UTF-8, `seq` first, absent fields left out. `from` is null when
the host application itself acted. Clients ignore fields and types that they do not know (DESIGN §4).
"""

from collections.abc import Iterable

import msgspec

_encode = msgspec.json.Encoder().encode


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One entry of a conversation's log. `at` is ms since the epoch; no `type` means a message.

    `id`, `body` and `edited_at` (ms since the epoch) belong to messages; `user` to member_added, member_removed and
    user_erased; `subject` and `metadata` to conversation_changed. `target` is the message that edited and deleted are
    about; a message that was deleted is itself of the type deleted, with its `id` and without a target.
    """

    seq: int
    sender: str | None = msgspec.field(name="from")
    at: int
    id: str | None = None
    type: str | None = None
    body: str | None = None
    user: str | None = None
    subject: str | None = None
    metadata: msgspec.Raw | None = None
    target: int | None = None
    edited_at: int | None = None


MEMBER_ADDED = "member_added"
MEMBER_REMOVED = "member_removed"
CONVERSATION_CHANGED = "conversation_changed"
EDITED = "edited"
DELETED = "deleted"
USER_ERASED = "user_erased"
CONVERSATION_ERASED = "conversation_erased"


class Committed(msgspec.Struct, frozen=True):
    """An event that is on disk, and the users it goes to: the members when it was committed, with its own subject.

    `origin` is what the sender's door passed along (the MQTT session, for No Local) or None; it is not stored.
    `position` is the event's place in the order of everything that was ever committed; numbers may be left out.
    `elsewhere`: another process committed it, and tells who is not connected to one of Recado's processes.
    """

    conversation: str
    event: Event
    recipients: frozenset[str]
    origin: object = None
    position: int = 0
    elsewhere: bool = False

    def closed_to(self) -> frozenset[str]:
        """Who may not read the conversation any more from this event on."""
        if self.event.type == MEMBER_REMOVED and self.event.user is not None:
            return frozenset([self.event.user])
        return self.recipients if self.event.type == CONVERSATION_ERASED else frozenset()

    def members_after(self) -> frozenset[str]:
        if self.event.type == CONVERSATION_ERASED:
            return frozenset()
        if self.event.type == MEMBER_REMOVED and self.event.user is not None:
            return self.recipients - {self.event.user}
        return self.recipients


def encode_event(event: Event) -> bytes:
    """The event's JSON, as every transport carries it."""
    return _encode(event)


def encoded_size(event: Event) -> int:
    """In bytes of that JSON: a body of control characters is six times as long there."""
    return len(_encode(event))


def count_within(sizes: Iterable[int], bytes_max: int) -> int:
    """How many entries of these sizes one page may have; one at least."""
    count = size = 0
    for each in sizes:
        size += each
        if count and size > bytes_max:
            break
        count += 1
    return count


def is_sent_by(encoded: bytes, seq: int, user: str) -> bool:
    """Whether an encoded event with that seq is `user`'s own; it looks at the first fields and decodes nothing."""
    return encoded.startswith(f'{{"seq":{seq},"from":"{user}"'.encode())


def typing_signal(sender: str, for_ms: int) -> bytes:
    return _encode({"type": "typing", "from": sender, "for_ms": for_ms})


def delivered_signal(sender: str, seq: int) -> bytes:
    return _encode({"type": "delivered", "from": sender, "seq": seq})


def presence_signal(sender: str, last_seen: int | None) -> bytes:
    """`last_seen` is in ms since the epoch, None for who is online."""
    if last_seen is None:
        return _encode({"type": "presence", "from": sender, "online": True})
    return _encode({"type": "presence", "from": sender, "online": False, "last_seen": last_seen})


def read_signal(sender: str, seq: int) -> bytes:
    return _encode({"type": "read", "from": sender, "seq": seq})
