"""Sessions that outlive their connection: what they get, and when they end."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import (
    Disconnect,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.conftest import PublicNode
from tests.broker.public import PUBLIC_LIMITS, TOPIC, PublicClient, numbers, publish_each, reason, subscribed

WINDOW = LIMITS.inflight_max


# What waits


async def test_a_kept_session_gets_what_came_meanwhile_in_order_and_then_goes_on(
    public: PublicNode, sender: PublicClient, level: int
) -> None:
    client = await subscribed(public, level)
    assert not client.connack.session_present
    await public.leave(client)
    await publish_each(sender, *numbers(1, 30))
    again = await public.kept("ana", level)
    assert again.connack.session_present
    assert await again.take(30) == numbers(1, 30)
    await publish_each(sender, "live")
    assert await again.take(1) == ["live"]
    assert await again.before_pong() == []


@pytest.mark.parametrize("end", ["restart", "kill"])
async def test_what_was_acknowledged_to_the_sender_survives_the_servers_end(public: PublicNode, end: str) -> None:
    client = await subscribed(public, qos=2)
    sender = await public.connected("bruno")
    await publish_each(sender, *numbers(1, 3), qos=1)
    await publish_each(sender, *numbers(4, 6), qos=2)
    first = [await client.expect(Publish) for _ in range(6)]
    await client.send(Puback(first[1].packet_id))
    assert await client.before_pong() == []
    await public.leave(client)
    await publish_each(sender, *numbers(7, 20))
    await public.written()
    await (public.restart() if end == "restart" else public.kill())

    again = await public.kept()
    assert again.connack.session_present
    repeated = [await again.expect(Publish) for _ in range(5)]
    assert [(each.packet_id, each.payload, each.qos) for each in repeated] == [
        (each.packet_id, each.payload, each.qos) for each in first if each is not first[1]
    ]
    assert all(each.dup for each in repeated)
    for each in repeated:
        if each.qos == 1:
            await again.send(Puback(each.packet_id))
        else:
            await again.send(Pubrec(each.packet_id, ReasonCode.UNSPECIFIED_ERROR))
    assert await again.take(14) == numbers(7, 20)


async def test_qos_0_does_not_wait_for_who_is_away(public: PublicNode, sender: PublicClient) -> None:
    await public.leave(await subscribed(public))
    await publish_each(sender, "lost", qos=0)
    await publish_each(sender, "kept")
    assert await (await public.kept()).take(1) == ["kept"]


async def test_a_clean_start_ends_what_was_there(public: PublicNode, sender: PublicClient, level: int) -> None:
    await public.leave(await subscribed(public, level))
    await publish_each(sender, "old")
    clean = await public.kept("ana", level, clean_start=True)
    assert not clean.connack.session_present
    await publish_each(sender, "new")
    assert await clean.before_pong() == []
    await public.leave(clean)
    await public.restart()
    assert await (await public.kept("ana", level)).before_pong() == []


async def test_a_session_of_another_user_with_the_same_client_id_is_another(
    public: PublicNode, sender: PublicClient
) -> None:
    await public.leave(await subscribed(public))
    await publish_each(sender, "for ana")
    other = await public.kept("carla")
    assert not other.connack.session_present
    assert await other.before_pong() == []


async def test_a_subscription_is_kept_with_all_that_it_asked_for(public: PublicNode) -> None:
    client = await public.kept()
    request = SubscriptionRequest(TOPIC, 1, no_local=True, retain_as_published=True, retain_handling=2)
    await client.send(Subscribe(1, [request], {PropertyId.SUBSCRIPTION_IDENTIFIER: 77}))
    await client.expect(Suback)
    await public.restart()
    again = await public.kept()
    sender = await public.connected("bruno")
    await again.send(Publish(TOPIC, b"own", 1, packet_id=9))
    assert await again.expect(Puback) == Puback(9)
    await sender.send(Publish(TOPIC, b"others'", 1, retain=True, packet_id=9))
    delivered = await again.expect(Publish)
    assert (delivered.payload, delivered.retain) == (b"others'", True)
    assert delivered.properties[PropertyId.SUBSCRIPTION_IDENTIFIER] == [77]


async def test_what_was_unsubscribed_stays_so(public: PublicNode) -> None:
    client = await subscribed(public)
    await client.subscribe("other")
    await client.send(Unsubscribe(9, [TOPIC]))
    await client.expect(Unsuback)
    await public.restart()
    again = await public.kept()
    assert list(public.session_of("ana").subscriptions) == ["other"]
    assert again.connack.session_present


# In flight


async def test_what_was_not_acknowledged_comes_again_first_and_in_its_order(
    public: PublicNode, sender: PublicClient, level: int
) -> None:
    client = await subscribed(public, level)
    await publish_each(sender, *numbers(1, 14))
    first = [await client.expect(Publish) for _ in range(WINDOW)]
    await client.send(*(Puback(each.packet_id) for each in first[1:5]))
    first += [await client.expect(Publish) for _ in range(4)]
    assert [each.payload.decode() for each in first] == numbers(1, 12)
    del first[1:5]
    await public.leave(client)
    await publish_each(sender, "15")

    again = await public.kept("ana", level)
    repeated = [await again.expect(Publish) for _ in range(WINDOW)]
    assert [(each.packet_id, each.payload) for each in repeated] == [(each.packet_id, each.payload) for each in first]
    assert all(each.dup for each in repeated)
    assert await again.before_pong() == []
    await again.send(*(Puback(each.packet_id) for each in repeated))
    rest = [await again.expect(Publish) for _ in range(3)]
    assert [each.payload.decode() for each in rest] == numbers(13, 15)
    assert not any(each.dup for each in rest)


async def test_no_more_comes_again_at_once_than_the_client_takes_now(public: PublicNode, sender: PublicClient) -> None:
    client = await subscribed(public)
    await publish_each(sender, *numbers(1, WINDOW))
    await client.take(WINDOW, acknowledge=False)
    await public.leave(client)
    again = await public.kept(properties={PropertyId.RECEIVE_MAXIMUM: 2})
    for n in range(1, WINDOW, 2):
        pair = [await again.expect(Publish) for _ in range(2)]
        assert [each.payload.decode() for each in pair] == numbers(n, n + 1)
        assert await again.before_pong() == []
        await again.send(*(Puback(each.packet_id) for each in pair))
    assert await again.before_pong() == []


async def test_what_the_client_acknowledges_before_it_comes_again_does_not_come(
    public: PublicNode, sender: PublicClient
) -> None:
    client = await subscribed(public, qos=2)
    await publish_each(sender, "1", "2")
    await publish_each(sender, "3", qos=2)
    ids = [(await client.expect(Publish)).packet_id for _ in range(3)]
    await public.leave(client)
    again = await public.kept(properties={PropertyId.RECEIVE_MAXIMUM: 1})
    assert (await again.expect(Publish)).packet_id == ids[0]
    await again.send(Puback(ids[1]), Pubrec(ids[2]))
    assert await again.expect(Pubrel) == Pubrel(ids[2])
    await again.send(Puback(ids[0]))
    assert await again.before_pong() == []
    await again.send(Pubrec(ids[2]))
    assert await again.expect(Pubrel) == Pubrel(ids[2])


async def test_what_passes_a_smaller_packet_size_after_a_reconnect_is_over_and_the_rest_comes(
    public: PublicNode, sender: PublicClient
) -> None:
    client = await subscribed(public)
    await publish_each(sender, "x" * 200, "small")
    await client.take(2, acknowledge=False)
    await public.leave(client)
    await publish_each(sender, "y" * 200, "small too")
    again = await public.kept(properties={PropertyId.MAXIMUM_PACKET_SIZE: 100, PropertyId.TOPIC_ALIAS_MAXIMUM: 1})
    await publish_each(sender, "the last")
    said = [await again.expect(Publish) for _ in range(3)]
    assert [each.payload for each in said] == [b"small", b"small too", b"the last"]
    assert said[0].topic_name == TOPIC
    assert said[2].topic_name == ""
    assert {each.properties[PropertyId.TOPIC_ALIAS] for each in said} == {1}
    await public.leave(again)
    assert await (await public.kept()).take(3) == ["small", "small too", "the last"]
    assert public.server.counters.too_large_for_client == 2


async def test_a_message_that_expires_in_the_queue_is_dropped_and_one_in_flight_comes_again(
    public: PublicNode, sender: PublicClient
) -> None:
    client = await subscribed(public)
    expiring = {PropertyId.MESSAGE_EXPIRY_INTERVAL: 10}
    await sender.send(Publish(TOPIC, b"in flight", 1, packet_id=1, properties=expiring))
    await client.take(1, acknowledge=False)
    await public.leave(client)
    await sender.expect(Puback)
    for packet_id, interval_s in ((2, 10), (3, 100)):
        properties = {PropertyId.MESSAGE_EXPIRY_INTERVAL: interval_s}
        await sender.send(Publish(TOPIC, str(interval_s).encode(), 1, packet_id=packet_id, properties=properties))
        await sender.expect(Puback)
    public.pass_by(60)

    again = await public.kept()
    said = [await again.expect(Publish) for _ in range(2)]
    assert [each.payload for each in said] == [b"in flight", b"100"]
    assert [each.properties[PropertyId.MESSAGE_EXPIRY_INTERVAL] for each in said] == [0, 40]
    assert public.server.counters.expired == 1


async def test_what_waits_for_who_may_not_receive_it_any_more_does_not_come(
    public: PublicNode, sender: PublicClient
) -> None:
    client = await subscribed(public)
    await client.subscribe("open")
    await publish_each(sender, "in flight")
    await client.take(1, acknowledge=False)
    await public.leave(client)
    await publish_each(sender, "queued")
    await publish_each(sender, "for all", topic_name="open")
    public.hooks.secret_topics[TOPIC] = {"bruno"}
    public.server.permissions_changed()
    again = await public.kept()
    assert await again.take(1) == ["for all"]
    assert await again.before_pong() == []
    del public.hooks.secret_topics[TOPIC]
    assert await (await public.kept()).before_pong() == [], "it is gone for good"


# The end of a session


async def test_a_session_is_kept_for_as_long_as_it_asked_and_no_longer(public: PublicNode) -> None:
    await public.leave(await subscribed(public, expiry_s=100))
    public.pass_by(99)
    assert len(public.session_of("ana").subscriptions) == 1
    public.pass_by(2)
    assert public.users() == set()
    assert len(public.server.router) == 0
    await public.restart()
    assert public.users() == set()


@pytest.mark.parametrize("end", ["restart", "kill"])
async def test_the_time_goes_on_while_the_server_is_down(public: PublicNode, end: str) -> None:
    await public.leave(await subscribed(public, expiry_s=100))
    public.pass_by(30)
    public.clock.pass_by(40)
    await public.written()
    await (public.restart() if end == "restart" else public.kill())
    public.pass_by(28)
    assert public.users() == {"ana"}
    public.pass_by(4)
    assert public.users() == set()


async def test_a_session_that_ended_while_the_server_was_down_is_not_there(public: PublicNode) -> None:
    await public.leave(await subscribed(public, expiry_s=100))
    public.clock.pass_by(101)
    await public.restart()
    assert public.users() == set()


async def test_the_longest_expiry_is_the_servers_and_is_told(public: PublicNode) -> None:
    client = await public.kept(expiry_s=0xFFFF_FFFF)
    assert client.connack.properties[PropertyId.SESSION_EXPIRY_INTERVAL] == PUBLIC_LIMITS.session_expiry_max_s
    modest = await public.kept("carla", expiry_s=100)
    assert PropertyId.SESSION_EXPIRY_INTERVAL not in modest.connack.properties


async def test_a_connect_may_end_what_an_earlier_one_asked_to_keep(public: PublicNode) -> None:
    await public.leave(await subscribed(public))
    again = await public.kept(expiry_s=0)
    assert again.connack.session_present
    await public.leave(again)
    assert public.users() == set()
    await public.restart()
    assert public.users() == set()


@pytest.mark.parametrize(("asked_s", "kept_s"), [(0, 0), (50, 50), (4_000, PUBLIC_LIMITS.session_expiry_max_s)])
async def test_disconnect_changes_how_long_the_session_is_kept(public: PublicNode, asked_s: int, kept_s: int) -> None:
    client = await subscribed(public, expiry_s=100)
    await client.send(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: asked_s}))
    assert await client.rest() == []
    if kept_s:
        public.pass_by(kept_s)
        assert public.users() == {"ana"}
        public.pass_by(1)
    assert public.users() == set()


async def test_disconnect_may_not_keep_a_session_that_connect_did_not(public: PublicNode) -> None:
    client = await public.connected("ana")
    await client.send(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 10}))
    assert reason(await client.rest()) == ReasonCode.PROTOCOL_ERROR
    assert public.users() == set()
