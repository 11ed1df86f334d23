"""A storage that is full or slow: what was not kept was not acknowledged, and nothing is left half-done."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import apsw
import pytest

from recado.mqtt.packets import (
    MQTT_3_1_1,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
)
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.conftest import PublicNode
from tests.broker.public import TOPIC, PublicClient, numbers, publish_each, reason, subscribed

WINDOW = LIMITS.inflight_max


@pytest.fixture
async def away(public: PublicNode) -> None:
    """Ana's session waits for her."""
    await public.leave(await subscribed(public))


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_publish_that_cannot_be_kept_is_not_acknowledged_and_ends_the_connection(
    public: PublicNode, sender: PublicClient, level: int, qos: int
) -> None:
    await publish_each(sender, "before")
    other = await public.kept("carla", level)
    public.disk.write_error = apsw.FullError("the disk is full")
    await other.send(Publish(TOPIC, b"never", qos, packet_id=9))
    said = await other.rest()
    assert said == [] if level == MQTT_3_1_1 else reason(said) == ReasonCode.SERVER_BUSY
    assert public.server.counters.storage_failures >= 1
    assert (public.session_of("ana").queued, public.session_of("ana").queued_bytes) == (1, len("before") + len(TOPIC))

    await public.written()  # what else could not be written has been told, too
    public.disk.write_error = None
    again = await public.kept("carla", level)
    await again.send(Publish(TOPIC, b"now", qos, dup=True, packet_id=9))
    assert type(await again.next()) is (Puback if qos == 1 else Pubrec)
    client = await public.kept()
    assert await client.take(2) == ["before", "now"]
    assert await client.before_pong() == []


async def test_a_delivery_that_cannot_be_kept_is_not_sent_and_takes_no_room(
    public: PublicNode, sender: PublicClient
) -> None:
    client = await subscribed(public)
    public.disk.write_error = apsw.FullError("the disk is full")
    for n in range(2 * WINDOW):
        lost = await public.connected("carla", str(n % 3))
        await lost.send(Publish(TOPIC, b"never", 1, packet_id=9))
        assert reason(await lost.rest()) == ReasonCode.SERVER_BUSY
    assert await client.before_pong() == []
    assert (public.session_of("ana").window(), public.session_of("ana").queued) == (WINDOW, 0)
    await public.written()  # what else could not be written has been told, too
    public.disk.write_error = None
    await publish_each(sender, *numbers(1, 2 * WINDOW))
    assert await client.take(2 * WINDOW) == numbers(1, 2 * WINDOW)


async def test_a_subscription_that_cannot_be_kept_is_not_granted(public: PublicNode) -> None:
    client = await public.kept()
    await public.written()
    public.disk.write_error = apsw.FullError("the disk is full")
    await client.send(client.subscription(TOPIC))
    assert reason(await client.rest()) == ReasonCode.SERVER_BUSY


async def test_a_release_that_cannot_be_kept_is_not_answered(public: PublicNode) -> None:
    client = await public.kept()
    await client.send(Publish("elsewhere", b"x", 2, packet_id=9))
    await client.expect(Pubrec)
    public.disk.write_error = apsw.FullError("the disk is full")
    await client.send(Pubrel(9))
    assert reason(await client.rest()) == ReasonCode.SERVER_BUSY


@pytest.mark.usefixtures("away")
async def test_a_session_that_cannot_be_read_is_refused_and_stays(public: PublicNode, sender: PublicClient) -> None:
    await publish_each(sender, "1")
    limits = public.storage._limits
    public.storage._limits = replace(limits, pending_transactions_max=0)
    client = await public.client()
    assert (await client.keep()).reason_code == ReasonCode.SERVER_UNAVAILABLE
    assert await client.rest() == []
    public.storage._limits = limits
    assert await (await public.kept()).take(1) == ["1"]


async def test_pings_are_answered_while_the_disk_is_slow_and_the_publish_when_it_is_done(
    public: PublicNode, sender: PublicClient
) -> None:
    await public.leave(await subscribed(public))
    await public.written()
    with public.disk.held() as reached:
        await sender.send(Publish(TOPIC, b"x", 1, packet_id=9))
        await asyncio.to_thread(reached.wait)
        assert await sender.before_pong() == []
    assert await sender.expect(Puback) == Puback(9)
