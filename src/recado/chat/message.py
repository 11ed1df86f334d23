"""A message on its way in: what a sender may send, and the checks that hold on every door; and who may change one."""

import msgspec

from recado.chat.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from recado.chat.event import DELETED, Event
from recado.chat.ids import check_id


class MessageDraft(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What a sender gives: a body, and an id of its own choice that makes a retry safe."""

    body: str
    id: str | None = None


_decode = msgspec.json.Decoder(MessageDraft).decode


def parse_message(payload: bytes) -> MessageDraft:
    """A draft from what was published on `c/<conversation>`.

    Text that starts with a brace must be the JSON object `{"id": ..., "body": ...}`; any other UTF-8 text is itself the
    body. Raises Invalid. The draft is not checked yet: `check_draft` does that for every door.
    """
    if payload.lstrip()[:1] == b"{":
        return _parse_object(payload)
    try:
        return MessageDraft(payload.decode())
    except UnicodeDecodeError:
        raise Invalid("a message must be UTF-8 text") from None


def _parse_object(payload: bytes) -> MessageDraft:
    try:
        return _decode(payload)
    except msgspec.ValidationError as error:
        raise Invalid(f'a JSON message is {{"id": text, "body": text}}: {error}') from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"malformed JSON: {error}") from None


def check_draft(draft: MessageDraft, body_bytes_max: int) -> MessageDraft:
    """Return `draft` if its id and its body may be stored; raises Invalid or TooLarge."""
    if draft.id is not None:
        check_id(draft.id, "message id")
    check_body(draft.body, body_bytes_max)
    return draft


def check_body(body: str, body_bytes_max: int) -> None:
    if not body.strip():
        raise Invalid("a message's body must not be empty")
    # UTF-8 takes 1 to 4 bytes a character, so most bodies need no encoding to know that they fit.
    if len(body) * 4 > body_bytes_max and (size := len(body.encode())) > body_bytes_max:
        raise TooLarge(f"a message's body may have {body_bytes_max} bytes of UTF-8, not {size}")
    if "\x00" in body:
        raise Invalid("a message's body must not hold the character U+0000")


def message_at(seq: int, entry: Event | None) -> Event:
    """The entry that a log has there, if it can be changed. Raises NotFound if it has none, Conflict for an event."""
    if entry is None:
        raise NotFound(f"there is no message {seq} in this conversation")
    if entry.id is None:
        raise Conflict(f"the event {seq} is no message: it cannot be changed")
    return entry


def check_change(message: Event, body: str | None, by: str | None, changeable_since: int) -> bool:
    """Whether there is anything to change if the message is to have another body, or none. The host itself (None) may
    change every message; a user its own, if it was sent at `changeable_since` or later. Raises Forbidden, and Conflict
    if its body is gone already."""
    if by is not None and message.sender != by:
        raise Forbidden(f"the message {message.seq} is not yours: a sender may change its own messages")
    if body == message.body:  # also None, when its body is gone
        return False
    if message.type == DELETED:
        raise Conflict(f"the message {message.seq} is deleted: it takes no other body")
    if by is not None and message.at < changeable_since:
        raise Forbidden(f"the message {message.seq} is too old to be changed by its sender")
    return True
