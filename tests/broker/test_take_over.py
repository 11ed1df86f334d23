"""A newer connection takes a kept session over, whatever the session and its reads are at in that moment."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from recado.broker.limits import BrokerLimits
from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Publish,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.conftest import PublicNode
from tests.broker.public import PUBLIC_LIMITS, PublicClient, numbers, publish_each, reason, subscribed


@pytest.mark.parametrize("clean_start", [False, True])
async def test_a_newer_connection_takes_the_session_over_with_all_that_is_in_flight_or_ends_it(
    public: PublicNode, sender: PublicClient, level: int, clean_start: bool
) -> None:
    first = await subscribed(public, level)
    await publish_each(sender, "1", "2")
    await first.take(2, acknowledge=False)
    second = await public.kept("ana", level, clean_start=clean_start)
    assert second.connack.session_present is not clean_start

    said = await first.rest()
    assert said == [] if level == MQTT_3_1_1 else reason(said) == ReasonCode.SESSION_TAKEN_OVER
    await publish_each(sender, "3")
    expected = [] if clean_start else ["1", "2", "3"]
    assert await second.take(len(expected)) == expected
    assert await second.before_pong() == []


@pytest.mark.parametrize("clean_start", [False, True])
async def test_of_two_that_take_over_while_the_first_still_reads_what_waits_the_last_gets_all(
    public: PublicNode, sender: PublicClient, level: int, clean_start: bool
) -> None:
    await public.leave(await subscribed(public, level))
    await publish_each(sender, "1", "2")
    public.storage.resuming.close()
    first, second, last = [await public.client(level=level) for _ in range(3)]
    await first.send(connect(level))
    await public.storage.resuming.waiting.wait()
    await second.send(connect(level))
    assert await first.rest() == []
    await last.send(connect(level, clean_start))
    assert await second.rest() == []
    public.storage.resuming.open()

    assert (await last.expect(Connack)).session_present is not clean_start
    await publish_each(sender, "3")
    expected = [] if clean_start else ["1", "2", "3"]
    assert await last.take(len(expected)) == expected
    assert await last.before_pong() == []


async def test_however_many_connect_at_once_the_session_is_read_once(public: PublicNode, sender: PublicClient) -> None:
    first = await subscribed(public)
    await publish_each(sender, "in flight")
    await first.expect(Publish)
    await public.leave(first)
    public.storage.resuming.close()
    public.storage.resumed = 0
    clients = [await public.client() for _ in range(6)]
    for client, former in zip(clients, [None, *clients], strict=False):
        await client.send(connect(MQTT_5))
        await public.storage.resuming.waiting.wait()
        if former is not None:
            assert await former.rest() == []
    await publish_each(sender, "meanwhile")
    public.storage.resuming.open()

    last = clients[-1]
    assert (await last.expect(Connack)).session_present
    assert await last.take(2) == ["in flight", "meanwhile"]
    assert public.storage.resumed == 1
    await public.leave(last)
    again = await public.kept()
    assert public.storage.resumed == 2, "what another connection has changed is read anew"
    assert await again.before_pong() == []


def connect(level: int, clean_start: bool = False) -> Connect:
    properties = {PropertyId.SESSION_EXPIRY_INTERVAL: 1_000} if level == MQTT_5 else {}
    return Connect("phone", level, clean_start, 0, None, "ana", b"secret", properties)


async def test_a_client_that_leaves_while_what_waits_is_read_leaves_the_session_as_it_was(
    public: PublicNode, sender: PublicClient
) -> None:
    await public.leave(await subscribed(public))
    await publish_each(sender, "1")
    public.storage.resuming.close()
    client = await public.client()
    await client.send(connect(MQTT_5))
    await public.storage.resuming.waiting.wait()
    next(each for each in public.server._connections if each.session is None).close()
    assert await client.rest() == []
    public.storage.resuming.open()
    assert await (await public.kept()).take(1) == ["1"]


async def test_a_session_whose_time_comes_while_it_is_read_is_replaced_by_a_new_one(public: PublicNode) -> None:
    await public.leave(await subscribed(public, expiry_s=10))
    public.storage.resuming.close()
    client = await public.client()
    await client.send(connect(MQTT_5))
    await public.storage.resuming.waiting.wait()
    public.pass_by(11)
    public.storage.resuming.open()
    assert not (await client.expect(Connack)).session_present
    assert public.session_of("ana").subscriptions == {}
    assert await client.before_pong() == []


class TestWithOneReadAtATime:
    @pytest.fixture
    def public_limits(self) -> BrokerLimits:
        return replace(PUBLIC_LIMITS, reads_max=1)

    @pytest.fixture(autouse=True)
    async def wait_for_ana(self, public: PublicNode, sender: PublicClient) -> None:
        await public.leave(await subscribed(public))
        await publish_each(sender, *numbers(1, 20))
        await public.server.reads.acquire()  # somebody reads on

    async def test_a_connection_that_was_taken_over_in_the_line_to_read_takes_nothing_out_of_the_queue(
        self, public: PublicNode
    ) -> None:
        first = await public.kept()
        second = await public.kept()
        public.server.reads.release()
        assert reason(await first.rest()) == ReasonCode.SESSION_TAKEN_OVER
        assert await second.take(20) == numbers(1, 20)
        assert await second.before_pong() == []

    async def test_what_is_read_for_a_connection_that_is_taken_over_meanwhile_goes_to_the_next(
        self, public: PublicNode
    ) -> None:
        first = await public.kept()
        second = await public.client()
        with public.disk.held() as reached:
            public.server.reads.release()
            await asyncio.to_thread(reached.wait)
            await second.send(connect(MQTT_5))
            assert reason(await first.rest()) == ReasonCode.SESSION_TAKEN_OVER
        assert (await second.expect(Connack)).session_present
        assert await second.take(20) == numbers(1, 20)
        assert await second.before_pong() == []
