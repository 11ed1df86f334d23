"""The fifteen packets as plain data, the same classes for every protocol level and for both directions.

A packet id is 1 to 65535; 0 in a Publish means that there is none (QoS 0). `gc=False` is safe because a packet only
holds strings, bytes, numbers and containers of those, so it can never be part of a reference cycle.
"""

from __future__ import annotations

import msgspec

from recado.mqtt.properties import EMPTY_PROPERTIES, Properties
from recado.mqtt.reason_codes import ReasonCode

MQTT_3_1 = 3
MQTT_3_1_1 = 4
MQTT_5 = 5


class Will(msgspec.Struct, gc=False):
    """What the server publishes for a client that is gone."""

    topic_name: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = EMPTY_PROPERTIES


class Connect(msgspec.Struct, gc=False):
    """`keep_alive` is in seconds, 0 is off; `clean_start` is what 3.1.1 calls clean session."""

    client_id: str
    protocol_level: int = MQTT_5
    clean_start: bool = True
    keep_alive: int = 0
    will: Will | None = None
    username: str | None = None
    password: bytes | None = None
    properties: Properties = EMPTY_PROPERTIES


class Connack(msgspec.Struct, gc=False):
    """`reason_code` is a 5.0 code at every level; the codec turns it into and from the 3.1.1 return code."""

    session_present: bool = False
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = EMPTY_PROPERTIES


class Publish(msgspec.Struct, gc=False):
    """`topic_name` is empty only where a 5.0 TOPIC_ALIAS stands for it."""

    topic_name: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = EMPTY_PROPERTIES


class Puback(msgspec.Struct, gc=False):
    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = EMPTY_PROPERTIES


class Pubrec(msgspec.Struct, gc=False):
    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = EMPTY_PROPERTIES


class Pubrel(msgspec.Struct, gc=False):
    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = EMPTY_PROPERTIES


class Pubcomp(msgspec.Struct, gc=False):
    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = EMPTY_PROPERTIES


class SubscriptionRequest(msgspec.Struct, gc=False):
    """One line of a SUBSCRIBE; before 5.0 only the filter and the QoS travel."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(msgspec.Struct, gc=False):
    packet_id: int
    subscriptions: list[SubscriptionRequest]
    properties: Properties = EMPTY_PROPERTIES


class Suback(msgspec.Struct, gc=False):
    packet_id: int
    reason_codes: list[ReasonCode]
    properties: Properties = EMPTY_PROPERTIES


class Unsubscribe(msgspec.Struct, gc=False):
    packet_id: int
    topic_filters: list[str]
    properties: Properties = EMPTY_PROPERTIES


class Unsuback(msgspec.Struct, gc=False):
    """Before 5.0 it carries no reason codes: the list is empty then."""

    packet_id: int
    reason_codes: list[ReasonCode]
    properties: Properties = EMPTY_PROPERTIES


class Pingreq(msgspec.Struct, gc=False, frozen=True):
    pass


class Pingresp(msgspec.Struct, gc=False, frozen=True):
    pass


class Disconnect(msgspec.Struct, gc=False):
    """Before 5.0 only a client sends it, and it carries nothing."""

    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = EMPTY_PROPERTIES


class Auth(msgspec.Struct, gc=False):
    """5.0 only."""

    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = EMPTY_PROPERTIES


Acknowledgement = Puback | Pubrec | Pubrel | Pubcomp
Packet = (
    Connect
    | Connack
    | Publish
    | Acknowledgement
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
