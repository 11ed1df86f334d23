"""What the inside needs from outside. A port says operations, in the words of the conversations; each adapter passes
one contract suite (`tests/contracts`).

Every write is one transaction and is over when its future resolves: what it says is then on disk. A refusal is a
`ChatError`; a failure of the store itself is `Unavailable`, and then nothing was written.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

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


class Sink(NamedTuple):
    """Where events go behind the commit. A job of it is due `delay_ms` after its event: this gives the direct path time
    to settle the job first."""

    name: str
    messages_only: bool = False
    delay_ms: int = 0

    def wants(self, event: Event) -> bool:
        """Whether there is to be a job of it."""
        return event.type is None or not self.messages_only


class LaneKey(NamedTuple):
    """The jobs of one sink in one conversation are a lane: they run in order of seq, one worker has them at a time."""

    sink: str
    conversation: str


class Job(NamedTuple):
    """What one sink has to do about one entry of a log. It never has the body: whoever runs it reads the log."""

    sink: str
    conversation: str
    seq: int

    @property
    def lane(self) -> LaneKey:
        return LaneKey(self.sink, self.conversation)


class Claim(NamedTuple):
    """A job that one worker has, until its lease expires. `attempt` counts the claims of the job, from 1: it tells this
    claim from a later one."""

    job: Job
    attempt: int


class Wanted(NamedTuple):
    """What a worker asks for: the jobs of these sinks that are due at `now`; of each conversation and sink the first
    `lane_jobs_max` that are not settled, up to one that is not due, and none if one has a lease. `only` names the
    lanes to look at; None for all."""

    sinks: Sequence[str]
    now: int
    lease_ms: int
    lanes_max: int
    lane_jobs_max: int
    only: Sequence[LaneKey] | None = None


class JobEvent(NamedTuple):
    """What a job is about, as the log has it now. `recipients` are those members who may have it: not who joined later
    nor who has gone since, but with the subject of its own removal."""

    event: Event
    recipients: frozenset[str]


class JobView(msgspec.Struct, frozen=True):
    """A job as operators see it. `state` is waiting, claimed or dead. Times are ms since the epoch; `due_at` is when it
    may run next, or when its lease expires."""

    sink: str
    conversation: str
    seq: int
    state: str
    attempt: int
    created_at: int
    due_at: int
    error: str | None


class JobCount(NamedTuple):
    """How many jobs of a sink are in a state, and when the oldest of them was made."""

    sink: str
    state: str
    jobs: int
    oldest_at: int


class JobFilter(NamedTuple):
    """Which jobs an operator means; None leaves it open."""

    sink: str | None = None
    state: str | None = None
    conversation: str | None = None
    seq: int | None = None


class PushSubscription(msgspec.Struct, frozen=True):
    """Where a browser wants to be notified (RFC 8030), and the keys to encrypt for it (RFC 8291), in base64url."""

    endpoint: str
    p256dh: str
    auth: str


class PushTarget(NamedTuple):
    """One subscription of one user, who is to be notified."""

    user: str
    subscription: PushSubscription


class ConversationPage(NamedTuple):
    """`next_cursor` is None on the last page, else what to pass to get the next one."""

    conversations: list[ConversationView]
    next_cursor: str | None


class Conversations(Protocol):
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


class People(Protocol):
    """Users, the pages that they have open, and where they are to be notified."""

    async def put_user(self, user: str, name: str | None) -> None:
        """The user's display name, None for nothing but its id."""

    async def names(self, users: Sequence[str]) -> dict[str, str]:
        """The display names of those of them who have one."""

    async def set_muted(self, conversation: str, user: str, muted: bool) -> bool:
        """Whether the member is not to be notified of this conversation; True if that is new. Raises NotFound."""

    async def note_page(self, user: str, page: str, visible: bool | None, at: int, until: int, pages_max: int) -> None:
        """At `at` the user has this page open, on its screen or hidden, until then; None: no more. Of more than
        `pages_max` pages of a user those that end first are forgotten, and so are some of anybody's that have ended."""

    async def pages(self, users: Sequence[str], now: int) -> dict[str, bool]:
        """Those of the users who have a page open; True for who has one on its screen."""

    async def put_push_subscription(self, user: str, subscription: PushSubscription, at: int, most: int) -> bool:
        """True if it is new. An endpoint belongs to the user who named it last. Raises TooLarge above `most`."""

    async def delete_push_subscription(self, user: str | None, endpoint: str) -> None:
        """Forget it; with a user, only if it is the user's."""

    async def push_targets(self, conversation: str, seq: int, recipients: Sequence[str]) -> list[PushTarget]:
        """The subscriptions of those of the recipients who are members, have not muted the conversation and have not
        read as far as `seq`."""


class Jobs(Protocol):
    """What sinks have to do about events: written with the events, for the sinks that the store was opened with."""

    on_jobs: Callable[[], None]
    """Called on the event loop when there may be jobs that nobody has claimed, whichever process made them."""

    async def claim_jobs(self, wanted: Wanted) -> list[Claim]:
        """Claim what is wanted, each conversation's jobs of a sink one after the other, in order of seq. What another
        process is claiming at the moment is left to it."""

    async def extend_claims(self, claims: Sequence[Claim], until: int) -> None:
        """Their leases expire then; skips those that have been claimed again since."""

    async def release_claims(self, claims: Sequence[Claim]) -> None:
        """They were not tried: they wait again, and this attempt does not count."""

    async def settle_jobs(self, jobs: Sequence[Job]) -> None:
        """They are done, whoever has claimed them: nothing is left of them."""

    async def put_off_job(self, claim: Claim, due_at: int | None, error: str) -> None:
        """It failed: it is due again then; None: it is a dead letter, and stands in nobody's way. Skips one that has
        been claimed again since."""

    async def next_job_at(self, sinks: Sequence[str]) -> int | None:
        """When the first job that nobody is at is due, or a lease expires; None if there is no job."""

    async def lane_due_at(self, sink: str, conversation: str) -> int | None:
        """When the first job of one sink in one conversation is due, or its lease expires; None if there is no job."""

    async def job_events(self, conversation: str, first: int, last: int) -> list[JobEvent]:
        """The entries of a range, in order of seq. Of an erased conversation there is the one that ended it, if
        it is in the range."""

    async def list_jobs(self, which: JobFilter, limit: int) -> list[JobView]:
        """The oldest first."""

    async def count_jobs(self) -> list[JobCount]: ...

    async def retry_jobs(self, which: JobFilter, at: int) -> int:
        """Dead ones and those that wait are due at once, as if never tried; returns how many."""

    async def drop_jobs(self, which: JobFilter) -> int:
        """Forget those that nobody has claimed; returns how many."""


@runtime_checkable
class QueueOutbox(Protocol):
    """What a queue outside the store needs of it, to tell workers of its jobs. A store that one process alone can have
    needs no such queue, and has none of this."""

    on_jobs: Callable[[], None]
    """Called on the event loop when there may be jobs that nobody has claimed, whichever process made them."""

    async def unqueued_jobs(self, sinks: Sequence[str], now: int, limit: int) -> list[Job]:
        """Jobs that are due at `now`, or whose lease has expired, and that no queue has been given since they were. The
        oldest first; none that is dead."""

    async def jobs_queued_before(
        self, sinks: Sequence[str], now: int, before: int, after: Job | None, limit: int
    ) -> list[Job]:
        """The others that are due at `now`: a queue has been given them, but none since `before`. They stand in an
        order of the store's own, in which `after` is the last one of the page before; none that is dead."""

    async def note_queued(self, jobs: Sequence[Job], at: int) -> None:
        """A queue has been given them."""

    async def lead(self) -> bool:
        """Whether this is the one process, of all with this store, that is to do what one is enough for. Once it is,
        it is until it ends or loses the store; then another one is."""


class Store(Conversations, People, Jobs, Protocol):
    """All of it, in one place: an event and the jobs that it causes are one transaction."""

    async def ping(self) -> None:
        """Returns if a write would be tried now; raises Unavailable."""

    async def stop(self) -> None:
        """Refuse what is asked for from now on, and return once what was accepted is settled."""

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


class Queue(Protocol):
    """What tells workers that there are jobs. The store's row is the truth: what a queue loses or tells twice, in
    whatever order, costs only time."""

    async def next(self) -> Sequence[LaneKey] | None:
        """Wait until there may be jobs. Returns the lanes to look at, or None for all."""

    def done(self, lane: LaneKey, due_in_ms: int | None) -> None:
        """Of this lane everything is settled that was claimed; or some is due again in so long."""

    def busy(self, lane: LaneKey) -> None:
        """A worker is still at it: nobody else needs to look."""

    async def close(self) -> None: ...


class SinkHandler(Protocol):
    """Where the events of one sink go."""

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        """Bring it there; it may have been there already, as a worker can die before it has settled the job. What
        comes of one conversation comes in order. Raises TryLater or GiveUp; another error is a TryLater."""

    async def close(self) -> None: ...


class Push(Protocol):
    """A service that wakes a device."""

    async def push(self, subscription: PushSubscription, notice: bytes, topic: str) -> None:
        """Hand the notice over for delivery; one that waits there with the same topic is replaced. Raises PushGone if
        the subscription is no more, TryLater, GiveUp."""

    async def close(self) -> None: ...


class TryLater(Exception):
    """It may go better later, after `retry_after_s` if a time was named. The text says what failed, and has no body and
    no token. `sink_is_well`: it is this job's own failure, and says nothing of the sink's other conversations."""

    def __init__(self, message: str, retry_after_s: float | None = None, *, sink_is_well: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.sink_is_well = sink_is_well


class GiveUp(Exception):
    """It will never go better."""


class PushGone(Exception):
    """The subscription has ended."""


class Unusable(Exception):
    """What a setting names cannot be used: the text says why, and what to do, in one line and without a password."""
