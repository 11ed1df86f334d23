"""Retained messages: who gets them, how many and how many bytes there may be, and when they go."""

from __future__ import annotations

import apsw
import pytest

from recado.broker.publication import Publication
from recado.broker.retaining import held_bytes
from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.conftest import PublicNode
from tests.broker.public import PUBLIC_LIMITS, TOPIC, PublicClient, numbers, publish, reason, retained


@pytest.mark.parametrize("end", ["stays", "restart", "kill"])
async def test_the_last_retained_message_of_a_topic_waits_for_new_subscribers(
    public: PublicNode, sender: PublicClient, end: str
) -> None:
    for topic_name, text in ((TOPIC, "on"), ("home/door", "open"), (TOPIC, "off"), ("home/door", "")):
        await publish(sender, text, topic_name, retain=True)
    await publish(sender, "not retained", "home/tv")
    if end != "stays":
        await (public.restart() if end == "restart" else public.kill())
    assert await retained(public) == {TOPIC: "off"}
    assert public.server.retained.held_bytes == held(TOPIC, 3)


async def test_so_many_messages_are_retained_and_one_of_them_may_still_be_replaced(
    public: PublicNode, sender: PublicClient
) -> None:
    most = PUBLIC_LIMITS.retained_messages_max
    for n in range(most):
        assert await publish(sender, "x", f"t/{n}", retain=True) == 0
    assert await publish(sender, "x", "t/more", retain=True) == ReasonCode.QUOTA_EXCEEDED
    assert await publish(sender, "y", "t/0", retain=True) == 0
    assert await publish(sender, "", "t/1", retain=True) == 0
    assert await publish(sender, "x", "t/more", retain=True) == 0
    assert set(await retained(public)) == {"t/0", "t/2", "t/3", "t/4", "t/more"}


def held(topic_name: str, payload_bytes: int = 0, properties: Properties = EMPTY_PROPERTIES) -> int:
    """What one retained message counts for."""
    return held_bytes(Publication(topic_name, b"x" * payload_bytes, 1, properties=properties))


async def test_so_many_bytes_are_retained(public: PublicNode, sender: PublicClient) -> None:
    most = PUBLIC_LIMITS.retained_bytes_max - held("a") - held("b")
    assert await publish(sender, "x" * (most - 10), "a", retain=True) == 0
    assert await publish(sender, "x" * 11, "b", retain=True) == ReasonCode.QUOTA_EXCEEDED
    assert await publish(sender, "x" * 10, "b", retain=True) == 0
    assert await publish(sender, "x" * 11, "b", retain=True) == ReasonCode.QUOTA_EXCEEDED
    assert await publish(sender, "x" * 5, "a", retain=True) == 0
    assert await publish(sender, "x" * 11, "b", retain=True) == 0
    assert public.server.retained.held_bytes == held("a", 5) + held("b", 11)
    await public.restart()
    assert public.server.retained.held_bytes == held("a", 5) + held("b", 11)


async def test_user_properties_and_the_levels_of_a_topic_count_as_retained_too(
    public: PublicNode, sender: PublicClient
) -> None:
    """Bug class: a bound on payloads, and a thousand properties beside each of one byte."""
    pairs: Properties = {PropertyId.USER_PROPERTY: [("k", "v")] * 80}
    assert await publish(sender, "x", "a", retain=True, properties=pairs) == ReasonCode.QUOTA_EXCEEDED
    assert await publish(sender, "x", "a", retain=True, properties={PropertyId.USER_PROPERTY: [("k", "v")] * 30}) == 0
    assert await publish(sender, "x", "a/b/c/d/e/f/g/h", retain=True) == 0
    assert await publish(sender, "x", "/b/c/d/e/f/g/h", retain=True) == ReasonCode.QUOTA_EXCEEDED
    assert public.server.retained.held_bytes <= PUBLIC_LIMITS.retained_bytes_max


async def test_a_refused_retained_message_reaches_nobody(public: PublicNode, sender: PublicClient) -> None:
    client = await public.connected("ana")
    await client.subscribe("#")
    await publish(sender, "x" * (PUBLIC_LIMITS.retained_bytes_max + 1), retain=True)
    assert await client.before_pong() == []


async def test_an_expired_retained_message_is_not_sent_and_gives_its_room_away(
    public: PublicNode, sender: PublicClient
) -> None:
    for n in range(PUBLIC_LIMITS.retained_messages_max):
        expiring = {PropertyId.MESSAGE_EXPIRY_INTERVAL: 10 + 100 * (n == 0)}
        await publish(sender, "x", f"t/{n}", retain=True, properties=expiring)
    public.pass_by(20)
    assert set(await retained(public)) == {"t/0"}
    assert await publish(sender, "x", "t/4", retain=True) == 0, "its own room, though expired"
    assert await publish(sender, "x", "t/more", retain=True) == 0
    assert set(await retained(public)) == {"t/0", "t/4", "t/more"}
    assert public.server.retained.held_bytes == held("t/0", 1) * 2 + held("t/more", 1)
    await public.restart()
    assert set(await retained(public)) == {"t/0", "t/4", "t/more"}


async def test_a_retained_message_grows_no_form_for_each_subscription_identifier(
    public: PublicNode, sender: PublicClient
) -> None:
    await publish(sender, "on", retain=True)
    client = await public.connected("ana")
    for identifier in range(1, 101):
        request = SubscriptionRequest(TOPIC, 0)
        await client.send(Subscribe(identifier, [request], {PropertyId.SUBSCRIPTION_IDENTIFIER: identifier}))
        await client.expect(Suback)
        assert (await client.expect(Publish)).properties[PropertyId.SUBSCRIPTION_IDENTIFIER] == [identifier]
    message = public.server.retained.get(TOPIC)
    assert message is not None
    assert len(message.frames) <= 1


async def test_a_retained_message_keeps_none_of_the_forms_in_which_it_went_out_when_it_was_published(
    public: PublicNode, sender: PublicClient
) -> None:
    """Bug class: a large payload that is kept once for each protocol level, QoS and option."""
    for n, qos in enumerate((0, 1, 0)):
        reader = await public.connected("ana", f"r{n}", level=MQTT_5 if n else MQTT_3_1_1)
        await reader.subscribe(TOPIC, qos=qos)
    await publish(sender, "on", retain=True)
    message = public.server.retained.get(TOPIC)
    assert message is not None
    assert message.frames == {}
    for _ in range(2):
        assert await retained(public) == {TOPIC: "on"}
    assert len(message.frames) == 1


async def test_a_secret_topics_retained_message_goes_to_who_may_receive_it(
    public: PublicNode, sender: PublicClient
) -> None:
    public.hooks.secret_topics[TOPIC] = {"ana"}
    await publish(sender, "on", retain=True)
    assert await retained(public) == {}
    public.hooks.secret_topics[TOPIC].add("carla")
    assert await retained(public) == {TOPIC: "on"}


async def test_a_kept_session_gets_retained_messages_that_are_acknowledged_or_come_again(
    public: PublicNode, sender: PublicClient
) -> None:
    await publish(sender, "on", retain=True)
    client = await public.kept()
    await client.send(client.subscription(TOPIC))
    await client.expect(Suback)
    first = await client.expect(Publish)
    assert (first.payload, first.retain, first.qos, first.dup) == (b"on", True, 1, False)
    await public.leave(client)
    again = await public.kept()
    assert await again.expect(Publish) == Publish(TOPIC, b"on", 1, True, True, first.packet_id)


async def test_more_retained_messages_than_the_window_come_as_there_is_room(
    public: PublicNode, sender: PublicClient
) -> None:
    for n in range(5):
        await publish(sender, str(n), f"t/{n}", retain=True)
    client = await public.connected("ana", properties={PropertyId.RECEIVE_MAXIMUM: 2})
    await client.send(client.subscription("t/+"))
    await client.expect(Suback)
    assert sorted(await client.take(5)) == numbers(0, 4)


async def test_what_cannot_be_kept_on_the_disk_is_not_acknowledged(public: PublicNode, sender: PublicClient) -> None:
    public.disk.write_error = apsw.FullError("the disk is full")
    await sender.send(Publish(TOPIC, b"on", 1, True, packet_id=1))
    assert reason(await sender.rest()) == ReasonCode.SERVER_BUSY
    public.disk.write_error = None
    await public.restart()
    assert await retained(public) == {}
