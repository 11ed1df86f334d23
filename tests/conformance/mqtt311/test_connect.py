"""CONNECT and CONNACK (3.1 and 3.2): who gets in, who is told why not, and who is just cut off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recado.broker.hooks import Challenge, Identity, Refused
from recado.broker.limits import BrokerLimits
from recado.mqtt.codec import Decoder, ProtocolError, encode
from recado.mqtt.packets import (
    MQTT_3_1_1,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Will,
)
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.client import Client
from tests.conformance.mqtt311.wire import connect, packet, text
from tests.conformance.node import LIMITS, Node

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
ACCEPTED = b"\x20\x02\x00\x00"


async def refused(client: Client, return_code: int) -> None:
    """The client gets a CONNACK with this return code, session present 0, and the connection ends."""
    assert await client.stream.receive() == bytes((0x20, 2, 0, return_code))
    assert await client.rest() == []


async def test_a_good_connect_is_answered_with_return_code_0(node: Node) -> None:
    """[MQTT311-3.1.4-4] [MQTT311-3.2.0-1] [MQTT311-3.2.2-1]"""
    client = await node.client()
    await client.send_bytes(connect(0x02, text("ana")))
    assert await client.stream.receive() == ACCEPTED


async def test_connack_comes_before_the_answers_to_what_was_sent_after_connect(node: Node) -> None:
    """[MQTT311-3.2.0-1] [MQTT311-3.1.4-4]"""
    client = await node.client()
    await client.send(
        Connect("ana", MQTT_3_1_1),
        Subscribe(1, [SubscriptionRequest("a", 1)]),
        Publish("a", b"x", 1, packet_id=2),
        Pingreq(),
    )
    kinds = [type(await client.next()) for _ in range(5)]
    assert kinds[0] is Connack
    assert {Suback, Publish, Puback} < set(kinds)


async def test_connack_comes_before_what_waited_for_the_session(node: Node) -> None:
    """[MQTT311-3.2.0-1] [MQTT311-3.2.2-2]"""
    client = await node.connected(clean_start=False)
    await client.subscribe_to("a", 1)
    await node.gone(client)
    await (await node.connected("publisher")).publish_to("a", b"x", 1)
    again = await node.client()
    await again.send_bytes(connect(0x00, text("ana")))
    assert (await again.stream.receive()).startswith(b"\x20\x02\x01\x00")


@pytest.mark.parametrize(
    "first",
    [Publish("a", b"x"), Publish("a", b"x", 1, packet_id=1), Subscribe(1, [SubscriptionRequest("#")]), Pingreq()],
    ids=["PUBLISH", "PUBLISH at QoS 1", "SUBSCRIBE", "PINGREQ"],
)
async def test_who_does_not_start_with_connect_is_cut_off_and_not_heard(node: Node, first: Packet) -> None:
    """[MQTT311-3.1.0-1] [MQTT311-4.8.0-1]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    client = await node.client()
    await client.send(first, Connect("ana", MQTT_3_1_1))
    assert await client.rest() == []
    await node.hears_nothing(watcher)


async def test_a_disconnect_before_connect_ends_the_connection(node: Node) -> None:
    """[MQTT311-3.1.0-1]"""
    client = await node.client()
    await client.send(Disconnect())
    assert await client.rest() == []


@pytest.mark.parametrize("client_id", ["ana", "another"])
async def test_a_second_connect_ends_the_connection(node: Node, client_id: str) -> None:
    """[MQTT311-3.1.0-2] [MQTT311-3.1.2-8]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("w")
    client = await node.connected(will=Will("w", b"bye"))
    await client.send(Connect(client_id, MQTT_3_1_1), Publish("w", b"after it"))
    assert await client.rest() == []
    assert (await watcher.receive()).payload == b"bye"
    await node.hears_nothing(watcher)


# Cut off without a word (3.1.4): CONNECT is not as the specification has it

ANA = text("ana")


@pytest.mark.parametrize(
    "raw",
    [
        connect(0x03, ANA),  # [MQTT311-3.1.2-3]
        connect(0x0A, ANA),  # [MQTT311-3.1.2-11] [MQTT311-3.1.2-13]
        connect(0x12, ANA),  # [MQTT311-3.1.2-11] [MQTT311-3.1.2-13]
        connect(0x22, ANA),  # [MQTT311-3.1.2-11] [MQTT311-3.1.2-15]
        connect(0x1E, ANA, text("w"), text("bye")),  # [MQTT311-3.1.2-14]
        connect(0x06, ANA),  # [MQTT311-3.1.2-9]
        connect(0x06, ANA, text("w")),  # [MQTT311-3.1.2-9]
        connect(0x02, ANA, text("w"), text("bye")),  # [MQTT311-3.1.2-11]
        connect(0x02, ANA, text("user")),  # [MQTT311-3.1.2-18]
        connect(0x82, ANA),  # [MQTT311-3.1.2-19]
        connect(0x82, ANA, text("user"), text("secret")),  # [MQTT311-3.1.2-20]
        connect(0xC2, ANA, text("user")),  # [MQTT311-3.1.2-21]
        connect(0x42, ANA, text("secret")),  # [MQTT311-3.1.2-22]
        connect(0x02),  # [MQTT311-3.1.3-3]
        packet(0x10, text("MQTT"), b"\4"),
        packet(0x10, text("MQTT"), b"\4\2\0"),
        connect(0x06, ANA, text("w/#"), text("bye")),  # [MQTT311-4.7.1-1]
        connect(0x06, ANA, text(""), text("bye")),  # [MQTT311-4.7.3-1]
    ],
    ids=[
        "reserved flag",
        "will QoS 1 without a will",
        "will QoS 2 without a will",
        "will retain without a will",
        "will QoS 3",
        "no will topic",
        "no will message",
        "a will without its flag",
        "a user name without its flag",
        "no user name",
        "a password without its flag",
        "no password",
        "a password without a user name",
        "no client id",
        "no flags",
        "half a keep alive",
        "a wildcard in the will topic",
        "an empty will topic",
    ],
)
async def test_a_connect_that_breaks_a_rule_ends_the_connection_without_a_connack(node: Node, raw: bytes) -> None:
    """[MQTT311-3.1.4-1] [MQTT311-3.2.2-6] [MQTT311-4.8.0-1]"""
    client = await node.client()
    await client.send_bytes(raw)
    assert await client.rest() == []
    assert node.hooks.connected == []


@pytest.mark.parametrize("name", [b"MQTX", b"mqtt", b"MQTT2", b"", b"HTTP"])
async def test_another_protocols_name_is_not_accepted(node: Node, name: bytes) -> None:
    """[MQTT311-3.1.2-1]"""
    client = await node.client()
    await client.send_bytes(connect(0x02, ANA, name=name))
    assert await client.rest() == []
    assert node.hooks.connected == []


def test_no_password_can_be_sent_without_a_user_name() -> None:
    """[MQTT311-3.1.2-22]"""
    with pytest.raises(ValueError, match="user name"):
        encode(Connect("ana", MQTT_3_1_1, password=b"secret"), MQTT_3_1_1)


@pytest.mark.parametrize(
    ("connecting", "flags"),
    [
        (Connect("ana", MQTT_3_1_1), 0x02),
        (Connect("ana", MQTT_3_1_1, clean_start=False), 0x00),
        (Connect("ana", MQTT_3_1_1, username="u"), 0x82),
        (Connect("ana", MQTT_3_1_1, username="u", password=b"p"), 0xC2),
        (Connect("ana", MQTT_3_1_1, will=Will("w", b"bye")), 0x06),
        (Connect("ana", MQTT_3_1_1, will=Will("w", b"bye", 2, True)), 0x36),
    ],
)
def test_the_flags_that_are_sent_say_what_is_in_the_payload(connecting: Connect, flags: int) -> None:
    """[MQTT311-3.1.2-9] [MQTT311-3.1.2-11] [MQTT311-3.1.2-13] [MQTT311-3.1.2-15] [MQTT311-3.1.2-18] [MQTT311-3.1.2-19]
    [MQTT311-3.1.2-20] [MQTT311-3.1.2-21] [MQTT311-3.1.3-1] [MQTT311-3.1.3-3]"""
    will = connecting.will
    parts = [text("ana")]
    if will is not None:
        parts += [text(will.topic_name), text(will.payload)]
    if connecting.username is not None:
        parts.append(text(connecting.username))
    if connecting.password is not None:
        parts.append(text(connecting.password))
    assert encode(connecting, MQTT_3_1_1) == connect(flags, *parts)


async def test_the_payload_is_read_in_its_order(node: Node) -> None:
    """[MQTT311-3.1.3-1] [MQTT311-3.1.3-3] [MQTT311-3.1.2-9] [MQTT311-3.1.2-19] [MQTT311-3.1.2-21]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("1/2", 2)
    client = await node.client()
    whole = [text("0"), text("1/2"), text(b"\x003"), text("4")]
    await client.send_bytes(connect(0xD6, *whole, text(b"5\xff\x00")))
    assert await client.stream.receive() == ACCEPTED
    assert [(each.user, each.client_id) for each in node.server.sessions.of("4")] == [("4", "0")]
    await node.gone(client)
    will = await watcher.receive()
    assert (will.topic_name, will.payload, will.qos) == ("1/2", b"\x003", 2)
    other = await node.client()
    await other.send_bytes(connect(0xD6, *whole, text("wrong")))
    await refused(other, 4)


# Told why not (3.2.2.3)


@pytest.mark.parametrize("level", [0, 2, 3, 6, 127])
async def test_an_unsupported_level_is_refused_with_1(node: Node, level: int) -> None:
    """[MQTT311-3.1.2-2] [MQTT311-3.2.2-4] [MQTT311-3.2.2-5]"""
    client = await node.client(MQTT_3_1_1)
    await client.send_bytes(connect(0x02, ANA, level=level))
    answer = await client.stream.receive()
    if level <= 5:
        assert answer == b"\x20\x02\x00\x01"
    else:  # who speaks a later version than 5.0 is told so in 5.0's words
        assert answer[:1] + answer[2:4] == b"\x20\x00\x84"
    assert await client.stream.receive() == b""


async def test_no_client_id_for_a_session_that_is_to_be_kept_is_refused_with_2(node: Node) -> None:
    """[MQTT311-3.1.3-7] [MQTT311-3.1.3-8] [MQTT311-3.1.3-9] [MQTT311-3.2.2-4] [MQTT311-3.2.2-5]"""
    client = await node.client()
    await client.send(Connect("", MQTT_3_1_1, clean_start=False))
    await refused(client, 2)


@pytest.mark.usefixtures("pass_seconds")  # no second passes
@pytest.mark.parametrize("limits", [replace(LIMITS, connection_rate_max=1)])
async def test_more_connections_than_the_server_takes_now_are_refused_with_3(node: Node, limits: BrokerLimits) -> None:
    """[MQTT311-3.2.2-4] [MQTT311-3.2.2-5]"""
    answers = []
    for number in range(3):
        client = await node.client()
        await client.send(Connect(f"client{number}", MQTT_3_1_1))
        answers.append(await client.stream.receive())
        if number:
            assert await client.rest() == []
    assert answers == [ACCEPTED, b"\x20\x02\x00\x03", b"\x20\x02\x00\x03"]


async def test_a_wrong_password_is_refused_with_4(node: Node) -> None:
    """[MQTT311-3.2.2-4] [MQTT311-3.2.2-5]"""
    await node.gone(await node.connected(clean_start=False, username="u", password=b"right"))
    client = await node.client()
    await client.send(Connect("ana", MQTT_3_1_1, clean_start=False, username="u", password=b"wrong"))
    await refused(client, 4)


async def test_who_may_not_connect_is_refused_with_5(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """[MQTT311-3.2.2-4] [MQTT311-3.2.2-5]"""

    async def nobody(connect: Connect, challenge: Challenge) -> Identity:
        raise Refused(R.NOT_AUTHORIZED, "nobody may")

    monkeypatch.setattr(node.hooks, "authenticate", nobody)
    client = await node.client()
    await client.send(Connect("ana", MQTT_3_1_1))
    await refused(client, 5)


def test_a_refusal_with_a_session_present_is_not_understood() -> None:
    """[MQTT311-3.2.2-4]"""
    decoder = Decoder(packet_bytes_max=100, role="client")
    decoder.receive(b"\x20\x02\x01\x05")
    with pytest.raises(ProtocolError):
        decoder.next_packet()


async def test_what_follows_a_connect_that_is_refused_is_not_processed(node: Node) -> None:
    """[MQTT311-3.1.4-5]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#", 1)
    client = await node.client()
    await client.send(
        Connect("ana", MQTT_3_1_1, username="u", password=b"wrong"),
        Publish("a", b"x", retain=True),
        Publish("a", b"y", 1, packet_id=1),
        Subscribe(2, [SubscriptionRequest("#")]),
    )
    await refused(client, 4)
    await node.hears_nothing(watcher)
    assert node.hooks.connected == ["watcher", "probe"]


async def test_a_refusal_leaves_the_session_of_that_client_id_as_it_was(node: Node) -> None:
    """[MQTT311-3.1.4-5] [MQTT311-3.1.4-2]"""
    first = await node.connected(username="u", password=b"right")
    await first.subscribe_to("a")
    intruder = await node.client()
    await intruder.send(Connect("ana", MQTT_3_1_1, username="u", password=b"wrong"))
    await refused(intruder, 4)
    await first.publish_to("a", b"still here")
    assert (await first.receive()).payload == b"still here"


# Client ids (3.1.3.1)


@pytest.mark.parametrize("client_id", ["a", ALPHABET[:23], ALPHABET[23:46], ALPHABET[39:]])
async def test_every_client_id_of_1_to_23_letters_and_digits_is_accepted(node: Node, client_id: str) -> None:
    """[MQTT311-3.1.3-5] [MQTT311-3.1.3-2]"""
    await node.connected(client_id)
    assert node.hooks.connected == [client_id]


@pytest.mark.parametrize("client_id", ["a-b_c/d+#$ .:é😀", "x" * 200])
async def test_longer_ones_and_other_characters_are_too(node: Node, client_id: str) -> None:
    await node.connected(client_id)
    assert node.hooks.connected == [client_id]


async def test_who_has_no_client_id_gets_one_of_its_own(node: Node) -> None:
    """[MQTT311-3.1.3-6]"""
    clients = [await node.connected("") for _ in range(3)]
    for number, client in enumerate(clients):
        await client.subscribe_to(f"own/{number}")
    assert "" not in node.hooks.connected
    assert len(set(node.hooks.connected)) == 3
    for number, client in enumerate(clients):  # none has taken another's place
        await client.publish_to(f"own/{number}", b"%d" % number)
        assert (await client.receive()).payload == b"%d" % number


# Two with one client id (3.1.4)


@pytest.mark.parametrize("clean", [True, False])
async def test_who_connects_with_a_client_id_in_use_disconnects_the_one_that_used_it(node: Node, clean: bool) -> None:
    """[MQTT311-3.1.4-2]"""
    old = await node.connected(clean_start=clean, will=Will("w", b"bye"))
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("w")
    new = await node.connected(clean_start=clean)
    assert await old.rest() == []
    assert (await watcher.receive()).payload == b"bye"
    await new.ping()


async def test_who_is_taken_over_is_not_heard_any_more(node: Node) -> None:
    """[MQTT311-3.1.4-2]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("a")
    old = await node.connected()
    await node.connected()
    await old.send(Publish("a", b"too late"))
    assert await old.rest() == []
    await node.hears_nothing(watcher)


async def test_other_client_ids_are_others(node: Node) -> None:
    """[MQTT311-3.1.3-2]"""
    clients = [await node.connected(client_id, clean_start=False) for client_id in ("ana", "Ana", "ana ", "an")]
    for client in clients:
        assert not client.connack.session_present
        await client.ping()
