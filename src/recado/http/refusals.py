"""What is refused, as HTTP says it: one table from a chat error's code to a status, and one JSON shape.

`{"error": {"code", "message"}}`. The code is the contract; the status follows from it, except for the refusals that
only HTTP knows, `WrongMethod`, `WrongContentType` and `NoUpgrade`: they are `invalid` with a status of their own.
"""

import msgspec

from recado.chat.errors import ChatError, Invalid, RateLimited, TooLarge, Unauthenticated
from recado.http.answer import Answer, json_answer

STATUS_OF_CODE = {
    "invalid": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "too_large": 413,
    "rate_limited": 429,
    "internal": 500,
    "unavailable": 503,
}
CODE_OF_STATUS = {status: code for code, status in STATUS_OF_CODE.items()}


class WrongMethod(Invalid):
    """The path is known, the method is not."""

    def __init__(self, allowed: str) -> None:
        super().__init__(f"this path answers to {allowed}")
        self.allowed = allowed


class WrongContentType(Invalid):
    """The body is declared to be something other than JSON."""


class NoUpgrade(Invalid):
    """A plain request to a path that is a WebSocket."""

    def __init__(self) -> None:
        super().__init__("this path is a WebSocket: open it with an upgrade")


class BodyTooLarge(TooLarge):
    """The whole request body is over its limit, and was not read to its end."""


class ErrorBody(msgspec.Struct, frozen=True):
    code: str
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    error: ErrorBody


def refusal_answer(error: ChatError) -> Answer:
    answer = error_answer(status_of(error), error.code, error.message)
    return answer._replace(headers=(*answer.headers, *_headers(error)))


def error_answer(status: int, code: str, message: str) -> Answer:
    return json_answer(status, ErrorAnswer(ErrorBody(code, message)))


def status_of(error: ChatError) -> int:
    if isinstance(error, WrongMethod):
        return 405
    if isinstance(error, WrongContentType):
        return 415
    if isinstance(error, NoUpgrade):
        return 426
    return STATUS_OF_CODE.get(error.code, 400)


def _headers(error: ChatError) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(error, Unauthenticated):
        return ((b"www-authenticate", b"Bearer"),)
    if isinstance(error, RateLimited):
        return ((b"retry-after", b"%d" % error.retry_after_s),)
    if isinstance(error, WrongMethod):
        return ((b"allow", error.allowed.encode()),)
    if isinstance(error, NoUpgrade):
        return ((b"upgrade", b"websocket"),)
    if isinstance(error, BodyTooLarge):
        return ((b"connection", b"close"),)  # or the server would go on reading what it has refused
    return ()
