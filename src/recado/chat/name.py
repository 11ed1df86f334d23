"""A user's display name: one line that says what it shows."""

import unicodedata

from recado.chat.errors import Invalid, TooLarge
from recado.chat.policy import ChatLimits

_BROKEN = frozenset({"Cc", "Zl", "Zp"})  # control characters and line breaks
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # what follows reads the other way round


def check_name(name: str, limits: ChatLimits) -> None:
    """Raises Invalid, TooLarge."""
    if not name.strip():
        raise Invalid("a display name must not be empty: null takes it back")
    if any(unicodedata.category(each) in _BROKEN or each in _TURNING for each in name):
        raise Invalid("a display name is one line of text: it must not hold control characters")
    if (size := len(name.encode())) > limits.name_bytes_max:
        raise TooLarge(f"a display name may have {limits.name_bytes_max} bytes of UTF-8, not {size}")
