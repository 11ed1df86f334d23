"""Bytes that must be refused, each with the reason code to give and the statements it breaks."""

from __future__ import annotations

import pytest

from recado.mqtt.codec import ProtocolError, Role
from recado.mqtt.encoding import encode
from recado.mqtt.packets import Connect
from recado.mqtt.reason_codes import ReasonCode as R
from tests.mqtt.cases import LEVELS, ROLES, fresh_decoder, open_decoder

MALFORMED, PROTOCOL, VERSION = R.MALFORMED_PACKET, R.PROTOCOL_ERROR, R.UNSUPPORTED_PROTOCOL_VERSION

# what is wrong, levels, who decodes, the wire, the reason code, the statements
AFTER_CONNECT: list[tuple[str, str, str, str, R, str]] = [
    ("qos 3", "345", "both", "3605 000161 0001", MALFORMED, "MQTT5-3.3.1-4 MQTT311-3.3.1-4"),
    ("dup at qos 0", "345", "both", "3804 000161 00", MALFORMED, "MQTT5-3.3.1-2 MQTT311-3.3.1-2"),
    ("publish packet id 0", "345", "both", "3206 000161 0000 00", MALFORMED, "MQTT5-2.2.1-3 MQTT311-2.3.1-1"),
    ("puback packet id 0", "345", "both", "4002 0000", MALFORMED, "MQTT5-2.2.1-3"),
    ("subscribe packet id 0", "34", "server", "8206 0000 000161 00", MALFORMED, "MQTT5-2.2.1-3 MQTT311-2.3.1-1"),
    ("unsubscribe packet id 0", "34", "server", "a205 0000 000161", MALFORMED, "MQTT5-2.2.1-3 MQTT311-2.3.1-1"),
    ("topic with +", "34", "both", "3003 00012b", MALFORMED, "MQTT5-3.3.2-2 MQTT311-3.3.2-2"),
    ("topic with #", "5", "both", "3006 0003612f23 00", MALFORMED, "MQTT5-3.3.2-2"),
    ("empty topic before 5.0", "34", "both", "3002 0000", MALFORMED, "MQTT311-4.7.3-1"),
    ("empty topic without an alias", "5", "both", "3003 0000 00", PROTOCOL, "MQTT5-4.7.3-1"),
    ("topic alias 0", "5", "both", "3006 0000 03 230000", R.TOPIC_ALIAS_INVALID, "MQTT5-3.3.2-8"),
    ("topic with a null", "34", "both", "3003 000100", MALFORMED, "MQTT5-1.5.4-2 MQTT311-1.5.3-2 MQTT5-4.7.3-2"),
    ("topic with a surrogate", "34", "both", "3005 0003eda080", MALFORMED, "MQTT5-1.5.4-1 MQTT311-1.5.3-1"),
    ("topic with overlong utf-8", "34", "both", "3004 0002c080", MALFORMED, "MQTT5-1.5.4-1 MQTT311-1.5.3-1"),
    ("topic cut in a letter", "5", "both", "3004 0001c3 00", MALFORMED, "MQTT5-1.5.4-1 MQTT5-3.3.2-1"),
    ("topic longer than the packet", "345", "both", "3004 0003 6161", MALFORMED, "MQTT5-3.3.2-1"),
    ("publish without a topic", "345", "both", "3000", MALFORMED, "MQTT5-3.3.2-1"),
    ("publish without its packet id", "345", "both", "3204 000161 00", MALFORMED, "MQTT5-2.2.1-2"),
    ("publish without properties", "5", "both", "3003 000161", MALFORMED, "MQTT5-2.2.2-1"),
    ("response topic with a wildcard", "5", "both", "3008 000161 04 08000123", PROTOCOL, "MQTT5-3.3.2-14"),
    ("client sends a subscription identifier", "5", "server", "3006 000161 02 0b01", PROTOCOL, "MQTT5-3.3.4-6"),
    ("puback flags", "345", "both", "4102 0001", MALFORMED, "MQTT5-2.1.3-1 MQTT311-2.2.2-2"),
    ("pubrel flags", "345", "both", "6002 0001", MALFORMED, "MQTT5-3.6.1-1 MQTT311-3.6.1-1"),
    ("subscribe flags", "345", "server", "8000", MALFORMED, "MQTT5-3.8.1-1 MQTT311-3.8.1-1"),
    ("subscribe flags", "45", "server", "8a00", MALFORMED, "MQTT5-3.8.1-1 MQTT311-3.8.1-1"),
    ("unsubscribe flags", "345", "server", "a000", MALFORMED, "MQTT5-3.10.1-1 MQTT311-3.10.1-1"),
    ("disconnect flags", "345", "server", "e100", MALFORMED, "MQTT5-3.14.1-1 MQTT311-3.14.1-1"),
    ("auth flags", "5", "both", "f100", MALFORMED, "MQTT5-3.15.1-1"),
    ("pingreq flags", "345", "server", "c100", MALFORMED, "MQTT5-2.1.3-1"),
    ("pingreq with a body", "345", "server", "c001 00", MALFORMED, ""),
    ("puback code before 5.0", "34", "both", "4003 0001 00", MALFORMED, ""),
    ("puback unknown code", "5", "both", "4003 0001 01", MALFORMED, "MQTT5-3.4.2-1"),
    ("pubrec unknown code", "5", "both", "5003 0001 92", MALFORMED, "MQTT5-3.5.2-1"),
    ("pubrel unknown code", "5", "both", "6203 0001 10", MALFORMED, "MQTT5-3.6.2-1"),
    ("pubcomp unknown code", "5", "both", "7003 0001 87", MALFORMED, "MQTT5-3.7.2-1"),
    ("disconnect unknown code", "5", "both", "e001 01", MALFORMED, "MQTT5-3.14.2-1"),
    ("disconnect with a code before 5.0", "34", "server", "e001 00", MALFORMED, ""),
    ("auth unknown code", "5", "both", "f002 01 00", MALFORMED, "MQTT5-3.15.2-1"),
    ("auth with a code and no properties", "5", "both", "f001 18", MALFORMED, ""),
    ("auth data without a method", "5", "both", "f006 18 04 16000164", PROTOCOL, ""),
    ("auth before 5.0", "34", "both", "f000", PROTOCOL, ""),
    ("server's disconnect before 5.0", "34", "client", "e000", PROTOCOL, ""),
    ("server's session expiry interval", "5", "client", "e007 00 05 1100000000", PROTOCOL, "MQTT5-3.14.2-2"),
    ("subscribe to nothing", "34", "server", "8202 0001", PROTOCOL, "MQTT5-3.8.3-2 MQTT311-3.8.3-3"),
    ("subscribe to nothing", "5", "server", "8203 0001 00", PROTOCOL, "MQTT5-3.8.3-2"),
    ("subscribe to an empty filter", "34", "server", "8205 0001 0000 00", MALFORMED, "MQTT5-4.7.3-1 MQTT311-4.7.3-1"),
    ("subscribe without options", "34", "server", "8205 0001 000161", MALFORMED, "MQTT5-3.8.3-2"),
    ("subscribe to bad utf-8", "34", "server", "8206 0001 0001ff 00", MALFORMED, "MQTT5-3.8.3-1 MQTT311-3.8.3-1"),
    ("subscribe at qos 3", "34", "server", "8206 0001 000161 03", PROTOCOL, "MQTT311-3.8.3-4"),
    ("subscribe at qos 3", "5", "server", "8207 0001 00 000161 03", PROTOCOL, ""),
    ("subscribe with 5.0's options", "34", "server", "8206 0001 000161 04", MALFORMED, "MQTT311-3.8.3-4"),
    ("subscribe with reserved options", "5", "server", "8207 0001 00 000161 40", MALFORMED, "MQTT5-3.8.3-5"),
    ("retain handling 3", "5", "server", "8207 0001 00 000161 30", PROTOCOL, ""),
    ("no local when shared", "5", "server", "8210 0001 00 000a 2473686172652f672f61 04", PROTOCOL, "MQTT5-3.8.3-4"),
    ("unsubscribe from nothing", "34", "server", "a202 0001", PROTOCOL, "MQTT5-3.10.3-2 MQTT311-3.10.3-2"),
    ("unsubscribe from bad utf-8", "34", "server", "a205 0001 0001ff", MALFORMED, "MQTT5-3.10.3-1 MQTT311-3.10.3-1"),
    ("suback unknown code", "34", "client", "9003 0001 03", MALFORMED, "MQTT311-3.9.3-2"),
    ("suback unknown code", "5", "client", "9004 0001 00 03", MALFORMED, "MQTT5-3.9.3-2"),
    ("suback without a code", "345", "client", "9002 0001", MALFORMED, "MQTT5-3.8.4-6"),
    ("unsuback unknown code", "5", "client", "b004 0001 00 01", MALFORMED, "MQTT5-3.11.3-2"),
    ("unsuback with codes before 5.0", "34", "client", "b003 0001 00", MALFORMED, ""),
    ("a second connect", "345", "server", "1000", PROTOCOL, "MQTT5-3.1.0-2 MQTT311-3.1.0-2"),
    ("a second connack", "345", "client", "2002 0000", PROTOCOL, "MQTT5-3.2.0-2"),
    ("type 0", "345", "both", "0000", PROTOCOL, ""),
    ("suback to a server", "345", "server", "9003 0001 00", PROTOCOL, ""),
    ("pingresp to a server", "345", "server", "d000", PROTOCOL, ""),
    ("subscribe to a client", "345", "client", "8206 0001 000161 00", PROTOCOL, ""),
    ("connect to a client", "345", "client", "1000", PROTOCOL, ""),
    ("remaining length not minimal", "345", "both", "30840000016100", MALFORMED, "MQTT5-1.5.5-1"),
    ("remaining length of five bytes", "345", "both", "30ffffffff", MALFORMED, "MQTT5-1.5.5-1"),
]  # fmt: skip
HEAD_4, HEAD_5, HEAD_3 = "00044d51545404", "00044d51545405", "00064d514973647003"
CONNECTS: list[tuple[str, str, R, int | None, str]] = [
    ("reserved flag", HEAD_4 + "03 0000 00026964", MALFORMED, 4, "MQTT5-3.1.2-3 MQTT311-3.1.2-3"),
    ("reserved flag", HEAD_5 + "03 0000 00 00026964", MALFORMED, 5, "MQTT5-3.1.2-3"),
    ("will qos without a will", HEAD_4 + "0a 0000 00026964", MALFORMED, 4, "MQTT5-3.1.2-11 MQTT311-3.1.2-13"),
    ("will retain without a will", HEAD_5 + "22 0000 00 00026964", MALFORMED, 5, "MQTT5-3.1.2-13 MQTT311-3.1.2-15"),
    ("will qos 3", HEAD_4 + "1e 0000 00026964 000161 0000", MALFORMED, 4, "MQTT5-3.1.2-12 MQTT311-3.1.2-14"),
    ("will announced and missing", HEAD_4 + "06 0000 00026964", MALFORMED, 4, "MQTT5-3.1.2-9 MQTT311-3.1.2-9"),
    ("will topic with a wildcard", HEAD_4 + "06 0000 00026964 000123 0000", MALFORMED, 4, "MQTT5-3.1.3-11"),
    ("will topic bad utf-8", HEAD_4 + "06 0000 00026964 0001ff 0000", MALFORMED, 4, "MQTT5-3.1.3-11 MQTT311-3.1.3-10"),
    ("will response topic with a wildcard", HEAD_5 + "06 0000 00 00026964 04 0800012b 000161 0000", PROTOCOL, 5, ""),
    ("will with a connect property", HEAD_5 + "06 0000 00 00026964 05 1100000000 000161 0000", MALFORMED, 5, ""),
    ("connect with a will property", HEAD_5 + "02 0000 05 1800000000 00026964", MALFORMED, 5, ""),
    ("password without a user name", HEAD_4 + "42 0000 00026964 000170", MALFORMED, 4, "MQTT311-3.1.2-22"),
    ("password without a user name", HEAD_3 + "42 0000 00026964 000170", MALFORMED, 3, "MQTT311-3.1.2-22"),
    ("user name announced and missing", HEAD_4 + "82 0000 00026964", MALFORMED, 4, "MQTT5-3.1.2-17 MQTT311-3.1.2-19"),
    ("password announced and missing", HEAD_4 + "c2 0000 00026964 000161", MALFORMED, 4, "MQTT5-3.1.2-19"),
    ("user name not announced", HEAD_5 + "02 0000 00 00026964 000161", MALFORMED, 5, "MQTT5-3.1.2-16 MQTT5-3.1.2-18"),
    ("user name bad utf-8", HEAD_4 + "82 0000 00026964 0001ff", MALFORMED, 4, "MQTT5-3.1.3-12 MQTT311-3.1.3-11"),
    ("client id bad utf-8", HEAD_4 + "02 0000 0001ff", MALFORMED, 4, "MQTT5-3.1.3-4 MQTT311-3.1.3-4"),
    ("client id with a null", HEAD_5 + "02 0000 00 000100", MALFORMED, 5, "MQTT5-1.5.4-2"),
    ("client id missing", HEAD_5 + "02 0000 00", MALFORMED, 5, "MQTT5-3.1.3-3 MQTT311-3.1.3-3"),
    ("ends after the level", HEAD_4, MALFORMED, 4, "MQTT5-3.1.4-1 MQTT311-3.1.4-1"),
    ("authentication data without a method", HEAD_5 + "02 0000 04 16000164 00026964", PROTOCOL, 5, ""),
    ("level 6", "00044d51545406 02 0000 00026964", VERSION, 6, "MQTT5-3.1.2-2 MQTT311-3.1.2-2"),
    ("level 3 under the new name", "00044d51545403 02 0000 00026964", VERSION, 3, "MQTT5-3.1.2-1"),
    ("level 4 under the old name", "00064d514973647004 02 0000 00026964", VERSION, 4, "MQTT5-3.1.2-1 MQTT311-3.1.2-1"),
    ("another protocol", "0004414d515005 02 0000 00026964", VERSION, None, "MQTT5-3.1.2-1 MQTT311-3.1.2-1"),
    ("lower case", "00046d71747405 02 0000 00026964", VERSION, None, "MQTT5-3.1.2-1"),
    ("name alone", "00044d515454", VERSION, None, ""),
    ("empty", "", MALFORMED, None, "MQTT5-3.1.4-1"),
]

CONNACKS: list[tuple[str, str, str, R, str]] = [
    ("reserved flags", "34", "2002 0200", MALFORMED, "MQTT5-3.2.2-1"),
    ("session present in a refusal", "5", "2003 0187 00", PROTOCOL, "MQTT5-3.2.2-6"),
    ("session present in a refusal", "34", "2002 0105", PROTOCOL, "MQTT311-3.2.2-4"),
    ("unknown return code", "34", "2002 0006", MALFORMED, "MQTT311-3.2.2-6"),
    ("unknown reason code", "5", "2003 0001 00", MALFORMED, "MQTT5-3.2.2-8"),
    ("too short", "345", "2001 00", MALFORMED, ""),
    ("too long", "34", "2003 0000 00", MALFORMED, ""),
]


def refusal(decoder_role: Role, level: int, wire: bytes, *, opened: bool) -> ProtocolError:
    decoder = (open_decoder if opened else fresh_decoder)(decoder_role, level)
    decoder.receive(wire)
    with pytest.raises(ProtocolError) as caught:
        decoder.next_packet()
    return caught.value


@pytest.mark.parametrize(("name", "levels", "heard_by", "wire", "reason_code", "statements"), AFTER_CONNECT)
def test_a_packet_that_breaks_a_rule_is_refused_with_its_reason(
    name: str, levels: str, heard_by: str, wire: str, reason_code: R, statements: str
) -> None:
    for level in map(int, levels):
        for role in ROLES:
            if heard_by in (role, "both"):
                error = refusal(role, level, bytes.fromhex(wire), opened=True)
                assert error.reason_code is reason_code, error.text


@pytest.mark.parametrize(("name", "body", "reason_code", "level", "statements"), CONNECTS)
def test_a_bad_connect_is_refused_and_says_which_level_asked(
    name: str, body: str, reason_code: R, level: int | None, statements: str
) -> None:
    raw = bytes.fromhex(body)
    error = refusal("server", 4, b"\x10" + bytes((len(raw),)) + raw, opened=False)
    assert (error.reason_code, error.protocol_level) == (reason_code, level)


@pytest.mark.parametrize(("name", "levels", "wire", "reason_code", "statements"), CONNACKS)
def test_a_bad_connack_is_refused(name: str, levels: str, wire: str, reason_code: R, statements: str) -> None:
    for level in map(int, levels):
        assert refusal("client", level, bytes.fromhex(wire), opened=False).reason_code is reason_code


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("first", [first for first in range(256) if first != 0x10])
def test_a_server_refuses_any_first_packet_but_connect_from_its_first_byte(level: int, first: int) -> None:
    """MQTT5-3.1.0-1, MQTT311-3.1.0-1. Bug class: memory taken by a first packet that is not CONNECT."""
    assert refusal("server", level, bytes((first,)), opened=False).reason_code is PROTOCOL


@pytest.mark.parametrize("level", LEVELS)
def test_a_client_refuses_anything_before_connack_but_auth(level: int) -> None:
    """MQTT5-3.2.0-1, MQTT5-3.14.0-1, MQTT311-3.2.0-1."""
    allowed = {0x20, 0xF0} if level == 5 else {0x20}
    for first in set(range(256)) - allowed:
        assert refusal("client", level, bytes((first,)), opened=False).reason_code is PROTOCOL


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("role", ROLES)
def test_a_wrong_first_byte_is_refused_before_the_rest_is_waited_for(role: Role, level: int) -> None:
    for first in (0x00, 0x36, 0x41, 0x63, 0x80 if role == "server" else 0x82):
        error = refusal(role, level, bytes((first,)), opened=True)
        promised = refusal(role, level, bytes((first, 0xFF, 0xFF, 0x7F)), opened=True)
        assert error.reason_code == promised.reason_code != R.PACKET_TOO_LARGE


def test_a_second_connect_is_refused_though_it_is_a_good_one() -> None:
    """MQTT5-3.1.0-2, MQTT311-3.1.0-2."""
    decoder = fresh_decoder("server", 4)
    decoder.receive(encode(Connect("id", 4), 4) * 2)
    assert decoder.next_packet() == Connect("id", 4)
    with pytest.raises(ProtocolError, match="second CONNECT"):
        decoder.next_packet()


def test_a_refused_connect_leaves_the_decoder_waiting_for_a_connect() -> None:
    """Bug class: odd CONNECT or will properties that leave state behind."""
    decoder = fresh_decoder("server", 4)
    decoder.receive(bytes.fromhex("101c 0004 4d515454 05 06 0000 00 00026964 08 1800000001 270000 000161 0000"))
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            decoder.next_packet()
        assert caught.value.protocol_level == 5
    assert decoder.protocol_level == 4
