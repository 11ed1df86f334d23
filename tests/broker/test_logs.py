"""The seam between live and log: slow readers, full windows, resuming, and removal, with no gap and no double."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest

from recado.broker.hooks import Refused
from recado.broker.publication import Publication
from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_3_1_1, MQTT_5, Disconnect, Pingreq, Puback, Publish, Suback, Unsuback, Unsubscribe
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.client import Client
from tests.broker.conftest import Node, Transport

TOPIC = "c/order"
OTHER = "c/other"
WINDOW = LIMITS.inflight_max


def numbers(first: int, last: int) -> list[str]:
    return [str(n) for n in range(first, last + 1)]


def publish(node: Node, first: int, last: int, topic_name: str = TOPIC) -> None:
    for n in range(first, last + 1):
        node.application.publish(topic_name, str(n))


# Slow readers


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_client_that_stops_reading_costs_bounded_memory_disturbs_nobody_and_then_gets_all_in_order(
    node: Node, transport: Transport, level: int, qos: int
) -> None:
    slow = await node.client(transport, level, receive_buffer_bytes=4_096)
    await slow.connect("ana")
    quick = await node.connected("bruno", transport=transport, level=level)
    for client in (slow, quick):
        await client.subscribe(TOPIC, qos=qos)
    node.narrow("ana")
    padding = "x" * 2_000
    sent = [f"{n} {padding}" for n in range(200)]

    most = 0
    for payload in sent:
        node.application.publish(TOPIC, payload)
        assert await quick.take(1) == [payload]
        most = max(most, node.transport_of("ana").get_write_buffer_size())

    assert most <= LIMITS.send_buffer_bytes_max + 3_000
    assert node.server.counters.fell_behind >= 1
    assert await slow.take(200) == sent
    node.application.publish(TOPIC, "live again")
    assert await slow.take(1) == ["live again"]
    assert await slow.before_pong() == []


async def test_a_client_that_asks_and_asks_and_reads_no_answer_costs_bounded_memory(
    node: Node, transport: Transport
) -> None:
    client = await node.client(transport, receive_buffer_bytes=4_096)
    await client.connect("ana")
    other = await node.connected("bruno")
    node.narrow("ana")
    pings = encode(Pingreq(), MQTT_5) * 10_000
    with contextlib.suppress(TimeoutError):  # rightly: the server reads no more of them
        for _ in range(60):
            async with asyncio.timeout(0.5):
                await client.stream.send(pings)
            assert await other.before_pong() == []
            assert node.transport_of("ana").get_write_buffer_size() <= LIMITS.send_buffer_bytes_max * 8
    assert await other.before_pong() == []


async def test_a_client_that_is_cut_off_and_does_not_read_gets_nothing_more_and_is_gone_after_a_while(
    node: Node, transport: Transport
) -> None:
    client = await node.client(transport, receive_buffer_bytes=4_096)
    await client.connect("ana")
    await client.subscribe(TOPIC, qos=0)
    node.narrow("ana")
    for _ in range(200):
        node.application.publish(TOPIC, "x" * 2_000)
    connection = node.connection_of("ana")
    assert node.is_congested("ana")

    connection.disconnect(ReasonCode.ADMINISTRATIVE_ACTION)
    assert node.users() == set(), "the session ends at once"
    node.tick(LIMITS.drain_s + 1)
    await node.gone()
    assert node.server.counters.connections.total() == 0


async def test_who_does_not_read_cannot_outlive_its_token(node: Node, transport: Transport) -> None:
    node.application.expires_at_s = int(time.time())
    client = await node.client(transport, receive_buffer_bytes=4_096)
    await client.connect("ana")
    await client.subscribe(TOPIC, qos=0)
    node.narrow("ana")
    for _ in range(200):
        node.application.publish(TOPIC, "x" * 2_000)
    assert node.is_congested("ana")

    node.tick(2)
    assert node.users() == set()
    assert node.server.counters.refusals["MAXIMUM_CONNECT_TIME"] == 1


async def test_a_subscribe_under_way_is_not_overtaken_when_the_buffer_empties(node: Node) -> None:
    client = await node.client(receive_buffer_bytes=4_096)
    await client.connect("ana")
    await client.subscribe(OTHER, qos=0)
    node.narrow("ana")
    node.application.subscribing[TOPIC].close()
    await client.send(client.subscription(TOPIC), Unsubscribe(60, [TOPIC]))
    await node.application.subscribing[TOPIC].waiting.wait()
    for _ in range(200):
        node.application.publish(OTHER, "x" * 2_000)
    assert node.is_congested("ana")
    assert len(await client.take(200)) == 200
    assert not node.is_congested("ana")
    node.application.subscribing[TOPIC].open()
    assert isinstance(await client.next(), Suback)
    assert isinstance(await client.next(), Unsuback)


async def test_a_full_window_waits_in_the_log_and_goes_on_with_each_acknowledgement(
    node: Node, transport: Transport, level: int
) -> None:
    client = await node.connected("ana", transport=transport, level=level)
    await client.subscribe(TOPIC)
    publish(node, 1, 50)

    assert await client.take(WINDOW, acknowledge=False) == numbers(1, WINDOW)
    assert await client.before_pong() == [], "not one more than the window"
    await client.send(*(Puback(n) for n in range(1, WINDOW + 1)))
    assert await client.take(50 - WINDOW) == numbers(WINDOW + 1, 50)
    publish(node, 51, 51)
    assert await client.take(1) == ["51"]


async def test_a_publication_counts_those_who_had_room_for_it(node: Node) -> None:
    ana = await node.connected("ana", properties={PropertyId.RECEIVE_MAXIMUM: 1})
    bruno = await node.connected("bruno")
    await ana.subscribe(TOPIC, qos=1)
    await bruno.subscribe(TOPIC, qos=0)

    def publish_to(position: int, *audience: str) -> int:
        return node.server.publish_to(Publication(TOPIC, b"x", 1, position), frozenset(audience))

    assert publish_to(1, "ana", "bruno", "carla") == 2
    assert publish_to(2, "ana", "bruno") == 1, "one of them has acknowledged nothing"
    assert publish_to(3, "carla") == 0


async def test_a_client_may_ask_for_a_smaller_window(node: Node) -> None:
    client = await node.connected("ana", properties={PropertyId.RECEIVE_MAXIMUM: 1})
    await client.subscribe(TOPIC)
    publish(node, 1, 5)
    for n in range(1, 6):
        delivered = await client.expect(Publish)
        assert delivered.payload == str(n).encode()
        assert await client.before_pong() == []
        await client.send(Puback(delivered.packet_id))


async def test_a_signal_to_who_does_not_read_is_dropped_and_nothing_waits_for_it(node: Node) -> None:
    client = await node.client(receive_buffer_bytes=4_096)
    await client.connect("ana")
    await client.subscribe(TOPIC, "c/order/live", qos=0)
    node.narrow("ana")
    sent = [f"{n} {'x' * 2_000}" for n in range(200)]
    for payload in sent:
        node.application.publish(TOPIC, payload)
    assert node.is_congested("ana")
    node.application.signal("c/order/live", "typing")
    assert node.server.counters.dropped == 1
    assert await client.take(200) == sent
    assert await client.before_pong() == []


async def test_a_signal_comes_while_the_window_is_full(node: Node) -> None:
    client = await node.connected("ana")
    await client.subscribe(TOPIC, "c/order/live")
    publish(node, 1, WINDOW + 1)
    node.application.signal("c/order/live", "typing")
    assert await client.take(WINDOW + 1, acknowledge=False) == [*numbers(1, WINDOW), "typing"]


async def test_a_topic_that_fell_behind_is_read_on_while_another_keeps_the_window_busy(node: Node) -> None:
    client = await node.connected("ana")
    await client.subscribe(TOPIC, OTHER)
    publish(node, 1, WINDOW)
    publish(node, WINDOW + 1, WINDOW + 3)  # no room: these wait in the log
    inflight = [(await client.expect(Publish)).packet_id for _ in range(WINDOW)]

    seen: list[str] = []
    for n in range(40):
        await client.send(Puback(inflight.pop(0)))
        packets = await client.before_pong()
        node.application.publish(OTHER, f"other {n}")
        for packet in packets + await client.before_pong():
            assert isinstance(packet, Publish)
            inflight.append(packet.packet_id)
            seen.append(packet.payload.decode())
    assert numbers(WINDOW + 1, WINDOW + 3) == [each for each in seen if not each.startswith("other")]


async def test_many_topics_that_are_behind_are_all_read_to_their_ends(node: Node) -> None:
    client = await node.connected("ana")
    await client.subscribe("c/+")
    topics = [f"c/{n}" for n in range(LIMITS.log_cursors_max)]
    for n in range(1, 21):
        for topic in topics:
            node.application.publish(topic, str(n))

    seen: dict[str, list[str]] = {topic: [] for topic in topics}
    for _ in range(20 * len(topics)):
        delivered = await client.expect(Publish)
        seen[delivered.topic_name].append(delivered.payload.decode())
        await client.send(Puback(delivered.packet_id))
    assert seen == {topic: numbers(1, 20) for topic in topics}


# Resuming


async def test_resuming_replays_what_came_after_and_goes_on_live(node: Node, transport: Transport) -> None:
    publish(node, 1, 30)
    client = await node.connected("ana", transport=transport)
    assert await client.subscribe("c/+", after=(f"{TOPIC}=12",)) == [1]
    assert await client.take(18) == numbers(13, 30)
    publish(node, 31, 32)
    assert await client.take(2) == ["31", "32"]
    assert await client.before_pong() == []


@pytest.mark.parametrize("after", [30, 31, 10**15])
async def test_resuming_at_the_end_or_past_it_goes_on_live(node: Node, after: int) -> None:
    publish(node, 1, 30)
    client = await node.connected("ana")
    await client.subscribe(TOPIC, after=(f"{TOPIC}={after}",))
    assert await client.before_pong() == []
    publish(node, 31, 31)
    assert await client.take(1) == ["31"]


async def test_a_topic_that_is_not_subscribed_to_is_not_replayed(node: Node) -> None:
    publish(node, 1, 3)
    node.application.members[OTHER] = {"bruno"}
    publish(node, 1, 3, OTHER)
    client = await node.connected("ana")
    await client.subscribe("x/+", after=(f"{TOPIC}=0",))
    await client.subscribe("c/+", after=(f"{OTHER}=0",))
    assert await client.before_pong() == [], "neither what it did not ask for nor what it may not see"


async def test_subscribing_again_may_replay_again(node: Node) -> None:
    publish(node, 1, 3)
    client = await node.connected("ana")
    await client.subscribe(TOPIC, after=(f"{TOPIC}=0",))
    assert await client.take(3) == numbers(1, 3)
    await client.subscribe(TOPIC, after=(f"{TOPIC}=1",))
    assert await client.take(2) == numbers(2, 3)


async def test_what_is_published_while_a_page_is_read_comes_once_and_in_order(node: Node) -> None:
    publish(node, 1, 3)
    node.application.reading.close()
    client = await node.connected("ana")
    await client.subscribe(TOPIC, after=(f"{TOPIC}=0",))
    await node.application.reading.waiting.wait()
    publish(node, 4, 6)
    node.application.reading.open()
    assert await client.take(6) == numbers(1, 6)
    publish(node, 7, 7)
    assert await client.take(1) == ["7"]
    assert await client.before_pong() == []


async def test_what_is_in_the_log_but_not_yet_published_comes_once(node: Node) -> None:
    node.application.commit(TOPIC, "1")
    client = await node.connected("ana")
    await client.subscribe(TOPIC, after=(f"{TOPIC}=0",))
    assert await client.take(1) == ["1"]
    node.application.tell(TOPIC, 1)
    publish(node, 2, 2)
    assert await client.take(1) == ["2"]


async def test_what_is_published_while_a_subscribe_waits_for_a_later_filter_comes_once(node: Node) -> None:
    publish(node, 1, 3)
    node.application.subscribing[OTHER].close()
    client = await node.connected("ana")
    await client.send(client.subscription(TOPIC, OTHER, after=(f"{TOPIC}=1",)))
    await node.application.subscribing[OTHER].waiting.wait()
    publish(node, 4, 5)
    node.application.subscribing[OTHER].open()
    packets = [await client.next() for _ in range(5)]
    assert sorted(type(packet).__name__ for packet in packets) == ["Publish"] * 4 + ["Suback"]
    assert [packet.payload for packet in packets if isinstance(packet, Publish)] == [b"2", b"3", b"4", b"5"]
    assert await client.before_pong() == []


async def test_resuming_in_more_logs_than_a_session_may_be_behind_in_is_refused(node: Node) -> None:
    client = await node.connected("ana")
    after = tuple(f"c/{n}=0" for n in range(LIMITS.log_cursors_max + 1))
    await client.send(client.subscription("c/+", after=after))
    packets = await client.rest()
    assert isinstance(packets[-1], Disconnect)
    assert packets[-1].reason_code == ReasonCode.QUOTA_EXCEEDED


@pytest.mark.parametrize("seed", range(12))
async def test_live_log_acknowledgements_and_resuming_in_any_order_leave_no_gap_and_no_double(
    node: Node, seed: int
) -> None:
    rng = random.Random(seed)
    published = rng.randrange(30)
    publish(node, 1, published)
    after = rng.randrange(published + 1)
    level_properties = {PropertyId.RECEIVE_MAXIMUM: rng.choice([1, 2, 3, 8])}
    client = await node.connected("ana", properties=level_properties)
    await client.send(client.subscription("c/+", after=(f"{TOPIC}={after}",)))
    seen: list[str] = []
    inflight: list[int] = []

    async def take_what_came() -> None:
        for packet in await client.before_pong():
            if isinstance(packet, Publish):
                seen.append(packet.payload.decode())
                inflight.append(packet.packet_id)

    for _ in range(60):
        step = rng.choice(["publish", "commit", "acknowledge", "hold", "release", "take"])
        log = node.application.logs[TOPIC]
        if step == "publish" and published == len(log):
            published += 1
            publish(node, published, published)
        elif step == "commit":
            node.application.commit(TOPIC, str(len(log) + 1))
        elif step == "acknowledge" and inflight:
            await client.send(Puback(inflight.pop(rng.randrange(len(inflight)))))
        elif step == "hold":
            node.application.reading.close()
        elif step == "release":
            node.application.reading.open()
        else:
            await take_what_came()
        while published < len(node.application.logs[TOPIC]) and rng.random() < 0.5:
            published += 1
            node.application.tell(TOPIC, published)
    node.application.reading.open()
    for n in range(published + 1, len(node.application.logs[TOPIC]) + 1):
        node.application.tell(TOPIC, n)
    last = len(node.application.logs[TOPIC])
    while len(seen) < last - after:
        await client.send(*(Puback(packet_id) for packet_id in inflight))
        inflight.clear()
        packet = await client.expect(Publish) if len(seen) < last - after else None
        if packet is not None:
            seen.append(packet.payload.decode())
            inflight.append(packet.packet_id)
    assert seen == numbers(after + 1, last)
    assert not [packet for packet in await client.before_pong() if isinstance(packet, Publish)]


# Leaving


async def test_after_unsubscribing_nothing_more_is_read_from_the_log(node: Node) -> None:
    client = await node.connected("ana")
    await client.subscribe(TOPIC)
    publish(node, 1, 30)
    packet_ids = [(await client.expect(Publish)).packet_id for _ in range(WINDOW)]
    await client.send(Unsubscribe(500, [TOPIC]), *(Puback(packet_id) for packet_id in packet_ids))
    await client.next()
    assert await client.before_pong() == []
    assert node.session_of("ana").cursors == {}


async def test_a_removed_member_that_was_behind_gets_nothing_more(node: Node, transport: Transport) -> None:
    client = await node.connected("ana", transport=transport)
    await client.subscribe("c/+")
    publish(node, 1, 30)
    packet_ids = [(await client.expect(Publish)).packet_id for _ in range(WINDOW)]
    node.application.remove(TOPIC, "ana")
    await client.send(*(Puback(packet_id) for packet_id in packet_ids))
    publish(node, 32, 33)
    assert await client.before_pong() == []


async def test_a_page_that_was_being_read_when_its_reader_was_removed_is_not_sent(node: Node) -> None:
    publish(node, 1, 30)
    node.application.reading.close()
    client = await node.connected("ana")
    await client.subscribe(TOPIC, after=(f"{TOPIC}=0",))
    await node.application.reading.waiting.wait()
    node.application.remove(TOPIC, "ana")
    node.application.reading.open()
    assert [
        packet for packet in await client.before_pong() if isinstance(packet, Publish) and packet.payload < b"5"
    ] == []


async def test_a_refusal_from_before_a_member_was_added_again_loses_nothing_of_what_came_after(node: Node) -> None:
    publish(node, 1, 30)
    node.application.members[OTHER] = {"ana"}
    client = await node.connected("ana")
    await client.subscribe("c/+")
    publish(node, 1, WINDOW, OTHER)  # the window is full
    others = [(await client.expect(Publish)).packet_id for _ in range(WINDOW)]
    publish(node, 31, 31)  # behind
    node.application.members[TOPIC].discard("ana")
    node.application.reading.close()
    await client.send(*(Puback(packet_id) for packet_id in others))
    await node.application.reading.waiting.wait()  # it will be refused: at that moment ana was no member
    node.server.stop_log("ana", TOPIC)
    node.application.members[TOPIC].add("ana")
    publish(node, WINDOW + 1, WINDOW * 2, OTHER)
    publish(node, 32, 34)  # behind again, as a member
    node.application.reading.open()
    others = [(await client.expect(Publish)).packet_id for _ in range(WINDOW)]
    await client.send(*(Puback(packet_id) for packet_id in others))
    assert await client.before_pong() == []
    await node.until(lambda: not node.connection_of("ana").is_reading)
    packets = await client.before_pong()
    assert [packet.payload for packet in packets if isinstance(packet, Publish)] == [b"32", b"33", b"34"]


async def test_a_log_that_cannot_be_read_now_ends_the_connection_so_that_the_client_comes_again(
    node: Node, level: int
) -> None:
    client = await node.connected("ana", level=level)
    await client.subscribe(TOPIC)
    publish(node, 1, WINDOW + 1)
    node.application.log_error = Refused(ReasonCode.SERVER_BUSY, "the disk is away")
    await client.take(WINDOW)
    said = await client.rest()
    if level == MQTT_3_1_1:
        assert said == []
    else:
        (disconnect,) = said
        assert isinstance(disconnect, Disconnect)
        assert disconnect.reason_code == ReasonCode.SERVER_BUSY


async def test_no_local_holds_for_what_is_read_from_the_log_too(node: Node) -> None:
    client = await node.connected("ana")
    await client.subscribe(TOPIC, no_local=True)
    publish(node, 1, WINDOW + 1)
    session = node.session_of("ana")
    node.application.publish(TOPIC, "own", session)
    publish(node, WINDOW + 3, WINDOW + 3)
    assert await client.take(WINDOW) == numbers(1, WINDOW)
    assert await client.take(2) == [str(WINDOW + 1), str(WINDOW + 3)]


async def test_a_client_that_leaves_while_a_page_is_read_leaves_nothing(node: Node) -> None:
    publish(node, 1, 30)
    node.application.reading.close()
    client = await node.connected("ana")
    await client.send(client.subscription(TOPIC, after=(f"{TOPIC}=0",)))
    await client.expect(Suback)
    await node.application.reading.waiting.wait()
    client.close()
    await node.gone()
    node.application.reading.open()
    again = await node.connected("ana")
    assert await again.before_pong() == []


async def test_readers_that_hang_hold_up_only_so_many_and_no_live_one(node: Node) -> None:
    publish(node, 1, 5)
    node.application.reading.close()
    readers: list[Client] = []
    for n in range(LIMITS.reads_max + 2):
        readers.append(await node.connected("ana", f"tab{n}"))
        await readers[-1].subscribe(TOPIC, after=(f"{TOPIC}=0",))
    live = await node.connected("bruno")
    await live.subscribe(TOPIC)
    publish(node, 6, 6)
    assert await live.take(1) == ["6"]
    node.application.reading.open()
    for reader in readers:
        assert await reader.take(6) == numbers(1, 6)
