"""Reading: every event once and in order, over any transport and any number of connections, until it is over."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from recado.broker.tls import TlsCertificates
from recado.client import ClientLimits, ConversationErased, Event, NotAMember, connect
from tests.broker.certificates import Certificate
from tests.client.conftest import QUICK, take, until
from tests.client.relay import Relay
from tests.support.server import Server


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
async def test_what_one_member_sends_reaches_the_other_over_every_transport(
    shared_server: Server, conversation: str, tmp_path: Path, scheme: str
) -> None:
    certificate = Certificate.make(tmp_path, "server")
    port = shared_server.mqtt_port if scheme.startswith("mqtt") else shared_server.ws_port
    shown = TlsCertificates(certificate.certificate, certificate.key).context if scheme.endswith("s") else None
    trusted = certificate.trusted() if shown else None
    async with Relay(port, shown if scheme in ("mqtts", "wss") else None) as relay:
        url = f"{scheme}://127.0.0.1:{relay.port}/mqtt"
        tls = trusted if scheme in ("mqtts", "wss") else None
        async with (
            connect(url, shared_server.token("ana"), tls=tls) as ana,
            connect(url, shared_server.token("bruno"), tls=tls) as bruno,
        ):
            events = bruno.events(conversation, after=0)
            message_id = await ana.send(conversation, "Chegou! ✓")
            event = await anext(events)
            assert (event.seq, event.sender, event.id, event.body) == (1, "ana", message_id, "Chegou! ✓")
            assert event.is_message
            await ana.send(conversation, "x" * 16_000)
            assert (await anext(events)).body == "x" * 16_000


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_history_is_followed_by_what_happens_now_with_no_gap_and_no_double(
    shared_server: Server, mqtt_url: str, conversation: str, qos: int
) -> None:
    async with (
        connect(mqtt_url, shared_server.token("ana")) as ana,
        connect(mqtt_url, shared_server.token("bruno"), qos=qos) as bruno,
    ):
        await asyncio.gather(*(ana.send(conversation, f"{n}") for n in range(250)))
        sending = asyncio.gather(*(ana.send(conversation, f"{n}") for n in range(250, 500)))
        events = await take(bruno.events(conversation, after=41), 459)
        await sending
    assert [event.seq for event in events] == list(range(42, 501))
    assert [event.body for event in events] == [f"{n}" for n in range(41, 500)]


async def test_without_a_place_to_start_from_only_what_comes_from_now_on_is_read(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    shared_server.api("ana").send(conversation, "before")
    async with connect(mqtt_url, shared_server.token("ana")) as ana:
        events = ana.events(conversation)
        await ana.send(conversation, "after")
        assert (await anext(events)).body == "after"


async def test_a_server_that_is_killed_in_mid_traffic_costs_no_event_and_makes_none_twice(server: Server) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    ana_url, bruno_url = f"mqtt://127.0.0.1:{server.mqtt_port}", server.ws_url
    async with (
        connect(ana_url, server.token("ana"), limits=QUICK) as ana,
        connect(bruno_url, server.token("bruno"), limits=QUICK) as bruno,
    ):
        reading = asyncio.create_task(_read_until(bruno.events(conversation, after=0), "end"))
        reading_all = asyncio.create_task(_read_all_until(ana.events_of_all(), "end"))
        await asyncio.sleep(0)
        sent = [f"{n}" for n in range(1_500)]
        sending = asyncio.create_task(_send_all(ana, conversation, sent))
        for _ in range(3):
            await asyncio.sleep(0.1)
            server.kill()
            await asyncio.to_thread(server.start)
        await sending
        await ana.send(conversation, "end")
        events, events_of_all = await reading, await reading_all
    assert [event.seq for event in events] == list(range(1, len(sent) + 2))
    assert sorted(event.body or "" for event in events) == sorted([*sent, "end"])
    assert [event.seq for event in events_of_all] == list(range(events_of_all[0].seq, len(sent) + 2))
    assert len(server.host_api.history(conversation)) == len(sent) + 1


async def test_connections_that_break_while_a_log_is_read_cost_nothing(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async with Relay(shared_server.mqtt_port) as relay, connect(mqtt_url, shared_server.token("ana")) as ana:
        await _send_all(ana, conversation, [f"{n}" for n in range(400)])
        url = f"mqtt://127.0.0.1:{relay.port}"
        async with connect(url, shared_server.token("bruno"), limits=QUICK) as bruno:
            events = bruno.events(conversation, after=0)
            taken = []
            for _ in range(8):
                taken += await take(events, 50)
                relay.cut()
            assert [event.seq for event in taken] == list(range(1, 401))
            await ana.send(conversation, "last")
            assert (await anext(events)).seq == 401
        assert relay.connections > 2


async def test_a_reader_that_is_slow_costs_a_bounded_queue_and_holds_up_no_send(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    other = shared_server.host_api.create_conversation(["ana", "bruno"])
    async with (
        connect(mqtt_url, shared_server.token("ana")) as ana,
        connect(mqtt_url, shared_server.token("bruno"), limits=ClientLimits(unacknowledged_max=20)) as bruno,
    ):
        events = bruno.events(conversation, after=0)
        await _send_all(ana, conversation, [f"{n}" for n in range(500)])
        await bruno.send(other, "I can send")
        assert await asyncio.wait_for(anext(events), 5)
        await bruno.send(other, "and again")
        assert len(events._feed._items) <= 20
        assert [event.seq for event in await take(events, 499)] == list(range(2, 501))


async def test_what_finds_no_room_in_the_queue_at_qos_0_is_read_from_the_log_again(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async with (
        connect(mqtt_url, shared_server.token("ana")) as ana,
        connect(mqtt_url, shared_server.token("bruno"), qos=0, limits=ClientLimits(queue_max=10)) as bruno,
    ):
        events = bruno.events(conversation)
        await _send_all(ana, conversation, [f"{n}" for n in range(200)])
        await bruno.send(conversation, "200")
        assert len(events._feed._items) <= 10
        assert [event.body for event in await take(events, 201)] == [f"{n}" for n in range(201)]


async def test_to_break_off_is_to_close_and_another_iterator_may_go_on(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async with connect(mqtt_url, shared_server.token("ana")) as ana:
        await _send_all(ana, conversation, [f"{n}" for n in range(300)])
        async for event in ana.events(conversation, after=0):
            if event.seq == 5:
                break
        gc.collect()
        async with ana.events(conversation, after=5) as events:
            with pytest.raises(RuntimeError, match="already"):
                ana.events(conversation)
            assert [event.seq for event in await take(events, 295)] == list(range(6, 301))
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_waiting_for_an_event_can_be_cancelled_and_none_is_lost(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async with connect(mqtt_url, shared_server.token("ana")) as ana:
        events = ana.events(conversation, after=0)
        seqs: list[int] = []
        for n in range(30):
            sending = asyncio.create_task(ana.send(conversation, f"{n}"))
            try:
                async with asyncio.timeout(0.0005 * (n % 5)):
                    seqs.append((await anext(events)).seq)
            except TimeoutError:
                pass
            await sending
        while len(seqs) < 30:
            seqs.append((await anext(events)).seq)
        assert seqs == list(range(1, 31))


async def test_only_one_task_waits_for_the_next_event(shared_server: Server, mqtt_url: str, conversation: str) -> None:
    async with connect(mqtt_url, shared_server.token("ana")) as ana:
        events = ana.events(conversation)
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(events)
        waiting.cancel()


async def test_somebody_elses_conversation_cannot_be_read(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async with connect(mqtt_url, shared_server.token("carla")) as carla:
        with pytest.raises(NotAMember):
            await anext(carla.events(conversation, after=0))
        with pytest.raises(NotAMember):
            await anext(carla.signals(conversation))
        assert not carla._feeds


async def test_the_removal_is_the_last_event_and_then_the_iteration_says_so(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async with connect(mqtt_url, shared_server.token("bruno")) as bruno:
        events = bruno.events(conversation, after=0)
        shared_server.api("ana").send(conversation, "bye")
        assert (await anext(events)).body == "bye"
        shared_server.host_api.remove_member(conversation, "bruno")
        last = await anext(events)
        assert (last.type, last.user) == ("member_removed", "bruno")
        with pytest.raises(NotAMember):
            await anext(events)


async def test_a_removal_while_the_client_was_away_ends_the_iteration(shared_server: Server, conversation: str) -> None:
    async with (
        Relay(shared_server.mqtt_port) as relay,
        connect(f"mqtt://127.0.0.1:{relay.port}", shared_server.token("bruno"), limits=QUICK) as bruno,
    ):
        events = bruno.events(conversation)
        relay.is_closed = True
        relay.cut()
        shared_server.host_api.remove_member(conversation, "bruno")
        relay.is_closed = False
        with pytest.raises(NotAMember):
            await anext(events)


async def test_a_removal_while_the_server_was_behind_ends_the_iteration_at_once(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    """The log stops in the middle; the removal is told all the same."""
    limits = ClientLimits(unacknowledged_max=20, doubt_s=1_000)
    async with (
        connect(mqtt_url, shared_server.token("ana")) as ana,
        connect(mqtt_url, shared_server.token("bruno"), limits=limits) as bruno,
    ):
        events, signals = bruno.events(conversation, after=0), bruno.signals(conversation)
        await _send_all(ana, conversation, [f"{n}" for n in range(200)])
        await until(lambda: len(events._feed._items) == 20)
        shared_server.host_api.remove_member(conversation, "bruno")
        read: list[int] = []
        with pytest.raises(NotAMember):
            await _read_into(read, events)
        assert read == list(range(1, len(read) + 1)), "a removal that comes after a gap is no event to go on from"
        with pytest.raises(NotAMember):
            await take(signals, 1_000)


async def test_a_removal_of_long_ago_does_not_end_the_iteration(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    host = shared_server.host_api
    host.remove_member(conversation, "bruno")
    host.add_member(conversation, "bruno")
    shared_server.api("ana").send(conversation, "welcome back")
    async with connect(mqtt_url, shared_server.token("bruno")) as bruno:
        events = await take(bruno.events(conversation, after=0), 3)
    assert [event.type or event.body for event in events] == ["member_removed", "member_added", "welcome back"]


async def test_all_conversations_come_as_membership_has_them_and_go_on_after_a_lost_connection(
    shared_server: Server, conversation: str
) -> None:
    host, ana = shared_server.host_api, shared_server.api("ana")
    other = host.create_conversation(["ana"])
    async with (
        Relay(shared_server.mqtt_port) as relay,
        connect(f"mqtt://127.0.0.1:{relay.port}", shared_server.token("bruno"), limits=QUICK) as bruno,
    ):
        events = bruno.events_of_all()
        with pytest.raises(RuntimeError, match="another client"):
            bruno.events(conversation)
        await bruno.send(conversation, "here")
        assert (await anext(events))[1].body == "here"
        ana.send(other, "not for bruno")
        host.add_member(other, "bruno")
        assert _said(await anext(events)) == (other, "member_added")
        relay.is_closed = True
        relay.cut()
        ana.send(conversation, "missed")
        ana.send(other, "missed too")
        relay.is_closed = False
        missed = {_said(await anext(events)) for _ in range(2)}
        assert missed == {(conversation, "missed"), (other, "missed too")}
        host.remove_member(other, "bruno")
        assert _said(await anext(events)) == (other, "member_removed")
        ana.send(other, "gone")
        host.add_member(other, "bruno")
        assert [_said(await anext(events)) for _ in range(2)] == [(other, "gone"), (other, "member_added")]


async def test_all_conversations_start_after_the_places_that_are_given(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    for n in range(5):
        shared_server.api("ana").send(conversation, f"{n}")
    async with connect(mqtt_url, shared_server.token("bruno")) as bruno:
        events = bruno.events_of_all(after={conversation: 2})
        assert [(await anext(events))[1].seq for _ in range(3)] == [3, 4, 5]


async def test_edits_and_deletes_are_events_and_an_erasure_is_the_last(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    ana = shared_server.api("ana")
    ana.send(conversation, "Chegu!")
    ana.send(conversation, "Oops")
    async with connect(mqtt_url, shared_server.token("bruno")) as bruno:
        events = bruno.events(conversation, after=2)
        await bruno.mark_read(conversation, 2)  # the subscription was made before
        ana.call("PATCH", f"/conversations/{conversation}/messages/1", {"body": "Chegou!"}).expect(200)
        ana.call("DELETE", f"/conversations/{conversation}/messages/2").expect(200)
        shared_server.host_api.call("DELETE", f"/conversations/{conversation}").expect(204)
        edited, deleted, erased = await take(events, 3)
        assert (edited.type, edited.target, edited.body, edited.is_message) == ("edited", 1, "Chegou!", False)
        assert (deleted.type, deleted.target, deleted.body) == ("deleted", 2, None)
        assert (erased.type, erased.sender) == ("conversation_erased", None)
        with pytest.raises(ConversationErased):
            await anext(events)


async def test_who_comes_and_goes_in_quick_succession_reads_the_whole_log_in_the_end(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    """Its client asks for what it has missed, again and again, when it is no member any more."""
    host = shared_server.host_api
    for n in range(5):
        shared_server.api("ana").send(conversation, f"{n}")

    def come_and_go() -> None:
        host.add_member(conversation, "leo")
        host.remove_member(conversation, "leo")

    async with connect(mqtt_url, shared_server.token("leo"), session="leo") as leo:
        events = leo.events_of_all(after={conversation: 0})
        reading = asyncio.create_task(_read_all_until(events, "end"))
        await leo.typing(conversation)  # the subscription was made before
        for _ in range(20):
            await asyncio.to_thread(come_and_go)
        host.add_member(conversation, "leo")
        shared_server.api("ana").send(conversation, "end")
        assert [event.seq for event in await asyncio.wait_for(reading, 10)] == list(range(1, 48))


async def test_an_erasure_while_the_server_was_behind_is_told_at_once(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    limits = ClientLimits(unacknowledged_max=20, doubt_s=1_000)
    async with (
        connect(mqtt_url, shared_server.token("ana")) as ana,
        connect(mqtt_url, shared_server.token("bruno"), limits=limits) as bruno,
        connect(mqtt_url, shared_server.token("bruno"), limits=limits) as bruno_too,
    ):
        events, events_of_all = bruno.events(conversation, after=0), bruno_too.events_of_all(after={conversation: 0})
        await _send_all(ana, conversation, [f"{n}" for n in range(200)])
        await until(lambda: len(events._feed._items) == len(events_of_all._feed._items) == 20)
        shared_server.host_api.call("DELETE", f"/conversations/{conversation}").expect(204)
        read: list[int] = []
        with pytest.raises(ConversationErased):
            await _read_into(read, events)
        assert read[:20] == list(range(1, 21))
        assert read[-1] == 201, "the erasure, after a gap"
        async for _, event in events_of_all:
            if event.type == "conversation_erased":
                break


async def test_signals_come_while_both_are_there(shared_server: Server, mqtt_url: str, conversation: str) -> None:
    async with (
        connect(mqtt_url, shared_server.token("ana")) as ana,
        connect(mqtt_url, shared_server.token("bruno")) as bruno,
    ):
        signals = bruno.signals(conversation)
        await bruno.send(conversation, "I am here")
        await ana.typing(conversation)
        await ana.mark_read(conversation, 1)
        seen: list[tuple[str, str | None, int | None]] = []
        async for signal in signals:
            if signal.sender == "ana" and signal.type in ("typing", "read"):
                seen.append((signal.type, signal.sender, signal.seq))
            if len(seen) == 2:
                break
        assert seen == [("typing", "ana", None), ("read", "ana", 1)]


async def _send_all(client, conversation: str, bodies: list[str]) -> None:  # type: ignore[no-untyped-def]
    await asyncio.gather(*(client.send(conversation, body) for body in bodies))


async def _read_into(seqs: list[int], events) -> None:  # type: ignore[no-untyped-def]
    async for event in events:
        seqs += [event.seq]


async def _read_until(events, body: str) -> list[Event]:  # type: ignore[no-untyped-def]
    read: list[Event] = []
    async for event in events:
        read.append(event)
        if event.body == body:
            break
    return read


async def _read_all_until(events, body: str) -> list[Event]:  # type: ignore[no-untyped-def]
    read: list[Event] = []
    async for _, event in events:
        read.append(event)
        if event.body == body:
            break
    return read


def _said(item: tuple[str, Event]) -> tuple[str, str | None]:
    conversation, event = item
    return conversation, event.type or event.body
