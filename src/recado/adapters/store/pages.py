"""Pages of lists: where the next one begins, and how much one may hold."""

import re

from recado.chat.errors import Invalid
from recado.chat.event import Event, count_within, encoded_size

END = 2**62
"""Past every seq, position and time."""
_CURSOR = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})", re.ASCII)  # both within a database's integers


def cursor_of(active_at: int, key: int) -> str:
    """Where a list of conversations goes on behind this one, as clients pass it back."""
    return f"{active_at}.{key}"


def parse_cursor(cursor: str | None) -> tuple[int, int]:
    """(active_at, key) to go on behind; None for the list's start. Raises Invalid."""
    if cursor is None:
        return END, 0
    if (found := _CURSOR.fullmatch(cursor)) is None:
        raise Invalid("unknown cursor: pass the next_cursor of an earlier answer as it was")
    return int(found[1]), int(found[2])


def unknown_position() -> Invalid:
    """Nothing has reached this position of the feed."""
    return Invalid("unknown cursor: it is not of this server's data; begin anew without one")


def within_bytes(events: list[Event], bytes_max: int, newest_first: bool) -> list[Event]:
    """As many as one page may hold, from the side that the page starts at; one at least."""
    sizes = map(encoded_size, reversed(events) if newest_first else events)
    kept = count_within(sizes, bytes_max)
    return events[len(events) - kept :] if newest_first else events[:kept]
