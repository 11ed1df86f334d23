"""The two ways to an external broker: an event on its way already is not sent twice, and its job waits for the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from recado.adapters.broker.mqtt import Announcer, NotifyHandler
from recado.chat.event import Event, encode_event
from recado.ports import JobEvent, TryLater
from tests.adapters.mqtt_peer import Accepted, listening
from tests.adapters.test_mqtt_publisher import LIMITS, Ends, connected

EVENT = Event(7, "ana", 1_790_000_000_123, "m7", body="Chegou!")
BOTH = JobEvent(EVENT, frozenset({"ana", "bob"}))
Ways = tuple[Announcer, NotifyHandler, Accepted]


@pytest.fixture
async def ways() -> AsyncIterator[Ways]:
    async with listening() as peer, connected(peer) as (publisher, accepted):
        announcer = Announcer(publisher)
        yield announcer, NotifyHandler(announcer), accepted


async def test_a_job_is_over_when_every_recipients_publish_is_acknowledged(ways: Ways) -> None:
    _, handler, accepted = ways
    delivering = asyncio.create_task(handler.deliver("order", BOTH))
    publishes = await accepted.publishes(2)
    assert {each.topic_name for each in publishes} == {"u/ana/c/order", "u/bob/c/order"}
    assert {each.payload for each in publishes} == {encode_event(EVENT)}
    accepted.acknowledge(publishes[0])
    assert not delivering.done()
    accepted.acknowledge(publishes[1])
    await delivering


async def test_a_job_of_what_is_under_way_waits_for_that_and_sends_nothing(ways: Ways) -> None:
    announcer, handler, accepted = ways
    ends = Ends()
    announcer.announce("order", 7, encode_event(EVENT), BOTH.recipients, ends.of("direct"))
    delivering = asyncio.create_task(handler.deliver("order", BOTH))
    accepted.acknowledge(*await accepted.publishes(2))
    await delivering
    assert ends.ends == [("direct", True)]
    await check_that_nothing_came_twice(announcer, accepted)


async def check_that_nothing_came_twice(announcer: Announcer, accepted: Accepted) -> None:
    """What is announced now is the next that comes."""
    announcer.announce("order", 8, b"the next", ["ana"], lambda is_acknowledged: None)
    (publish,) = await accepted.publishes(1)
    assert publish.payload == b"the next"


async def test_an_attempt_that_was_given_up_goes_on_with_the_next_one(ways: Ways) -> None:
    """While the broker is away, one attempt after the other runs out of time."""
    announcer, handler, accepted = ways
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await handler.deliver("order", BOTH)
    delivering = asyncio.create_task(handler.deliver("order", BOTH))
    accepted.acknowledge(*await accepted.publishes(2))
    await delivering
    await check_that_nothing_came_twice(announcer, accepted)


async def test_a_job_with_nobody_to_tell_is_over_at_once(ways: Ways) -> None:
    _, handler, _ = ways
    await handler.deliver("order", JobEvent(EVENT, frozenset()))


async def test_a_job_for_which_there_is_no_room_is_tried_later(ways: Ways) -> None:
    announcer, handler, _ = ways
    for seq in range(100, 103 + LIMITS.broker_waiting_max):
        announcer.announce("order", seq, b"", ["ana"], lambda is_acknowledged: None)
    with pytest.raises(TryLater, match="too much waits"):
        await handler.deliver("order", BOTH)


async def test_a_job_that_is_given_up_is_tried_later(ways: Ways) -> None:
    announcer, handler, accepted = ways
    delivering = asyncio.create_task(handler.deliver("order", BOTH))
    await accepted.publishes(2)
    await announcer.publisher.close(0)
    with pytest.raises(TryLater):
        await delivering
