"""The chat sessions' storage: what a session finds again, in the same database and the same order as the messages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recado.adapters.broker.log_sessions import LogSessions
from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.broker.storage import (
    Acknowledged,
    Change,
    DeleteSubscription,
    EndSession,
    Forgotten,
    InFlight,
    LogPosition,
    Received,
    Released,
    Resumed,
    SaveCursor,
    SaveSession,
    SaveSubscription,
    StartAfter,
    StorageFailed,
)
from recado.chat.errors import NotFound
from recado.mqtt.packets import SubscriptionRequest, Will
from recado.ports import KeptSession, NewConversation, NewMessage

KEY = 7
NOTHING = Resumed([], [], [])


class Shelf:
    """A store with the conversations `x` and `y` of ana and bruno, and a session of bruno."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "recado.db"
        self._sent = 0
        self.store = SqliteStore.open(self._path, DEFAULT.store)
        self.sessions = LogSessions(self.store, 100, 10)

    async def reopen(self) -> None:
        await self.store.close()
        self.store = SqliteStore.open(self._path, DEFAULT.store)
        self.sessions = LogSessions(self.store, 100, 10)

    async def create(self, conversation: str, *members: str) -> None:
        await self.store.put_conversation(NewConversation(conversation, list(members), None, None, None, 1))

    async def send(self, conversation: str, count: int = 1, session: KeptSession | None = None) -> None:
        for _ in range(count):
            self._sent += 1
            message = NewMessage(conversation, "ana", str(self._sent), "hi", 1, None, session)
            await self.store.append_message(message)

    async def write(self, *changes: Change) -> bool:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.sessions.write(changes, done.set_result)
        return await done

    async def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        assert await self.write(SaveSubscription(KEY, SubscriptionRequest(topic_filter, qos), 0))

    async def resumed(self) -> Resumed:
        return await self.sessions.resume(KEY)

    async def behind(self) -> dict[str, tuple[int, int]]:
        return {topic_name: (had, last) for topic_name, had, last, _ in (await self.resumed()).behind}


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(tmp_path)
    for conversation in ("x", "y"):
        await shelf.create(conversation, "ana", "bruno")
        await shelf.send(conversation, 2)
    assert await shelf.write(SaveSession(KEY, "bruno", "phone", 60, None, None))
    yield shelf
    await shelf.store.close()


async def test_a_start_finds_the_sessions_as_they_were_saved(shelf: Shelf) -> None:
    will = Will("c/x", b"bye", 1)
    saved = SaveSession(9, "carla", "tab", 5, 1234, will)
    assert await shelf.write(saved)
    await shelf.subscribe("c/+")
    await shelf.reopen()
    stored = await shelf.sessions.load()
    assert [each.saved for each in stored.sessions] == [SaveSession(KEY, "bruno", "phone", 60, None, None), saved]
    (bruno,) = [each for each in stored.sessions if each.saved.key == KEY]
    assert bruno.subscriptions == [(SubscriptionRequest("c/+", 1), 0)]
    assert stored.last_key == 9


async def test_a_key_is_not_given_again_after_its_session_has_ended(shelf: Shelf) -> None:
    assert await shelf.write(SaveSession(9, "carla", "tab", 5, None, None), EndSession(9))
    await shelf.reopen()
    assert (await shelf.sessions.load()).last_key == 9


async def test_nothing_is_left_of_a_session_that_has_ended(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    assert await shelf.write(InFlight(KEY, 1, "c/x", 2, 2), Received(KEY, 5), EndSession(KEY))
    assert await shelf.write(SaveSession(KEY, "bruno", "phone", 60, None, None))
    assert (await shelf.resumed())[:2] == ([], [])
    stored = await shelf.sessions.load()
    assert stored.sessions[0].subscriptions == []


# How far a session is


async def test_a_new_subscription_starts_at_the_ends_of_what_it_matches(shelf: Shelf) -> None:
    await shelf.subscribe("c/x")
    await shelf.subscribe("c/+")
    await shelf.send("x", 3)
    await shelf.send("y", 1)
    assert await shelf.behind() == {"c/x": (2, 5), "c/y": (2, 3)}


async def test_a_filter_that_brings_nothing_new_moves_nothing(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    await shelf.send("x", 3)
    for topic_filter in ("c/+", "c/x", "c/#", "#", "c/x/#"):
        await shelf.subscribe(topic_filter)
    assert (await shelf.behind())["c/x"] == (2, 5)


async def test_a_wildcard_after_a_literal_leaves_that_one_where_it_is(shelf: Shelf) -> None:
    await shelf.subscribe("c/x")
    await shelf.send("x", 3)
    await shelf.send("y", 3)
    await shelf.subscribe("#")
    assert await shelf.behind() == {"c/x": (2, 5)}


async def test_who_unsubscribes_from_the_last_filter_of_a_log_starts_anew(shelf: Shelf) -> None:
    for topic_filter in ("c/x", "c/y", "c/+"):
        await shelf.subscribe(topic_filter)
    assert await shelf.write(DeleteSubscription(KEY, "c/+"), DeleteSubscription(KEY, "c/x"))
    await shelf.send("x", 1)
    await shelf.send("y", 1)
    await shelf.subscribe("c/x")
    assert await shelf.behind() == {"c/y": (2, 3)}


async def test_a_filter_of_signals_or_of_qos_0_starts_nothing(shelf: Shelf) -> None:
    for topic_filter, qos in (("c/+/live", 1), ("c/x/live", 1), ("c/y", 0)):
        await shelf.subscribe(topic_filter, qos)
    await shelf.send("x", 1)
    await shelf.subscribe("c/+")
    assert await shelf.behind() == {}


async def test_a_cursor_goes_forward_and_only_a_new_start_takes_it_back(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    await shelf.send("x", 8)
    assert await shelf.write(SaveCursor(KEY, "c/x", 6))
    assert await shelf.write(SaveCursor(KEY, "c/x", 4))
    assert await shelf.behind() == {"c/x": (6, 10)}
    assert await shelf.write(StartAfter(KEY, "c/x", 1))
    await shelf.reopen()
    assert (await shelf.resumed()).behind == [LogPosition("c/x", 1, 10)]
    assert await shelf.write(SaveCursor(KEY, "c/x", 10))
    assert await shelf.behind() == {}


async def test_what_came_into_being_after_the_subscription_is_read_from_its_beginning(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    await shelf.create("new", "ana", "bruno")
    await shelf.send("new", 2)
    await shelf.create("joined", "ana")
    await shelf.send("joined", 4)
    await shelf.store.put_member("joined", "bruno", None, 1, 10)
    await shelf.send("joined", 1)
    assert await shelf.behind() == {"c/new": (0, 2), "c/joined": (4, 6)}


async def test_who_was_removed_is_behind_in_nothing_and_comes_back_at_the_new_membership(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    await shelf.send("x", 1)
    await shelf.store.remove_member("x", "bruno", None, 1)
    await shelf.send("x", 1)
    assert await shelf.behind() == {}
    await shelf.store.put_member("x", "bruno", None, 1, 10)
    assert await shelf.behind() == {"c/x": (5, 6)}


# What is in flight


async def test_what_is_in_flight_at_qos_1_is_handed_over_once_and_at_qos_2_stays(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    assert await shelf.write(
        InFlight(KEY, 9, "c/x", 1, 1), InFlight(KEY, 3, "c/y", 2, 2), InFlight(KEY, 4, "c/y", 1, 2)
    )
    assert await shelf.write(Released(KEY, 4))
    first, second = await shelf.resumed(), await shelf.resumed()
    assert [(each.packet_id, each.qos) for each in first.inflight] == [(9, 1), (3, 2), (4, 2)]
    assert [(each.packet_id, each.qos) for each in second.inflight] == [(3, 2), (4, 2)]
    publications = [each.publication for each in first.inflight]
    assert [(each.topic_name, each.position) for each in publications if each] == [("c/x", 1), ("c/y", 2)]
    assert publications[2] is None
    assert await shelf.write(Acknowledged(KEY, 3), Acknowledged(KEY, 4))
    assert (await shelf.resumed()).inflight == []


async def test_what_is_in_flight_at_qos_2_counts_as_had(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    await shelf.send("x", 2)
    assert await shelf.write(InFlight(KEY, 1, "c/x", 3, 2))
    assert await shelf.behind() == {"c/x": (3, 4)}


async def test_what_was_in_flight_in_a_log_that_is_closed_to_its_user_now_is_gone(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    assert await shelf.write(
        InFlight(KEY, 1, "c/x", 2, 1), InFlight(KEY, 2, "c/x", 2, 2), InFlight(KEY, 3, "c/x", 1, 2)
    )
    assert await shelf.write(Released(KEY, 3))
    await shelf.store.remove_member("x", "bruno", None, 1)
    released = [(2, None), (3, None)]  # at QoS 2 the client may have it: its packet id is not free yet
    assert [(each.packet_id, each.publication) for each in (await shelf.resumed()).inflight] == released
    await shelf.store.put_member("x", "bruno", None, 1, 10)
    assert [(each.packet_id, each.publication) for each in (await shelf.resumed()).inflight] == released


async def test_a_packet_id_that_is_used_again_takes_the_place_of_the_former(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    assert await shelf.write(InFlight(KEY, 1, "c/x", 1, 2), InFlight(KEY, 2, "c/x", 2, 2))
    assert await shelf.write(InFlight(KEY, 1, "c/y", 2, 2))
    found = [(each.packet_id, each.publication and each.publication.topic_name) for each in (await shelf.resumed())[0]]
    assert found == [(2, "c/x"), (1, "c/y")]


async def test_what_comes_after_something_that_could_not_be_stored_is_not_stored_either(shelf: Shelf) -> None:
    await shelf.subscribe("c/+")
    await shelf.send("x", 3)
    assert await shelf.write(InFlight(KEY, 1, "c/x", 3, 2))
    assert not await shelf.write(InFlight(KEY, 2, "c/x", 5, 2, after=4))
    assert await shelf.behind() == {"c/x": (3, 5)}
    assert await shelf.write(InFlight(KEY, 2, "c/x", 4, 2, after=3))


async def test_who_asked_for_what_is_older_than_its_membership_is_resumed_there(shelf: Shelf) -> None:
    await shelf.create("joined", "ana")
    await shelf.send("joined", 4)
    await shelf.store.put_member("joined", "bruno", None, 1, 10)
    await shelf.subscribe("c/+")
    assert await shelf.write(StartAfter(KEY, "c/joined", 1), SaveCursor(KEY, "c/joined", 2))
    assert await shelf.behind() == {"c/joined": (2, 5)}
    await shelf.store.remove_member("joined", "bruno", None, 1)
    await shelf.store.put_member("joined", "bruno", None, 1, 10)
    assert await shelf.behind() == {"c/joined": (6, 7)}, "it has to ask again, as a new member"


# What came


async def test_a_message_and_the_packet_id_under_which_it_came_are_stored_together(shelf: Shelf) -> None:
    await shelf.send("x", 1, KeptSession(KEY, 5, False))
    with pytest.raises(NotFound):
        await shelf.send("no such conversation", 1, KeptSession(KEY, 6, False))
    await shelf.reopen()
    assert (await shelf.resumed()).received == [5]
    assert await shelf.write(Forgotten(KEY, 5))
    assert (await shelf.resumed()).received == []


async def test_a_message_that_was_sent_before_under_its_id_takes_its_packet_id_too(shelf: Shelf) -> None:
    for packet_id in (5, 6):
        await shelf.store.append_message(
            NewMessage("x", "ana", "same", "hi", 1, None, KeptSession(KEY, packet_id, False))
        )
    assert (await shelf.resumed()).received == [5, 6]


async def test_what_comes_for_a_session_that_has_ended_is_kept_for_nobody(shelf: Shelf) -> None:
    await shelf.send("x", 1, KeptSession(1234, 5, False))
    for change in (Received(1234, 5), InFlight(1234, 1, "c/x", 1, 2), SaveCursor(1234, "c/x", 1)):
        assert await shelf.write(change)
    assert await shelf.sessions.resume(1234) == NOTHING


async def test_what_a_session_sent_and_wants_not_back_is_told_until_its_cursor_has_passed_it(
    shelf: Shelf,
) -> None:
    await shelf.subscribe("c/+")
    await shelf.send("x", 1, KeptSession(KEY, 0, True))
    await shelf.send("x", 1)
    await shelf.send("x", 1, KeptSession(KEY, 0, True))
    await shelf.reopen()
    assert (await shelf.resumed()).behind == [LogPosition("c/x", 2, 5, frozenset({3, 5}))]
    assert await shelf.write(SaveCursor(KEY, "c/x", 3))
    assert (await shelf.resumed()).behind == [LogPosition("c/x", 3, 5, frozenset({5}))]


# Bounds


async def test_beyond_its_bound_changes_fail_and_what_makes_room_does_not(shelf: Shelf) -> None:
    writer_is_free = threading.Event()
    shelf.store.run(lambda _: writer_is_free.wait(), lambda *_: None)
    for packet_id in range(100):
        shelf.sessions.write([Received(KEY, packet_id + 1)])
    refused = asyncio.ensure_future(shelf.write(Received(KEY, 1000)))
    taken = asyncio.ensure_future(shelf.write(Forgotten(KEY, 1)))
    with pytest.raises(StorageFailed):
        await shelf.resumed()
    assert not await refused
    writer_is_free.set()
    assert await taken
    assert (await shelf.resumed()).received == list(range(2, 101))
