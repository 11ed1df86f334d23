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


class TokenAnswer(msgspec.Struct, frozen=True):
    token: str
    user: str
    expires_at: Milliseconds


class Topics(msgspec.Struct, frozen=True):
    """Topic filters to subscribe to, and topic names with `{conversation}` to fill in."""

    subscribe: list[str]
    events: str
    live: str
    send: str


class MqttAnswer(msgspec.Struct, frozen=True):
    """How to connect over MQTT; a URL is null where that listener is off."""

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
