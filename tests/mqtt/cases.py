"""One table of packets with their exact bytes: encode, decode, every cut, truncation and corruption all run on it.

A case is the shortest form of its packet, so that encoding gives the bytes back; LONG_FORMS are the longer ways to say
the same that a peer may choose. `heard_by` is the side that decodes: "server", "client", or "both".
"""

from __future__ import annotations

from typing import NamedTuple

from recado.mqtt.codec import Decoder, Role
from recado.mqtt.encoding import encode
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
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R

LEVELS = (3, 4, 5)
ROLES: tuple[Role, ...] = ("server", "client")


class Case(NamedTuple):
    name: str
    levels: tuple[int, ...]
    heard_by: str
    packet: Packet
    wire: bytes


def case(name: str, levels: str, heard_by: str, packet: Packet, wire: str) -> Case:
    return Case(name, tuple(int(level) for level in levels), heard_by, packet, bytes.fromhex(wire))


def hexed(text: str) -> str:
    return text.encode().hex()


ALL_CONNACK_PROPERTIES = {
    P.SESSION_EXPIRY_INTERVAL: 3600,
    P.RECEIVE_MAXIMUM: 20,
    P.MAXIMUM_QOS: 1,
    P.RETAIN_AVAILABLE: 0,
    P.MAXIMUM_PACKET_SIZE: 65536,
    P.ASSIGNED_CLIENT_IDENTIFIER: "auto-1",
    P.TOPIC_ALIAS_MAXIMUM: 10,
    P.REASON_STRING: "ok",
    P.USER_PROPERTY: [("a", "1"), ("a", "2")],
    P.WILDCARD_SUBSCRIPTION_AVAILABLE: 1,
    P.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 1,
    P.SHARED_SUBSCRIPTION_AVAILABLE: 0,
    P.SERVER_KEEP_ALIVE: 30,
    P.RESPONSE_INFORMATION: "r/",
    P.SERVER_REFERENCE: "b:1883",
    P.AUTHENTICATION_METHOD: "m",
    P.AUTHENTICATION_DATA: b"\x00\xff",
}
ALL_CONNACK_HEX = (
    "1100000e10 210014 2401 2500 2700010000 120006 6175746f2d31 22000a 1f00026f6b 2600016100 0131 26000161000132"
    "2801 2901 2a00 13001e 1a0002722f 1c0006623a31383833 1500016d 16000200ff"
)
WILL_5 = Will(
    "w",
    b"\x00bye",
    qos=2,
    retain=True,
    properties={
        P.WILL_DELAY_INTERVAL: 5,
        P.PAYLOAD_FORMAT_INDICATOR: 1,
        P.MESSAGE_EXPIRY_INTERVAL: 60,
        P.CONTENT_TYPE: "t",
        P.RESPONSE_TOPIC: "r",
        P.CORRELATION_DATA: b"c",
        P.USER_PROPERTY: [("k", "v")],
    },
)
CONNECT_5 = Connect(
    "id",
    protocol_level=5,
    clean_start=False,
    keep_alive=60,
    will=WILL_5,
    username="ana",
    password=b"\xfftoken",
    properties={
        P.SESSION_EXPIRY_INTERVAL: 4294967295,
        P.AUTHENTICATION_METHOD: "m",
        P.AUTHENTICATION_DATA: b"d",
        P.REQUEST_PROBLEM_INFORMATION: 0,
        P.REQUEST_RESPONSE_INFORMATION: 1,
        P.RECEIVE_MAXIMUM: 65535,
        P.TOPIC_ALIAS_MAXIMUM: 0,
        P.USER_PROPERTY: [("", "")],
        P.MAXIMUM_PACKET_SIZE: 1,
    },
)
PUBLISH_5 = Publish(
    "c/a",
    b"x",
    qos=1,
    packet_id=7,
    properties={
        P.PAYLOAD_FORMAT_INDICATOR: 1,
        P.MESSAGE_EXPIRY_INTERVAL: 9,
        P.TOPIC_ALIAS: 1,
        P.RESPONSE_TOPIC: "r",
        P.CORRELATION_DATA: b"\x01",
        P.USER_PROPERTY: [("z", "1"), ("a", "2")],
        P.CONTENT_TYPE: "t",
    },
)
USER = {P.USER_PROPERTY: [("k", "v")]}
NO_SESSION = {P.SESSION_EXPIRY_INTERVAL: 0}
ELSEWHERE = {P.SERVER_REFERENCE: "b"}
REASON = {P.REASON_STRING: "no", P.USER_PROPERTY: [("k", "v")]}
REASON_HEX = "0c 1f00026e6f 2600016b000176"

CASES: list[Case] = [
    case("connect 3.1", "3", "server", Connect("id", 3), "1010 0006 4d5149736470 03 02 0000 00026964"),
    case("connect 3.1.1", "4", "server", Connect("id", 4), "100e 0004 4d515454 04 02 0000 00026964"),
    case("connect 5", "5", "server", Connect("id"), "100f 0004 4d515454 05 02 0000 00 00026964"),
    case("connect without an id", "5", "server", Connect(""), "100d 0004 4d515454 05 02 0000 00 0000"),
    case(
        "connect 3.1.1 with everything",
        "4",
        "server",
        Connect("id", 4, False, 65535, Will("w", b"", 1, True), "ana", b"pw"),
        "101c 0004 4d515454 04 ec ffff 00026964 000177 0000 0003616e61 00027077",
    ),
    case(
        "connect 3.1.1 with a user name alone",
        "4",
        "server",
        Connect("id", 4, username="ana"),
        "1013 0004 4d515454 04 82 0000 00026964 0003616e61",
    ),
    case(
        "connect 5 with a password alone",
        "5",
        "server",
        Connect("id", password=b"pw"),
        "1013 0004 4d515454 05 42 0000 00 00026964 00027077",
    ),
    case(
        "connect 5 with everything",
        "5",
        "server",
        CONNECT_5,
        "1066 0004 4d515454 05 f4 003c"
        "21 11ffffffff 1500016d 16000164 1700 1901 21ffff 220000 2600000000 2700000001"
        "00026964"
        "1f 1800000005 0101 020000003c 03000174 08000172 09000163 2600016b000176"
        "000177 000400627965 0003616e61 0006ff746f6b656e",
    ),
    case(
        "connect 3.1 with everything",
        "3",
        "server",
        Connect("id", 3, False, 1, Will("w", b"\x00", 2, False), "ana", b""),
        "101d 0006 4d5149736470 03 d4 0001 00026964 000177 0001 00 0003616e61 0000",
    ),
    case("connack 3.1.1", "34", "client", Connack(), "2002 0000"),
    case("connack 3.1.1 session present", "4", "client", Connack(True), "2002 0100"),
    case("connack 3.1.1 not authorized", "34", "client", Connack(False, R.NOT_AUTHORIZED), "2002 0005"),
    case("connack 5", "5", "client", Connack(), "2003 0000 00"),
    case("connack 5 refused", "5", "client", Connack(False, R.BANNED), "2003 008a 00"),
    case("connack 5 all", "5", "client", Connack(True, R(0), ALL_CONNACK_PROPERTIES), f"2053 0100 50{ALL_CONNACK_HEX}"),
    case("publish qos 0", "34", "both", Publish("c/a", b"oi"), "3007 0003632f61 6f69"),
    case("publish qos 0 retained", "34", "both", Publish("c/a", b"", retain=True), "3105 0003632f61"),
    case("publish qos 1", "34", "both", Publish("c/a", b"oi", 1, packet_id=258), "3209 0003632f61 0102 6f69"),
    case("publish qos 1 again", "34", "both", Publish("c/a", b"oi", 1, False, True, 1), "3a09 0003632f61 0001 6f69"),
    case("publish qos 2 all", "34", "both", Publish("a", b"", 2, True, True, 65535), "3d05 000161 ffff"),
    case("publish 5 qos 0", "5", "both", Publish("c/a", b"oi"), "3008 0003632f61 00 6f69"),
    case("publish 5 qos 2", "5", "both", Publish("c/a", b"oi", 2, packet_id=3), "340a 0003632f61 0003 00 6f69"),
    case("publish 5 alias", "5", "both", Publish("", b"x", properties={P.TOPIC_ALIAS: 2}), "3007 0000 03230002 78"),
    case(
        "publish 5 with properties",
        "5",
        "both",
        PUBLISH_5,
        "322d 0003632f61 0007 24 0101 0200000009 230001 08000172 09000101 2600017a000131 26000161000132 03000174 78",
    ),
    case(
        "publish 5 with subscription identifiers",
        "5",
        "client",
        Publish("a", b"", properties={P.SUBSCRIPTION_IDENTIFIER: [1, 128, 268435455]}),
        "300e 000161 0a 0b01 0b8001 0bffffff7f",
    ),
    case("publish in unusual letters", "34", "both", Publish("\ufeffé/😀", b""), "300c 000a efbbbfc3a92ff09f9880"),
    case("puback", "345", "both", Puback(7), "4002 0007"),
    case("puback with a code", "5", "both", Puback(7, R.NOT_AUTHORIZED), "4003 0007 87"),
    case("puback with all", "5", "both", Puback(7, R.SUCCESS, REASON), f"4010 0007 00 {REASON_HEX}"),
    case("pubrec", "345", "both", Pubrec(7), "5002 0007"),
    case("pubrec with a code", "5", "both", Pubrec(7, R.QUOTA_EXCEEDED), "5003 0007 97"),
    case("pubrec with all", "5", "both", Pubrec(7, R.NO_MATCHING_SUBSCRIBERS, REASON), f"5010 0007 10 {REASON_HEX}"),
    case("pubrel", "345", "both", Pubrel(7), "6202 0007"),
    case("pubrel with a code", "5", "both", Pubrel(7, R.PACKET_IDENTIFIER_NOT_FOUND), "6203 0007 92"),
    case("pubrel with all", "5", "both", Pubrel(7, R.SUCCESS, REASON), f"6210 0007 00 {REASON_HEX}"),
    case("pubcomp", "345", "both", Pubcomp(65535), "7002 ffff"),
    case("pubcomp with a code", "5", "both", Pubcomp(7, R.PACKET_IDENTIFIER_NOT_FOUND), "7003 0007 92"),
    case("pubcomp with all", "5", "both", Pubcomp(7, R.SUCCESS, REASON), f"7010 0007 00 {REASON_HEX}"),
    case(
        "subscribe 3.1.1",
        "34",
        "server",
        Subscribe(1, [SubscriptionRequest("c/+", 1), SubscriptionRequest("#", 0)]),
        "820c 0001 0003632f2b 01 000123 00",
    ),
    case(
        "subscribe 5",
        "5",
        "server",
        Subscribe(
            2,
            [SubscriptionRequest("c/+", 2, True, True, 2), SubscriptionRequest("$share/g/a", 1, False, True, 1)],
            {P.SUBSCRIPTION_IDENTIFIER: 128, P.USER_PROPERTY: [("after", "a=3"), ("after", "b=4")]},
        ),
        f"8233 0002 1d 0b8001 260005{hexed('after')}0003{hexed('a=3')} 260005{hexed('after')}0003{hexed('b=4')}"
        f"0003{hexed('c/+')} 2e 000a{hexed('$share/g/a')} 19",
    ),
    case("suback 3.1.1", "34", "client", Suback(1, [R(0), R(1), R(2), R(128)]), "9006 0001 00010280"),
    case("suback 5", "5", "client", Suback(1, [R(0), R(1), R(2), R(0x9E)], REASON), f"9013 0001 {REASON_HEX} 0001029e"),
    case(
        "suback 5 with every code",
        "5",
        "client",
        Suback(65535, [R(0), R(1), R(2), *map(R, (0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2))]),
        "900f ffff 00 000102 8083878f91979ea1a2",
    ),
    case("unsubscribe 3.1.1", "34", "server", Unsubscribe(1, ["a", "b/#"]), "a20a 0001 000161 0003622f23"),
    case("unsubscribe 5", "5", "server", Unsubscribe(1, ["a"], USER), "a20d 0001 07 2600016b000176 000161"),
    case("unsuback 3.1.1", "34", "client", Unsuback(1, []), "b002 0001"),
    case("unsuback 5", "5", "client", Unsuback(1, [R(0), R(0x11)], REASON), f"b011 0001 {REASON_HEX} 0011"),
    case(
        "unsuback 5 with every code",
        "5",
        "client",
        Unsuback(1, [R(0), *map(R, (0x11, 0x80, 0x83, 0x87, 0x8F, 0x91))]),
        "b00a 0001 00 00118083878f91",
    ),
    case("pingreq", "345", "server", Pingreq(), "c000"),
    case("pingresp", "345", "client", Pingresp(), "d000"),
    case("disconnect 3.1.1", "34", "server", Disconnect(), "e000"),
    case("disconnect 5", "5", "both", Disconnect(), "e000"),
    case("disconnect 5 with a code", "5", "both", Disconnect(R.DISCONNECT_WITH_WILL_MESSAGE), "e001 04"),
    case("disconnect 5 with a reason", "5", "both", Disconnect(R.SERVER_BUSY, REASON), f"e00e 89 {REASON_HEX}"),
    case("disconnect 5 by a client", "5", "server", Disconnect(R(0), NO_SESSION), "e007 00 05 1100000000"),
    case("disconnect 5 by a server", "5", "client", Disconnect(R.SERVER_MOVED, ELSEWHERE), "e006 9d 04 1c000162"),
    case("auth", "5", "both", Auth(), "f000"),
    case("auth without properties", "5", "both", Auth(R.REAUTHENTICATE), "f002 19 00"),
    case(
        "auth with properties",
        "5",
        "both",
        Auth(R.CONTINUE_AUTHENTICATION, {P.AUTHENTICATION_METHOD: "m", P.AUTHENTICATION_DATA: b"d"}),
        "f00a 18 08 1500016d 16000164",
    ),
    case("auth with a reason", "5", "both", Auth(R.SUCCESS, REASON), f"f00e 00 {REASON_HEX}"),
]  # fmt: skip

# What a peer may say longer than it need: decoded the same, never written.
LONG_FORMS: list[Case] = [
    case("puback, code written out", "5", "both", Puback(7), "4003 0007 00"),
    case("puback, all written out", "5", "both", Puback(7), "4004 0007 00 00"),
    case("pubrel, all written out", "5", "both", Pubrel(7), "6204 0007 00 00"),
    case("disconnect, code written out", "5", "both", Disconnect(), "e001 00"),
    case("disconnect, all written out", "5", "both", Disconnect(), "e002 00 00"),
    case("auth, all written out", "5", "both", Auth(), "f002 00 00"),
    case("pubrel redelivered in 3.1", "3", "server", Pubrel(7), "6a02 0007"),
    case("subscribe again in 3.1", "3", "server", Subscribe(1, [SubscriptionRequest("a")]), "8a06 0001 000161 00"),
    case("unsubscribe redelivered in 3.1", "3", "server", Unsubscribe(1, ["a"]), "aa05 0001 000161"),
]  # fmt: skip


def decodings(cases: list[Case]) -> list[tuple[Case, Role, int]]:
    """Every case on every side and level that hears it."""
    return [
        (each, role, level)
        for each in cases
        for role in ROLES
        for level in each.levels
        if each.heard_by in (role, "both")
    ]


def fresh_decoder(role: Role, level: int, **limits: int) -> Decoder:
    limits.setdefault("packet_bytes_max", 1 << 20)
    return Decoder(role=role, protocol_level=level, **limits)


def open_decoder(role: Role, level: int, **limits: int) -> Decoder:
    """A decoder that has had its first packet."""
    decoder = fresh_decoder(role, level, **limits)
    decoder.receive(encode(Connect("id", level) if role == "server" else Connack(), level))
    assert decoder.next_packet() is not None
    return decoder


def decoder_for(packet: Packet, role: Role, level: int) -> Decoder:
    """A decoder at the moment when `packet` may come."""
    return fresh_decoder(role, level) if isinstance(packet, Connect | Connack) else open_decoder(role, level)
