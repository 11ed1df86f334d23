"""DISCONNECT and errors (3.14, 4.13), and reason strings that never make a packet too large (3.x.2)."""

from __future__ import annotations

import pytest

from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    MQTT_5,
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
    SubscriptionRequest,
)
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.hooks import ASKED, METHOD, REASON, WORD
from tests.conformance.node import Node

SMALL = 60  # less than any packet with REASON in it


def size(packet: Packet) -> int:
    return len(encode(packet, MQTT_5))


@pytest.mark.parametrize(
    ("wire", "reason_code"),
    [
        ("3604 000161 00", R.MALFORMED_PACKET),  # [MQTT5-3.3.1-4]
        ("3804 000161 00", R.MALFORMED_PACKET),  # [MQTT5-3.3.1-2]
        ("3206 000161 0000 00", R.MALFORMED_PACKET),  # [MQTT5-2.2.1-3]
        ("3004 0001ff 00", R.MALFORMED_PACKET),  # [MQTT5-3.3.2-1] [MQTT5-1.5.4-1]
        ("3004 000100 00", R.MALFORMED_PACKET),  # [MQTT5-1.5.4-2]
        ("3007 000161 03 030001", R.MALFORMED_PACKET),
        ("3008 000161 04 0300 01ff", R.MALFORMED_PACKET),  # [MQTT5-3.3.2-19]
        ("3008 000161 04 0800 01ff", R.MALFORMED_PACKET),  # [MQTT5-3.3.2-13]
        ("300b 000161 07 2600 01ff 0000", R.MALFORMED_PACKET),  # [MQTT5-1.5.7-1]
        ("3006 000161 02 0102", R.PROTOCOL_ERROR),
        ("3008 000161 04 0101 0101", R.PROTOCOL_ERROR),
        ("6002 0001", R.MALFORMED_PACKET),  # [MQTT5-3.6.1-1]
        ("4003 0001 01", R.MALFORMED_PACKET),  # [MQTT5-3.4.2-1]
        ("e100", R.MALFORMED_PACKET),  # [MQTT5-3.14.1-1]
        ("f100", R.MALFORMED_PACKET),  # [MQTT5-3.15.1-1]
        ("c100", R.MALFORMED_PACKET),  # [MQTT5-2.1.3-1]
        ("e001 01", R.MALFORMED_PACKET),  # [MQTT5-3.14.2-1]
        ("30840000016100", R.MALFORMED_PACKET),  # [MQTT5-1.5.5-1]
        ("0000", R.PROTOCOL_ERROR),
        ("2003 0000 00", R.PROTOCOL_ERROR),
        ("d000", R.PROTOCOL_ERROR),
    ],
)
async def test_a_packet_that_breaks_a_rule_is_answered_with_disconnect_and_the_end(
    node: Node, wire: str, reason_code: R
) -> None:
    """[MQTT5-4.13.1-1] [MQTT5-4.13.2-1] [MQTT5-3.14.2-1] [MQTT5-3.14.4-1] [MQTT5-3.14.4-2]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    client = await node.connected()
    await client.send_bytes(bytes.fromhex(wire) + encode(Pingreq(), MQTT_5))
    said = await client.end()
    assert said is not None
    assert said.reason_code is reason_code
    assert P.SESSION_EXPIRY_INTERVAL not in said.properties  # [MQTT5-3.14.2-2]
    await node.hears_nothing(watcher)


async def test_nothing_that_comes_after_a_disconnect_counts(node: Node) -> None:
    """[MQTT5-3.14.4-1] [MQTT5-3.14.4-2]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    client = await node.connected()
    await client.send(Disconnect(), Publish("a", b"x"), Pingreq())
    assert await client.rest() == []
    await node.hears_nothing(watcher)


async def test_a_ping_is_answered(node: Node) -> None:
    """[MQTT5-3.12.4-1]"""
    client = await node.connected()
    await client.send(Pingreq(), Pingreq())
    assert [await client.next(), await client.next()] == [Pingresp(), Pingresp()]


# Reason strings and user properties are left out before they make a packet larger than the client takes. The client
# of these tests fails on a packet that is larger than it said.


@pytest.mark.parametrize(("qos", "kind"), [(1, Puback), (2, Pubrec)])
async def test_the_answer_to_a_publish_leaves_its_reason_string_out_where_it_would_be_too_large(
    node: Node, qos: int, kind: type[Puback | Pubrec]
) -> None:
    """[MQTT5-3.4.2-2] [MQTT5-3.4.2-3] [MQTT5-3.5.2-2] [MQTT5-3.5.2-3]"""
    roomy, small = await node.connected("roomy"), await node.connected(properties={P.MAXIMUM_PACKET_SIZE: SMALL})
    for client in (roomy, small):
        await client.send(Publish("forbidden/a", b"x", qos, packet_id=1))
    assert await roomy.next() == kind(1, R.NOT_AUTHORIZED, {P.REASON_STRING: REASON})
    assert await small.next() == kind(1, R.NOT_AUTHORIZED)


async def test_a_refusing_connack_leaves_its_reason_string_out_where_it_would_be_too_large(node: Node) -> None:
    """[MQTT5-3.2.2-19] [MQTT5-3.2.2-20]"""
    roomy, small = await node.client(), await node.client()
    connack = await roomy.connect_as("ana", username="ana", password=b"wrong")
    assert connack.properties[P.REASON_STRING] == REASON
    said = {P.MAXIMUM_PACKET_SIZE: SMALL}
    connack = await small.connect_as("ana", username="ana", password=b"wrong", properties=said)
    assert connack.reason_code is R.BAD_USER_NAME_OR_PASSWORD
    assert size(connack) <= SMALL


async def test_a_disconnect_leaves_its_reason_string_out_where_it_would_be_too_large(node: Node) -> None:
    """[MQTT5-3.14.2-3] [MQTT5-3.14.2-4]"""
    said = []
    for maximum in (1_000, 40):
        old = await node.connected(properties={P.MAXIMUM_PACKET_SIZE: maximum})
        await node.connected()
        packet = await old.end()
        assert packet is not None
        assert packet.reason_code is R.SESSION_TAKEN_OVER
        said.append(packet)
    assert size(said[0]) > 40
    assert size(said[1]) <= 40


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (Pubrec(9), Pubrel(9, R.PACKET_IDENTIFIER_NOT_FOUND)),
        (Pubrel(9), Pubcomp(9, R.PACKET_IDENTIFIER_NOT_FOUND)),
    ],
)
async def test_the_later_packets_of_qos_2_carry_no_more_than_their_reason_code(
    node: Node, sent: Packet, answer: Packet
) -> None:
    """[MQTT5-3.6.2-2] [MQTT5-3.6.2-3] [MQTT5-3.7.2-2] [MQTT5-3.7.2-3]"""
    client = await node.connected(properties={P.MAXIMUM_PACKET_SIZE: SMALL})
    await client.send(sent)
    got = await client.next()
    assert got == answer
    assert size(answer) == 5


async def test_suback_and_unsuback_carry_no_more_than_their_reason_codes(node: Node) -> None:
    """[MQTT5-3.9.2-1] [MQTT5-3.9.2-2] [MQTT5-3.11.2-1] [MQTT5-3.11.2-2]"""
    client = await node.connected(properties={P.MAXIMUM_PACKET_SIZE: SMALL})
    suback = await client.subscribe_all([SubscriptionRequest("forbidden/a"), SubscriptionRequest("a/#/b")])
    assert size(suback) == 2 + 2 + 1 + 2
    unsuback = await client.unsubscribe_from("nothing", "nothing either")
    assert size(unsuback) == 2 + 2 + 1 + 2


async def test_auth_carries_no_more_than_its_method_and_data(node: Node) -> None:
    """[MQTT5-3.15.2-2] [MQTT5-3.15.2-3]"""
    client = await node.client()
    method = {P.AUTHENTICATION_METHOD: METHOD}
    await client.send(Connect("ana", properties={**method, P.MAXIMUM_PACKET_SIZE: SMALL}))
    auth = await client.expect(Auth)
    assert auth.properties == {**method, P.AUTHENTICATION_DATA: ASKED}
    assert size(auth) <= SMALL
    await client.send(Auth(R.CONTINUE_AUTHENTICATION, {**method, P.AUTHENTICATION_DATA: WORD}))
    assert size(await client.expect(Connack)) <= SMALL
