"""A reader of the feed for as long as its request lasts.

A server that can say at once that a client has gone puts a list of callbacks into the scope's extensions under `GONE`,
so that a held request needs no second task that watches for it; and under `CUT` what ends the connection at once, for
a stream that must end while its client does not read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from starlette.types import Scope

from recado.chat.errors import Invalid
from recado.chat.listener import Kind, Listener
from recado.chat.principal import Principal
from recado.http.asked import ClientGone
from recado.http.context import Door

GONE = "recado.gone"
CUT = "recado.cut"
_LAST_WORDS_S = 1.0
_CURSOR_DIGITS_MAX = 16


@contextmanager
def listening(door: Door, principal: Principal, kind: Kind, scope: Scope) -> Iterator[Listener]:
    """Raises RateLimited, Unavailable; Invalid if the host names no user. Whoever streams is there, whoever polls is
    not: between two polls it would have gone."""
    listener = door.feed.listen(principal, kind)
    extensions = scope.get("extensions", {})
    gone: list[Callable[[], None]] = extensions.get(GONE, [])
    listener.cut = extensions.get(CUT)
    leave = partial(listener.end, ClientGone())
    gone.append(leave)
    if listener.is_stream:
        door.chat.presence.connected(listener.user)
    try:
        yield listener
    finally:
        gone.remove(leave)
        door.feed.leave(listener)
        if listener.is_stream:
            door.chat.presence.disconnected(listener.user)


@asynccontextmanager
async def last_words(scope: Scope) -> AsyncIterator[None]:
    """What says why it is over. A client that does not read has a moment to take it, then it is cut."""
    try:
        async with asyncio.timeout(_LAST_WORDS_S):
            yield
    except TimeoutError:
        if (cut := scope.get("extensions", {}).get(CUT)) is not None:
            cut()


def parse_cursor(text: str) -> int:
    """Raises Invalid for a cursor that no answer had."""
    if not (text.isascii() and text.isdigit() and len(text) <= _CURSOR_DIGITS_MAX):
        raise Invalid("unknown cursor: pass the cursor of an earlier answer as it was, or begin without one")
    return int(text)
