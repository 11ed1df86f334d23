"""What can go wrong for a user of the conversations, as coded data.

Every refusal that a client sees is one of these classes. Each door (HTTP, MQTT) maps `code` to its own status by one
table; `message` says what was wrong and what would be right, and holds no token and no message body.
"""


class ChatError(Exception):
    """A refusal. `code` is part of the public contract (DESIGN §4); subclasses set it."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(ChatError):
    """The request is malformed or breaks a rule of form."""

    code = "invalid"


class TooLarge(Invalid):
    """A value is longer than its limit."""

    code = "too_large"


class Unauthenticated(ChatError):
    """No credential, or one that is forged, expired or not meant for this server."""

    code = "unauthenticated"


class Forbidden(ChatError):
    """Known to the caller, but not allowed to it."""

    code = "forbidden"


class NotFound(ChatError):
    """Unknown, or the caller is no member: the two look alike on purpose."""

    code = "not_found"


class Conflict(ChatError):
    """The request contradicts what exists."""

    code = "conflict"


class RateLimited(ChatError):
    """Too much, too fast."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ChatError):
    """Our fault and it may pass (store away, disk full, too busy): nothing was stored, trying again is right."""

    code = "unavailable"


def no_such_conversation(conversation: str) -> NotFound:
    return NotFound(f"there is no conversation {conversation!r} that you are a member of")


def id_was_erased(conversation: str) -> Conflict:
    return Conflict(f"conversation {conversation!r} was erased, and its id is never used again: take another one")
