"""A conversation: who is in it and what it is about; the log of its events is kept by the store."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from recado.chat.errors import Conflict, Invalid, TooLarge, no_such_conversation
from recado.chat.event import Event
from recado.chat.ids import check_id
from recado.chat.policy import ChatLimits

EMPTY_METADATA = msgspec.Raw(b"{}")


class ConversationDraft(msgspec.Struct, forbid_unknown_fields=True):
    """What the host gives to create a conversation. `metadata` is the host's own JSON object, kept as it came."""

    members: list[str]
    subject: str | None = None
    metadata: msgspec.Raw | None = None


class ConversationView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A conversation as one user sees it. Times are ms since the epoch.

    `read_up_to` and `unread_count` are the asking user's; `unread_count` counts others' messages only, among the
    first `unread_count_max` events past the cursor. `online` are the members who are there now; left out in a
    conversation of more than `receipt_members_max`. `names` has the display names of those members who have one, and is
    left out if nobody has. `muted`: the asking user is not notified of it; left out if it is.
    """

    id: str
    subject: str | None
    metadata: msgspec.Raw
    members: list[str]
    created_at: int
    active_at: int
    last_seq: int
    last_event: Event | None
    read_up_to: int
    unread_count: int
    online: list[str] | None = None
    names: dict[str, str] | None = None
    muted: bool = False


class Description(NamedTuple):
    """What a conversation is about. `metadata` is the host's own JSON object."""

    subject: str | None
    metadata: str


def check_draft(draft: ConversationDraft, limits: ChatLimits) -> ConversationDraft:
    """Return the draft with each member once, in the order given; raises Invalid or TooLarge."""
    members = list(dict.fromkeys(check_id(user, "a member's user id") for user in draft.members))
    if len(members) > limits.members_max:
        raise TooLarge(f"a conversation may have {limits.members_max} members, not {len(members)}")
    if draft.subject is not None:
        check_subject(draft.subject, limits)
    if draft.metadata is not None:
        check_metadata(draft.metadata, limits)
    return ConversationDraft(members, draft.subject, draft.metadata)


def check_subject(subject: str, limits: ChatLimits) -> None:
    if "\x00" in subject:
        raise Invalid("a subject must not hold the character U+0000")
    if (size := len(subject.encode())) > limits.subject_bytes_max:
        raise TooLarge(f"a subject may have {limits.subject_bytes_max} bytes of UTF-8, not {size}")


def check_metadata(metadata: msgspec.Raw, limits: ChatLimits) -> None:
    text = bytes(metadata)
    if not text.lstrip().startswith(b"{"):
        raise Invalid("metadata must be a JSON object")
    if len(text) > limits.metadata_bytes_max:
        raise TooLarge(f"metadata may have {limits.metadata_bytes_max} bytes of JSON, not {len(text)}")


def check_member(conversation: str, user: str | None, members: frozenset[str]) -> None:
    """Raises NotFound for who is no member; None is the host itself, for whom every conversation is there."""
    if user is not None and user not in members:
        raise no_such_conversation(conversation)


def check_listed(conversation: str, listed: Iterable[str], members: frozenset[str]) -> None:
    """Raises Conflict if somebody is listed who is no member of the conversation, which exists."""
    if strangers := [user for user in listed if user not in members]:
        raise Conflict(
            f"conversation {conversation!r} exists and {', '.join(strangers)} is not a member of it: "
            "add members with PUT /v1/conversations/{id}/members/{user}"
        )


def check_room(conversation: str, members: frozenset[str], members_max: int) -> None:
    """Raises TooLarge if nobody can be added."""
    if len(members) >= members_max:
        raise TooLarge(f"conversation {conversation!r} has {members_max} members, which is the most it may have")


def described_anew(stored: Description, subject: str | None, metadata: msgspec.Raw | None) -> Description:
    """What it is about from now on; None means "not given", and leaves it as it was."""
    return Description(
        stored.subject if subject is None else subject,
        stored.metadata if metadata is None else bytes(metadata).decode(),
    )
