"""A session that the server keeps: a program reads on where it was, whatever ended it or the server."""

from __future__ import annotations

import asyncio

import pytest

from recado.client import Client, ClientLimits, Event, connect
from tests.client.conftest import QUICK, take
from tests.support.server import Server


async def test_a_program_that_was_interrupted_reads_on_with_the_event_that_it_did_not_finish(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    token = shared_server.token("bruno")
    ana = shared_server.api("ana")

    async def handle(client: Client, fails_at: str) -> list[tuple[str, str | None]]:
        seen = []
        async for of, event in client.events_of_all():
            seen.append((of, event.body))
            if event.body == fails_at:
                raise KeyError(fails_at)
        return seen

    async with connect(mqtt_url, token, session="interrupted") as first:
        reading = asyncio.create_task(handle(first, "3"))
        await first.send(conversation, "0")  # the subscription was made before
        for n in range(1, 6):
            ana.send(conversation, f"{n}")
        with pytest.raises(KeyError):
            await reading
    other = shared_server.host_api.create_conversation(["ana", "bruno"])
    ana.send(other, "new")
    ana.send(conversation, "6")
    async with connect(mqtt_url, token, session="interrupted") as second:
        items = await take(second.events_of_all(), 5)
    assert [event.body for of, event in items if of == conversation] == ["3", "4", "5", "6"]
    assert [event.body for of, event in items if of == other] == ["new"]


async def test_to_leave_an_iterator_keeps_its_place_and_to_close_it_does_not(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    ana = shared_server.api("ana")
    async with connect(mqtt_url, shared_server.token("bruno"), session="leaving") as bruno:
        async with bruno.events(conversation, after=0) as events:
            for n in range(3):
                ana.send(conversation, f"{n}")
            assert [event.body for event in await take(events, 3)] == ["0", "1", "2"]
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        ana.send(conversation, "3")
        again = bruno.events(conversation)
        assert [event.body for event in await take(again, 2)] == ["2", "3"]
        again.close()
        await bruno.mark_read(conversation, 4)  # reaches the server after that
        ana.send(conversation, "4")
        last = bruno.events(conversation)
        await bruno.send(conversation, "5")
        assert (await anext(last)).body == "5"


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_server_that_is_killed_costs_a_kept_session_nothing(server: Server, qos: int) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    url = f"mqtt://127.0.0.1:{server.mqtt_port}"
    count = 600
    async with (
        connect(url, server.token("ana"), limits=QUICK) as ana,
        connect(url, server.token("bruno"), session="kept", qos=qos, limits=QUICK) as bruno,
    ):
        reading = asyncio.create_task(_read(bruno, conversation, count))
        await asyncio.sleep(0)
        sending = asyncio.gather(*(ana.send(conversation, f"{n}") for n in range(count)))
        for _ in range(2):
            await asyncio.sleep(0.1)
            server.kill()
            await asyncio.to_thread(server.start)
        await sending
        events = await reading
    assert [event.seq for event in events] == list(range(1, count + 1))
    assert {event.body for event in events} == {f"{n}" for n in range(count)}


async def test_what_nobody_reads_does_not_hold_up_what_somebody_does(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    """The session has a subscription of an earlier run that the program no longer reads."""
    other = shared_server.host_api.create_conversation(["ana", "bruno"])
    token = shared_server.token("bruno")
    limits = ClientLimits(unacknowledged_max=10, unclaimed_s=0.1)
    async with connect(mqtt_url, token, session="changed", limits=limits) as former, former.events(other, after=0):
        await former.send(other, "first")
    ana = shared_server.api("ana")
    for n in range(30):
        ana.send(other, f"{n}")
    async with connect(mqtt_url, token, session="changed", limits=limits) as bruno:
        events = bruno.events(conversation, after=0)
        for n in range(30):
            ana.send(conversation, f"{n}")
        assert [event.body for event in await take(events, 30)] == [f"{n}" for n in range(30)]


async def _read(client: Client, conversation: str, count: int) -> list[Event]:
    return await take(client.events(conversation, after=0), count)
