"""Who is online and who hears of it, with a clock that the test moves and a store that it answers for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest

from recado.app.limits import DEFAULT
from recado.chat import actions
from recado.chat.actions import Chat
from recado.chat.conversation import ConversationDraft
from recado.chat.errors import Unavailable
from recado.chat.event import MEMBER_REMOVED, Committed, Event
from recado.chat.membership import MembershipCache
from recado.chat.presence import Presence
from recado.chat.principal import Principal
from recado.ports import Store
from tests.chat.conftest import NOW, RecordingBroker
from tests.chat.presences import ANA_CAME, GRACE_S, TRIO, CircleStore, Clock, told, turns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> CircleStore:
    return CircleStore()


@pytest.fixture
def members(store: CircleStore) -> MembershipCache:
    return MembershipCache(cast(Store, store), 10)


@pytest.fixture
async def presence(
    store: CircleStore, broker: RecordingBroker, members: MembershipCache, clock: Clock
) -> AsyncIterator[Presence]:
    limits = replace(DEFAULT.chat, presence_reads_max=2, presence_pending_max=4)
    presence = Presence(cast(Store, store), broker, members, limits, clock.now_ms, clock)
    yield presence
    presence.close()


async def test_the_first_connection_is_told_to_those_who_are_there_and_no_other(
    presence: Presence, broker: RecordingBroker
) -> None:
    presence.connected("bruno")
    assert await told(broker) == [], "nobody is there to hear it"
    presence.connected("ana")
    assert await told(broker) == [ANA_CAME]
    presence.connected("ana")
    presence.disconnected("ana")
    assert await told(broker) == [], "another tab"
    assert await presence.online(["ana", "carla", "bruno"]) == {"ana", "bruno"}
    assert len(presence) == 2


async def test_a_page_that_is_reloaded_is_no_news(presence: Presence, broker: RecordingBroker, clock: Clock) -> None:
    presence.connected("bruno")
    presence.connected("ana")
    await told(broker)
    for _ in range(3):
        presence.disconnected("ana")
        clock.pass_s(GRACE_S - 0.1)
        assert await presence.online(["ana"]) == {"ana"}
        presence.connected("ana")
        assert await told(broker) == []
    clock.pass_s(GRACE_S)
    assert await told(broker) == []
    assert clock.timers == [], "nobody is going"


async def test_who_stays_away_is_offline_after_the_grace_and_was_last_seen_before_it(
    presence: Presence, broker: RecordingBroker, clock: Clock
) -> None:
    presence.connected("bruno")
    presence.connected("ana")
    await told(broker)
    presence.disconnected("ana")
    went = clock.now_ms()
    clock.pass_s(GRACE_S)
    assert await told(broker) == [({"bruno"}, {"from": "ana", "online": False, "last_seen": went})]
    assert await presence.online(["ana", "bruno"]) == {"bruno"}
    presence.connected("ana")
    assert await told(broker) == [ANA_CAME]


async def test_all_who_are_going_wait_on_one_timer_each_for_its_own_grace(
    presence: Presence, broker: RecordingBroker, clock: Clock
) -> None:
    for user in ("carla", "ana", "bruno"):
        presence.connected(user)
    await told(broker)
    presence.disconnected("ana")
    clock.pass_s(4)
    presence.disconnected("bruno")
    assert len(clock.timers) == 1
    clock.pass_s(6)
    assert [signal["from"] for _, signal in await told(broker)] == ["ana"]
    assert len(clock.timers) == 1
    clock.pass_s(4)
    assert [signal["from"] for _, signal in await told(broker)] == ["bruno"]
    assert clock.timers == []


async def test_a_storm_of_connections_reads_few_circles_at_a_time(
    presence: Presence, store: CircleStore, broker: RecordingBroker
) -> None:
    store.is_open = False
    for number in range(7):
        presence.connected(f"u{number}")
        await turns()
    assert store.asked == ["u0", "u1"]
    store.is_open = True
    for read in list(store.reads):
        read.set_result(None)
    await turns()
    assert store.asked == ["u0", "u1", "u3", "u4", "u5", "u6"]
    assert presence.dropped == 1, "four may wait, and the one that waited longest gave way"


async def test_who_comes_and_goes_while_it_waits_costs_nothing(
    presence: Presence, store: CircleStore, broker: RecordingBroker, clock: Clock
) -> None:
    store.is_open = False
    for user in ("carla", "bruno", "ana"):
        presence.connected(user)
    await turns()
    presence.disconnected("ana")
    clock.pass_s(GRACE_S)
    store.is_open = True
    for read in list(store.reads):
        read.set_result(None)
    assert "ana" not in [signal["from"] for _, signal in await told(broker)]
    assert store.asked == ["carla", "bruno"]


async def test_what_is_not_true_any_more_when_the_circle_is_known_is_not_told(
    presence: Presence, store: CircleStore, broker: RecordingBroker, clock: Clock
) -> None:
    presence.connected("bruno")
    presence.connected("ana")
    await told(broker)
    store.is_open = False
    presence.disconnected("ana")
    clock.pass_s(GRACE_S)
    await turns()
    presence.connected("ana")  # while the store is asked whom to tell that she went
    await turns()
    went, came = store.reads[-2:]
    came.set_result(None)
    await turns()
    went.set_result(None)
    assert await told(broker) == [ANA_CAME]


async def test_what_the_store_could_not_say_is_asked_again_a_second_later(
    presence: Presence, store: CircleStore, broker: RecordingBroker, clock: Clock
) -> None:
    presence.connected("bruno")
    await turns()
    store.is_open = False
    presence.connected("ana")
    await turns()
    store.reads[-1].set_exception(Unavailable("too busy"))
    await turns()
    store.is_open = True
    presence.connected("carla")
    assert await told(broker) == [], "the store has its second"
    clock.pass_s(1)
    assert [(to, signal["from"]) for to, signal in await told(broker)] == [
        ({"bruno", "carla"}, "ana"),
        ({"bruno", "ana"}, "carla"),
    ]


@pytest.mark.parametrize("removed", ["ana", "bruno"])
async def test_a_removal_while_the_circle_is_read_holds(
    presence: Presence, store: CircleStore, broker: RecordingBroker, members: MembershipCache, removed: str
) -> None:
    presence.connected("bruno")
    await turns()
    store.is_open = False
    presence.connected("ana")
    await turns()
    members.apply([Committed("c", Event(seq=1, sender=None, at=1, type=MEMBER_REMOVED, user=removed), TRIO)])
    store.reads[-1].set_result(None)
    assert await told(broker) == []


@pytest.mark.parametrize("left", [{"ana", "bruno"}, {"ana"}, {"bruno"}])
async def test_who_was_removed_is_not_told_nor_told_of_though_the_removal_is_forgotten(
    presence: Presence,
    store: CircleStore,
    broker: RecordingBroker,
    members: MembershipCache,
    left: set[str],
) -> None:
    presence.connected("bruno")
    await turns()
    store.is_open = False
    presence.connected("ana")
    await turns()
    members.apply([Committed("other", Event(seq=1, sender=None, at=1, type=MEMBER_REMOVED, user="dora"), TRIO)])
    store.members = frozenset(left)
    store.reads[-1].set_result(None)
    assert await told(broker) == ([ANA_CAME] if left == {"ana", "bruno"} else [])


async def test_a_server_that_stops_tells_nobody_that_all_are_going(
    presence: Presence, broker: RecordingBroker, clock: Clock
) -> None:
    for user in ("bruno", "ana"):
        presence.connected(user)
    await told(broker)
    presence.disconnected("ana")
    presence.close()
    presence.disconnected("bruno")
    assert clock.timers == [] or all(each.is_cancelled for each in clock.timers)
    clock.pass_s(GRACE_S)
    assert await told(broker) == []


async def test_the_members_of_the_own_conversations_hear_it_and_of_large_ones_not(
    chat: Chat, broker: RecordingBroker
) -> None:
    host = Principal(None, is_host=True)
    for conversation, users in (
        ("pair", ["ana", "bruno"]),
        ("large", ["ana", "bruno", "carla", "dora"]),  # one more than these tests' receipt_members_max
        ("others", ["bruno", "carla"]),
    ):
        await actions.put_conversation(chat, host, conversation, ConversationDraft(users))
    chat.presence.connected("bruno")
    chat.presence.connected("carla")
    chat.presence.connected("ana")
    async with asyncio.timeout(5):
        while not any(b'"ana"' in payload for _, _, payload in broker.signals):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    heard = [(conversation, set(to)) for conversation, to, payload in broker.signals if b'"ana"' in payload]
    assert heard == [("pair", {"bruno"})]
    assert chat.now_ms() == NOW
