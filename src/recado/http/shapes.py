"""The JSON that goes in and comes out, as types. What a value may be is checked by `recado.chat`, on every door alike;
the bounds here are notes for `/openapi.json` and check nothing.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from recado.chat.conversation import ConversationDraft, ConversationView
from recado.chat.errors import Invalid
from recado.chat.event import Event
from recado.chat.message import MessageDraft

ID_PATTERN = "^[A-Za-z0-9_-]{1,64}$"


def id_schema(example: str) -> dict[str, Any]:
    return {"pattern": ID_PATTERN, "minLength": 1, "maxLength": 64, "examples": [example]}


UserId = Annotated[str, Meta(extra_json_schema=id_schema("ana"))]
MessageId = Annotated[str, Meta(extra_json_schema=id_schema("k3x9"))]
Seq = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": 2**53 - 1, "examples": [1]})]
Milliseconds = Annotated[int, Meta(description="Milliseconds since the epoch.")]


class ConversationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is in a conversation and what it is about. `metadata` is the host's own JSON object, kept as it is."""

    members: list[UserId]
    subject: Annotated[str | None, Meta(extra_json_schema={"examples": ["Order 4711"]})] = None
    metadata: dict[str, Any] | None = None

    def draft(self) -> ConversationDraft:
        return ConversationDraft(self.members, self.subject, None if self.metadata is None else _compact(self.metadata))


class MessageBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message to send. With an `id` of the sender's choice a retry is safe: it is stored once."""

    body: Annotated[str, Meta(extra_json_schema={"minLength": 1, "examples": ["Chegou!"]})]
    id: MessageId | None = None

    def draft(self) -> MessageDraft:
        return MessageDraft(self.body, self.id)


class EditBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the message says from now on."""

    body: Annotated[str, Meta(extra_json_schema={"minLength": 1, "examples": ["Chegou ontem!"]})]


class ReadBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything up to the event `seq` has been read."""

    seq: Seq


class UserBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user's display name; null for nothing but its id."""

    name: Annotated[str | None, Meta(extra_json_schema={"minLength": 1, "examples": ["Ana Souza"]})]


class PresenceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page that is open. `page` is an id that the page makes up for itself."""

    page: Annotated[str, Meta(extra_json_schema=id_schema("k3x9"))]
    visible: bool


class SubscriptionKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In base64url: a point of P-256, uncompressed (65 bytes), and 16 bytes."""

    p256dh: str
    auth: str


class SubscriptionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A browser's PushSubscription, as its toJSON() gives it. `expirationTime` is passed over: a subscription that has
    ended is told by its push service."""

    endpoint: Annotated[str, Meta(extra_json_schema={"format": "uri", "examples": ["https://push.example.com/k3x9"]})]
    keys: SubscriptionKeys
    expirationTime: float | None = None  # noqa: N815  # the browser's word


class DeliveredBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything up to the event `seq` has arrived."""

    seq: Seq


class JobsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs are meant; what is null is left open. With nothing named, `all` must be true."""

    sink: Annotated[str | None, Meta(extra_json_schema={"examples": ["webhook"]})] = None
    state: Annotated[str | None, Meta(extra_json_schema={"examples": ["dead"]})] = None
    conversation: str | None = None
    seq: Seq | None = None
    all: bool = False


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a token is for, and for how many seconds."""

    user: UserId
    ttl_s: Annotated[int | None, Meta(extra_json_schema={"examples": [3600]})] = None


def _compact(metadata: dict[str, Any]) -> msgspec.Raw:
    """The object as JSON without white space, as it will stand in events."""
    try:
        return msgspec.Raw(msgspec.json.encode(metadata))
    except RecursionError:  # encoding may need more of the stack than decoding did
        raise Invalid("metadata is nested too deeply") from None


class ConversationsAnswer(msgspec.Struct, frozen=True):
    """A page of conversations, newest activity first. `next_cursor` is null on the last page."""

    conversations: list[ConversationView]
    next_cursor: str | None


class ReceiptAnswer(msgspec.Struct, frozen=True):
    """How far a member is: what has reached one of its devices, and what it has read."""

    user: str
    delivered_up_to: int
    read_up_to: int


class EventsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events in order of seq; `last_seq` is the last of the whole log. `receipts` has every member, and is left out in
    conversations of many."""

    events: list[Event]
    last_seq: int
    receipts: list[ReceiptAnswer] | None = None


class PlacedEvent(msgspec.Struct, frozen=True):
    conversation: str
    event: Event


class FeedAnswer(msgspec.Struct, frozen=True):
    """Events of all the caller's conversations; in each in order of seq. `cursor` is what to ask with next."""

    events: list[PlacedEvent]
    cursor: str


class ReadAnswer(msgspec.Struct, frozen=True):
    read_up_to: int
    unread_count: int


class UserAnswer(msgspec.Struct, frozen=True):
    user: str
    name: str | None


class PresenceAnswer(msgspec.Struct, frozen=True):
    """Say it again within so many seconds, or the page counts as closed a while later."""

    renew_s: int


class PushAnswer(msgspec.Struct, frozen=True):
    """The server's public VAPID key (RFC 8292), in base64url; null where there is no web push."""

    public_key: str | None


class SubscriptionAnswer(msgspec.Struct, frozen=True):
    endpoint: str


class JobAnswer(msgspec.Struct, frozen=True):
    """What a sink has to do about one event. `due_at` is when it may run next, or when its worker's lease expires."""

    sink: str
    conversation: str
    seq: int
    state: Annotated[str, Meta(description="waiting, claimed or dead.")]
    attempt: Annotated[int, Meta(description="So often a worker has claimed it.")]
    created_at: Milliseconds
    due_at: Milliseconds
    error: Annotated[str | None, Meta(description="Of the last attempt that failed.")]


class JobsAnswer(msgspec.Struct, frozen=True):
    """The oldest first."""

    jobs: list[JobAnswer]


class JobCountAnswer(msgspec.Struct, frozen=True):
    sink: str
    state: str
    count: int
    oldest_at: Milliseconds


class JobStatsAnswer(msgspec.Struct, frozen=True):
    counts: list[JobCountAnswer]


class JobsChangedAnswer(msgspec.Struct, frozen=True):
    """How many jobs it was done to."""

    count: int


class TokenAnswer(msgspec.Struct, frozen=True):
    token: str
    user: str
    expires_at: Milliseconds


class Topics(msgspec.Struct, frozen=True):
    """Topic filters to subscribe to, and topic names with `{conversation}` to fill in. `send` is null if clients only
    read there: they send messages, typing, read and delivered over HTTP."""

    subscribe: list[str]
    events: str
    live: str
    send: str | None


class MqttAnswer(msgspec.Struct, frozen=True):
    """How to connect over MQTT; a URL is null where that listener is off or not known."""

    ws_url: str | None
    tcp_url: str | None
    username: str
    password: str
    topics: Topics


class SessionAnswer(msgspec.Struct, frozen=True):
    user: str
    expires_at: Milliseconds | None
    http_url: str
    mqtt: MqttAnswer


class HealthAnswer(msgspec.Struct, frozen=True):
    status: str
