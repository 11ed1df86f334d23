"""CONNECT and AUTH: who the client is, which session it gets, and what the two sides agree on; and what DISCONNECT
says about the session.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from recado.broker import sending
from recado.broker.hooks import Identity, Refused
from recado.broker.limits import BrokerLimits
from recado.broker.sessions import Opened
from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_5, Auth, Connack, Connect, Disconnect
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId, is_utf_8
from recado.mqtt.reason_codes import REASON_CODES, PacketType, ProtocolError, ReasonCode, protocol_error
from recado.mqtt.session import Session
from recado.mqtt.topics import validate_topic_name

if TYPE_CHECKING:
    from recado.broker.connection import Connection
    from recado.broker.server import Server

_KEEP_ALIVE_GRACE = 1.5  # [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]


def on_connect(connection: Connection, connect: Connect) -> None:
    connection.protocol_level = connect.protocol_level
    connection.authentication_method = connect.properties.get(PropertyId.AUTHENTICATION_METHOD)
    problem_information = connect.properties.get(PropertyId.REQUEST_PROBLEM_INFORMATION, 1)
    connection.request_problem_information = problem_information == 1
    connection.packet_bytes_max = connect.properties.get(PropertyId.MAXIMUM_PACKET_SIZE, connection.packet_bytes_max)
    connection.ask(_connect(connection, connect))


async def _connect(connection: Connection, connect: Connect) -> None:
    server = connection.server
    try:
        server.check_connection_rate()
        _check_will(connect, server)
        identity = await server.hooks.authenticate(connect, connection.challenge)
        if connection.is_closing():
            return
        client_id, is_assigned = server.sessions.client_id(connect)
        opened = await server.sessions.open(connection, connect, identity.user, client_id)
    except Refused as refusal:
        who = {"user": connect.username, "client_id": connect.client_id}
        connection.count_refusal(refusal.reason_code, "connect_refused", **who, detail=refusal.text)
        _say_no(connection, refusal)
        return
    if opened is not None:
        _accept(connection, connect, identity, opened, client_id if is_assigned else None)


def _say_no(connection: Connection, refusal: Refused) -> None:
    if not connection.is_closing():
        connack = Connack(reason_code=refusal.reason_code, properties=connection.reason_string(refusal.text))
        connection.send(connack)
        connection.close()  # [MQTT5-3.2.2-7] [MQTT5-3.1.4-2] [MQTT311-3.2.2-5]


def _check_will(connect: Connect, server: Server) -> None:
    """Raises Refused for a will that could never be published."""
    will = connect.will
    if will is None:
        return
    try:
        limits = server.limits
        validate_topic_name(will.topic_name, bytes_max=limits.topic_bytes_max, levels_max=limits.topic_levels_max)
    except ProtocolError as error:
        raise Refused(error.reason_code, f"the will: {error.text}") from None
    unwelcome = server.forwarding.refusal(will.topic_name, will.properties)
    if unwelcome is not None:
        raise Refused(unwelcome.reason_code, f"the will: {unwelcome.text}")
    if will.properties.get(PropertyId.PAYLOAD_FORMAT_INDICATOR) and not is_utf_8(will.payload):
        raise Refused(ReasonCode.PAYLOAD_FORMAT_INVALID, "the will's payload is not UTF-8, as it says it is")


def _accept(
    connection: Connection, connect: Connect, identity: Identity, opened: Opened, assigned_client_id: str | None
) -> None:
    server = connection.server
    limits = server.limits
    told = connect.properties
    connection.aliases_max = min(told.get(PropertyId.TOPIC_ALIAS_MAXIMUM, 0), limits.topic_aliases_max)
    connection.aliases = {} if connection.aliases_max else None  # [MQTT5-3.1.2-26] [MQTT5-3.1.2-27]
    keep_alive = _keep_alive_of(connect, limits)
    connection.idle_s = keep_alive * _KEEP_ALIVE_GRACE
    connection.expires_at = _monotonic(identity.expires_at_s)
    session = server.sessions.attach(connection, connect, opened)
    connection.start(session)
    properties = _connack_properties(connection, connect, identity, session, keep_alive, assigned_client_id)
    connack = Connack(opened.is_present, properties=properties)  # [MQTT5-3.2.2-2] [MQTT5-3.2.2-3] [MQTT311-3.2.2-2]
    data = encode(connack, connection.protocol_level)
    if len(data) > connection.packet_bytes_max:  # [MQTT5-3.1.2-24], and no DISCONNECT before CONNACK [MQTT5-3.14.0-1]
        connection.count_refusal(ReasonCode.PACKET_TOO_LARGE)
        connection.close()
        return
    connection.write(data)
    connection.is_greeted = True
    connection.set_deadline()
    server.hooks.on_connected(session)
    sending.send_again(connection, session)
    server.read_on(connection)


def _monotonic(unix_s: int | None) -> float | None:
    return None if unix_s is None else time.monotonic() + unix_s - time.time()


def _keep_alive_of(connect: Connect, limits: BrokerLimits) -> int:
    """The keep alive that holds, in seconds, 0 for none: only an MQTT 5 client can be told another than its own."""
    if connect.protocol_level == MQTT_5 and not 0 < connect.keep_alive <= limits.keep_alive_max_s:
        return limits.keep_alive_max_s
    return connect.keep_alive


def _connack_properties(
    connection: Connection,
    connect: Connect,
    identity: Identity,
    session: Session,
    keep_alive: int,
    assigned_client_id: str | None,
) -> Properties:
    if connect.protocol_level != MQTT_5:
        return EMPTY_PROPERTIES
    server = connection.server
    limits = server.limits
    properties: dict[PropertyId, Any] = {
        PropertyId.RECEIVE_MAXIMUM: limits.receive_maximum,
        PropertyId.MAXIMUM_PACKET_SIZE: limits.packet_bytes_max,
        PropertyId.TOPIC_ALIAS_MAXIMUM: limits.topic_aliases_max,
        **connection.authentication(identity.authentication_data),  # [MQTT5-4.12.0-4]
    }
    if not server.hooks.shared_subscriptions:
        properties[PropertyId.SHARED_SUBSCRIPTION_AVAILABLE] = 0
    if connect.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL, 0) != session.expiry_interval:
        properties[PropertyId.SESSION_EXPIRY_INTERVAL] = session.expiry_interval
    if keep_alive != connect.keep_alive:
        properties[PropertyId.SERVER_KEEP_ALIVE] = keep_alive  # [MQTT5-3.1.2-21]
    if assigned_client_id is not None:
        properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER] = assigned_client_id  # [MQTT5-3.2.2-16]
    if connect.properties.get(PropertyId.REQUEST_RESPONSE_INFORMATION) == 1:  # [MQTT5-3.1.2-28]
        response_information = server.hooks.response_information(session)
        if response_information is not None:
            properties[PropertyId.RESPONSE_INFORMATION] = response_information
    return properties


async def reauthenticate(connection: Connection, session: Session, data: bytes) -> None:
    """AUTH on the open connection [MQTT5-4.12.1-1]: the client stays who it is, or is cut off."""
    method = connection.authentication_method
    assert method is not None
    try:
        identity = await connection.server.hooks.reauthenticate(session, method, data, connection.challenge)
        _check_same(identity, session)
    except Refused as refusal:
        connection.count_refusal(refusal.reason_code, detail=refusal.text)
        is_for_connack = refusal.reason_code not in REASON_CODES[PacketType.DISCONNECT]  # a wrong password, say
        reason_code = ReasonCode.NOT_AUTHORIZED if is_for_connack else refusal.reason_code
        connection.disconnect(reason_code, refusal.text)  # [MQTT5-4.12.1-2]
        return
    if not connection.is_closing():
        connection.expires_at = _monotonic(identity.expires_at_s)
        connection.set_deadline()
        auth = Auth(ReasonCode.SUCCESS, connection.authentication(identity.authentication_data))
        connection.send(auth)


def _check_same(identity: Identity, session: Session) -> None:
    if identity.user != session.user:
        raise Refused(ReasonCode.NOT_AUTHORIZED, "this connection is another user's: connect anew")


def on_disconnect(connection: Connection, disconnect: Disconnect) -> None:
    session = connection.session
    if session is not None:
        expiry_interval = disconnect.properties.get(PropertyId.SESSION_EXPIRY_INTERVAL)
        if expiry_interval is not None:
            is_kept_here = connection.server.storage is not None  # else CONNECT may have asked for it, in vain
            if expiry_interval and not session.expiry_interval and is_kept_here:
                raise protocol_error("DISCONNECT wants to keep a session that CONNECT did not")
            if is_kept_here:
                session.expiry_interval = min(expiry_interval, connection.server.limits.session_expiry_max_s)
        if disconnect.reason_code is ReasonCode.NORMAL_DISCONNECTION:
            session.will = None  # [MQTT5-3.14.4-3] [MQTT5-3.1.2-10] [MQTT311-3.14.4-3] [MQTT311-3.1.2-10]
    connection.close(disconnect.reason_code)
