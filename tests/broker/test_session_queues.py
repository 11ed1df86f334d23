"""What waits for a session that is kept is bounded, and what has expired makes room; so are the sessions."""

from __future__ import annotations

import asyncio

import pytest

from recado.broker.publication import Publication
from recado.mqtt.packets import (
    Puback,
    Publish,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.conftest import PublicNode
from tests.broker.public import PUBLIC_LIMITS, TOPIC, PublicClient, numbers, publish, publish_each, subscribed

WINDOW = LIMITS.inflight_max


async def test_a_queue_holds_so_many_and_drops_the_newest_for_that_session_alone(
    public: PublicNode, sender: PublicClient
) -> None:
    most = PUBLIC_LIMITS.queue_messages_max
    await public.leave(await subscribed(public))
    await publish_each(sender, *numbers(1, most + 3))
    assert public.server.counters.queue_full == 3
    await public.restart()
    again = await public.kept()
    assert await again.take(most) == numbers(1, most)
    assert await again.before_pong() == []
    assert public.session_of("ana").queued == public.session_of("ana").queued_bytes == 0


async def expiring(sender: PublicClient, count: int, after_s: int) -> None:
    for n in range(count):
        await publish(sender, f"old {n}", properties={PropertyId.MESSAGE_EXPIRY_INTERVAL: after_s})


@pytest.mark.parametrize("end", [None, "restart"])
async def test_what_has_expired_in_a_full_queue_makes_room_for_what_comes(public: PublicNode, end: str | None) -> None:
    await public.leave(await subscribed(public))
    sender = await public.connected("bruno", "sender")
    room = PUBLIC_LIMITS.queue_messages_max
    await publish_each(sender, "first")
    await expiring(sender, room - 1, 5)
    if end:
        await public.restart()
        sender = await public.connected("bruno", "sender")
    public.pass_by(6)
    await publish_each(sender, *numbers(2, room))
    assert (public.session_of("ana").queued, public.server.counters.expired) == (room, room - 1)
    assert public.server.counters.queue_full == 0
    await publish_each(sender, "too many")
    assert public.server.counters.queue_full == 1
    client = await public.kept()
    assert await client.take(room) == ["first", *numbers(2, room)]
    assert await client.before_pong() == []


async def test_a_full_queue_grows_to_twice_its_bounds_and_no_further_while_it_is_rid_of_what_has_expired(
    public: PublicNode, sender: PublicClient
) -> None:
    await public.leave(await subscribed(public))
    room = PUBLIC_LIMITS.queue_messages_max
    await expiring(sender, room, 5)
    public.pass_by(6)
    with public.disk.held() as reached:
        await sender.send(Publish("elsewhere", b"x", 1, True, packet_id=9))
        await asyncio.to_thread(reached.wait)
        for n in range(room + 3):
            public.server.publish(Publication(TOPIC, b"%d" % n, 1))
        assert (public.session_of("ana").queued, public.server.counters.queue_full) == (2 * room, 3)
    await sender.expect(Puback)
    await public.until(lambda: public.session_of("ana").queued == room)
    assert await (await public.kept()).take(room) == numbers(0, room - 1)


async def test_a_queue_is_looked_at_once_a_second_and_only_if_something_in_it_has_expired(
    public: PublicNode, sender: PublicClient
) -> None:
    await public.leave(await subscribed(public))
    public.storage.looked = 0
    room = PUBLIC_LIMITS.queue_messages_max
    for after_s in (5, 5, 6, 7):
        await expiring(sender, 1, after_s)
    await publish_each(sender, *numbers(1, room))
    assert (public.storage.looked, public.server.counters.queue_full) == (0, 4)
    public.pass_by(5)
    await publish_each(sender, "a", "b")
    assert (public.storage.looked, public.server.counters.expired) == (1, 2)
    public.clock.pass_by(5)
    await publish_each(sender, "c")
    assert (public.storage.looked, public.server.counters.queue_full) == (1, 5)
    public.tick(1)
    await publish_each(sender, "d", "e", "f")
    assert (public.storage.looked, public.server.counters.expired) == (2, 4)
    public.pass_by(100)
    await publish_each(sender, "g")
    assert (public.storage.looked, public.server.counters.queue_full) == (2, 7)


async def test_a_queue_holds_so_many_bytes(public: PublicNode, sender: PublicClient) -> None:
    await public.leave(await subscribed(public))
    size = PUBLIC_LIMITS.queue_bytes_max // 4 - len(TOPIC)
    await publish_each(sender, *(f"{n}{'x' * (size - 1)}" for n in range(5)), "y")
    assert public.server.counters.queue_full == 2
    assert public.session_of("ana").queued_bytes == PUBLIC_LIMITS.queue_bytes_max
    assert [text[0] for text in await (await public.kept()).take(4)] == ["0", "1", "2", "3"]


async def test_a_slow_reader_of_a_kept_session_costs_bounded_memory_and_gets_all_in_order(
    public: PublicNode, sender: PublicClient
) -> None:
    slow = await public.client(receive_buffer_bytes=4_096)
    await slow.keep()
    await slow.subscribe(TOPIC)
    public.narrow("ana")
    quick = await public.connected("carla")
    await quick.subscribe(TOPIC)
    sent = [f"{n} {'x' * 1_400}" for n in range(WINDOW + PUBLIC_LIMITS.queue_messages_max)]
    for payload in sent:
        await publish_each(sender, payload)
        assert await quick.take(1) == [payload]
        assert public.transport_of("ana").get_write_buffer_size() <= LIMITS.send_buffer_bytes_max + 3_000
        assert public.session_of("ana").queue is None, "what waits is on the disk"
    assert public.server.counters.queue_full == 0
    assert await slow.take(len(sent)) == sent


async def test_sessions_that_are_kept_are_counted_and_others_are_let_in_beyond(public: PublicNode) -> None:
    for n in range(PUBLIC_LIMITS.sessions_max):
        client = await public.kept(client_id=str(n), user=f"user-{n}")
        await public.leave(client)
    refused = await public.client()
    assert (await refused.keep("carla")).reason_code == ReasonCode.QUOTA_EXCEEDED
    await public.connected("carla")
    await public.kept(client_id="0", user="user-0")
    await public.kept(client_id="1", user="user-1", clean_start=True)
    await public.kept(client_id="2", user="user-2", clean_start=True, expiry_s=0)
    await public.leave(public.clients[-1])
    await public.kept("carla")
