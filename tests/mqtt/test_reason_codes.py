"""The reason codes as numbers and as tables."""

from __future__ import annotations

import pytest

from recado.mqtt.reason_codes import (
    CONNACK_RETURN_CODE_OF,
    CONNACK_RETURN_CODES_3,
    REASON_CODES,
    PacketType,
    ReasonCode,
)


def test_every_reason_code_of_the_standard_has_its_number() -> None:
    small = {0x00, 0x01, 0x02, 0x04, 0x10, 0x11, 0x18, 0x19}
    assert {int(code) for code in ReasonCode} == small | set(range(0x80, 0xA3))
    assert ReasonCode(0x87) is ReasonCode.NOT_AUTHORIZED
    assert ReasonCode(0x95) is ReasonCode.PACKET_TOO_LARGE
    assert ReasonCode(0xA0) is ReasonCode.MAXIMUM_CONNECT_TIME


def test_every_reason_code_belongs_to_a_packet() -> None:
    assert set().union(*REASON_CODES.values()) == {int(code) for code in ReasonCode}


def test_every_refusal_of_connack_has_a_word_for_older_clients() -> None:
    assert set(CONNACK_RETURN_CODE_OF) == set(REASON_CODES[PacketType.CONNACK].values())
    assert all((return_code == 0) == (code == 0) for code, return_code in CONNACK_RETURN_CODE_OF.items())


@pytest.mark.parametrize("return_code", range(6))
def test_a_return_code_comes_back_as_itself(return_code: int) -> None:
    assert CONNACK_RETURN_CODE_OF[CONNACK_RETURN_CODES_3[return_code]] == return_code
