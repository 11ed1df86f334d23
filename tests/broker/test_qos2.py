"""QoS 2 both ways: each publish counts once, whatever comes twice, gets lost, or ends in between."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from recado.broker.limits import BrokerLimits
from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.client import Client
from tests.broker.conftest import Node, PublicNode
from tests.broker.public import PUBLIC_LIMITS, PublicClient, reason

TOPIC = "jobs/print"


def publish(packet_id: int, text: str = "", dup: bool = False) -> Publish:
    return Publish(TOPIC, (text or str(packet_id)).encode(), 2, dup=dup, packet_id=packet_id)


async def exchange(client: Client, packet_id: int, text: str = "") -> None:
    """Publish, to the end of the flow."""
    await client.send(publish(packet_id, text))
    assert await client.expect(Pubrec) == Pubrec(packet_id)
    await client.send(Pubrel(packet_id))
    assert await client.expect(Pubcomp) == Pubcomp(packet_id)


async def receive(client: Client, count: int = 1) -> list[str]:
    """The next deliveries, each to the end of its flow."""
    delivered = [await client.expect(Publish) for _ in range(count)]
    assert {publish.qos for publish in delivered} == {2}
    for publish in delivered:
        await client.send(Pubrec(publish.packet_id))
        assert await client.expect(Pubrel) == Pubrel(publish.packet_id)
        await client.send(Pubcomp(publish.packet_id))
    return [publish.payload.decode() for publish in delivered]


@pytest.fixture
async def reader(public: PublicNode) -> PublicClient:
    """Who counts what arrives; its session is not kept."""
    reader = await public.connected("bruno", "reader")
    assert await reader.subscribe(TOPIC, qos=2) == [ReasonCode.GRANTED_QOS_2]
    return reader


# From the client


@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_publish_arrives_once_and_its_packet_id_is_free_at_the_end(
    public: PublicNode, reader: PublicClient, level: int, is_kept: bool
) -> None:
    sender = await (public.kept("ana", level) if is_kept else public.connected("ana", level=level))
    for text in ("one", "two"):
        await exchange(sender, 7, text)
    assert await receive(reader, 2) == ["one", "two"]
    assert await reader.before_pong() == []


@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_publish_that_comes_again_before_its_release_is_answered_again_and_counts_once(
    public: PublicNode, reader: PublicClient, level: int, is_kept: bool
) -> None:
    sender = await (public.kept("ana", level) if is_kept else public.connected("ana", level=level))
    await sender.send(publish(7))
    await sender.expect(Pubrec)
    for _ in range(3):
        await sender.send(publish(7, dup=True))
        assert await sender.expect(Pubrec) == Pubrec(7)
    assert await receive(reader) == ["7"]
    assert await reader.before_pong() == []


@pytest.mark.parametrize("end", ["lost", "restart", "kill"])
async def test_a_publish_whose_answer_was_lost_counts_once_when_it_comes_again(
    public: PublicNode, level: int, end: str
) -> None:
    reader = await public.kept("bruno", client_id="reader")
    await reader.subscribe(TOPIC, qos=2)
    sender = await public.kept("ana", level)
    await sender.send(publish(7), publish(8))
    for _ in range(2):
        await sender.expect(Pubrec)  # the client may not have seen it
    if end == "lost":
        await public.leave(sender)
    else:
        await (public.restart() if end == "restart" else public.kill())
        reader = await public.kept("bruno", client_id="reader")

    again = await public.kept("ana", level)
    assert again.connack.session_present
    await again.send(publish(7, dup=True), Pubrel(8))
    assert [await again.next() for _ in range(2)] == [Pubrec(7), Pubcomp(8)]
    await again.send(Pubrel(7))
    assert await again.expect(Pubcomp) == Pubcomp(7)

    assert await receive(reader, 2) == ["7", "8"]
    assert await reader.before_pong() == []


async def test_a_release_that_comes_again_after_its_answer_was_lost_is_answered(
    public: PublicNode, reader: PublicClient, level: int
) -> None:
    sender = await public.kept("ana", level)
    await exchange(sender, 7)
    await public.leave(sender)
    again = await public.kept("ana", level)
    await again.send(Pubrel(7))
    code = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND if level == MQTT_5 else ReasonCode.SUCCESS
    assert await again.expect(Pubcomp) == Pubcomp(7, code)
    await exchange(again, 7, "another one")
    assert await receive(reader, 2) == ["7", "another one"]


async def test_a_packet_id_that_was_released_is_free_after_a_crash_too(public: PublicNode) -> None:
    sender = await public.kept("ana")
    await exchange(sender, 7)
    await public.kill()
    reader = await public.connected("bruno", "reader")
    await reader.subscribe(TOPIC, qos=2)
    again = await public.kept("ana")
    await exchange(again, 7, "another one")
    assert await receive(reader) == ["another one"]


async def test_a_refused_publish_is_over_and_its_packet_id_free(public: PublicNode) -> None:
    public.hooks.answers[TOPIC] = ReasonCode.NOT_AUTHORIZED
    sender = await public.kept("ana")
    for _ in range(2):
        await sender.send(publish(7))
        pubrec = await sender.expect(Pubrec)
        assert (pubrec.packet_id, pubrec.reason_code) == (7, ReasonCode.NOT_AUTHORIZED)


async def test_a_refused_3_1_1_publish_ends_the_connection_and_flows_to_its_end_when_it_comes_again(
    public: PublicNode, reader: PublicClient
) -> None:
    public.hooks.answers[TOPIC] = ReasonCode.NOT_AUTHORIZED
    sender = await public.kept("ana", MQTT_3_1_1)
    await sender.send(publish(7))
    assert await sender.rest() == []
    again = await public.kept("ana", MQTT_3_1_1)
    await again.send(publish(7, dup=True))
    assert await again.expect(Pubrec) == Pubrec(7)
    await again.send(Pubrel(7))
    assert await again.expect(Pubcomp) == Pubcomp(7)
    assert await reader.before_pong() == []


async def test_a_packet_id_that_waits_for_its_release_is_not_for_another_qos(public: PublicNode) -> None:
    sender = await public.connected("ana")
    await sender.send(publish(7))
    await sender.expect(Pubrec)
    await sender.send(Publish(TOPIC, b"x", 1, packet_id=7))
    assert reason(await sender.rest()) == ReasonCode.PROTOCOL_ERROR


async def test_who_never_releases_may_have_no_more_under_way_than_receive_maximum(public: PublicNode) -> None:
    sender = await public.connected("ana")
    for packet_id in range(1, LIMITS.receive_maximum + 1):
        await sender.send(publish(packet_id))
        await sender.expect(Pubrec)
    await sender.send(publish(100))
    assert reason(await sender.rest()) == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


async def test_after_a_release_there_is_room_for_one_more(public: PublicNode) -> None:
    sender = await public.kept("ana")
    for packet_id in range(1, LIMITS.receive_maximum + 1):
        await sender.send(publish(packet_id))
        await sender.expect(Pubrec)
    await sender.send(Pubrel(3), publish(100))
    assert {type(await sender.next()) for _ in range(2)} == {Pubcomp, Pubrec}


class TestWithTenUnreleased:
    @pytest.fixture
    def public_limits(self) -> BrokerLimits:
        return replace(PUBLIC_LIMITS, received_max=10)

    async def test_a_3_1_1_client_that_never_releases_is_cut_off(self, public: PublicNode) -> None:
        sender = await public.connected("ana", level=MQTT_3_1_1)
        await sender.send(*(publish(packet_id) for packet_id in range(1, 11)))
        assert [await sender.expect(Pubrec) for _ in range(10)] == [Pubrec(n) for n in range(1, 11)]
        await sender.send(publish(11))
        assert await sender.rest() == []
        assert public.server.counters.refusals["RECEIVE_MAXIMUM_EXCEEDED"] == 1


async def test_an_application_that_takes_a_publish_itself_settles_it_with_pubrec(node: Node) -> None:
    node.application.held.add("c/held")
    client = await node.connected("ana")
    await client.send(Publish("c/held", b"x", 2, packet_id=9), Publish("c/order", b"y", 1, packet_id=10))
    assert await client.before_pong() == []
    node.application.settle(0)
    assert [await client.next() for _ in range(2)] == [Pubrec(9), Puback(10)]
    await client.send(Publish("c/held", b"x", 2, dup=True, packet_id=9), Pubrel(9))
    assert [await client.next() for _ in range(2)] == [Pubrec(9), Pubcomp(9)]
    assert len(node.application.taken) == 1


# To the client


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_publish_comes_at_the_lower_of_its_qos_and_the_subscriptions(public: PublicNode, qos: int) -> None:
    client = await public.connected("ana")
    for topic_filter, granted in (("a", 0), ("b", 1), ("c", 2)):
        assert await client.subscribe(topic_filter, qos=granted) == [granted]
    sender = await public.connected("bruno")
    for topic_name in ("a", "b", "c"):
        await sender.send(Publish(topic_name, b"x", qos, packet_id=5 if qos else 0))
        if qos == 2:
            await sender.expect(Pubrec)
            await sender.send(Pubrel(5))
            await sender.expect(Pubcomp)
    assert [(await client.expect(Publish)).qos for _ in range(3)] == [min(qos, granted) for granted in (0, 1, 2)]


@pytest.mark.parametrize("is_kept", [False, True])
async def test_the_window_has_room_again_when_the_flow_is_over_and_not_before(
    public: PublicNode, level: int, is_kept: bool
) -> None:
    properties = {PropertyId.RECEIVE_MAXIMUM: 1}
    reader = (
        await public.kept("bruno", properties=properties)
        if is_kept
        else await public.connected("bruno", properties=properties)
    )
    await reader.subscribe(TOPIC, qos=2)
    sender = await public.connected("ana", level=level)
    for packet_id in (1, 2):
        await exchange(sender, packet_id)

    first = await reader.expect(Publish)
    assert await reader.before_pong() == []
    await reader.send(Pubrec(first.packet_id))
    assert await reader.before_pong() in ([], [Pubrel(first.packet_id)])
    await reader.send(Pubcomp(first.packet_id))
    while isinstance(packet := await reader.next(), Pubrel):
        pass
    assert isinstance(packet, Publish)
    assert packet.payload == b"2"


@pytest.mark.parametrize("end", ["lost", "restart", "kill"])
async def test_what_was_in_flight_is_sent_again_as_far_as_it_had_not_come(
    public: PublicNode, level: int, end: str
) -> None:
    reader = await public.kept("bruno", level)
    await reader.subscribe(TOPIC, qos=2)
    sender = await public.connected("ana")
    for packet_id in (1, 2, 3):
        await exchange(sender, packet_id)
    ids = [(await reader.expect(Publish)).packet_id for _ in range(3)]
    await reader.send(Pubrec(ids[1]))
    assert await reader.expect(Pubrel) == Pubrel(ids[1])
    if end == "lost":
        await public.leave(reader)
    else:
        await (public.restart() if end == "restart" else public.kill())

    again = await public.kept("bruno", level)
    release, first, last = [await again.next() for _ in range(3)]
    assert isinstance(first, Publish)
    assert isinstance(last, Publish)
    assert (first.packet_id, first.payload, first.dup, first.qos) == (ids[0], b"1", True, 2)
    assert release == Pubrel(ids[1])
    assert (last.packet_id, last.payload, last.dup, last.qos) == (ids[2], b"3", True, 2)
    for packet_id in ids:
        await again.send(Pubrec(packet_id))
        assert await again.expect(Pubrel) == Pubrel(packet_id)
        await again.send(Pubcomp(packet_id))
    await public.leave(again)
    assert await (await public.kept("bruno", level)).before_pong() == []


async def test_a_release_is_not_held_up_by_a_publish_that_has_no_room(public: PublicNode) -> None:
    reader = await public.kept("bruno")
    await reader.subscribe(TOPIC, qos=2)
    sender = await public.connected("ana")
    for packet_id in (1, 2):
        await exchange(sender, packet_id)
    ids = [(await reader.expect(Publish)).packet_id for _ in range(2)]
    await reader.send(Pubrec(ids[1]))
    await reader.expect(Pubrel)
    await public.leave(reader)
    again = await public.kept("bruno", properties={PropertyId.RECEIVE_MAXIMUM: 1})
    assert await again.expect(Pubrel) == Pubrel(ids[1])
    assert await again.before_pong() == []
    await again.send(Pubcomp(ids[1]))
    assert await receive(again) == ["1"]


async def test_a_delivery_that_the_client_refuses_is_over(public: PublicNode) -> None:
    reader = await public.kept("bruno", properties={PropertyId.RECEIVE_MAXIMUM: 1})
    await reader.subscribe(TOPIC, qos=2)
    sender = await public.connected("ana")
    for packet_id in (1, 2):
        await exchange(sender, packet_id)
    refused = await reader.expect(Publish)
    await reader.send(Pubrec(refused.packet_id, ReasonCode.UNSPECIFIED_ERROR))
    assert await receive(reader) == ["2"]
    await public.leave(reader)
    assert await (await public.kept("bruno")).before_pong() == []


async def test_an_answer_to_nothing_is_told_so(public: PublicNode) -> None:
    client = await public.connected("ana")
    await client.send(Puback(7), Pubcomp(7), Pubrec(7))
    assert await client.expect(Pubrel) == Pubrel(7, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)


@pytest.mark.parametrize(("qos", "answer"), [(2, Puback), (2, Pubcomp), (1, Pubrec)])
async def test_an_answer_of_another_flow_is_a_protocol_error(
    public: PublicNode, qos: int, answer: type[Puback | Pubrec | Pubcomp]
) -> None:
    reader = await public.connected("bruno", "reader")
    await reader.subscribe(TOPIC, qos=qos)
    await exchange(await public.connected("ana"), 1)
    delivered = await reader.expect(Publish)
    await reader.send(answer(delivered.packet_id))
    assert reason(await reader.rest()) == ReasonCode.PROTOCOL_ERROR


async def test_a_publish_that_was_received_many_times_is_stored_once_and_released_when_that_is_durable(
    public: PublicNode,
) -> None:
    reader = await public.kept("bruno")
    await reader.subscribe(TOPIC, qos=2)
    await exchange(await public.connected("ana"), 1)
    packet_id = (await reader.expect(Publish)).packet_id
    await public.written()
    with public.disk.held() as reached:
        await reader.send(Pubrec(packet_id))
        await asyncio.to_thread(reached.wait)
        for _ in range(20):
            await reader.send(Pubrec(packet_id))
        assert await reader.before_pong() == []
        assert public.storage._pending == 1
    assert await reader.expect(Pubrel) == Pubrel(packet_id)
    assert await reader.before_pong() == []
    before = public.disk.syncs
    await reader.send(Pubrec(packet_id))
    assert await reader.expect(Pubrel) == Pubrel(packet_id)
    assert (await reader.before_pong(), public.disk.syncs) == ([], before)


async def test_a_publish_that_was_received_twice_is_released_twice(public: PublicNode) -> None:
    reader = await public.connected("bruno", "reader")
    await reader.subscribe(TOPIC, qos=2)
    await exchange(await public.connected("ana"), 1)
    packet_id = (await reader.expect(Publish)).packet_id
    for _ in range(2):
        await reader.send(Pubrec(packet_id))
        assert await reader.expect(Pubrel) == Pubrel(packet_id)
