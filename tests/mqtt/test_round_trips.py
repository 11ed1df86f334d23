"""Any packet comes back from its bytes; any bytes give packets or a ProtocolError."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recado.mqtt.codec import Decoder, ProtocolError, Role, encode
from recado.mqtt.packets import (
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
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
from recado.mqtt.properties import EMPTY_PROPERTIES, PROPERTIES, PropertyId
from recado.mqtt.reason_codes import CONNACK_RETURN_CODES_3, REASON_CODES, SUBACK_RETURN_CODES_3, PacketType, ReasonCode
from tests.mqtt.cases import CASES, LEVELS, ROLES, decoder_for, open_decoder

P = PropertyId
T = PacketType

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
NAME = st.text(st.characters(exclude_characters="\0+#", codec="utf-8"), min_size=1, max_size=12)
FILTER = TEXT.filter(lambda text: text and not text.startswith("$share/"))
BINARY = st.binary(max_size=20)
PACKET_ID = st.integers(1, 65535)
QOS = st.integers(0, 2)
FLAG = st.integers(0, 1)
TWO_BYTES = st.integers(0, 65535)
FOUR_BYTES = st.integers(0, 4294967295)
IDENTIFIER = st.integers(1, 268435455)

VALUES: dict[PropertyId, st.SearchStrategy[Any]] = {
    P.PAYLOAD_FORMAT_INDICATOR: FLAG,
    P.MESSAGE_EXPIRY_INTERVAL: FOUR_BYTES,
    P.CONTENT_TYPE: TEXT,
    P.RESPONSE_TOPIC: NAME,
    P.CORRELATION_DATA: BINARY,
    P.SUBSCRIPTION_IDENTIFIER: IDENTIFIER,
    P.SESSION_EXPIRY_INTERVAL: FOUR_BYTES,
    P.ASSIGNED_CLIENT_IDENTIFIER: TEXT,
    P.SERVER_KEEP_ALIVE: TWO_BYTES,
    P.AUTHENTICATION_METHOD: TEXT,
    P.AUTHENTICATION_DATA: BINARY,
    P.REQUEST_PROBLEM_INFORMATION: FLAG,
    P.WILL_DELAY_INTERVAL: FOUR_BYTES,
    P.REQUEST_RESPONSE_INFORMATION: FLAG,
    P.RESPONSE_INFORMATION: TEXT,
    P.SERVER_REFERENCE: TEXT,
    P.REASON_STRING: TEXT,
    P.RECEIVE_MAXIMUM: st.integers(1, 65535),
    P.TOPIC_ALIAS_MAXIMUM: TWO_BYTES,
    P.TOPIC_ALIAS: st.integers(1, 65535),
    P.MAXIMUM_QOS: FLAG,
    P.RETAIN_AVAILABLE: FLAG,
    P.USER_PROPERTY: st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4),
    P.MAXIMUM_PACKET_SIZE: st.integers(1, 4294967295),
    P.WILDCARD_SUBSCRIPTION_AVAILABLE: FLAG,
    P.SUBSCRIPTION_IDENTIFIER_AVAILABLE: FLAG,
    P.SHARED_SUBSCRIPTION_AVAILABLE: FLAG,
}


def properties(packet_type: PacketType, level: int, without: frozenset[PropertyId] = frozenset()) -> Any:
    if level != 5:
        return st.just(EMPTY_PROPERTIES)
    allowed = {rule.property_id: VALUES[rule.property_id] for rule in PROPERTIES if packet_type in rule.packets}
    if packet_type is T.PUBLISH:
        allowed[P.SUBSCRIPTION_IDENTIFIER] = st.lists(IDENTIFIER, min_size=1, max_size=4)
    for property_id in without:
        allowed.pop(property_id, None)
    data_with_method = st.fixed_dictionaries({}, optional=allowed)
    return data_with_method.filter(lambda found: P.AUTHENTICATION_DATA not in found or P.AUTHENTICATION_METHOD in found)


def reason_codes(packet_type: PacketType) -> st.SearchStrategy[ReasonCode]:
    return st.sampled_from(list(REASON_CODES[packet_type].values()))


def wills(level: int) -> st.SearchStrategy[Will]:
    return st.builds(Will, NAME, BINARY, QOS, st.booleans(), properties(T.WILL, level))


@st.composite
def connects(draw: st.DrawFn, level: int) -> Connect:
    username = draw(st.none() | TEXT)
    password = draw(st.none() | BINARY) if level == 5 or username is not None else None
    will = draw(st.none() | wills(level))
    found = draw(properties(T.CONNECT, level))
    return Connect(draw(TEXT), level, draw(st.booleans()), draw(TWO_BYTES), will, username, password, found)


@st.composite
def connacks(draw: st.DrawFn, level: int) -> Connack:
    codes = REASON_CODES[T.CONNACK] if level == 5 else CONNACK_RETURN_CODES_3
    reason_code = draw(st.sampled_from(list(codes.values())))
    session_present = draw(st.booleans()) and not reason_code
    return Connack(session_present, reason_code, draw(properties(T.CONNACK, level)))


@st.composite
def publishes(draw: st.DrawFn, level: int, role: Role) -> Publish:
    qos = draw(QOS)
    dup = draw(st.booleans()) and qos > 0
    without = frozenset({P.SUBSCRIPTION_IDENTIFIER}) if role == "server" else frozenset()
    found = draw(properties(T.PUBLISH, level, without))
    packet_id = draw(PACKET_ID) if qos else 0
    return Publish(draw(NAME), draw(st.binary(max_size=300)), qos, draw(st.booleans()), dup, packet_id, found)


def acknowledgements(level: int) -> st.SearchStrategy[Packet]:
    kinds: list[tuple[PacketType, type[Acknowledgement]]] = [
        (T.PUBACK, Puback),
        (T.PUBREC, Pubrec),
        (T.PUBREL, Pubrel),
        (T.PUBCOMP, Pubcomp),
    ]
    if level != 5:
        return st.one_of([st.builds(each, PACKET_ID) for _, each in kinds])
    return st.one_of([st.builds(each, PACKET_ID, reason_codes(kind), properties(kind, 5)) for kind, each in kinds])


def requests(level: int) -> st.SearchStrategy[SubscriptionRequest]:
    if level != 5:
        return st.builds(SubscriptionRequest, FILTER, QOS)
    return st.builds(SubscriptionRequest, FILTER, QOS, st.booleans(), st.booleans(), st.integers(0, 2))


def to_server(level: int) -> st.SearchStrategy[Packet]:
    subscriptions = st.lists(requests(level), min_size=1, max_size=4)
    filters = st.lists(FILTER, min_size=1, max_size=4)
    packets = (
        connects(level)
        | publishes(level, "server")
        | acknowledgements(level)
        | st.builds(Subscribe, PACKET_ID, subscriptions, properties(T.SUBSCRIBE, level))
        | st.builds(Unsubscribe, PACKET_ID, filters, properties(T.UNSUBSCRIBE, level))
    )
    if level != 5:
        return packets
    return packets | both_ways() | st.builds(Disconnect, reason_codes(T.DISCONNECT), properties(T.DISCONNECT, 5))


def both_ways() -> st.SearchStrategy[Packet]:
    without = frozenset({P.SESSION_EXPIRY_INTERVAL})
    return st.builds(Auth, reason_codes(T.AUTH), properties(T.AUTH, 5)) | st.builds(
        Disconnect, reason_codes(T.DISCONNECT), properties(T.DISCONNECT, 5, without)
    )


def to_client(level: int) -> st.SearchStrategy[Packet]:
    codes = REASON_CODES[T.SUBACK] if level == 5 else SUBACK_RETURN_CODES_3
    answers = st.lists(st.sampled_from(list(codes.values())), min_size=1, max_size=4)
    unanswers = st.lists(reason_codes(T.UNSUBACK), min_size=1, max_size=4) if level == 5 else st.just([])
    packets = (
        connacks(level)
        | publishes(level, "client")
        | acknowledgements(level)
        | st.builds(Suback, PACKET_ID, answers, properties(T.SUBACK, level))
        | st.builds(Unsuback, PACKET_ID, unanswers, properties(T.UNSUBACK, level))
    )
    return packets | both_ways() if level == 5 else packets


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("role", ROLES)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_packet_comes_back_from_its_bytes_however_they_are_cut(role: Role, level: int, data: st.DataObject) -> None:
    packet = data.draw(to_server(level) if role == "server" else to_client(level))
    wire = encode(packet, level)
    cut = data.draw(st.integers(0, len(wire)))
    decoder = decoder_for(packet, role, level)
    decoder.receive(wire[:cut])
    first = decoder.next_packet()
    assert first is None or cut == len(wire)
    decoder.receive(wire[cut:])
    assert (first or decoder.next_packet()) == packet
    assert decoder.next_packet() is None
    assert encode(packet, level) == wire


@st.composite
def near_packets(draw: st.DrawFn) -> bytes:
    """A right first byte and length around any body, or a good packet with bytes changed."""
    if draw(st.booleans()):
        body = draw(st.binary(max_size=60))
        return bytes((draw(st.integers(1, 15)) << 4 | draw(st.sampled_from([0, 2])), len(body))) + body
    wire = bytearray(draw(st.sampled_from(CASES)).wire)
    for position in draw(st.lists(st.integers(0, len(wire) - 1), max_size=3)):
        wire[position] = draw(st.integers(0, 255))
    return bytes(wire)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("role", ROLES)
@given(pieces=st.lists(st.binary(max_size=40) | near_packets(), max_size=6), opened=st.booleans())
@settings(max_examples=120, deadline=None)
def test_any_bytes_give_packets_or_a_protocol_error(role: Role, level: int, pieces: list[bytes], opened: bool) -> None:
    decoder = open_decoder(role, level) if opened else Decoder(packet_bytes_max=1000, role=role, protocol_level=level)
    try:
        for piece in pieces:
            decoder.receive(piece)
            while (packet := decoder.next_packet()) is not None:
                assert encode(packet, decoder.protocol_level)
    except ProtocolError:
        with pytest.raises(ProtocolError, match=r"\w"):
            decoder.next_packet()
