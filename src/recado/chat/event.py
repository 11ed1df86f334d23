"""Events (entries of a conversation's log) and signals (live hints that are never stored), and their JSON form.

The JSON is the same bytes on every transport: compact UTF-8, `seq` first, absent fields left out. `from` is null when
the host application itself acted. Clients ignore fields and types that they do not know (DESIGN §4).
"""

import msgspec

_encode = msgspec.json.Encoder().encode


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One entry of a conversation's log. `at` is ms since the epoch; no `type` means a message.

    `id` and `body` belong to messages; `user` to member_added and member_removed; `subject` and `metadata` to
    conversation_changed.
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


MEMBER_ADDED = "member_added"
MEMBER_REMOVED = "member_removed"
CONVERSATION_CHANGED = "conversation_changed"


class Committed(msgspec.Struct, frozen=True):
    """An event that is on disk, and the users it goes to: the members when it was committed, with its own subject.

    `origin` is what the sender's door passed along (the MQTT session, for No Local) or None; it is not stored.
    """

    conversation: str
    event: Event
    recipients: frozenset[str]
    origin: object = None

    def members_after(self) -> frozenset[str]:
        if self.event.type == MEMBER_REMOVED and self.event.user is not None:
            return self.recipients - {self.event.user}
        return self.recipients


def encode_event(event: Event) -> bytes:
    """The event's JSON, as every transport carries it."""
    return _encode(event)


def typing_signal(sender: str) -> bytes:
    return _encode({"type": "typing", "from": sender})


def read_signal(sender: str, seq: int) -> bytes:
    return _encode({"type": "read", "from": sender, "seq": seq})
