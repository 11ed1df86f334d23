"""Ids of users, conversations and messages: 1 to 64 of `A-Z a-z 0-9 _ -` (DESIGN §4)."""

import re

from recado.chat.errors import Invalid

_VALID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII).fullmatch
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32 in lower case: sorts by value, has no i, l, o, u
RANDOM_BITS = 40


def is_valid_id(text: str) -> bool:
    return _VALID(text) is not None


def check_id(text: str, what: str) -> str:
    """Return `text` if it is a valid id; `what` names it in the error, as in "conversation id"."""
    if _VALID(text) is None:
        raise Invalid(f"{what} must be 1 to 64 of the characters A-Z a-z 0-9 _ -, not {text[:80]!r}")
    return text


def time_ordered_id(now_ms: int, random_bits: int) -> str:
    """An id of 17 characters that sorts by time: 45 bits of milliseconds, then 40 random bits."""
    value = (now_ms << RANDOM_BITS) | (random_bits & ((1 << RANDOM_BITS) - 1))
    digits = [_ALPHABET[(value >> shift) & 31] for shift in range(80, -5, -5)]
    return "".join(digits)
