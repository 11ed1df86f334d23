"""What the inside needs from outside. A port says operations, in the words of the conversations; each adapter passes
one contract suite (`tests/contracts`).

Every write is one transaction and is over when its future resolves: what it says is then on disk. A refusal is a
`ChatError`; a failure of the store itself is `Unavailable`, and then nothing was written.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from recado.chat.conversation import ConversationView
from recado.chat.event import Committed, Event


class NewConversation(msgspec.Struct, frozen=True):
    """`creator` is None for the host itself. None for `subject` or `metadata` means "not given"."""

    id: str
    members: list[str]
    subject: str | None
    metadata: msgspec.Raw | None
    creator: str | None
    at: int


class KeptSession(NamedTuple):
    """The session that a message came from, if it outlives its connection. `packet_id` is that of QoS 2, 0 for none: it
    counts once, also after a crash. `no_local`: the session is not to get back what it sent."""

    key: int
    packet_id: int
    no_local: bool


class NewMessage(msgspec.Struct, frozen=True):
    """`origin` comes back in `Committed.origin` and is not stored. What `session` asks to be kept is stored with the
    message."""

    conversation: str
    sender: str
    id: str
    body: str
    at: int
    origin: object = None
    session: KeptSession | None = None


class Sent(NamedTuple):
    """The event, and whether this call made it: False if the sender had sent that id before."""

    event: Event
    created: bool


class MessageChange(msgspec.Struct, frozen=True):
    """Another body for the message `seq`, or None to delete it. `by` is None for the host itself, which may change
    every message; a user may change its own, if it was sent at `changeable_since` or later."""

    conversation: str
    seq: int
    by: str | None
    body: str | None
    at: int
    changeable_since: int


class Changed(NamedTuple):
    """The event that tells of the change; or, if there was nothing to change, the message's entry as it is."""

    event: Event
    changed: bool


class Membership(NamedTuple):
    """The members as of the event `last_seq`."""

    members: frozenset[str]
    last_seq: int


class EventPage(NamedTuple):
    """Events in order of seq, and the last seq of the whole log when they were read."""

    events: list[Event]
    last_seq: int


class Placed(NamedTuple):
    """An event of a conversation, at its place in the order of everything that was committed."""

    conversation: str
    event: Event
    position: int


class FeedPage(NamedTuple):
    """Events in the order of their positions. Everything up to `position` is in this page or was before it; `is_last`
    if that was everything there is."""

    entries: list[Placed]
    position: int
    is_last: bool


class ReadMark(NamedTuple):
    """A member's read cursor after the call, and the conversation's members; `moved` is False if it was that far."""

    read_up_to: int
    moved: bool
    members: frozenset[str]


class DeliveredMark(NamedTuple):
    """Everything up to `seq` has reached one of the user's devices."""

    conversation: str
    user: str
    seq: int


class Delivered(NamedTuple):
    """A member's cursor that moved forward to `seq`. `senders` are the others who sent messages among the last 100
    events that it passed; of two members it is the other one, whoever sent them. `members` is how many there are."""

    conversation: str
    user: str
    seq: int
    senders: frozenset[str]
    members: int


class Receipt(msgspec.Struct, frozen=True):
    """How far one member is, as seqs; `delivered_up_to` is at least `read_up_to`."""

    user: str
    delivered_up_to: int
    read_up_to: int


class Circle(NamedTuple):
    """A conversation and its members: who may know of one another's presence."""

    conversation: str
    members: frozenset[str]


class ConversationPage(NamedTuple):
    """`next_cursor` is None on the last page, else what to pass to get the next one."""

    conversations: list[ConversationView]
    next_cursor: str | None


class Store(Protocol):
    """The conversations, durably. `viewer` is the user whose read cursor a view shows, None for the host itself."""

    on_committed: Callable[[Sequence[Committed]], None]
    """Called on the event loop with what was committed, in each log's order, before the writes' futures resolve."""
    on_erased: Callable[[], None]
    """Called on the event loop when some messages' bodies are gone that no event has told of, or not yet."""

    def append_message(self, message: NewMessage) -> Awaitable[Sent]:
        """Raises NotFound if the sender is no member."""

    async def change_message(self, change: MessageChange) -> Changed:
        """Raises NotFound if `by` is no member or there is no such entry, Conflict if it is no message or its body is
        gone already (to delete that again is nothing to change), Forbidden if `by` may not change it."""

    async def put_conversation(self, new: NewConversation) -> tuple[ConversationView, bool]:
        """Create, or bring subject and metadata up to date; True if created. Raises Conflict if a listed user of an
        existing conversation is no member of it, and if the id is that of an erased one."""

    async def put_member(self, conversation: str, user: str, by: str | None, at: int, members_max: int) -> bool:
        """True if the user was added. Raises NotFound, TooLarge."""

    async def remove_member(self, conversation: str, user: str, by: str | None, at: int) -> bool:
        """True if the user was removed. Raises NotFound if there is no such conversation."""

    async def erase_conversation(self, conversation: str, at: int) -> None:
        """Leave nothing of it but its id, which stays taken; again, to have nothing left to do. Its members are told by
        an event that no log has. Raises NotFound if it never was."""

    async def erase_user(self, user: str, at: int) -> None:
        """Take the user out of every conversation and delete its messages there; a `user_erased` event ends each."""

    async def finish_erasures(self, at: int) -> None:
        """Bring to their ends those that a crash, or a failure of the store, interrupted."""

    async def erase_older(self, than: int) -> None:
        """Delete the messages that were sent before a time, without an event."""

    async def mark_read(self, conversation: str, user: str, seq: int) -> ReadMark:
        """Move a member's read cursor forward. Raises NotFound, and Invalid if `seq` is past the log's end."""

    async def mark_delivered(self, marks: Sequence[DeliveredMark], members_max: int) -> list[Delivered]:
        """Move cursors of delivery forward, all in one transaction; tells those that moved. Skips, without an error,
        who is no member, a seq past the log's end, and a conversation of more than `members_max` members."""

    async def receipts(self, conversation: str, viewer: str | None, members_max: int) -> list[Receipt]:
        """In the order of joining; empty for more than `members_max` members. Raises NotFound if unknown or `viewer`
        is no member."""

    async def circles(self, user: str, conversations_max: int, members_max: int) -> list[Circle]:
        """The user's conversations of at most `members_max` members, newest activity first."""

    async def unread_count(self, conversation: str, user: str, read_up_to: int) -> int:
        """Others' messages past a seq, as far as they are counted. Raises NotFound."""

    async def conversation(self, conversation: str, viewer: str | None) -> ConversationView:
        """Raises NotFound if it is unknown or `viewer` is no member."""

    async def conversations(self, user: str, cursor: str | None, limit: int) -> ConversationPage:
        """The user's conversations, newest activity first. Raises Invalid for a cursor that it did not make."""

    async def events(
        self, conversation: str, viewer: str | None, after: int | None, before: int | None, limit: int
    ) -> EventPage:
        """After `after`: the first `limit` events past it, and before `before` if that is given too. Else the newest
        `limit` events, before `before` if given. Raises NotFound if unknown or `viewer` is no member."""

    async def feed(self, user: str, after: int | None, limit: int) -> FeedPage:
        """The first events past a position in all the user's conversations, in each from the user's own `member_added`
        on; of those it was removed from, the `member_removed`. Without a position: no events, and where it is now.
        Raises Invalid for a position that nothing has reached yet."""

    async def membership(self, conversation: str) -> Membership:
        """Raises NotFound."""

    async def ping(self) -> None:
        """Returns if a write would be tried now; raises Unavailable."""

    async def close(self) -> None:
        """Finish the writes that were accepted, then let go of the files."""


class Broker(Protocol):
    """What brings events and signals to the members' open connections."""

    def publish(self, committed: Sequence[Committed]) -> None:
        """Send committed events to their recipients. Never waits for a reader and never raises for one."""

    def signal(self, conversation: str, recipients: frozenset[str], payload: bytes) -> None:
        """Send a hint that nothing depends on: to who is there now and has room."""

    async def disconnect(self, user: str) -> None:
        """End the user's connections now, and the sessions that would outlive them."""
