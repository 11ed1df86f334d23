"""Publishes in and out: PUBACKs and refusals, back-pressure, subscriptions, and who gets a copy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.client import Client
from tests.broker.conftest import Node, Transport

TOPIC = "c/order"
HELD = "c/held"
LIMIT = LIMITS.receive_maximum


def publish(packet_id: int, topic_name: str = HELD, dup: bool = False) -> Publish:
    return Publish(topic_name, str(packet_id).encode(), 1, packet_id=packet_id, dup=dup)


def reason(packets: list[Packet]) -> ReasonCode:
    """Of the one DISCONNECT that is all that came."""
    (packet,) = packets
    assert isinstance(packet, Disconnect)
    return packet.reason_code


@pytest.fixture
async def client(node: Node, transport: Transport, level: int) -> Client:
    node.application.held.add(HELD)
    return await node.connected("ana", transport=transport, level=level)


# PUBACK


async def test_an_answer_comes_when_the_application_says_so_and_in_the_order_of_the_publishes(
    node: Node, client: Client
) -> None:
    await client.send(*(publish(packet_id) for packet_id in (3, 1, 2)))
    assert await client.before_pong() == []

    node.application.settle(2)
    node.application.settle(1)
    assert await client.before_pong() == []
    node.application.settle(0)

    answers = [await client.expect(Puback) for _ in range(3)]
    assert [(answer.packet_id, answer.reason_code) for answer in answers] == [(3, 0), (1, 0), (2, 0)]


async def test_a_refusal_waits_for_its_turn_too_and_says_why(node: Node) -> None:
    node.application.held.add(HELD)
    node.application.answers[TOPIC] = ReasonCode.NOT_AUTHORIZED
    client = await node.connected("ana")
    await client.send(publish(1), publish(2, TOPIC))
    assert await client.before_pong() == []
    node.application.settle(0)

    assert (await client.expect(Puback)).packet_id == 1
    refused = await client.expect(Puback)
    assert (refused.packet_id, refused.reason_code) == (2, ReasonCode.NOT_AUTHORIZED)
    assert refused.properties == {PropertyId.REASON_STRING: "as the test says"}


async def test_a_client_that_wants_no_reasons_gets_only_the_code(node: Node) -> None:
    node.application.answers[TOPIC] = ReasonCode.NOT_AUTHORIZED
    client = await node.connected("ana", properties={PropertyId.REQUEST_PROBLEM_INFORMATION: 0})
    assert await client.publish(TOPIC, "x") == Puback(1, ReasonCode.NOT_AUTHORIZED)


async def test_a_packet_id_is_free_again_after_its_answer(client: Client) -> None:
    for _ in range(3):
        assert (await client.publish(TOPIC, "hi", packet_id=7)).reason_code == 0


async def test_a_publish_at_qos_0_is_never_answered(node: Node, client: Client) -> None:
    node.application.answers["c/refused"] = ReasonCode.NOT_AUTHORIZED
    node.application.answers["c/busy"] = ReasonCode.SERVER_BUSY
    await client.send(*(Publish(topic, b"x") for topic in (TOPIC, "c/refused", "c/busy", HELD)))
    assert await client.before_pong() == []
    node.application.settle(0, ReasonCode.SERVER_BUSY)
    assert await client.before_pong() == []
    assert node.application.logs[TOPIC] == [b"x"]


async def test_a_store_that_is_too_busy_gets_no_puback_but_the_end_so_that_the_client_keeps_the_message(
    node: Node, client: Client, level: int
) -> None:
    await client.send(publish(1), publish(2))
    assert await client.before_pong() == []
    node.application.settle(0, ReasonCode.SERVER_BUSY)
    node.application.settle(1)

    said = await client.rest()
    assert said == [] if level == MQTT_3_1_1 else reason(said) == ReasonCode.SERVER_BUSY


async def test_a_refused_3_1_1_publish_ends_the_connection_and_is_dropped_when_it_comes_again(node: Node) -> None:
    node.application.answers[TOPIC] = ReasonCode.NOT_AUTHORIZED
    first = await node.connected("ana", level=MQTT_3_1_1)
    await first.send(publish(9, TOPIC), Pingreq())
    assert await first.rest() == []

    again = await node.connected("ana", level=MQTT_3_1_1)
    assert (await again.publish(TOPIC, "9", packet_id=9, dup=True)).reason_code == 0
    assert await again.before_pong() == []
    assert node.server.counters.repeats_dropped == 1
    assert node.application.logs[TOPIC] == []


async def test_a_3_1_1_publish_that_comes_again_before_its_answer_is_answered_once(node: Node) -> None:
    node.application.held.add(HELD)
    client = await node.connected("ana", level=MQTT_3_1_1)
    await client.send(publish(1), publish(1, dup=True))
    assert await client.before_pong() == []
    assert len(node.application.taken) == 1
    node.application.settle(0)
    assert await client.before_pong() == [Puback(1)]


async def test_an_answer_for_a_client_that_has_left_goes_nowhere(node: Node) -> None:
    node.application.held.add(HELD)
    left = await node.connected("ana")
    await left.send(publish(1))
    assert await left.before_pong() == []
    left.close()
    await node.gone()
    again = await node.connected("ana")
    node.application.settle(0)
    assert await again.before_pong() == []


# Limits


async def test_one_more_publish_than_may_wait_is_against_the_rules_of_5(node: Node) -> None:
    node.application.held.add(HELD)
    client = await node.connected("ana")
    await client.send(*(publish(n) for n in range(1, LIMIT + 1)))
    assert await client.before_pong() == []
    await client.send(publish(LIMIT + 1))
    assert reason(await client.rest()) == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


async def test_a_3_1_1_client_is_not_read_while_too_many_wait_and_loses_nothing(
    node: Node, transport: Transport
) -> None:
    node.application.held.add(HELD)
    taken = node.application.taken
    client = await node.connected("ana", transport=transport, level=MQTT_3_1_1)
    for first in range(1, 40, 10):
        await client.send(*(publish(n) for n in range(first, first + 10)))
    await client.send(Pingreq())
    other = await node.connected("bruno")
    assert await other.before_pong() == []

    for n in range(40):
        await node.until(lambda done=n: len(taken) == min(done + LIMIT, 40))  # type: ignore[misc]
        assert await other.before_pong() == [], "others are read meanwhile"
        assert len(taken) == min(n + LIMIT, 40), "never more than that"
        node.application.settle(n)

    said = [await client.next() for _ in range(41)]
    assert [packet.packet_id for packet in said if isinstance(packet, Puback)] == list(range(1, 41))


async def test_publishes_at_qos_0_are_not_read_either_while_too_many_wait(node: Node, client: Client) -> None:
    taken = node.application.taken
    await client.send(*(Publish(HELD, str(n).encode()) for n in range(30)), Pingreq())
    other = await node.connected("bruno")
    for n in range(30):
        await node.until(lambda done=n: len(taken) == min(done + LIMIT, 30))  # type: ignore[misc]
        assert await other.before_pong() == []
        assert len(taken) == min(n + LIMIT, 30)
        node.application.settle(n)
    await client.expect(Pingresp)


async def test_a_client_that_is_not_read_is_not_taken_for_a_silent_one(node: Node) -> None:
    node.application.held.add(HELD)
    client = await node.connected("ana", level=MQTT_3_1_1, keep_alive=2)
    await client.send(*(publish(n) for n in range(1, LIMIT + 1)), Pingreq())
    await node.until(lambda: len(node.application.taken) == LIMIT)
    node.tick(20)
    node.application.settle(0)
    await client.expect(Puback)
    await client.expect(Pingresp)


async def test_a_packet_id_that_is_in_use_is_refused(node: Node) -> None:
    node.application.held.add(HELD)
    client = await node.connected("ana")
    await client.send(publish(1), publish(1))
    assert reason(await client.rest()) == ReasonCode.PROTOCOL_ERROR


# Subscriptions


async def test_members_get_a_publish_once_and_strangers_never(node: Node, transport: Transport, level: int) -> None:
    node.application.members[TOPIC] = {"ana", "bruno"}
    clients = {user: await node.connected(user, transport=transport, level=level) for user in ("ana", "bruno", "carla")}
    for client in clients.values():
        await client.subscribe("#", "c/+")
    assert await clients["ana"].subscribe(TOPIC) == [1]
    refused = ReasonCode.NOT_AUTHORIZED if level == MQTT_5 else ReasonCode.UNSPECIFIED_ERROR
    assert await clients["carla"].subscribe(TOPIC) == [refused]

    await clients["bruno"].send(publish(1, TOPIC))

    assert await clients["ana"].take(1) == ["1"], "one copy, however many filters"
    assert await clients["ana"].before_pong() == []
    assert await clients["carla"].before_pong() == []
    assert {type(await clients["bruno"].next()) for _ in range(2)} == {Puback, Publish}


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_publish_comes_at_the_qos_of_the_subscription(node: Node, client: Client, qos: int) -> None:
    assert await client.subscribe(TOPIC, qos=qos) == [qos]
    node.application.publish(TOPIC, "hi")
    delivered = await client.expect(Publish)
    assert (delivered.topic_name, delivered.payload, delivered.qos, delivered.dup, delivered.retain) == (
        TOPIC,
        b"hi",
        qos,
        False,
        False,
    )


async def test_qos_2_is_granted_as_1(client: Client) -> None:
    assert await client.subscribe(TOPIC, qos=2) == [1]


async def test_no_local_spares_the_own_session_and_no_other_of_the_user(node: Node, transport: Transport) -> None:
    phone = await node.connected("ana", "phone", transport=transport)
    tab = await node.connected("ana", "tab", transport=transport)
    for each in (phone, tab):
        await each.subscribe("c/+", no_local=True)

    assert (await phone.publish(TOPIC, "mine")).reason_code == 0
    node.application.publish(TOPIC, "others'")

    assert await phone.take(1) == ["others'"]
    assert await tab.take(2) == ["mine", "others'"]


async def test_without_no_local_the_sender_gets_its_own(client: Client) -> None:
    await client.subscribe("c/+")
    await client.send(publish(1, TOPIC))
    assert {type(await client.next()) for _ in range(2)} == {Puback, Publish}


async def test_unsubscribing_stops_and_tells_what_was_there(node: Node, client: Client, level: int) -> None:
    await client.subscribe(TOPIC, "c/other")
    await client.send(Unsubscribe(50, [TOPIC, "c/never"]))
    unsuback = await client.expect(Unsuback)
    codes = [ReasonCode.SUCCESS, ReasonCode.NO_SUBSCRIPTION_EXISTED]
    assert (unsuback.packet_id, unsuback.reason_codes) == (50, codes if level == MQTT_5 else [])

    node.application.publish(TOPIC, "no")
    node.application.publish("c/other", "yes")
    assert await client.take(1) == ["yes"]


async def test_packets_after_a_subscribe_wait_for_it_even_if_a_publish_ends_meanwhile(
    node: Node, client: Client
) -> None:
    node.application.subscribing[TOPIC].close()
    subscribe = client.subscription(TOPIC)
    await client.send(publish(1000), subscribe, Unsubscribe(60, [TOPIC]), Pingreq())
    await node.application.subscribing[TOPIC].waiting.wait()
    node.application.settle(0)
    await client.expect(Puback)
    node.application.subscribing[TOPIC].open()

    assert [type(await client.next()) for _ in range(3)] == [Suback, Unsuback, Pingresp]
    node.application.publish(TOPIC, "no")
    assert await client.before_pong() == []


async def test_a_session_holds_so_many_filters_and_a_known_one_again(node: Node, client: Client, level: int) -> None:
    for n in range(LIMITS.subscriptions_max):
        assert await client.subscribe(f"c/{n}") == [1]
    refused = ReasonCode.QUOTA_EXCEEDED if level == MQTT_5 else ReasonCode.UNSPECIFIED_ERROR
    assert await client.subscribe("c/more", "c/0") == [refused, 1]
    node.application.publish("c/more", "no")
    node.application.publish("c/0", "yes")
    assert await client.take(1) == ["yes"]


async def test_a_publish_that_passes_the_clients_own_limit_is_not_sent_and_the_next_is(node: Node) -> None:
    client = await node.connected("ana", properties={PropertyId.MAXIMUM_PACKET_SIZE: 100})
    await client.subscribe("c/+")
    fits = 100 - (len(encode(Publish(TOPIC, b"x", 1, packet_id=1), MQTT_5)) - 1)
    for payload in ("x" * (fits + 1), "y" * fits, "z"):
        node.application.publish(TOPIC, payload)
    assert await client.take(2) == ["y" * fits, "z"]


async def test_a_signal_comes_to_who_is_there(node: Node, client: Client) -> None:
    await client.subscribe("c/+/live", qos=1)
    node.application.signal("c/order/live", "typing")
    delivered = await client.expect(Publish)
    assert (delivered.topic_name, delivered.payload, delivered.qos) == ("c/order/live", b"typing", 0)


# Turns


@pytest.mark.parametrize("limits", [replace(LIMITS, turn_packets_max=3)])
async def test_what_comes_at_once_is_handled_in_turns_so_that_the_others_get_theirs(node: Node) -> None:
    client = await node.connected("ana")
    connection = node.connection_of("ana")

    connection.receive(encode(Pingreq(), MQTT_5) * 10)

    assert not connection._decoder.is_empty(), "a tenth packet before anybody else had a turn"
    for _ in range(10):
        await client.expect(Pingresp)
    assert connection._decoder.is_empty()
    await client.before_pong()


@pytest.mark.parametrize("limits", [replace(LIMITS, turn_deliveries_max=2)])
async def test_a_turn_ends_with_so_many_deliveries_too(node: Node) -> None:
    client = await node.connected("ana")
    reader = await node.connected("bruno")
    await reader.subscribe("c/order", qos=0)
    connection = node.connection_of("ana")

    connection.receive(b"".join(encode(Publish("c/order", b"%d" % n), MQTT_5) for n in range(6)))

    assert node.server.counters.delivered == 2
    assert await reader.take(6) == [str(n) for n in range(6)]
    await client.before_pong()
