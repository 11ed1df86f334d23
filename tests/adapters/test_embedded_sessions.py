"""The conversations' sessions in the moments that are hard to hit: what went wrong in them once, for a member."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from recado.broker.publication import Place, Publication
from recado.chat.errors import Unavailable
from recado.mqtt.packets import Disconnect, Puback, Publish, Pubrec, Suback, Unsuback, Unsubscribe
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.adapters.conversations import LOGS_MAX, PAGE, WINDOW, Conversations, seqs, types
from tests.adapters.disk import Disk
from tests.broker.client import Client

TOPIC = "c/order"
LARGE = "x" * 10_000


@pytest.fixture
async def conversations(tmp_path: Path, disk: Disk) -> AsyncIterator[Conversations]:
    conversations = Conversations(tmp_path, disk)
    await conversations.start()
    await conversations.create("order", "ana", "bruno")
    yield conversations
    await conversations.stop()


def disk_is_full(disk: Disk, is_full: bool = True) -> None:
    disk.write_error = apsw.FullError("the disk is full") if is_full else None


# A SUBSCRIBE with `after`, and a membership that begins meanwhile


@pytest.mark.parametrize("is_kept", [False, True])
async def test_who_is_added_before_its_subscribe_is_granted_misses_nothing_that_it_asked_for(
    conversations: Conversations, is_kept: bool
) -> None:
    await conversations.send("order", 2)
    carla = await conversations.member("carla", is_kept=is_kept)
    conversations.broker.subscribing.close()
    await carla.send(carla.subscription("c/+", after=("order=0",)))
    await conversations.broker.subscribing.waiting.wait()
    await conversations.add("order", "carla")
    conversations.broker.subscribing.open()
    await carla.expect(Suback)
    assert seqs(await carla.take_all(3)) == [1, 2, 3]
    await conversations.send("order")
    assert seqs(await carla.take_all(1)) == [4]
    assert await carla.before_pong() == []


@pytest.mark.parametrize("is_kept", [False, True])
async def test_who_is_added_while_its_replay_is_being_refused_misses_nothing_that_it_asked_for(
    conversations: Conversations, is_kept: bool
) -> None:
    await conversations.send("order", 2)
    carla = await conversations.member("carla", is_kept=is_kept)
    conversations.broker.reading.close()
    await carla.subscribe("c/+", after=("order=0",))
    await conversations.broker.reading.waiting.wait()  # it will be refused: at that moment carla was no member
    await conversations.add("order", "carla")
    conversations.broker.reading.open()
    assert seqs(await carla.take_all(3)) == [1, 2, 3]
    await conversations.send("order")
    assert seqs(await carla.take_all(1)) == [4]
    assert await carla.before_pong() == []


async def test_what_a_stranger_asks_for_is_not_replayed_and_leaves_nothing(conversations: Conversations) -> None:
    await conversations.send("order", 2)
    carla = await conversations.member("carla")
    await carla.subscribe("c/+", after=("order=0", "none=0"))
    await conversations.until(lambda: not conversations.session_of("carla").cursors)
    assert await carla.before_pong() == []
    assert conversations.stored_cursors("carla") == {}


# An `after` from the future


async def test_a_position_past_the_end_is_the_end_for_a_session_that_is_kept(conversations: Conversations) -> None:
    await conversations.send("order", 3)
    bruno = await conversations.member("bruno")
    await bruno.subscribe(TOPIC, after=("order=1000",))
    assert await bruno.before_pong() == []
    assert conversations.stored_cursors("bruno") == {"order": 3}
    await conversations.send("order")
    assert seqs(await bruno.take_all(1)) == [4]
    assert await bruno.before_pong() == []
    await conversations.leave(bruno)
    await conversations.send("order", 2)
    bruno = await conversations.member("bruno")
    assert bruno.connack.session_present
    assert seqs(await bruno.take_all(2)) == [5, 6]


# How many logs a session may be behind in


async def news(conversations: Conversations, *names: str) -> None:
    for name in names:
        await conversations.send(name)


async def conversations_of_bruno(conversations: Conversations, count: int) -> list[str]:
    names = [f"more-{n}" for n in range(count)]
    for name in names:
        await conversations.create(name, "ana", "bruno")
    return names


async def test_a_session_is_behind_only_where_it_reads(conversations: Conversations) -> None:
    """It began anew because of conversations that it had not subscribed to."""
    names = await conversations_of_bruno(conversations, LOGS_MAX + 1)
    bruno = await conversations.member("bruno")
    await bruno.subscribe(TOPIC)
    await conversations.leave(bruno)
    await news(conversations, "order", *names)
    bruno = await conversations.member("bruno")
    assert bruno.connack.session_present
    assert [each.topic_name for each in await bruno.take_all(1)] == [TOPIC]
    assert await bruno.before_pong() == []


@pytest.mark.parametrize("too_many", [0, 1])
async def test_a_session_that_is_behind_in_too_many_logs_begins_anew(
    conversations: Conversations, too_many: int
) -> None:
    names = await conversations_of_bruno(conversations, LOGS_MAX + too_many)
    bruno = await conversations.member("bruno")
    await bruno.subscribe("c/+")
    await conversations.leave(bruno)
    await news(conversations, *names)
    bruno = await conversations.member("bruno")
    assert bruno.connack.session_present == (not too_many)
    expected = [] if too_many else names
    assert sorted(each.topic_name for each in await bruno.take_all(len(expected))) == [f"c/{each}" for each in expected]
    assert await bruno.before_pong() == []


def told(disconnect: object) -> tuple[ReasonCode, str]:
    assert isinstance(disconnect, Disconnect)
    return disconnect.reason_code, disconnect.properties[PropertyId.REASON_STRING]


async def test_a_connection_that_falls_behind_in_too_many_logs_is_told_to_connect_again(
    conversations: Conversations,
) -> None:
    names = await conversations_of_bruno(conversations, LOGS_MAX + 1)
    bruno = await conversations.member("bruno")
    await bruno.subscribe("c/+")
    await conversations.send("order", WINDOW)
    await news(conversations, *names[:LOGS_MAX])
    assert len(await bruno.before_pong()) == WINDOW
    await news(conversations, names[LOGS_MAX])
    (last,) = await bruno.rest()
    assert told(last) == (ReasonCode.QUOTA_EXCEEDED, "behind in too many logs: connect again")
    bruno = await conversations.member("bruno")
    assert not bruno.connack.session_present


async def test_who_asks_for_too_many_logs_is_told_how_many_it_may(conversations: Conversations) -> None:
    bruno = await conversations.member("bruno")
    after = tuple(f"more-{n}=0" for n in range(LOGS_MAX + 1))
    await bruno.send(bruno.subscription("c/+", after=after))
    (last,) = await bruno.rest()
    code, text = told(last)
    assert code is ReasonCode.QUOTA_EXCEEDED
    assert f"{LOGS_MAX} logs" in text


async def test_logs_that_were_read_to_their_ends_leave_room_for_others(conversations: Conversations) -> None:
    """Who caught up here and there was cut off for it, at the next SUBSCRIBE of any kind."""
    names = await conversations_of_bruno(conversations, 2 * LOGS_MAX)
    await news(conversations, *names)
    bruno = await conversations.member("bruno", is_kept=False)
    for some in (names[:LOGS_MAX], names[:LOGS_MAX], names[LOGS_MAX:]):
        await bruno.subscribe("c/+", after=tuple(f"{name}=0" for name in some))
        assert sorted(each.topic_name for each in await bruno.take_all(LOGS_MAX)) == [f"c/{name}" for name in some]
    assert await bruno.subscribe("c/+/live") == [1]


# Cursors that could not be written


async def test_a_position_that_could_not_be_stored_is_stored_when_the_disk_has_room_again(
    conversations: Conversations,
) -> None:
    """After a crash of the server, what had been acknowledged long before came again."""
    bruno = await conversations.member("bruno")
    await bruno.subscribe(TOPIC)
    await conversations.send("order", 3)
    publishes = await bruno.publishes(3)
    disk_is_full(conversations.disk)
    await bruno.acknowledge(*publishes)
    counters = conversations.server.counters
    await conversations.until(lambda: counters.storage_failures >= 1)
    assert conversations.stored_cursors("bruno") == {"order": 0}
    disk_is_full(conversations.disk, False)
    await conversations.until(lambda: conversations.stored_cursors("bruno") == {"order": 3})
    await conversations.kill()
    bruno = await conversations.member("bruno")
    assert bruno.connack.session_present
    assert await bruno.before_pong() == []


async def test_an_acknowledgement_that_could_not_be_stored_is_not_overtaken_by_the_next_one(
    conversations: Conversations,
) -> None:
    """After a disk that was full for a moment, the later event was released before the earlier one came again."""
    disk = conversations.disk
    bruno = await conversations.member("bruno")
    await bruno.subscribe(TOPIC, qos=2)
    await conversations.send("order", 2)
    first, second = await bruno.publishes(2)
    disk.next_sync_error = apsw.IOError("broken for a moment")
    with disk.held() as reached:
        await bruno.send(Pubrec(first.packet_id))
        assert await asyncio.to_thread(reached.wait, 20)
        await bruno.send(Pubrec(second.packet_id))
        assert await bruno.before_pong() == []
    await bruno.rest()
    bruno = await conversations.member("bruno")
    assert seqs(await bruno.publishes(2)) == [1, 2], "and no PUBREL"


# What is in flight is remembered by its place


def held_by(root: object) -> Iterator[object]:
    """Everything that an object keeps alive, but for classes."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, type):
            seen[id(each)] = each
            waiting += gc.get_referents(each)
    yield from seen.values()


async def no_payload_is_held(conversations: Conversations) -> None:
    inflight = conversations.session_of("bruno").inflight
    assert len(inflight) == WINDOW
    assert all(type(each) is Place for each in inflight.values())
    assert [each for each in held_by(inflight) if isinstance(each, bytes) and len(each) > len(LARGE) // 10] == []
    gc.collect()
    await conversations.until(lambda: not publications())  # the writing thread tells first, and then lets go of them


def publications() -> list[Publication]:
    return [each for each in gc.get_objects() if type(each) is Publication and each.topic_name == TOPIC]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_client_that_acknowledges_nothing_costs_no_payload(
    conversations: Conversations, qos: int, is_kept: bool
) -> None:
    """It cost megabytes: each body until its acknowledgement."""
    bruno = await conversations.member("bruno", is_kept=is_kept)
    await bruno.subscribe(TOPIC, qos=qos)
    await conversations.send("order", WINDOW, LARGE)
    assert seqs(await bruno.publishes(WINDOW)) == list(range(1, WINDOW + 1))
    await no_payload_is_held(conversations)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_client_that_acknowledges_nothing_of_what_it_is_replayed_costs_no_payload(
    conversations: Conversations, qos: int, is_kept: bool
) -> None:
    await conversations.send("order", WINDOW + PAGE, LARGE)
    bruno = await conversations.member("bruno", is_kept=is_kept)
    await bruno.subscribe(TOPIC, qos=qos, after=("order=0",))
    assert seqs(await bruno.publishes(WINDOW)) == list(range(1, WINDOW + 1))
    await conversations.until(lambda: not conversations.connection_of("bruno").is_reading)
    await no_payload_is_held(conversations)


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_client_that_is_sent_again_what_it_had_not_acknowledged_costs_no_payload(
    conversations: Conversations, qos: int
) -> None:
    bruno = await conversations.member("bruno")
    await bruno.subscribe(TOPIC, qos=qos)
    await conversations.send("order", WINDOW, LARGE)
    await bruno.publishes(WINDOW)
    await conversations.leave(bruno)
    bruno = await conversations.member("bruno")
    again = await bruno.publishes(WINDOW)
    assert all(each.dup for each in again)
    await no_payload_is_held(conversations)


# The end of a user's sessions


async def test_a_users_sessions_have_ended_for_good_when_it_is_said(conversations: Conversations) -> None:
    """After a crash they were there again."""
    bruno = await conversations.member("bruno")
    await bruno.subscribe(TOPIC)
    with conversations.disk.held() as reached:
        ending = asyncio.ensure_future(conversations.broker.disconnect("bruno"))
        (last,) = await bruno.rest()
        assert told(last)[0] is ReasonCode.ADMINISTRATIVE_ACTION
        await asyncio.to_thread(reached.wait)
        assert await one_round_trip(conversations)
        assert not ending.done(), "nothing is on the disk yet"
    await ending
    await conversations.kill()
    assert not (await conversations.member("bruno")).connack.session_present


async def one_round_trip(conversations: Conversations) -> Client:
    """Somebody has connected and been answered meanwhile: whatever was about to be said has been."""
    ana = await conversations.member("ana", is_kept=False)
    assert await ana.before_pong() == []
    return ana


async def test_the_end_of_a_users_sessions_is_not_said_as_long_as_it_cannot_be_stored(
    conversations: Conversations,
) -> None:
    """The second attempt found no session any more, and said that all was well."""
    bruno = await conversations.member("bruno")
    await bruno.subscribe(TOPIC)
    disk_is_full(conversations.disk)
    for _ in range(2):
        with pytest.raises(Unavailable, match="try again"):
            await conversations.broker.disconnect("bruno")
    disk_is_full(conversations.disk, False)
    await conversations.broker.disconnect("bruno")
    await conversations.kill()
    assert not (await conversations.member("bruno")).connack.session_present


# UNSUBSCRIBE


async def unsubscribe(client: Client, *topic_filters: str) -> None:
    await client.send(Unsubscribe(client.next_packet_id(), list(topic_filters)))
    await client.expect(Unsuback)


@pytest.mark.parametrize("is_kept", [False, True])
async def test_who_unsubscribes_while_it_is_behind_is_behind_nowhere_and_starts_live_when_it_comes_back(
    conversations: Conversations, is_kept: bool
) -> None:
    bruno = await conversations.member("bruno", is_kept=is_kept)
    await bruno.subscribe(TOPIC, "c/+")
    await conversations.send("order", WINDOW + 2)
    publishes = await bruno.publishes(WINDOW)
    session = conversations.session_of("bruno")
    await unsubscribe(bruno, TOPIC)
    assert list(session.cursors) == [TOPIC], "another filter brings it still"
    await unsubscribe(bruno, "c/+")
    assert session.cursors == {}
    await bruno.subscribe("c/+")
    await bruno.acknowledge(*publishes)
    assert await bruno.before_pong() == []
    await conversations.send("order")
    assert seqs(await bruno.take_all(1)) == [WINDOW + 3]


async def test_who_unsubscribes_leaves_no_position_behind_that_is_stored_afterwards(
    conversations: Conversations,
) -> None:
    await conversations.create("other", "ana", "bruno")
    bruno = await conversations.member("bruno")
    await bruno.subscribe(TOPIC, "c/other")
    await conversations.send("order")
    await conversations.send("other")
    publishes = await bruno.publishes(2)
    acknowledgements = [Puback(each.packet_id) for each in publishes]
    await bruno.send(*acknowledgements, Unsubscribe(9, [TOPIC]))  # at once: no position is on its way to the disk yet
    await bruno.expect(Unsuback)
    await conversations.until(lambda: conversations.stored_cursors("bruno").get("other") == 1)
    assert conversations.stored_cursors("bruno") == {"other": 1}
    await conversations.send("order")
    await bruno.subscribe(TOPIC)
    await conversations.leave(bruno)
    await conversations.send("order")
    bruno = await conversations.member("bruno")
    assert seqs(await bruno.take_all(1)) == [3]
    assert await bruno.before_pong() == []


# The last event, for who was reading on


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("how", ["removed", "erased"])
async def test_a_page_that_is_being_read_when_the_membership_ends_gives_way_to_the_last_event(
    conversations: Conversations, is_kept: bool, how: str
) -> None:
    bruno = await conversations.member("bruno", is_kept=is_kept)
    await bruno.subscribe("c/+")
    await conversations.send("order", WINDOW + PAGE)
    conversations.broker.reading.close()
    await bruno.acknowledge(*await bruno.publishes(WINDOW))
    await conversations.broker.reading.waiting.wait()
    if how == "removed":
        await conversations.remove("order", "bruno")
    else:
        await conversations.erase("order")
    conversations.broker.reading.open()
    await conversations.until(lambda: not conversations.connection_of("bruno").is_reading)
    packets = await bruno.before_pong()
    assert types(packets) == ["member_removed" if how == "removed" else "conversation_erased"]
    await bruno.acknowledge(*(each for each in packets if isinstance(each, Publish)))
    if how == "removed":
        await conversations.send("order")
        assert await bruno.before_pong() == []
        await conversations.add("order", "bruno")
        await conversations.send("order")
        assert types(await bruno.take_all(2)) == ["member_added", "message"]
    assert await bruno.before_pong() == []
