"""What a call is: one row of the table in `calls`.

A handler does one chat action and says how its result looks; everything before and after is `door`'s.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from recado.http.answer import JSON_HEADERS, Answer
from recado.http.asked import Asked, Parameter
from recado.http.context import Door
from recado.http.streaming import EventStream

B = TypeVar("B")
Who = Literal["anyone", "user", "member", "host"]

JSON_TEXT = Any  # a JSON document without a shape of its own
PLAIN_TEXT = str
NO_CONTENT = Answer(204, None, JSON_HEADERS[1:])


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """`who` may call: anyone; a user with its own token; a member, or the host acting as one or as itself; the host.

    `answers` maps each success to what its body is, None for no body. `errors` are the codes beyond those that follow
    from the call's form (credentials, query, body, ids). `streams`: with Accept: text/event-stream it goes on.
    """

    method: str
    path: str
    name: str
    summary: str
    who: Who
    handler: Callable[[Door, Asked[B]], Awaitable[Answer | EventStream]]
    body: type[B] | None
    answers: Mapping[int, Any]
    query: tuple[Parameter, ...] = ()
    errors: tuple[str, ...] = ()
    streams: bool = False
