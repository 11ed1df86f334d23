"""Our codec against a foreign one: what we write, `mqtt5` (Rust, 5.0 only) reads as the same packet, and the other way.

`theirs` says one of our packets in mqtt5's words. mqtt5 has no word for "absent" where the specification has a default
(payload format indicator 0, receive maximum 65535 ...), so those properties are left out before packets are compared.
Where the two disagree the reason is named in DIFFERENCES, and nothing else may differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from recado.mqtt.codec import ProtocolError, Role, encode
from recado.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from recado.mqtt.properties import Properties
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.topics import validate_topic_filter
from tests.mqtt.cases import CASES, ROLES, Case, decoder_for, decodings
from tests.mqtt.test_round_trips import to_client, to_server

NAMES = {
    P.SUBSCRIPTION_IDENTIFIER: "subscription_id",
    P.ASSIGNED_CLIENT_IDENTIFIER: "assigned_client_id",
    P.REQUEST_PROBLEM_INFORMATION: "request_problem_info",
    P.REQUEST_RESPONSE_INFORMATION: "request_response_info",
    P.RESPONSE_INFORMATION: "response_info",
    P.REASON_STRING: "reason_str",
    P.RECEIVE_MAXIMUM: "receive_max",
    P.TOPIC_ALIAS_MAXIMUM: "topic_alias_max",
    P.MAXIMUM_QOS: "max_qos",
    P.USER_PROPERTY: "user_properties",
    P.MAXIMUM_PACKET_SIZE: "max_packet_size",
    P.SUBSCRIPTION_IDENTIFIER_AVAILABLE: "subscription_id_available",
}
BOOLEANS = {"request_problem_info", "request_response_info", "retain_available", "subscription_id_available"} | {
    "wildcard_subscription_available",
    "shared_subscription_available",
}
DEFAULTS: dict[P, Any] = {
    P.PAYLOAD_FORMAT_INDICATOR: 0,
    P.REQUEST_PROBLEM_INFORMATION: 1,
    P.REQUEST_RESPONSE_INFORMATION: 0,
    P.RECEIVE_MAXIMUM: 65535,
    P.TOPIC_ALIAS_MAXIMUM: 0,
    P.WILL_DELAY_INTERVAL: 0,
    P.RETAIN_AVAILABLE: 1,
    P.WILDCARD_SUBSCRIPTION_AVAILABLE: 1,
    P.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 1,
    P.SHARED_SUBSCRIPTION_AVAILABLE: 1,
}


def words(properties: Properties) -> dict[str, Any]:
    """Properties as keyword arguments of a packet of mqtt5."""
    found = {NAMES.get(key, key.name.lower()): value for key, value in properties.items()}
    if type(found.get("subscription_id")) is list:
        found["subscription_ids"] = found.pop("subscription_id")
    if "max_qos" in found:
        found["max_qos"] = mqtt5.QoS(found["max_qos"])
    return found | {name: bool(found[name]) for name in BOOLEANS & found.keys()}


def theirs(packet: Packet) -> mqtt5.Packet:
    """Return our packet as mqtt5 says it."""
    found = words(getattr(packet, "properties", {}))
    match packet:
        case Connect():
            return their_connect(packet, found)
        case Connack(present, code):
            return mqtt5.ConnAckPacket(session_present=present, reason_code=mqtt5.ConnAckReasonCode(code), **found)
        case Publish():
            return their_publish(packet, found)
        case Puback(packet_id, code):
            return mqtt5.PubAckPacket(packet_id, reason_code=mqtt5.PubAckReasonCode(code), **found)
        case Pubrec(packet_id, code):
            return mqtt5.PubRecPacket(packet_id, reason_code=mqtt5.PubRecReasonCode(code), **found)
        case Pubrel(packet_id, code):
            return mqtt5.PubRelPacket(packet_id, reason_code=mqtt5.PubRelReasonCode(code), **found)
        case Pubcomp(packet_id, code):
            return mqtt5.PubCompPacket(packet_id, reason_code=mqtt5.PubCompReasonCode(code), **found)
        case Subscribe(packet_id, subscriptions):
            return mqtt5.SubscribePacket(packet_id, [their_filter(each) for each in subscriptions], **found)
        case Suback(packet_id, codes):
            return mqtt5.SubAckPacket(packet_id, [mqtt5.SubAckReasonCode(each) for each in codes], **found)
        case Unsubscribe(packet_id, filters):
            return mqtt5.UnsubscribePacket(packet_id, filters, **found)
        case Unsuback(packet_id, codes):
            return mqtt5.UnsubAckPacket(packet_id, [mqtt5.UnsubAckReasonCode(each) for each in codes], **found)
        case Pingreq():
            return mqtt5.PingReqPacket()
        case Pingresp():
            return mqtt5.PingRespPacket()
        case Disconnect(code):
            return mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode(code), **found)
        case Auth(code):
            return mqtt5.AuthPacket(reason_code=mqtt5.AuthReasonCode(code), **found)


def their_connect(packet: Connect, found: dict[str, Any]) -> mqtt5.ConnectPacket:
    will = (
        None
        if packet.will is None
        else mqtt5.Will(
            packet.will.topic_name,
            payload=packet.will.payload,
            qos=mqtt5.QoS(packet.will.qos),
            retain=packet.will.retain,
            **words(packet.will.properties),
        )
    )
    return mqtt5.ConnectPacket(
        packet.client_id,
        username=packet.username,
        password=packet.password,
        clean_start=packet.clean_start,
        will=will,
        keep_alive=packet.keep_alive,
        **found,
    )


def their_publish(packet: Publish, found: dict[str, Any]) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket(
        packet.topic_name,
        packet.payload,
        qos=mqtt5.QoS(packet.qos),
        retain=packet.retain,
        packet_id=packet.packet_id or None,
        duplicate=packet.dup,
        **found,
    )


def their_filter(request: SubscriptionRequest) -> mqtt5.TopicFilter:
    return mqtt5.TopicFilter(
        request.topic_filter,
        max_qos=mqtt5.QoS(request.qos),
        no_local=request.no_local,
        retain_as_published=request.retain_as_published,
        retain_handling=mqtt5.RetainHandling(request.retain_handling),
    )


def without_defaults(packet: Packet) -> Packet:
    """The packet without the properties that say what their absence says."""
    if isinstance(packet, Pingreq | Pingresp):
        return packet
    changed = replace(packet, properties=kept(packet.properties, packet))
    if isinstance(changed, Connect) and changed.will is not None:
        changed.will = replace(changed.will, properties=kept(changed.will.properties, changed.will))
    return changed


def kept(properties: Properties, owner: Packet | Will) -> Properties:
    defaults = DEFAULTS | ({P.SESSION_EXPIRY_INTERVAL: 0} if isinstance(owner, Connect) else {})
    return {key: value for key, value in properties.items() if key not in defaults or value != defaults[key]}


def ours(wire: bytes, role: Role, like: Packet) -> Packet | None:
    decoder = decoder_for(like, role, 5)
    decoder.receive(wire)
    return decoder.next_packet()


def sayable(packet: Packet) -> bool:
    """mqtt5 reads any topic filter, as we do (each gets its own answer in SUBACK), but builds good ones only."""
    match packet:
        case Subscribe(_, subscriptions):
            return all(is_filter(each.topic_filter) for each in subscriptions)
        case Unsubscribe(_, filters):
            return all(is_filter(each) for each in filters)
    return True


def is_filter(topic_filter: str) -> bool:
    try:
        validate_topic_filter(topic_filter)
    except ProtocolError:
        return False
    return True


BY_ALIAS = st.builds(
    lambda alias, payload: Publish("", payload, properties={P.TOPIC_ALIAS: alias}), st.integers(1, 65535), st.binary()
)
EVERY_PACKET: dict[Role, st.SearchStrategy[Packet]] = {
    "server": (to_server(5) | BY_ALIAS | st.builds(Pingreq)).filter(sayable),
    "client": (to_client(5) | BY_ALIAS | st.builds(Pingresp)).filter(sayable),
}
CASES_5 = [(each, role) for each, role, level in decodings(CASES) if level == 5]
EACH_CASE = pytest.mark.parametrize(("each", "role"), CASES_5, ids=lambda value: getattr(value, "name", value))

# The one thing that mqtt5 refuses and we do not: an AUTH may end after its fixed header (3.15.2.1: reason code and
# property length "can be omitted if the Reason Code is 0x00 (Success) and there are no Properties").
AUTH_WITHOUT_BODY = Auth()

# What mqtt5 0.8 takes, and we refuse: what our refusal says, the clause that asks for it, and bytes that show it.
MQTT5_IS_LAXER: list[tuple[str, str, Role, str]] = [
    ("CONNECT's reserved flag is set", "MQTT-3.1.2-3", "server", "100f 00044d515454 05 03 0000 00 00026964"),
    ("a will's QoS without a will", "MQTT-3.1.2-11", "server", "100f 00044d515454 05 0a 0000 00 00026964"),
    ("the will's QoS is 3", "MQTT-3.1.2-12 (no will)", "server", "100f 00044d515454 05 1a 0000 00 00026964"),
    ("a will's RETAIN without a will", "MQTT-3.1.2-13", "server", "100f 00044d515454 05 22 0000 00 00026964"),
    ("a string has a null character", "MQTT-1.5.4-2", "server", "100f 00044d515454 05 02 0000 00 00026900"),
    ("a topic name has a wildcard", "MQTT-3.3.2-2", "client", "3004 000123 00"),
    ("a refusal with a session present", "MQTT-3.2.2-6", "client", "2003 0187 00"),
    ("MAXIMUM_QOS may not be 2", "3.2.2.3.4", "client", "2005 0000 022402"),
    ("PUBLISH with the flags 100", "MQTT-3.3.1-2: DUP at QoS 0", "client", "3804 000161 00"),
    ("a packet id is 0", "MQTT-2.2.1-3", "client", "4002 0000"),
    ("PAYLOAD_FORMAT_INDICATOR may not be", "3.3.2.3.2", "client", "3006 000161 020102"),
    ("a response topic has a wildcard", "MQTT-3.3.2-14", "client", "3008 000161 040800012b"),
    ("a client's PUBLISH has a subscription identifier", "MQTT-3.3.4-6", "server", "3006 000161 020b01"),
    (
        "a packet ends inside",
        "2.2.2: a property may not pass the properties' end",
        "client",
        "3008 000161 0108 0001 61",
    ),
    ("SUBSCRIBE without a topic filter", "MQTT-3.8.3-2", "server", "8203 0001 00"),
    ("UNSUBSCRIBE without a topic filter", "MQTT-3.10.3-2", "server", "a203 0001 00"),
    ("SUBACK has no reason code", "MQTT-3.8.4-6: one for each filter", "client", "9003 0001 00"),
    ("UNSUBACK has no reason code", "3.11.3: one for each filter", "client", "b003 0001 00"),
    ("reserved subscription options are set", "MQTT-3.8.3-5", "server", "8207 0001 00 000161 40"),
    ("No Local on a shared subscription", "MQTT-3.8.3-4", "server", "8210 0001 00 000a 24736861 72652f672f61 04"),
    ("authentication data without an authentication method", "3.1.2.11.10", "client", "f006 18 04 16000164"),
    ("a server's DISCONNECT has a session expiry", "MQTT-3.14.2-2", "client", "e007 00 05 1100000000"),
]
NOT_UTF_8 = "a string is not UTF-8"  # mqtt5 panics, and writes a page about it each time: not asked
REFUSED_BY_US_ALONE = (NOT_UTF_8, *(text for text, *_ in MQTT5_IS_LAXER))


@EACH_CASE
def test_every_packet_of_the_case_table_is_the_same_to_mqtt5(each: Case, role: Role) -> None:
    assert ours(theirs(each.packet).write(), role, each.packet) == without_defaults(each.packet)
    if each.packet != AUTH_WITHOUT_BODY:
        assert mqtt5.read(memoryview(each.wire)) == (theirs(each.packet), len(each.wire))


@pytest.mark.parametrize("role", ROLES)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_what_we_write_mqtt5_reads_as_the_same_packet(role: Role, data: st.DataObject) -> None:
    packet = data.draw(EVERY_PACKET[role].filter(lambda packet: packet != AUTH_WITHOUT_BODY))
    wire = encode(packet, 5)
    assert mqtt5.read(memoryview(wire)) == (theirs(packet), len(wire))


@pytest.mark.parametrize("role", ROLES)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_what_mqtt5_writes_we_read_as_the_same_packet(role: Role, data: st.DataObject) -> None:
    packet = data.draw(EVERY_PACKET[role])
    assert ours(theirs(packet).write(), role, packet) == without_defaults(packet)


@pytest.mark.parametrize(("text", "clause", "role", "wire"), MQTT5_IS_LAXER)
def test_where_mqtt5_is_laxer_we_keep_to_the_clause(text: str, clause: str, role: Role, wire: str) -> None:
    assert is_read(bytes.fromhex(wire)), f"mqtt5 keeps {clause} now: take it off the list"
    like: Packet = Connect("id") if wire.startswith("10") else Connack() if wire.startswith("20") else Pingreq()
    with pytest.raises(ProtocolError, match=text):
        ours(bytes.fromhex(wire), role, like)


@EACH_CASE
def test_a_corrupted_packet_is_the_same_to_both_or_refused_by_a_rule_that_mqtt5_lacks(each: Case, role: Role) -> None:
    for wire in corrupted(each.wire):
        outcome = ours_or_error(wire, role, each.packet)
        if not isinstance(outcome, ProtocolError):
            compare(wire, outcome)
        elif not outcome.text.startswith(REFUSED_BY_US_ALONE):
            assert not is_read(wire), (outcome.text, wire.hex())


def corrupted(wire: bytes) -> Iterator[bytes]:
    """Each byte changed alone; the first one only in its flags, so that it stays the same packet."""
    for position, byte in enumerate(wire):
        for other in {0x00, 0x7F, 0xFF, *(byte ^ 1 << bit for bit in range(8))}:
            if position or other >> 4 == byte >> 4:
                yield wire[:position] + bytes((other,)) + wire[position + 1 :]


def ours_or_error(wire: bytes, role: Role, like: Packet) -> Packet | ProtocolError | None:
    try:
        return ours(wire, role, like)
    except ProtocolError as error:
        return error


def compare(wire: bytes, packet: Packet | None) -> None:
    if packet is None:
        with pytest.raises(IndexError, match="Not enough bytes"):
            mqtt5.read(memoryview(wire))
    elif packet != AUTH_WITHOUT_BODY:
        found, size = mqtt5.read(memoryview(wire))
        assert size == wire[1] + 2
        assert not sayable(packet) or found == theirs(packet)


def is_read(wire: bytes) -> bool:
    """False as well where mqtt5 panics, as it does on text that is not UTF-8: PanicException is no Exception."""
    try:
        mqtt5.read(memoryview(wire))
    except BaseException as error:
        if not isinstance(error, ValueError | IndexError) and type(error).__name__ != "PanicException":
            raise
        return False
    return True
