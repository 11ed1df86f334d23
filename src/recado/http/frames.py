"""The frames that a WebSocket's client may send: JSON objects that name their type."""

import msgspec

from recado.chat.errors import Invalid


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="auth"):
    """The first frame, and later a newer token of the same user."""

    token: str


class Subscribe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="subscribe"):
    """The seq to go on after, or null for "from now on", by conversation; or "*" for all, past a cursor if given."""

    conversations: dict[str, int | None] | str
    cursor: str | None = None


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ack"):
    """Everything up to seq has arrived."""

    conversation: str
    seq: int


class Read(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="read"):
    """Everything up to seq has been read."""

    conversation: str
    seq: int


class Typing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="typing"):
    """The user is typing."""

    conversation: str


Frame = Auth | Subscribe | Ack | Read | Typing
_decode = msgspec.json.Decoder(Frame).decode


def decode_frame(text: str) -> Frame:
    """Raises Invalid."""
    try:
        frame: Frame = _decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"a frame is one of auth, subscribe, ack, read, typing, as JSON: {error}") from None
    return frame
