"""What the client says on the wire, to a server that does what a test wants: gaps, redeliveries, kept sessions."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from recado.client import ConversationErased, EventMissing, NotAMember, connect
from recado.mqtt.packets import Packet, Puback, Publish, Pubrec, Pubrel, Suback, Subscribe, Unsubscribe
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.client.conftest import QUICK, take, until
from tests.client.scripted import Peer, Scripted


def positions(subscribe: Subscribe) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = subscribe.properties.get(PropertyId.USER_PROPERTY, [])
    return found


async def test_a_gap_is_asked_for_and_nothing_is_read_out_of_turn() -> None:
    asked: list[list[tuple[str, str]]] = []

    async def loses_one(peer: Peer) -> None:
        await peer.accept()
        asked.append(positions(await peer.subscribed()))
        for seq in (42, 44, 45):
            peer.event(seq)
        asked.append(positions(await peer.subscribed()))
        for seq in (43, 44, 45, 46):
            peer.event(seq)
        await peer.rest()

    async with Scripted(loses_one) as server, connect(server.url, "token", qos=0) as client:
        events = await take(client.events("x", after=41), 5)
    assert [event.seq for event in events] == [42, 43, 44, 45, 46]
    assert asked == [[("after", "x=41")], [("after", "x=42")]]


async def test_an_event_that_the_server_never_sends_ends_the_iteration() -> None:
    async def leaves_one_out(peer: Peer) -> None:
        await peer.accept()
        for _ in range(4):
            await peer.subscribed()
            peer.event(42)
            peer.event(44)
        await peer.rest()

    async with Scripted(leaves_one_out) as server, connect(server.url, "token", qos=0) as client:
        events = client.events("x", after=41)
        assert (await anext(events)).seq == 42
        with pytest.raises(EventMissing, match="43"):
            await anext(events)


async def test_who_comes_and_goes_misses_nothing_however_often_the_server_replays_nothing_to_a_former_member() -> None:
    async def comes_and_goes(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for seq in range(8, 28):
            change = b"member_removed" if seq % 2 else b"member_added"
            peer.send(Publish("c/x", b'{"seq":%d,"from":null,"at":1,"type":"%s","user":"bruno"}' % (seq, change)))
            await peer.subscribed()
        for seq in range(1, 31):
            peer.event(seq)
        await peer.rest()

    async with Scripted(comes_and_goes) as server, connect(server.url, "token", qos=0) as client:
        items = await take(client.events_of_all(after={"x": 0}), 30)
    assert [event.seq for _, event in items] == list(range(1, 31))


async def test_a_removal_that_comes_before_the_answer_is_followed_by_a_question() -> None:
    """The answer was given when its user was a member still."""

    async def removes(peer: Peer) -> None:
        await peer.accept()
        asked = await peer.next()
        assert isinstance(asked, Subscribe)
        peer.send(Publish("c/x", b'{"seq":44,"from":null,"at":1,"type":"member_removed","user":"bruno"}'))
        peer.send(Suback(asked.packet_id, [ReasonCode.GRANTED_QOS_1]))
        again = await peer.next()
        assert isinstance(again, Subscribe)
        peer.send(Suback(again.packet_id, [ReasonCode.NOT_AUTHORIZED]))
        await peer.rest()

    limits = dataclasses.replace(QUICK, doubt_s=1_000)
    async with Scripted(removes) as server, connect(server.url, "token", qos=0, limits=limits) as client:
        with pytest.raises(NotAMember):
            await asyncio.wait_for(anext(client.events("x", after=41)), 5)


async def test_what_is_no_event_ends_the_iteration() -> None:
    async def speaks_in_tongues(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        peer.send(Publish("c/x", b"{"))
        await peer.rest()

    async with Scripted(speaks_in_tongues) as server, connect(server.url, "token") as client:
        with pytest.raises(EventMissing, match="no event"):
            await anext(client.events("x"))


async def test_an_event_is_acknowledged_when_the_next_one_is_asked_for() -> None:
    heard: asyncio.Queue[Packet] = asyncio.Queue()

    async def listens(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        peer.event(1, packet_id=7)
        peer.event(2, packet_id=8)
        while (packet := await peer.next()) is not None:
            heard.put_nowait(packet)

    async with Scripted(listens) as server, connect(server.url, "token") as client:
        events = client.events("x", after=0)
        await anext(events)
        await client.typing("y")
        assert isinstance(await heard.get(), Publish)
        await anext(events)
        await client.typing("y")
        acknowledged = await heard.get()
        assert isinstance(acknowledged, Puback)
        assert acknowledged.packet_id == 7
        await heard.get()
        events.close()
        rest = [await heard.get(), await heard.get()]
        assert [type(packet) for packet in rest] == [Unsubscribe, Puback]


async def test_at_qos_2_a_delivery_is_completed() -> None:
    heard: asyncio.Queue[Packet] = asyncio.Queue()

    async def delivers(peer: Peer) -> None:
        await peer.accept()
        assert (await peer.subscribed()).subscriptions[0].qos == 2
        peer.send(Publish("c/x", b'{"seq":1,"from":"ana","at":1,"id":"m","body":"b"}', 2, packet_id=9))
        while (packet := await peer.next()) is not None:
            heard.put_nowait(packet)
            if isinstance(packet, Pubrec):
                peer.send(Pubrel(packet.packet_id))

    async with Scripted(delivers) as server, connect(server.url, "token", qos=2) as client:
        events = client.events("x", after=0)
        assert (await anext(events)).body == "b"
        waiting = asyncio.create_task(anext(events))
        answers = [await heard.get(), await heard.get()]
        assert [type(each).__name__ for each in answers] == ["Pubrec", "Pubcomp"]
        waiting.cancel()


async def test_a_kept_session_goes_on_by_itself_and_what_it_sends_again_is_read_once() -> None:
    heard: list[Packet] = []

    async def breaks_off(peer: Peer) -> None:
        connect_ = await peer.accept()
        assert not connect_.clean_start
        await peer.subscribed()
        peer.event(1, packet_id=1)
        peer.event(2, packet_id=2)
        assert isinstance(await peer.next(), Publish)  # the client has read both

    async def resumes(peer: Peer) -> None:
        await peer.accept(is_session_present=True)
        for seq in (1, 2, 3):
            peer.event(seq, packet_id=seq)
        heard.extend(await peer.rest())

    async with (
        Scripted(breaks_off, resumes) as server,
        connect(server.url, "token", session="bot", limits=QUICK) as client,
    ):
        events = client.events("x", after=0)
        assert (await anext(events)).seq == 1
        await client.typing("x")
        await until(lambda: len(events._feed._items) == 2)  # 2 and 3: the whole of what the session sent again
        assert [event.seq for event in await take(events, 2)] == [2, 3]
    acknowledged = [packet.packet_id for packet in heard if isinstance(packet, Puback)]
    assert acknowledged == [1, 2]
    assert not [packet for packet in heard if isinstance(packet, Subscribe)]


async def test_a_kept_session_that_is_gone_is_made_good_by_the_place_in_the_log() -> None:
    asked: list[list[tuple[str, str]]] = []

    async def breaks_off(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        peer.event(5, packet_id=1)
        assert isinstance(await peer.next(), Puback)

    async def forgot(peer: Peer) -> None:
        await peer.accept()
        asked.append(positions(await peer.subscribed()))
        peer.event(6, packet_id=1)
        await peer.rest()

    async with (
        Scripted(breaks_off, forgot) as server,
        connect(server.url, "token", session="bot", limits=QUICK) as client,
    ):
        assert [event.seq for event in await take(client.events("x"), 2)] == [5, 6]
    assert asked == [[("after", "x=5")]]


async def test_what_a_kept_session_brings_before_anybody_reads_waits_for_its_reader() -> None:
    heard: list[Packet] = []

    async def hurries(peer: Peer) -> None:
        await peer.accept(is_session_present=True)
        peer.event(8, packet_id=1)
        peer.event(9, packet_id=2)
        peer.event(3, packet_id=3, conversation="y")
        await peer.subscribed()
        heard.extend(await peer.rest())

    async with Scripted(hurries) as server, connect(server.url, "token", session="bot") as client:
        await until(lambda: len(client._unclaimed) == 3)
        events = client.events("x")
        assert [event.seq for event in await take(events, 2)] == [8, 9]
    assert [packet.packet_id for packet in heard if isinstance(packet, Puback)] == [1]


async def test_an_erased_conversation_ends_its_iteration_after_its_last_event() -> None:
    async def erases(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        peer.event(1)
        peer.send(Publish("c/x", b'{"seq":2,"from":null,"at":1,"type":"conversation_erased"}'))
        await peer.rest()

    async with Scripted(erases) as server, connect(server.url, "token", qos=0) as client:
        events = client.events("x", after=0)
        assert [event.type for event in await take(events, 2)] == [None, "conversation_erased"]
        with pytest.raises(ConversationErased):
            await anext(events)


async def test_what_was_left_unread_gives_the_server_its_window_back() -> None:
    heard: asyncio.Queue[Packet] = asyncio.Queue()

    async def erases(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        peer.event(1, packet_id=1)
        erased = b'{"seq":2,"from":null,"at":1,"type":"conversation_erased"}'
        peer.send(Publish("c/x", erased, 1, packet_id=2))
        while (packet := await peer.next()) is not None:
            heard.put_nowait(packet)

    async with Scripted(erases) as server, connect(server.url, "token") as client:
        events = client.events("x", after=0)
        assert isinstance(await heard.get(), Unsubscribe)  # both have come, and neither was read
        del events
        answers = [await heard.get(), await heard.get()]
        assert [packet.packet_id for packet in answers if isinstance(packet, Puback)] == [1, 2]


async def test_unknown_fields_types_and_signals_do_no_harm() -> None:
    async def is_newer(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        peer.send(Publish("c/x", b'{"seq":1,"from":"ana","at":1,"type":"reaction","emoji":"x","of":{"a":[1]}}'))
        await peer.subscribed()
        peer.send(Publish("c/x/live", b'{"type":"waving","from":"ana","hand":"left"}'))
        peer.send(Publish("c/x/live", b"?"))
        peer.send(Publish("c/x/live", b'{"type":"typing","from":"ana","for_ms":6000}'))
        await peer.rest()

    async with Scripted(is_newer) as server, connect(server.url, "token", qos=0) as client:
        events = client.events("x")
        assert (await anext(events)).type == "reaction"
        signals = client.signals("x")
        assert [(await anext(signals)).type for _ in range(2)] == ["waving", "typing"]


async def test_of_signals_that_nobody_reads_the_newest_are_kept() -> None:
    async def chatters(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        for seq in range(500):
            peer.send(Publish("c/x/live", b'{"type":"read","from":"ana","seq":%d}' % seq))
        await peer.subscribed()
        peer.event(1)
        await peer.rest()

    async with Scripted(chatters) as server, connect(server.url, "token", qos=0) as client:
        signals = client.signals("x")
        await anext(client.events("x"))
        assert [(await anext(signals)).seq for _ in range(100)] == list(range(400, 500))
