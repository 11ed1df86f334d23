"""How connections begin and end: CONNECT and its refusals, time-outs, take-over, and the server's own end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest

from recado.broker.limits import BrokerLimits
from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS, Application
from tests.broker.client import Client, TcpStream
from tests.broker.conftest import Node, Transport

TOPIC = "c/order"


def reason(packets: list[Packet]) -> ReasonCode:
    """Of the one DISCONNECT that is all that came."""
    (packet,) = packets
    assert isinstance(packet, Disconnect)
    return packet.reason_code


async def is_cut_off(node: Node, transport: Transport) -> bool:
    """Whether one more client gets nothing but the end."""
    stream = await TcpStream.open(node.tcp_port if transport == "tcp" else node.ws_port)
    return await stream.receive() == b""


# CONNECT


async def test_a_connected_client_is_told_the_servers_limits(node: Node) -> None:
    client = await node.client()
    properties = (await client.connect("ana", keep_alive=30)).properties
    assert properties[PropertyId.RECEIVE_MAXIMUM] == LIMITS.receive_maximum
    assert properties[PropertyId.MAXIMUM_PACKET_SIZE] == LIMITS.packet_bytes_max
    assert properties[PropertyId.TOPIC_ALIAS_MAXIMUM] == LIMITS.topic_aliases_max
    assert PropertyId.MAXIMUM_QOS not in properties
    assert properties[PropertyId.SHARED_SUBSCRIPTION_AVAILABLE] == 0
    assert PropertyId.SERVER_KEEP_ALIVE not in properties
    assert PropertyId.ASSIGNED_CLIENT_IDENTIFIER not in properties


@pytest.mark.parametrize("asked", [0, 61, 65_535])
async def test_a_client_that_asks_for_no_keep_alive_or_a_long_one_is_told_the_longest(node: Node, asked: int) -> None:
    client = await node.client()
    connack = await client.connect("ana", keep_alive=asked)
    assert connack.properties[PropertyId.SERVER_KEEP_ALIVE] == 60


async def test_a_client_without_an_id_is_given_one_of_its_own(node: Node) -> None:
    given = set()
    for _ in range(2):
        client = await node.client()
        connack = await client.connect("ana", client_id="")
        given.add(connack.properties[PropertyId.ASSIGNED_CLIENT_IDENTIFIER])
    assert len(given) == 2
    assert all(given)


async def test_a_3_1_1_client_without_an_id_may_not_keep_a_session(node: Node) -> None:
    client = await node.client(level=MQTT_3_1_1)
    connack = await client.connect("ana", client_id="", clean_start=False)
    assert connack.reason_code == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    assert await client.rest() == []
    other = await node.client(level=MQTT_3_1_1)
    assert (await other.connect("ana", client_id="")).reason_code == 0


async def test_who_is_refused_is_told_so_and_cut_off(node: Node, transport: Transport, level: int) -> None:
    client = await node.client(transport, level)
    connack = await client.connect("mallory")
    assert connack.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert await client.rest() == []


@pytest.mark.parametrize(
    ("level", "code"), [(MQTT_3_1_1, b"\x01"), (MQTT_5, b"\x84")], ids=["as 3.1.1 would", "as 5 would"]
)
async def test_a_level_that_nobody_knows_is_refused_in_words_that_it_may_know(
    node: Node, level: int, code: bytes
) -> None:
    client = await node.client()
    unknown = b"\x02" if level == MQTT_3_1_1 else b"\x06"
    await client.stream.send(b"\x10\x0d\x00\x04MQTT" + unknown + b"\x02\x00\x00\x00\x01x")
    answer = await client.stream.receive()
    assert answer[:1] + answer[3:4] == b"\x20" + code
    assert await client.stream.receive() == b""


@pytest.mark.parametrize("first", [Pingreq(), Publish(TOPIC, b"x"), Disconnect()])
async def test_a_first_packet_that_is_no_connect_ends_the_connection_without_a_word(
    node: Node, transport: Transport, first: Pingreq | Publish | Disconnect
) -> None:
    client = await node.client(transport)
    await client.send(first)
    assert await client.rest() == []


async def test_a_promised_long_first_packet_is_refused_by_its_first_bytes(node: Node) -> None:
    client = await node.client()
    await client.stream.send(b"\x10\xff\xff\xff\x7f")
    assert await client.rest() == []


async def test_a_second_connect_is_a_protocol_error(node: Node) -> None:
    client = await node.connected("ana")
    await client.send(Connect("phone", username="ana"))
    assert reason(await client.rest()) == ReasonCode.PROTOCOL_ERROR


async def test_packets_that_come_with_connect_wait_until_it_was_answered(node: Node) -> None:
    node.application.connecting.close()
    client = await node.client()
    connect = encode(Connect("phone", username="ana"), MQTT_5)
    await client.stream.send(connect + encode(Pingreq(), MQTT_5))
    await node.application.connecting.waiting.wait()
    await client.stream.send(encode(Pingreq(), MQTT_5))
    node.application.connecting.open()

    assert [type(await client.next()) for _ in range(3)] == [Connack, Pingresp, Pingresp]


async def test_a_client_that_leaves_while_it_is_being_let_in_leaves_nothing(node: Node) -> None:
    node.application.connecting.close()
    client = await node.client()
    await client.send(Connect("phone", username="ana"))
    await node.application.connecting.waiting.wait()
    client.close()
    node.application.connecting.open()
    await node.gone()
    assert node.users() == set()


# Time-outs


@pytest.mark.parametrize("sent", [b"", b"\x10", b"\x10\x10\x00\x04MQTT\x05"], ids=["nothing", "a byte", "a part"])
async def test_a_client_that_never_finishes_connect_is_cut_off(node: Node, transport: Transport, sent: bytes) -> None:
    client = await node.client(transport)
    if sent:
        await client.stream.send(sent)
    await node.connected("bruno")
    node.tick(LIMITS.connect_timeout_s)
    assert len(node.server._connections) == 2
    node.tick()
    assert await client.rest() == []


async def test_the_servers_own_clock_ticks(limits: BrokerLimits) -> None:
    application = Application(replace(limits, connect_timeout_s=1))
    ticked = asyncio.Event()

    class Waiting:
        deadline = 0

        def on_deadline(self, tick: int) -> None:
            ticked.set()

    application.server.deadlines.set(Waiting(), 0)
    async with asyncio.timeout(20):
        await ticked.wait()
    await application.server.drain()


async def test_a_client_that_is_silent_for_one_and_a_half_keep_alives_is_cut_off(node: Node, level: int) -> None:
    silent = await node.connected("ana", level=level, keep_alive=10)
    speaking = await node.connected("bruno", level=level, keep_alive=10)
    for _ in range(15):
        node.tick()
        assert await speaking.before_pong() == []
    assert len(node.server._connections) == 2
    node.tick(2)

    said = await silent.rest()
    assert said == [] if level == MQTT_3_1_1 else reason(said) == ReasonCode.KEEP_ALIVE_TIMEOUT
    assert await speaking.before_pong() == []


async def test_a_keep_alive_of_one_second_leaves_one_and_a_half_seconds(node: Node) -> None:
    await node.connected("ana", keep_alive=1)
    node.tick(2)  # the first may come at once after the last packet, so that only one second has passed for sure
    assert node.server.counters.refusals["KEEP_ALIVE_TIMEOUT"] == 0


async def test_a_3_1_1_client_without_keep_alive_may_be_silent(node: Node) -> None:
    client = await node.connected("ana", level=MQTT_3_1_1, keep_alive=0)
    node.tick(1_000)
    assert await client.before_pong() == []


async def test_a_connection_ends_when_its_token_does(node: Node, level: int) -> None:
    node.application.expires_at_s = int(time.time())
    client = await node.connected("ana", level=level)
    node.tick(2)
    said = await client.rest()
    assert said == [] if level == MQTT_3_1_1 else reason(said) == ReasonCode.MAXIMUM_CONNECT_TIME


async def test_a_connection_does_not_end_before_its_token_does(node: Node) -> None:
    node.application.expires_at_s = int(time.time()) + 3_600
    client = await node.connected("ana", keep_alive=10)
    for _ in range(100):
        node.tick()
        await client.send(Pingreq())
        await client.expect(Pingresp)


# Take-over


async def test_the_same_user_and_client_id_take_over_and_the_subscriptions_go(
    node: Node, transport: Transport, level: int
) -> None:
    first = await node.connected("ana", transport=transport, level=level)
    await first.subscribe("c/+")
    second = await node.connected("ana", transport=transport, level=level)

    said = await first.rest()
    assert said == [] if level == MQTT_3_1_1 else reason(said) == ReasonCode.SESSION_TAKEN_OVER
    node.application.publish(TOPIC, "hi")
    assert await second.before_pong() == []
    await second.subscribe("c/+")
    node.application.publish(TOPIC, "again")
    assert await second.take(1) == ["again"]


async def test_a_client_id_never_reaches_another_users_session(node: Node) -> None:
    anas = await node.connected("ana", "phone")
    await anas.subscribe("c/+")
    await node.connected("bruno", "phone")
    node.application.publish(TOPIC, "hi")
    assert await anas.take(1) == ["hi"]


# Bad bytes


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x30\x80\x80\x80\x80\x01", ReasonCode.MALFORMED_PACKET),
        (b"\x30\x05\x00\x03c/\xff\x00", ReasonCode.MALFORMED_PACKET),
        (b"\x20\x03\x00\x00\x00", ReasonCode.PROTOCOL_ERROR),
        (b"\x30\xff\xff\x7f", ReasonCode.PACKET_TOO_LARGE),
        (encode(Publish("c/" + "x" * 200, b""), MQTT_5), ReasonCode.TOPIC_NAME_INVALID),
        (encode(Publish("/".join("abcdefghi"), b""), MQTT_5), ReasonCode.TOPIC_NAME_INVALID),
    ],
)
async def test_bad_bytes_end_their_connection_and_disturb_no_other(
    node: Node, transport: Transport, sent: bytes, code: ReasonCode
) -> None:
    good = await node.connected("bruno", transport=transport)
    await good.subscribe("c/+")
    bad = await node.connected("ana", transport=transport)

    await bad.stream.send(sent + encode(Publish(TOPIC, b"never"), MQTT_5))

    assert reason(await bad.rest()) == code
    node.application.publish(TOPIC, "hi")
    assert await good.take(1) == ["hi"]


@pytest.mark.parametrize("topic_filter", ["c/" + "x" * 200, "/".join("abcdefghi"), "c/#/x", "c/a+", "$share//x"])
async def test_a_bad_topic_filter_is_refused_and_its_neighbours_are_not(
    node: Node, topic_filter: str, level: int
) -> None:
    client = await node.connected("ana", level=level)
    refused = ReasonCode.TOPIC_FILTER_INVALID if level == MQTT_5 else ReasonCode.UNSPECIFIED_ERROR
    assert await client.subscribe(topic_filter, TOPIC) == [refused, ReasonCode.GRANTED_QOS_1]
    node.application.publish(TOPIC, "hi")
    assert await client.take(1) == ["hi"]


async def test_a_packet_of_exactly_the_limit_passes_and_one_byte_more_does_not(node: Node) -> None:
    client = await node.connected("ana")
    head = len(encode(Publish(TOPIC, b"x" * 17_000, 1, packet_id=1), MQTT_5)) - 17_000
    most = LIMITS.packet_bytes_max - head
    assert (await client.publish(TOPIC, "x" * most)).reason_code == 0
    await client.send(Publish(TOPIC, b"x" * (most + 1), 1, packet_id=2))
    assert reason(await client.rest()) == ReasonCode.PACKET_TOO_LARGE


async def test_packets_may_come_cut_anywhere(node: Node) -> None:
    client = await node.client()
    whole = (
        encode(Connect("phone", username="ana"), MQTT_5)
        + encode(client.subscription(TOPIC), MQTT_5)
        + encode(Publish(TOPIC, b"hi"), MQTT_5)
    )
    for byte in whole:
        await client.stream.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert [type(await client.next()).__name__ for _ in range(2)] == ["Connack", "Suback"]
    assert await client.take(1) == ["hi"]


class TestWithTwoConnectionsOfOneUserAtMost:
    @pytest.fixture
    def limits(self) -> BrokerLimits:
        return replace(LIMITS, connections_per_user_max=2)

    async def test_a_third_is_refused_a_take_over_is_not_and_others_are_let_in(self, node: Node) -> None:
        for client_id in ("phone", "laptop", "phone"):
            await node.connected("ana", client_id)
        third = await node.client()
        assert (await third.connect("ana", "tablet")).reason_code == ReasonCode.QUOTA_EXCEEDED
        await node.connected("bruno", "tablet")


# The server's end


class TestWithTwoConnectionsAtMost:
    @pytest.fixture
    def limits(self) -> BrokerLimits:
        return replace(LIMITS, connections_max=2)

    async def test_one_more_is_cut_off_and_the_place_of_one_that_left_is_free(
        self, node: Node, transport: Transport
    ) -> None:
        first = await node.connected("ana", transport=transport)
        second = await node.connected("bruno", transport=transport)
        assert await is_cut_off(node, transport)
        assert await second.before_pong() == []

        first.close()
        await node.gone(1)
        await node.connected("carla", transport=transport)

    async def test_one_more_that_says_connect_at_once_gets_no_session(self, node: Node) -> None:
        await node.connected("ana")
        await node.connected("bruno")
        third = await TcpStream.open(node.tcp_port)
        with contextlib.suppress(ConnectionError):
            await third.send(encode(Connect("phone", username="carla"), MQTT_5))
        assert await Client(third).rest() == []
        assert node.users() == {"ana", "bruno"}


async def test_a_stopping_server_says_so_to_everyone_and_takes_no_more(node: Node, transport: Transport) -> None:
    clients = [await node.connected(user, transport=transport) for user in ("ana", "bruno")]
    old = await node.connected("carla", transport=transport, level=MQTT_3_1_1)
    draining = asyncio.create_task(node.server.drain())

    for client in clients:
        assert reason(await client.rest()) == ReasonCode.SERVER_SHUTTING_DOWN
    assert await old.rest() == []
    for client in (*clients, old):
        client.close()
    await draining
    assert await is_cut_off(node, transport)


class TestAServerThatWaitsOneSecond:
    @pytest.fixture
    def limits(self) -> BrokerLimits:
        return replace(LIMITS, drain_s=1)

    async def test_a_stopping_server_does_not_wait_for_a_client_that_does_not_read(self, node: Node) -> None:
        await node.connected("ana")
        node.narrow("ana")
        connection = node.connection_of("ana")
        connection.write(b"\xd0\x00" * 5_000_000)
        started = time.monotonic()
        await node.server.drain()
        await node.gone()
        assert 0.9 < time.monotonic() - started < 15
