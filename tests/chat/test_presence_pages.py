"""Pages that say that they are open: who is online by them, in one process and in several on one store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from recado.app.limits import DEFAULT
from recado.chat.errors import Unavailable
from recado.chat.presence import Presence
from tests.chat.conftest import RecordingBroker
from tests.chat.presences import ANA_CAME, GRACE_S, CircleStore, Clock, open_presence, told

PAGE_S = DEFAULT.chat.presence_page_s
RENEW_S = DEFAULT.chat.presence_renew_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> CircleStore:
    return CircleStore()


@pytest.fixture
async def presence(store: CircleStore, broker: RecordingBroker, clock: Clock) -> AsyncIterator[Presence]:
    presence = open_presence(store, broker, clock)
    yield presence
    presence.close()


@pytest.fixture
async def here(presence: Presence, broker: RecordingBroker) -> Presence:
    """Bruno is connected, and hears who comes and goes."""
    presence.connected("bruno")
    await told(broker)
    return presence


def went(user: str, at_s: float) -> tuple[set[str], dict[str, Any]]:
    return {"bruno"}, {"from": user, "online": False, "last_seen": int(at_s * 1000)}


async def test_a_page_makes_its_user_online_and_saying_it_again_is_no_news(
    here: Presence, broker: RecordingBroker, clock: Clock
) -> None:
    await here.report_page("ana", "p1", visible=True)
    assert await told(broker) == [ANA_CAME]
    await here.report_page("ana", "p2", visible=False)
    for _ in range(5):
        clock.pass_s(RENEW_S)
        await here.report_page("ana", "p1", visible=False)
    assert await told(broker) == []
    assert await here.online(["ana", "bruno", "carla"]) == {"ana", "bruno"}
    assert len(here) == 2


async def test_a_page_that_says_nothing_any_more_ends_and_was_last_seen_when_it_did(
    here: Presence, broker: RecordingBroker, clock: Clock
) -> None:
    await here.report_page("ana", "p1", visible=True)
    clock.pass_s(RENEW_S)
    seen_s = clock.now_s
    await here.report_page("ana", "p1", visible=True)
    await told(broker)
    clock.pass_s(PAGE_S)
    assert await told(broker) == [], "the grace begins"
    clock.pass_s(GRACE_S)
    assert await told(broker) == [went("ana", seen_s)]
    assert clock.timers == [], "nobody is there"


async def test_a_page_that_is_closed_and_opened_again_within_the_grace_is_no_news(
    here: Presence, broker: RecordingBroker, clock: Clock
) -> None:
    await here.report_page("ana", "p1", visible=True)
    await told(broker)
    for page in ("p1", "p2"):
        await here.leave_page("ana", page)
        clock.pass_s(GRACE_S - 1)
        assert await here.online(["ana"]) == {"ana"}
        await here.report_page("ana", "p2", visible=True)
    assert await told(broker) == []
    await here.leave_page("ana", "p2")
    closed_s = clock.now_s
    await here.leave_page("ana", "p2")
    clock.pass_s(GRACE_S)
    assert await told(broker) == [went("ana", closed_s)]
    assert await here.online(["ana"]) == set()
    await here.leave_page("ana", "p2")
    clock.pass_s(GRACE_S)
    assert await told(broker) == [], "who is away does not go"


async def test_a_user_is_offline_once_both_its_pages_and_its_connections_have_gone(
    here: Presence, broker: RecordingBroker, clock: Clock
) -> None:
    here.connected("ana")
    await here.report_page("ana", "p1", visible=True)
    await told(broker)
    here.disconnected("ana")
    assert len(here) == 2
    clock.pass_s(GRACE_S)
    assert await told(broker) == []
    here.connected("ana")
    await here.leave_page("ana", "p1")
    assert len(here) == 2
    clock.pass_s(GRACE_S)
    assert await told(broker) == []
    here.disconnected("ana")
    went_s = clock.now_s
    clock.pass_s(GRACE_S)
    assert await told(broker) == [went("ana", went_s)]


async def test_all_pages_and_all_who_are_going_wait_on_one_timer(
    here: Presence, broker: RecordingBroker, clock: Clock
) -> None:
    await here.report_page("ana", "p1", visible=True)
    await here.report_page("carla", "p1", visible=True)
    assert len(clock.timers) == 1
    here.disconnected("bruno")  # sooner over than a page
    assert [timer.due for timer in clock.timers if not timer.is_cancelled] == [clock.now_s + GRACE_S]
    clock.pass_s(GRACE_S)
    assert [timer.due for timer in clock.timers] == [clock.now_s - GRACE_S + PAGE_S]
    clock.pass_s(PAGE_S)
    assert len(clock.timers) == 1
    clock.pass_s(GRACE_S)
    assert clock.timers == []


async def test_who_has_told_another_process_is_not_offline_and_that_one_tells_when_it_is(
    here: Presence, store: CircleStore, clock: Clock, broker: RecordingBroker
) -> None:
    elsewhere = RecordingBroker()
    there = open_presence(store, elsewhere, clock)
    there.connected("bruno")
    await here.report_page("ana", "p1", visible=True)
    assert await told(broker) == [ANA_CAME]
    clock.pass_s(RENEW_S)
    seen_s = clock.now_s
    await there.report_page("ana", "p1", visible=True)
    assert ANA_CAME not in await told(elsewhere), "the first process has told it"
    clock.pass_s(PAGE_S - RENEW_S)
    clock.pass_s(GRACE_S)
    assert await told(broker) == [], "it has ended here, and is open there"
    assert await here.online(["ana"]) == {"ana"}
    clock.pass_s(RENEW_S - GRACE_S)
    clock.pass_s(GRACE_S)
    assert await told(elsewhere) == [went("ana", seen_s)]
    assert await told(broker) == []
    assert await here.online(["ana"]) == set()


async def test_a_page_that_was_closed_by_way_of_another_process_is_closed_everywhere(
    here: Presence, store: CircleStore, clock: Clock, broker: RecordingBroker
) -> None:
    elsewhere = RecordingBroker()
    there = open_presence(store, elsewhere, clock)
    there.connected("bruno")
    await here.report_page("ana", "p1", visible=True)
    await told(broker)
    await told(elsewhere)
    await there.leave_page("ana", "p1")
    assert await here.online(["ana"]) == set()
    closed_s = clock.now_s
    clock.pass_s(GRACE_S)
    assert await told(elsewhere) == [went("ana", closed_s)]
    await here.report_page("ana", "p2", visible=True)
    assert await told(broker) == [ANA_CAME], "though this process has not seen the other page end yet"


async def test_of_a_users_many_pages_and_of_everybodys_those_that_end_first_are_forgotten(
    store: CircleStore, broker: RecordingBroker, clock: Clock
) -> None:
    presence = open_presence(store, broker, clock, presence_pages_per_user_max=2, presence_pages_max=4)
    for page in ("p1", "p2", "p3"):
        await presence.report_page("ana", page, visible=True)
    assert len(presence._pages) == 2
    for user in ("bruno", "carla", "dora"):
        await presence.report_page(user, "p", visible=True)
    assert len(presence._pages) == 4
    assert await told(broker) == [], "ana's page is in the store: she has not gone"
    assert await presence.online(["ana"]) == {"ana"}
    presence.close()


async def test_a_page_that_the_store_could_not_note_is_not_there(
    here: Presence, store: CircleStore, broker: RecordingBroker
) -> None:
    async def refuse(*_: object) -> None:
        raise Unavailable("too busy")

    store.note_page = refuse  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await here.report_page("ana", "p1", visible=True)
    assert await here.online(["ana"]) == set()
    assert await told(broker) == []


async def test_with_a_broker_that_others_connect_to_all_members_are_told(
    store: CircleStore, broker: RecordingBroker, clock: Clock
) -> None:
    presence = open_presence(store, broker, clock, is_broker_shared=True)
    await presence.report_page("ana", "p1", visible=True)
    assert await told(broker) == [({"bruno", "carla"}, {"from": "ana", "online": True})]
    presence.close()


async def test_two_pages_that_open_at_once_are_told_once(here: Presence, broker: RecordingBroker) -> None:
    await asyncio.gather(*(here.report_page("ana", f"p{number}", visible=True) for number in range(3)))
    assert await told(broker) == [ANA_CAME]


async def test_a_server_that_stops_does_not_tell_that_pages_end(
    here: Presence, broker: RecordingBroker, clock: Clock
) -> None:
    await here.report_page("ana", "p1", visible=True)
    await told(broker)
    here.close()
    clock.pass_s(PAGE_S + GRACE_S)
    assert await told(broker) == []
