"""A reader of the feed for as long as its request lasts.

A server that can say at once that a client has gone puts a list of callbacks into the scope's extensions under `GONE`.
So a held request needs no second task that watches for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from starlette.types import Scope

from recado.chat.errors import Invalid
from recado.chat.listener import Kind, Listener
from recado.chat.principal import Principal
from recado.http.asked import ClientGone
from recado.http.context import Door

GONE = "recado.gone"
_CURSOR_DIGITS_MAX = 16


@contextmanager
def listening(door: Door, principal: Principal, kind: Kind, scope: Scope) -> Iterator[Listener]:
    """Raises RateLimited, Unavailable; Invalid if the host names no user. Whoever streams is there, whoever polls is
    not: between two polls it would have gone."""
    listener = door.feed.listen(principal, kind)
    gone: list[Callable[[], None]] = scope.get("extensions", {}).get(GONE, [])
    leave = partial(listener.end, ClientGone())
    gone.append(leave)
    if kind != "poll":
        door.chat.presence.connected(listener.user)
    try:
        yield listener
    finally:
        gone.remove(leave)
        door.feed.leave(listener)
        if kind != "poll":
            door.chat.presence.disconnected(listener.user)


def parse_cursor(text: str) -> int:
    """Raises Invalid for a cursor that no answer had."""
    if not (text.isascii() and text.isdigit() and len(text) <= _CURSOR_DIGITS_MAX):
        raise Invalid("unknown cursor: pass the cursor of an earlier answer as it was, or begin without one")
    return int(text)
