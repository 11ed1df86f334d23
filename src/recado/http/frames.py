"""The frames that a WebSocket's client may send: JSON objects that name their type."""

import msgspec

from recado.chat.errors import Invalid


class _Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class Auth(_Frame, frozen=True, tag="auth"):
    """The first frame, and later a newer token of the same user."""

    token: str


class Subscribe(_Frame, frozen=True, tag="subscribe"):
    """The seq to go on after, or null for "from now on", by conversation; or "*" for all, past a cursor if given."""

    conversations: dict[str, int | None] | str
    cursor: str | None = None


class Ack(_Frame, frozen=True, tag="ack"):
    """Everything up to seq has arrived."""

    conversation: str
    seq: int


class Read(_Frame, frozen=True, tag="read"):
    """Everything up to seq has been read."""

    conversation: str
    seq: int


class Typing(_Frame, frozen=True, tag="typing"):
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
