"""What comes and goes in payloads: events, signals and messages as JSON. Unknown fields are ignored (DESIGN §4)."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a conversation's log. `at` is ms since the epoch.

    `type` is None for a message, which has `id` and `body`; else it is "edited", "deleted", "member_added",
    "member_removed", "conversation_changed" ... with `target`, `user`, `subject` or `metadata`. There will be more:
    ignore those that you do not know. `sender` is None where the host application itself acted.
    """

    seq: int
    sender: str | None = msgspec.field(name="from", default=None)
    at: int = 0
    id: str | None = None
    type: str | None = None
    body: str | None = None
    user: str | None = None
    subject: str | None = None
    metadata: dict[str, Any] | None = None
    target: int | None = None
    edited_at: int | None = None

    @property
    def is_message(self) -> bool:
        return self.type is None


class Signal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A hint that is not stored: `type` is "typing" (for `for_ms`), "read" or "delivered" (up to `seq`), or "presence"
    (`online`, `last_seen`). Ignore types that you do not know."""

    type: str
    sender: str | None = msgspec.field(name="from", default=None)
    seq: int | None = None
    for_ms: int | None = None
    online: bool | None = None
    last_seen: int | None = None


MEMBER_ADDED = "member_added"
MEMBER_REMOVED = "member_removed"
CONVERSATION_ERASED = "conversation_erased"

decode_event = msgspec.json.Decoder(Event).decode
decode_signal = msgspec.json.Decoder(Signal).decode
encode_json = msgspec.json.Encoder().encode

_is_id = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII).fullmatch
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # base 32 that sorts by value
_RANDOM_BITS = 60


def check_id(text: str, what: str) -> str:
    """Return `text`; ValueError unless it is 1 to 64 of A-Z a-z 0-9 _ -."""
    if _is_id(text) is None:
        raise ValueError(f"{what} must be 1 to 64 of the characters A-Z a-z 0-9 _ -, not {text[:80]!r}")
    return text


def new_id() -> str:
    """A message's id: 21 characters that sort by time, 60 of their bits random."""
    value = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(100, -5, -5))
