"""CONNECT and CONNACK (3.1 and 3.2): who gets in, as whom, and what both sides tell each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from recado.broker.limits import BrokerLimits
from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Will,
)
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.client import Client
from tests.conformance.node import LIMITS, Node

PassSeconds = Callable[[int], None]
KEEP_ALIVE_S = 10
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


async def test_a_good_connect_is_accepted_and_told_what_the_server_takes(node: Node) -> None:
    """[MQTT5-3.1.4-5] [MQTT5-3.2.2-1] [MQTT5-3.2.2-8]"""
    client = await node.client()
    connack = await client.connect_as("ana", keep_alive=30)
    assert (connack.session_present, connack.reason_code) == (False, R.SUCCESS)
    told = connack.properties
    assert told[P.RECEIVE_MAXIMUM] == LIMITS.receive_maximum
    assert told[P.MAXIMUM_PACKET_SIZE] == LIMITS.packet_bytes_max
    assert told[P.TOPIC_ALIAS_MAXIMUM] == LIMITS.topic_aliases_max
    for available in (
        P.WILDCARD_SUBSCRIPTION_AVAILABLE,
        P.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        P.SHARED_SUBSCRIPTION_AVAILABLE,
        P.RETAIN_AVAILABLE,
    ):
        assert told.get(available, 1) == 1


async def test_every_qos_and_retain_are_supported_so_nothing_is_said_against_them(node: Node) -> None:
    """[MQTT5-3.2.2-9] [MQTT5-3.2.2-10] [MQTT5-3.2.2-11] [MQTT5-3.2.2-12] [MQTT5-3.2.2-13] [MQTT5-3.2.2-14]"""
    client = await node.connected(will=Will("w", b"bye", qos=2, retain=True))
    assert P.MAXIMUM_QOS not in client.connack.properties
    assert client.connack.properties.get(P.RETAIN_AVAILABLE, 1) == 1
    for qos in (0, 1, 2):
        assert await client.subscribe_to(f"topic/{qos}", qos) == qos
        assert await client.publish_to(f"topic/{qos}", b"x", qos, retain=True) < R.UNSPECIFIED_ERROR
        assert (await client.receive()).qos == qos


async def test_connack_comes_first_and_once_whatever_was_sent_after_connect(node: Node) -> None:
    """[MQTT5-3.2.0-1] [MQTT5-3.2.0-2]"""
    client = await node.client()
    await client.send(Connect("ana"), Subscribe(1, [SubscriptionRequest("a", 1)]), Publish("a", b"x"), Pingreq())
    kinds = [type(await client.next()) for _ in range(4)]
    assert kinds[0] is Connack
    assert sorted(kind.__name__ for kind in kinds[1:]) == ["Pingresp", "Publish", "Suback"]
    assert kinds.index(Suback) < kinds.index(Publish)
    assert await client.before_pong() == []


async def test_a_second_connect_ends_the_connection(node: Node) -> None:
    """[MQTT5-3.1.0-2]"""
    client = await node.connected()
    await client.send(Connect("ana"))
    said = await client.end()
    assert said is not None
    assert said.reason_code is R.PROTOCOL_ERROR


@pytest.mark.parametrize("packet", [Publish("a", b"x"), Pingreq(), Disconnect()])
async def test_whoever_starts_with_another_packet_is_cut_off_without_a_word(
    node: Node, packet: Publish | Pingreq | Disconnect
) -> None:
    """[MQTT5-3.1.0-1] [MQTT5-3.14.0-1]"""
    client = await node.client()
    await client.send(packet)
    assert await client.rest() == []


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ("0004 4d515454 05 03 0000 00 00026964", {R.MALFORMED_PACKET}),  # [MQTT5-3.1.2-3]
        ("0004 4d515454 05 1e 0000 00 00026964 00 000161 0000", {R.MALFORMED_PACKET}),  # [MQTT5-3.1.2-12]
        ("0004 4d515454 05 0a 0000 00 00026964", {R.MALFORMED_PACKET}),  # [MQTT5-3.1.2-11]
        ("0004 4d515454 05 22 0000 00 00026964", {R.MALFORMED_PACKET}),  # [MQTT5-3.1.2-13]
        ("0004 4d515454 05 06 0000 00 00026964", {R.MALFORMED_PACKET}),  # [MQTT5-3.1.2-9]
        ("0004 4d515454 05 82 0000 00 00026964", {R.MALFORMED_PACKET}),  # [MQTT5-3.1.2-17]
        ("0004 4d515454 05 42 0000 00 00026964", {R.MALFORMED_PACKET}),  # [MQTT5-3.1.2-19]
        ("0004 4d515454 05 02 0000 00 00026964 0003616e61", {R.MALFORMED_PACKET}),  # [MQTT5-3.1.2-16] [MQTT5-3.1.2-18]
        ("0004 4d515454 05 02 0000 03 210000 00026964", {R.PROTOCOL_ERROR}),
        ("0004 4d515454 05 02 0000 05 2700000000 00026964", {R.PROTOCOL_ERROR}),
        ("0004 4d515454 05 02 0000 02 1702 00026964", {R.PROTOCOL_ERROR}),
        ("0004 4d515454 05 02 0000 0a 1100000001 1100000001 00026964", {R.PROTOCOL_ERROR}),
        ("0004 4d515454 05 02 0000 00", {R.MALFORMED_PACKET}),  # [MQTT5-3.1.3-3]
        ("0004 4d515454 05 06 0000 00 00026964 00 000123 0000", {R.MALFORMED_PACKET, R.TOPIC_NAME_INVALID}),
        ("0004 4d515454 06 02 0000 00 00026964", {R.UNSUPPORTED_PROTOCOL_VERSION}),  # [MQTT5-3.1.2-2]
    ],
)
async def test_a_connect_that_breaks_a_rule_ends_with_a_connack_that_says_why_or_with_nothing(
    node: Node, body: str, codes: set[R]
) -> None:
    """[MQTT5-3.1.4-1] [MQTT5-3.2.2-6] [MQTT5-3.2.2-7] [MQTT5-3.14.0-1] [MQTT5-4.13.1-1]"""
    raw = bytes.fromhex(body)
    client = await node.client()
    await client.send_bytes(b"\x10" + bytes((len(raw),)) + raw)
    for packet in await client.rest():
        assert isinstance(packet, Connack)
        assert packet.reason_code in codes
        assert not packet.session_present
    assert node.hooks.connected == []


async def test_another_protocol_name_is_not_served(node: Node) -> None:
    """[MQTT5-3.1.2-1]"""
    client = await node.client()
    await client.send_bytes(encode(Connect("ana"), MQTT_5).replace(b"MQTT", b"MQTx"))
    for packet in await client.rest():
        assert isinstance(packet, Connack)
        assert packet.reason_code is R.UNSUPPORTED_PROTOCOL_VERSION


async def test_who_may_not_connect_is_told_and_cut_off_and_nothing_after_it_counts(node: Node) -> None:
    """[MQTT5-3.1.4-2] [MQTT5-3.1.4-6] [MQTT5-3.2.2-6] [MQTT5-3.2.2-7] [MQTT5-4.13.2-1]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    client = await node.client()
    await client.send(Connect("ana", username="ana", password=b"wrong"), Publish("a", b"x"), Pingreq())
    (connack,) = await client.rest()
    assert isinstance(connack, Connack)
    assert (connack.session_present, connack.reason_code) == (False, R.BAD_USER_NAME_OR_PASSWORD)
    await node.hears_nothing(watcher)


# Client identifiers


@pytest.mark.parametrize("client_id", ["a", "7", ALPHABET[:23], ALPHABET[23:46], ALPHABET[39:62]])
async def test_a_client_id_of_1_to_23_letters_and_digits_is_accepted_as_it_is(node: Node, client_id: str) -> None:
    """[MQTT5-3.1.3-5] [MQTT5-3.1.3-2]"""
    client = await node.connected(client_id)
    assert P.ASSIGNED_CLIENT_IDENTIFIER not in client.connack.properties
    assert node.hooks.connected == [client_id]


async def test_a_client_id_that_the_application_refuses_ends_the_connection(node: Node) -> None:
    """[MQTT5-3.1.3-8] [MQTT5-3.2.2-7]"""
    client = await node.client()
    assert (await client.connect_as("refused")).reason_code is R.CLIENT_IDENTIFIER_NOT_VALID
    assert await client.rest() == []


async def test_a_client_without_an_id_is_given_a_new_one_that_its_session_goes_by(node: Node) -> None:
    """[MQTT5-3.1.3-6] [MQTT5-3.1.3-7] [MQTT5-3.2.2-16]"""
    clients = [await node.connected("", session_expiry=60) for _ in range(3)]
    given = [client.connack.properties[P.ASSIGNED_CLIENT_IDENTIFIER] for client in clients]
    assert len(set(given)) == 3
    await clients[0].subscribe_to("a", 1)
    await node.gone(clients[0])
    again = await node.connected(given[0], clean_start=False, session_expiry=60)
    assert again.connack.session_present
    await clients[1].publish_to("a", b"to the one with that id", 1)
    assert (await again.receive()).payload == b"to the one with that id"


async def test_sessions_of_different_client_ids_are_strangers_to_each_other(node: Node) -> None:
    """[MQTT5-3.1.3-2]"""
    one = await node.connected("ana", session_expiry=60)
    await one.subscribe_to("a", 1)
    await node.gone(one)
    other = await node.connected("Ana", clean_start=False, session_expiry=60)
    assert not other.connack.session_present
    await other.publish_to("a", b"for ana", 1)
    await node.hears_nothing(other)


# Keep alive


async def test_a_silent_client_is_cut_off_after_one_and_a_half_of_its_keep_alive(
    node: Node, pass_seconds: PassSeconds
) -> None:
    """[MQTT5-3.1.2-22] [MQTT5-3.2.2-22] [MQTT5-4.13.2-1]"""
    client = await node.connected(keep_alive=KEEP_ALIVE_S)
    assert P.SERVER_KEEP_ALIVE not in client.connack.properties
    await _is_cut_off_in_time(node, client, pass_seconds)


async def _is_cut_off_in_time(node: Node, client: Client, pass_seconds: PassSeconds) -> None:
    pass_seconds(KEEP_ALIVE_S * 3 // 2)
    assert node.hooks.disconnected == []
    pass_seconds(1)  # the clock has whole seconds, and is never early
    assert len(node.hooks.disconnected) == 1
    said = await client.end()
    assert said is not None
    assert said.reason_code is R.KEEP_ALIVE_TIMEOUT


async def test_a_client_that_pings_within_its_keep_alive_stays(node: Node, pass_seconds: PassSeconds) -> None:
    """[MQTT5-3.1.2-20] [MQTT5-3.12.4-1]"""
    client = await node.connected(keep_alive=KEEP_ALIVE_S)
    for _ in range(4):
        pass_seconds(KEEP_ALIVE_S)
        await client.send(Pingreq())
        assert isinstance(await client.next(), Pingresp)


async def test_a_client_without_a_keep_alive_may_be_silent_for_the_longest(
    node: Node, pass_seconds: PassSeconds
) -> None:
    client = await node.connected(keep_alive=0)
    pass_seconds(LIMITS.keep_alive_max_s * 3 // 2)
    await client.ping()


class TestWithAShortLongestKeepAlive:
    @pytest.fixture
    def limits(self) -> BrokerLimits:
        return replace(LIMITS, keep_alive_max_s=KEEP_ALIVE_S)

    @pytest.mark.parametrize("asked", [0, 600])
    async def test_the_keep_alive_that_the_server_names_is_the_one_that_holds(
        self, node: Node, asked: int, pass_seconds: PassSeconds
    ) -> None:
        """[MQTT5-3.1.2-21] [MQTT5-3.2.2-21]"""
        client = await node.connected(keep_alive=asked)
        assert client.connack.properties[P.SERVER_KEEP_ALIVE] == KEEP_ALIVE_S
        await _is_cut_off_in_time(node, client, pass_seconds)


# What a client may ask to be told


@pytest.mark.parametrize("asked", [{}, {P.REQUEST_RESPONSE_INFORMATION: 0}])
async def test_response_information_is_given_only_to_who_asks(node: Node, asked: dict[P, int]) -> None:
    """[MQTT5-3.1.2-28]"""
    client = await node.connected(properties=asked)
    assert P.RESPONSE_INFORMATION not in client.connack.properties
    curious = await node.connected("curious", properties={P.REQUEST_RESPONSE_INFORMATION: 1})
    assert curious.connack.properties[P.RESPONSE_INFORMATION] == "answers/curious"


async def test_who_wants_no_problem_information_gets_reason_codes_without_reason_strings(node: Node) -> None:
    """[MQTT5-3.1.2-29]"""
    curious = await node.connected("curious")
    await curious.send(Publish("forbidden/a", b"x", 1, packet_id=1))
    assert P.REASON_STRING in (await curious.answer_to_publish()).properties
    client = await node.connected(properties={P.REQUEST_PROBLEM_INFORMATION: 0})
    for qos in (1, 2):
        await client.send(Publish("forbidden/a", b"x", qos, packet_id=qos))
        answer = await client.answer_to_publish()
        assert (answer.reason_code, dict(answer.properties)) == (R.NOT_AUTHORIZED, {})
    suback = await client.subscribe_all([SubscriptionRequest("forbidden/a", 1)])
    assert (suback.reason_codes, dict(suback.properties)) == ([R.NOT_AUTHORIZED], {})
    unsuback = await client.unsubscribe_from("nothing")
    assert (unsuback.reason_codes, dict(unsuback.properties)) == ([R.NO_SUBSCRIPTION_EXISTED], {})
