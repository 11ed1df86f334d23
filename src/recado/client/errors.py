"""What can go wrong, as types: what the server refused, what ended the client, and what ended one iteration.

REFUSALS is the table from MQTT reason codes to what one request raises, ENDINGS to what ends the client. A connection
that ends for another reason may be made again, and is.
"""

from __future__ import annotations

from recado.mqtt.reason_codes import ReasonCode


class RecadoError(Exception):
    """Every error of this package is one."""


class Refused(RecadoError):
    """The server said no, and will say no again: nothing is repeated. `code` is the MQTT reason code."""

    def __init__(self, code: ReasonCode, text: str) -> None:
        super().__init__(f"{code.name}: {text}" if text else code.name)
        self.code = code
        self.text = text


class NotAMember(Refused):
    """There is no such conversation, or its user is no member of it (any more): the two look alike."""


class TooLarge(Refused):
    """The message is larger than the server takes, or there are too many of something."""


class Invalid(Refused):
    """The message is not well formed: an empty body, say, or a bad id."""


class Conflict(Refused):
    """It contradicts what exists."""


class NotAuthenticated(Refused):
    """The token is forged, expired or not a user's, and the provider, if there is one, had no better one."""


class TakenOver(Refused):
    """Another client came with the same session name, or the server closed this one in favour of it."""


class CutOff(Refused):
    """The server's operator or the host application ended the connection."""


class ProtocolFailure(Refused):
    """The two sides do not understand each other: one of them has a fault."""


class Closed(RecadoError):
    """The client was closed."""


class Unreachable(RecadoError, ConnectionError):
    """The first connection could not be made in time; `__cause__` is what the last attempt ended with."""


class SendTimeout(RecadoError, TimeoutError):
    """No acknowledgement in time. The message may be there or not: send it again with the same `id`."""

    def __init__(self, message_id: str | None) -> None:
        super().__init__(f"no acknowledgement in time; whether it is stored is not known (id {message_id})")
        self.id = message_id


class ConversationErased(RecadoError):
    """The host erased the conversation."""


class EventMissing(RecadoError):
    """The server does not send an event that its log must have, such as one larger than `packet_bytes_max`."""


REFUSALS: dict[ReasonCode, type[Refused]] = {
    ReasonCode.NOT_AUTHORIZED: NotAMember,
    ReasonCode.QUOTA_EXCEEDED: TooLarge,
    ReasonCode.PACKET_TOO_LARGE: TooLarge,
    ReasonCode.PAYLOAD_FORMAT_INVALID: Invalid,
    ReasonCode.TOPIC_NAME_INVALID: Invalid,
    ReasonCode.TOPIC_FILTER_INVALID: Invalid,
    ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR: Conflict,
}

ENDINGS: dict[ReasonCode, type[Refused]] = {
    ReasonCode.SESSION_TAKEN_OVER: TakenOver,
    ReasonCode.ADMINISTRATIVE_ACTION: CutOff,
    ReasonCode.BANNED: CutOff,
    ReasonCode.MALFORMED_PACKET: ProtocolFailure,
    ReasonCode.PROTOCOL_ERROR: ProtocolFailure,
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: ProtocolFailure,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: ProtocolFailure,
    ReasonCode.BAD_AUTHENTICATION_METHOD: ProtocolFailure,
    ReasonCode.RECEIVE_MAXIMUM_EXCEEDED: ProtocolFailure,
    ReasonCode.TOPIC_ALIAS_INVALID: ProtocolFailure,
}

# About the token: get another one, then give up.
UNAUTHENTICATED = {ReasonCode.BAD_USER_NAME_OR_PASSWORD, ReasonCode.NOT_AUTHORIZED}


def refusal(code: ReasonCode, text: str) -> Refused:
    """The error of one send or one subscription."""
    return REFUSALS.get(code, Refused)(code, text)


def ending(code: ReasonCode, text: str) -> Refused | None:
    """The error that ends the client, None if it should connect again."""
    kind = ENDINGS.get(code)
    return None if kind is None else kind(code, text)
