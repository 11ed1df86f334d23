"""Topics that anyone may use: queues in memory, aliases, shared subscriptions, `$SYS`, rates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recado import __version__
from recado.broker.limits import BrokerLimits
from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.conftest import PublicNode
from tests.broker.public import PUBLIC_LIMITS, TOPIC, PublicClient, numbers, publish, reason, retained

WINDOW = LIMITS.inflight_max


@pytest.fixture
async def reader(public: PublicNode) -> PublicClient:
    reader = await public.connected("ana")
    await reader.subscribe(TOPIC)
    return reader


# Queues in memory


async def test_beyond_the_window_a_queue_in_memory_waits_and_beyond_its_bound_the_newest_is_dropped(
    public: PublicNode, sender: PublicClient, reader: PublicClient
) -> None:
    most = WINDOW + PUBLIC_LIMITS.queue_messages_max
    for n in range(1, most + 3):
        await publish(sender, str(n))
    assert public.server.counters.queue_full == 2
    assert await reader.take(most) == numbers(1, most)
    assert await reader.before_pong() == []
    await publish(sender, "live")
    assert await reader.take(1) == ["live"]
    assert public.session_of("ana").queue_bytes == 0


async def test_so_many_bytes_wait_in_memory(public: PublicNode, sender: PublicClient, reader: PublicClient) -> None:
    for n in range(1, WINDOW + 1):
        await publish(sender, str(n))
    size = PUBLIC_LIMITS.queue_bytes_max // 4 - len(TOPIC)
    for _ in range(5):
        await publish(sender, "x" * size)
    assert public.server.counters.queue_full == 1
    assert public.session_of("ana").queue_bytes == PUBLIC_LIMITS.queue_bytes_max
    assert len(await reader.take(WINDOW + 4)) == WINDOW + 4


async def test_a_message_that_expires_while_it_waits_is_dropped(
    public: PublicNode, sender: PublicClient, reader: PublicClient
) -> None:
    for n in range(WINDOW):
        await publish(sender, str(n))
    await publish(sender, "old", properties={PropertyId.MESSAGE_EXPIRY_INTERVAL: 5})
    await publish(sender, "good", properties={PropertyId.MESSAGE_EXPIRY_INTERVAL: 50})
    public.pass_by(20)
    await reader.take(WINDOW)
    delivered = await reader.expect(Publish)
    assert (delivered.payload, delivered.properties[PropertyId.MESSAGE_EXPIRY_INTERVAL]) == (b"good", 30)
    assert public.server.counters.expired == 1


async def test_what_waits_in_memory_does_not_come_to_who_may_not_receive_it_any_more(
    public: PublicNode, sender: PublicClient, reader: PublicClient
) -> None:
    for n in range(WINDOW + 3):
        await publish(sender, str(n))
    public.hooks.secret_topics[TOPIC] = {"bruno"}
    public.server.permissions_changed()
    await publish(sender, "live")
    assert await reader.take(WINDOW) == numbers(0, WINDOW - 1)
    assert await reader.before_pong() == []


async def test_a_client_that_does_not_read_loses_qos_0_and_nothing_else(
    public: PublicNode, sender: PublicClient
) -> None:
    slow = await public.client(receive_buffer_bytes=4_096)
    await slow.connect("ana")
    await slow.subscribe(TOPIC)
    public.narrow("ana")
    texts = [f"{n} {'x' * 4_000}" for n in range(WINDOW)]
    for text in texts:
        await publish(sender, text)
    assert public.is_congested("ana")
    await sender.send(Publish(TOPIC, b"lost"))
    await publish(sender, "waits")
    assert public.server.counters.dropped == 1
    assert await slow.take(WINDOW + 1) == [*texts, "waits"]


# Topic aliases and packet sizes


async def test_the_first_topics_get_an_alias_and_keep_it(public: PublicNode, sender: PublicClient) -> None:
    client = await public.connected("ana", properties={PropertyId.TOPIC_ALIAS_MAXIMUM: 2})
    await client.subscribe("#")
    for topic_name in ("a", "b", "c", "a", "b", "c"):
        await publish(sender, "x", topic_name)
    said = [await client.expect(Publish) for _ in range(6)]
    assert [(each.topic_name, each.properties.get(PropertyId.TOPIC_ALIAS)) for each in said] == [
        *(("a", 1), ("b", 2), ("c", None)),
        *(("", 1), ("", 2), ("c", None)),
    ]


async def test_an_alias_is_not_used_before_the_client_was_told_it(public: PublicNode, sender: PublicClient) -> None:
    properties = {PropertyId.TOPIC_ALIAS_MAXIMUM: 2, PropertyId.MAXIMUM_PACKET_SIZE: 100}
    client = await public.connected("ana", properties=properties)
    await client.subscribe("#")
    await publish(sender, "x" * 200)
    await publish(sender, "other", "home/door")
    await publish(sender, "on")
    said = [await client.expect(Publish) for _ in range(2)]
    assert [(each.topic_name, each.payload) for each in said] == [("home/door", b"other"), (TOPIC, b"on")]
    assert len({each.properties[PropertyId.TOPIC_ALIAS] for each in said}) == 2


async def test_a_client_may_use_aliases_and_change_them(
    public: PublicNode, sender: PublicClient, reader: PublicClient
) -> None:
    alias = {PropertyId.TOPIC_ALIAS: 3}
    for topic_name, text in (("elsewhere", "no"), ("", "no"), (TOPIC, "1"), ("", "2")):
        assert await publish(sender, text, topic_name, properties=alias) == 0
    assert await reader.take(2) == ["1", "2"]


@pytest.mark.parametrize(
    ("alias", "topic_name", "code"),
    [
        (PUBLIC_LIMITS.topic_aliases_max + 1, TOPIC, ReasonCode.TOPIC_ALIAS_INVALID),
        (1, "", ReasonCode.PROTOCOL_ERROR),
        (0, TOPIC, ReasonCode.TOPIC_ALIAS_INVALID),
    ],
)
async def test_an_alias_that_is_too_large_or_stands_for_nothing_ends_the_connection(
    public: PublicNode, alias: int, topic_name: str, code: ReasonCode
) -> None:
    client = await public.connected("ana")
    good = encode(Publish(topic_name, b"x", properties={PropertyId.TOPIC_ALIAS: 7}), MQTT_5)
    await client.stream.send(good.replace(b"\x23\x00\x07", b"\x23\x00" + bytes((alias,))))
    assert reason(await client.rest()) == code


async def test_aliases_end_with_their_connection(public: PublicNode) -> None:
    client = await public.kept()
    await publish(client, "x", properties={PropertyId.TOPIC_ALIAS: 1})
    await public.leave(client)
    again = await public.kept()
    await again.send(Publish("", b"x", properties={PropertyId.TOPIC_ALIAS: 1}))
    assert reason(await again.rest()) == ReasonCode.PROTOCOL_ERROR


async def test_a_reason_is_left_out_where_the_packet_would_pass_the_clients_limit(public: PublicNode) -> None:
    public.hooks.answers[TOPIC] = ReasonCode.NOT_AUTHORIZED
    small = await public.connected("ana", properties={PropertyId.MAXIMUM_PACKET_SIZE: 60})
    large = await public.connected("carla", properties={PropertyId.MAXIMUM_PACKET_SIZE: 200})
    for client, expected in ((small, {}), (large, {PropertyId.REASON_STRING: "as the test says"})):
        await client.send(Publish(TOPIC, b"x", 1, packet_id=1))
        assert (await client.expect(Puback)).properties == expected


# Shared subscriptions


async def test_a_group_takes_turns_and_each_publish_goes_to_one(public: PublicNode, sender: PublicClient) -> None:
    workers = [await public.connected("ana", str(n)) for n in range(3)]
    for worker in workers:
        assert await worker.subscribe(f"$share/g/{TOPIC}") == [1]
    for n in range(9):
        await publish(sender, str(n))
    got = [await worker.take(3) for worker in workers]
    assert sorted(text for texts in got for text in texts) == numbers(0, 8)
    assert [await worker.before_pong() for worker in workers] == [[], [], []]


async def test_who_is_away_or_has_no_room_is_passed_over_while_another_has(
    public: PublicNode, sender: PublicClient
) -> None:
    full = await public.connected("ana", "full", properties={PropertyId.RECEIVE_MAXIMUM: 1})
    ready = await public.connected("ana", "ready")
    away = await public.kept("ana", client_id="away")
    for worker in (away, full, ready):
        await worker.subscribe(f"$share/g/{TOPIC}")
    await public.leave(away)
    for n in range(7):
        await publish(sender, str(n))
    assert len(await full.take(1, acknowledge=False)) == 1
    assert len(await ready.take(6, acknowledge=False)) == 6
    assert public.session_of("ana", "away").queued == 0


async def test_if_nobody_is_ready_it_waits_for_one_whose_session_is_kept(
    public: PublicNode, sender: PublicClient
) -> None:
    away = await public.kept("ana", client_id="away")
    await away.subscribe(f"$share/g/{TOPIC}")
    await public.leave(away)
    for n in range(3):
        assert await publish(sender, str(n)) == 0
    await public.restart()
    again = await public.kept("ana", client_id="away")
    assert await again.take(3) == numbers(0, 2)


async def test_who_does_not_read_is_passed_over(public: PublicNode, sender: PublicClient) -> None:
    slow = await public.client(receive_buffer_bytes=4_096)
    await slow.connect("ana")
    await slow.subscribe("padding", f"$share/g/{TOPIC}")
    public.narrow("ana")
    quick = await public.connected("carla")
    await quick.subscribe(f"$share/g/{TOPIC}")
    for _ in range(WINDOW):
        await publish(sender, "x" * 4_000, "padding")
    assert public.is_congested("ana")
    for n in range(6):
        await publish(sender, str(n))
    assert await quick.take(6) == numbers(0, 5)


async def test_a_group_gets_no_retained_message(public: PublicNode, sender: PublicClient) -> None:
    await publish(sender, "on", retain=True)
    assert await retained(public, f"$share/g/{TOPIC}") == {}


# $SYS


async def test_the_server_tells_about_itself_and_only_to_who_asks(public: PublicNode) -> None:
    curious, other = await public.connected("ana"), await public.connected("bruno")
    await curious.subscribe("$SYS/broker/#")
    await other.subscribe("#")
    public.server.sys_topics.start()
    told = {each.topic_name: each.payload for each in await curious.before_pong() if isinstance(each, Publish)}
    assert told["$SYS/broker/version"] == f"Recado {__version__}".encode()
    assert told["$SYS/broker/clients/connected"] == b"2"
    assert await other.before_pong() == []

    await public.connected("carla")
    public.tick(PUBLIC_LIMITS.sys_interval_s + 1)
    told = {each.topic_name: each.payload for each in await curious.before_pong() if isinstance(each, Publish)}
    assert told["$SYS/broker/clients/connected"] == b"3"
    assert "$SYS/broker/version" not in told, "it is still the same"
    assert (await retained(public, "$SYS/broker/clients/connected"))["$SYS/broker/clients/connected"] == b"3".decode()


async def test_what_the_server_tells_takes_no_room_from_what_clients_retain(
    public: PublicNode, sender: PublicClient
) -> None:
    public.server.sys_topics.start()
    for n in range(PUBLIC_LIMITS.retained_messages_max):
        assert await publish(sender, "x", f"t/{n}", retain=True) == 0
    assert await publish(sender, "x", "t/more", retain=True) == ReasonCode.QUOTA_EXCEEDED


# Rates


class TestWithTenPublishesASecond:
    @pytest.fixture
    def public_limits(self) -> BrokerLimits:
        return replace(PUBLIC_LIMITS, publish_rate_max=10, keep_alive_max_s=3)

    async def test_who_publishes_faster_is_not_read_until_the_next_second_and_loses_nothing(
        self, public: PublicNode, level: int
    ) -> None:
        reader = await public.connected("bruno", level=MQTT_3_1_1)
        await reader.subscribe(TOPIC, qos=0)
        hasty = await public.connected("ana", level=level)
        await hasty.send(*(Publish(TOPIC, str(n).encode()) for n in range(25)), Pingreq())
        assert await reader.take(10) == numbers(0, 9)
        assert await reader.before_pong() == []
        public.tick()
        assert await reader.take(10) == numbers(10, 19)
        assert await reader.before_pong() == []
        public.tick()
        assert await reader.take(5) == numbers(20, 24)
        await hasty.expect(Pingresp)
        assert public.server.counters.publish_rate_waits == 2

    async def test_others_are_read_meanwhile(self, public: PublicNode, sender: PublicClient) -> None:
        hasty = await public.connected("ana")
        await hasty.send(*(Publish("elsewhere", b"x") for _ in range(25)))
        for n in range(9):
            assert await publish(sender, str(n)) == 0

    async def test_who_leaves_while_it_is_not_read_leaves_nothing(self, public: PublicNode) -> None:
        hasty = await public.connected("ana")
        await hasty.send(*(Publish(TOPIC, b"x") for _ in range(25)))
        await public.until(lambda: public.server.counters.publish_rate_waits == 1)
        hasty.close()
        public.tick()
        await public.until(lambda: public.server.counters.published >= 20)
        public.tick()
        await public.gone()
        assert public.users() == set()


class TestWithThreeConnectsASecond:
    @pytest.fixture
    def public_limits(self) -> BrokerLimits:
        return replace(PUBLIC_LIMITS, connection_rate_max=3)

    async def test_one_more_is_told_so_and_let_in_in_the_next_second(self, public: PublicNode, level: int) -> None:
        for n in range(3):
            await public.connected("ana", str(n))
        client = await public.client(level=level)
        code = ReasonCode.CONNECTION_RATE_EXCEEDED if level == MQTT_5 else ReasonCode.SERVER_UNAVAILABLE
        assert (await client.connect("ana", "more")).reason_code == code
        assert await client.rest() == []
        public.tick()
        await public.connected("ana", "more", level=level)
