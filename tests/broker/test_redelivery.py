"""What was in flight comes again no faster than its client reads, and before what is new."""

from __future__ import annotations

import asyncio

import pytest

from recado.mqtt.packets import Connack, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.broker.application import LIMITS
from tests.broker.conftest import PublicNode
from tests.broker.public import PublicClient, publish_each, subscribed

WINDOW = LIMITS.inflight_max
BODY_BYTES = 15_000
SENT = [f"{n} {'x' * BODY_BYTES}" for n in range(WINDOW)]


async def back_and_reads_nothing(public: PublicNode) -> tuple[PublicClient, asyncio.Future[Connack]]:
    """Ana, and her CONNACK. The system takes little for her, so that the server's own buffer fills."""
    client = await public.client(receive_buffer_bytes=4_096)
    public.storage.resuming.close()
    connected = asyncio.ensure_future(client.keep())
    await public.storage.resuming.waiting.wait()
    public.narrow("ana")
    public.storage.resuming.open()
    return client, connected


def still_to_come(public: PublicNode) -> int:
    return len(public.connection_of("ana").redeliveries or ())


async def everything_in_flight(public: PublicNode, sender: PublicClient, qos: int) -> None:
    client = await subscribed(public, qos=qos)
    await publish_each(sender, *SENT, qos=qos)
    assert await client.take(WINDOW, acknowledge=False) == SENT
    await public.leave(client)


@pytest.mark.parametrize("qos", [1, 2])
async def test_who_comes_back_and_reads_nothing_costs_a_bounded_buffer_and_then_gets_all_again_in_order(
    public: PublicNode, sender: PublicClient, qos: int
) -> None:
    """The server wrote all of it at once, whatever the buffer held already."""
    await everything_in_flight(public, sender, qos)
    client, connected = await back_and_reads_nothing(public)
    assert (await connected).session_present
    await public.until(lambda: public.is_congested("ana"))

    assert still_to_come(public) > 1
    assert public.transport_of("ana").get_write_buffer_size() <= LIMITS.send_buffer_bytes_max + BODY_BYTES + 100
    await publish_each(sender, "new", qos=qos)

    again = [await client.expect(Publish) for _ in range(WINDOW)]
    assert [each.payload.decode() for each in again] == SENT
    assert all(each.dup for each in again)
    assert still_to_come(public) == 0
    assert await client.before_pong() == [], "the window is full"
    await acknowledge(client, again)
    new = await client.expect(Publish)
    assert (new.payload, new.dup) == (b"new", False)


async def acknowledge(client: PublicClient, publishes: list[Publish]) -> None:
    for each in publishes:
        if each.qos == 1:
            await client.send(Puback(each.packet_id))
            continue
        await client.send(Pubrec(each.packet_id))
        assert await client.expect(Pubrel) == Pubrel(each.packet_id)
    await client.send(*(Pubcomp(each.packet_id) for each in publishes if each.qos == 2))
