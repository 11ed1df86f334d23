"""The numbers that both sides agree on: packet types, reason codes, and which packet may carry which code.

Every level speaks in MQTT 5.0 reason codes here. What 3.1 and 3.1.1 say on the wire is a table at the edge of the
codec, so that nobody else needs to know which level a peer speaks in order to say why.
"""

from __future__ import annotations

from enum import IntEnum


class PacketType(IntEnum):
    """A packet's first four bits. WILL is no packet: it is the other place in CONNECT that has properties."""

    WILL = 0
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class ReasonCode(IntEnum):
    """The MQTT 5.0 reason codes; from 0x80 on they mean failure. Three names share 0x00, the first is the one shown."""

    SUCCESS = 0x00
    NORMAL_DISCONNECTION = 0x00
    GRANTED_QOS_0 = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL_MESSAGE = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    REAUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


class ProtocolError(Exception):
    """The peer broke the protocol: say `reason_code` if its level can hear it, then close.

    `protocol_level` is the level that a bad CONNECT named, supported or not (3 and 4 want CONNACK 0x01 for an
    unsupported level, 5 and more want 0x84); None when no CONNECT got far enough to name one.
    """

    def __init__(self, reason_code: ReasonCode, text: str, *, protocol_level: int | None = None) -> None:
        super().__init__(text)
        self.reason_code = reason_code
        self.text = text
        self.protocol_level = protocol_level


def malformed(text: str) -> ProtocolError:
    """The bytes cannot be read as the packet they say they are."""
    return ProtocolError(ReasonCode.MALFORMED_PACKET, text)


def protocol_error(text: str) -> ProtocolError:
    """The bytes can be read, but the protocol forbids what they say."""
    return ProtocolError(ReasonCode.PROTOCOL_ERROR, text)


def _by_value(*codes: int) -> dict[int, ReasonCode]:
    return {code: ReasonCode(code) for code in codes}


_PUBLISH_ANSWER = _by_value(0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
_RELEASE_ANSWER = _by_value(0x00, 0x92)

# fmt: off
REASON_CODES: dict[PacketType, dict[int, ReasonCode]] = {
    PacketType.CONNACK: _by_value(  # [MQTT5-3.2.2-8]
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
        0x9B, 0x9C, 0x9D, 0x9F,
    ),
    PacketType.PUBACK: _PUBLISH_ANSWER,  # [MQTT5-3.4.2-1]
    PacketType.PUBREC: _PUBLISH_ANSWER,  # [MQTT5-3.5.2-1]
    PacketType.PUBREL: _RELEASE_ANSWER,  # [MQTT5-3.6.2-1]
    PacketType.PUBCOMP: _RELEASE_ANSWER,  # [MQTT5-3.7.2-1]
    PacketType.SUBACK: _by_value(  # [MQTT5-3.9.3-2]
        0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
    ),
    PacketType.UNSUBACK: _by_value(0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91),  # [MQTT5-3.11.3-2]
    PacketType.DISCONNECT: _by_value(  # [MQTT5-3.14.2-1]
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
        0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ),
    PacketType.AUTH: _by_value(0x00, 0x18, 0x19),  # [MQTT5-3.15.2-1]
}
# fmt: on

SUBACK_RETURN_CODES_3 = _by_value(0x00, 0x01, 0x02, 0x80)  # [MQTT311-3.9.3-2]

CONNACK_RETURN_CODES_3: dict[int, ReasonCode] = {
    0: ReasonCode.SUCCESS,
    1: ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    2: ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
    3: ReasonCode.SERVER_UNAVAILABLE,
    4: ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    5: ReasonCode.NOT_AUTHORIZED,
}

# What a 3.1.1 client is told: a reason it has no word for is "unavailable" if it may pass, else "not authorized".
CONNACK_RETURN_CODE_OF: dict[ReasonCode, int] = {
    **dict.fromkeys(REASON_CODES[PacketType.CONNACK].values(), 5),
    ReasonCode.UNSPECIFIED_ERROR: 3,
    ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR: 3,
    ReasonCode.SERVER_BUSY: 3,
    ReasonCode.QUOTA_EXCEEDED: 3,
    ReasonCode.USE_ANOTHER_SERVER: 3,
    ReasonCode.SERVER_MOVED: 3,
    ReasonCode.CONNECTION_RATE_EXCEEDED: 3,
    **{reason: code for code, reason in CONNACK_RETURN_CODES_3.items()},
}
