"""Topics that anyone may use: retained messages, queues in memory, aliases, shared subscriptions, `$SYS`, rates."""

from __future__ import annotations

from dataclasses import replace

import apsw
import pytest

from recado import __version__
from recado.broker.limits import BrokerLimits
from recado.broker.publication import Publication
from recado.broker.retaining import held_bytes
from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.conftest import PublicNode
from tests.broker.public import PUBLIC_LIMITS, TOPIC, PublicClient, numbers, publish, reason

WINDOW = LIMITS.inflight_max


async def retained(public: PublicNode, topic_filter: str = "#") -> dict[str, str]:
    """What a new subscriber gets at once, by topic."""
    client = await public.connected("carla", "new")
    await client.send(client.subscription(topic_filter))
    await client.expect(Suback)
    got = await client.before_pong()
    await public.leave(client)
    assert all(isinstance(each, Publish) and each.retain for each in got)
    return {each.topic_name: each.payload.decode() for each in got if isinstance(each, Publish)}


@pytest.fixture
async def reader(public: PublicNode) -> PublicClient:
    reader = await public.connected("ana")
    await reader.subscribe(TOPIC)
    return reader


# Retained messages


@pytest.mark.parametrize("end", ["stays", "restart", "kill"])
async def test_the_last_retained_message_of_a_topic_waits_for_new_subscribers(
    public: PublicNode, sender: PublicClient, end: str
) -> None:
    for topic_name, text in ((TOPIC, "on"), ("home/door", "open"), (TOPIC, "off"), ("home/door", "")):
        await publish(sender, text, topic_name, retain=True)
    await publish(sender, "not retained", "home/tv")
    if end != "stays":
        await (public.restart() if end == "restart" else public.kill())
    assert await retained(public) == {TOPIC: "off"}
    assert public.server.retained.held_bytes == held(TOPIC, 3)


async def test_so_many_messages_are_retained_and_one_of_them_may_still_be_replaced(
    public: PublicNode, sender: PublicClient
) -> None:
    most = PUBLIC_LIMITS.retained_messages_max
    for n in range(most):
        assert await publish(sender, "x", f"t/{n}", retain=True) == 0
    assert await publish(sender, "x", "t/more", retain=True) == ReasonCode.QUOTA_EXCEEDED
    assert await publish(sender, "y", "t/0", retain=True) == 0
    assert await publish(sender, "", "t/1", retain=True) == 0
    assert await publish(sender, "x", "t/more", retain=True) == 0
    assert set(await retained(public)) == {"t/0", "t/2", "t/3", "t/4", "t/more"}


def held(topic_name: str, payload_bytes: int = 0, properties: Properties = EMPTY_PROPERTIES) -> int:
    """What one retained message counts for."""
    return held_bytes(Publication(topic_name, b"x" * payload_bytes, 1, properties=properties))


async def test_so_many_bytes_are_retained(public: PublicNode, sender: PublicClient) -> None:
    most = PUBLIC_LIMITS.retained_bytes_max - held("a") - held("b")
    assert await publish(sender, "x" * (most - 10), "a", retain=True) == 0
    assert await publish(sender, "x" * 11, "b", retain=True) == ReasonCode.QUOTA_EXCEEDED
    assert await publish(sender, "x" * 10, "b", retain=True) == 0
    assert await publish(sender, "x" * 11, "b", retain=True) == ReasonCode.QUOTA_EXCEEDED
    assert await publish(sender, "x" * 5, "a", retain=True) == 0
    assert await publish(sender, "x" * 11, "b", retain=True) == 0
    assert public.server.retained.held_bytes == held("a", 5) + held("b", 11)
    await public.restart()
    assert public.server.retained.held_bytes == held("a", 5) + held("b", 11)


async def test_user_properties_and_the_levels_of_a_topic_count_as_retained_too(
    public: PublicNode, sender: PublicClient
) -> None:
    """Bug class: a bound on payloads, and a thousand properties beside each of one byte."""
    pairs: Properties = {PropertyId.USER_PROPERTY: [("k", "v")] * 80}
    assert await publish(sender, "x", "a", retain=True, properties=pairs) == ReasonCode.QUOTA_EXCEEDED
    assert await publish(sender, "x", "a", retain=True, properties={PropertyId.USER_PROPERTY: [("k", "v")] * 30}) == 0
    assert await publish(sender, "x", "a/b/c/d/e/f/g/h", retain=True) == 0
    assert await publish(sender, "x", "/b/c/d/e/f/g/h", retain=True) == ReasonCode.QUOTA_EXCEEDED
    assert public.server.retained.held_bytes <= PUBLIC_LIMITS.retained_bytes_max


async def test_a_refused_retained_message_reaches_nobody(public: PublicNode, sender: PublicClient) -> None:
    client = await public.connected("ana")
    await client.subscribe("#")
    await publish(sender, "x" * (PUBLIC_LIMITS.retained_bytes_max + 1), retain=True)
    assert await client.before_pong() == []


async def test_an_expired_retained_message_is_not_sent_and_gives_its_room_away(
    public: PublicNode, sender: PublicClient
) -> None:
    for n in range(PUBLIC_LIMITS.retained_messages_max):
        expiring = {PropertyId.MESSAGE_EXPIRY_INTERVAL: 10 + 100 * (n == 0)}
        await publish(sender, "x", f"t/{n}", retain=True, properties=expiring)
    public.pass_by(20)
    assert set(await retained(public)) == {"t/0"}
    assert await publish(sender, "x", "t/4", retain=True) == 0, "its own room, though expired"
    assert await publish(sender, "x", "t/more", retain=True) == 0
    assert set(await retained(public)) == {"t/0", "t/4", "t/more"}
    assert public.server.retained.held_bytes == held("t/0", 1) * 2 + held("t/more", 1)
    await public.restart()
    assert set(await retained(public)) == {"t/0", "t/4", "t/more"}


async def test_a_retained_message_grows_no_form_for_each_subscription_identifier(
    public: PublicNode, sender: PublicClient
) -> None:
    await publish(sender, "on", retain=True)
    client = await public.connected("ana")
    for identifier in range(1, 101):
        request = SubscriptionRequest(TOPIC, 0)
        await client.send(Subscribe(identifier, [request], {PropertyId.SUBSCRIPTION_IDENTIFIER: identifier}))
        await client.expect(Suback)
        assert (await client.expect(Publish)).properties[PropertyId.SUBSCRIPTION_IDENTIFIER] == [identifier]
    message = public.server.retained.get(TOPIC)
    assert message is not None
    assert len(message.frames) <= 1


async def test_a_retained_message_keeps_none_of_the_forms_in_which_it_went_out_when_it_was_published(
    public: PublicNode, sender: PublicClient
) -> None:
    """Bug class: a large payload that is kept once for each protocol level, QoS and option."""
    for n, qos in enumerate((0, 1, 0)):
        reader = await public.connected("ana", f"r{n}", level=MQTT_5 if n else MQTT_3_1_1)
        await reader.subscribe(TOPIC, qos=qos)
    await publish(sender, "on", retain=True)
    message = public.server.retained.get(TOPIC)
    assert message is not None
    assert message.frames == {}
    for _ in range(2):
        assert await retained(public) == {TOPIC: "on"}
    assert len(message.frames) == 1


async def test_a_secret_topics_retained_message_goes_to_who_may_receive_it(
    public: PublicNode, sender: PublicClient
) -> None:
    public.hooks.secret_topics[TOPIC] = {"ana"}
    await publish(sender, "on", retain=True)
    assert await retained(public) == {}
    public.hooks.secret_topics[TOPIC].add("carla")
    assert await retained(public) == {TOPIC: "on"}


async def test_a_kept_session_gets_retained_messages_that_are_acknowledged_or_come_again(
    public: PublicNode, sender: PublicClient
) -> None:
    await publish(sender, "on", retain=True)
    client = await public.kept()
    await client.send(client.subscription(TOPIC))
    await client.expect(Suback)
    first = await client.expect(Publish)
    assert (first.payload, first.retain, first.qos, first.dup) == (b"on", True, 1, False)
    await public.leave(client)
    again = await public.kept()
    assert await again.expect(Publish) == Publish(TOPIC, b"on", 1, True, True, first.packet_id)


async def test_more_retained_messages_than_the_window_come_as_there_is_room(
    public: PublicNode, sender: PublicClient
) -> None:
    for n in range(5):
        await publish(sender, str(n), f"t/{n}", retain=True)
    client = await public.connected("ana", properties={PropertyId.RECEIVE_MAXIMUM: 2})
    await client.send(client.subscription("t/+"))
    await client.expect(Suback)
    assert sorted(await client.take(5)) == numbers(0, 4)


async def test_what_cannot_be_kept_on_the_disk_is_not_acknowledged(public: PublicNode, sender: PublicClient) -> None:
    public.disk.write_error = apsw.FullError("the disk is full")
    await sender.send(Publish(TOPIC, b"on", 1, True, packet_id=1))
    assert reason(await sender.rest()) == ReasonCode.SERVER_BUSY
    public.disk.write_error = None
    await public.restart()
    assert await retained(public) == {}


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
