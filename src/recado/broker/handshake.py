"""What server and client agree on at CONNECT: what is refused, and what CONNACK tells an MQTT 5 client."""

from __future__ import annotations

from typing import Any

from recado.broker.hooks import Refused
from recado.broker.limits import BrokerLimits
from recado.mqtt.packets import MQTT_5, Connect
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode


def refuse_what_is_not_supported(connect: Connect) -> None:
    """Raises Refused."""
    if PropertyId.AUTHENTICATION_METHOD in connect.properties:
        text = "this server knows no authentication method: give the token as the password"
        raise Refused(ReasonCode.BAD_AUTHENTICATION_METHOD, text)  # [MQTT5-4.12.0-1]
    if connect.will is not None and connect.will.qos > 1 and connect.protocol_level == MQTT_5:
        raise Refused(ReasonCode.QOS_NOT_SUPPORTED, "this server takes QoS 0 and 1")  # [MQTT5-3.2.2-12]


def keep_alive_of(connect: Connect, limits: BrokerLimits) -> int:
    """The keep alive that holds, in seconds, 0 for none: only an MQTT 5 client can be told another than its own."""
    if connect.protocol_level == MQTT_5 and not 0 < connect.keep_alive <= limits.keep_alive_max_s:
        return limits.keep_alive_max_s
    return connect.keep_alive


def connack_properties(
    connect: Connect, limits: BrokerLimits, keep_alive: int, assigned_client_id: str | None
) -> Properties:
    if connect.protocol_level != MQTT_5:
        return EMPTY_PROPERTIES
    properties: dict[PropertyId, Any] = {
        PropertyId.RECEIVE_MAXIMUM: limits.receive_maximum,
        PropertyId.MAXIMUM_PACKET_SIZE: limits.packet_bytes_max,
        PropertyId.MAXIMUM_QOS: 1,  # [MQTT5-3.2.2-9]
        PropertyId.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
        PropertyId.SHARED_SUBSCRIPTION_AVAILABLE: 0,
    }
    if connect.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL, 0):
        properties[PropertyId.SESSION_EXPIRY_INTERVAL] = 0
    if keep_alive != connect.keep_alive:
        properties[PropertyId.SERVER_KEEP_ALIVE] = keep_alive
    if assigned_client_id is not None:
        properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER] = assigned_client_id  # [MQTT5-3.2.2-16]
    return properties
