"""What has broken other MQTT servers: a test for each class of bug, against `recado broker` as a process.

`PROOFS` is the index: each class with the tests that fail without its guard, here or where the guard is. The tests
below are what needs the whole server: what it costs, and whether others notice.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.services.child_process import running
from recado.mqtt.codec import encode
from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from recado.mqtt.properties import Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.app.brokers import received, subscribe
from tests.broker.client import Client
from tests.support.broker_process import BrokerProcess, wait_until

MIB = 1024 * 1024
HERE = "e2e/test_bug_classes.py"

PROOFS: dict[str, tuple[str, ...]] = {
    "recursion on tens of thousands of / in a topic": (
        "mqtt/test_topics.py::test_matching_deep_topics_is_linear",
        "mqtt/test_router.py::test_a_filter_of_slashes_is_subscribed_matched_and_removed_in_linear_time",
        "mqtt/test_retained.py::test_a_topic_of_slashes_is_found_and_removed_in_linear_time",
        "broker/test_acl.py::test_relating_long_filters_takes_time_in_their_length_and_no_recursion",
        f"{HERE}::test_tens_of_thousands_of_slashes_are_a_topic_like_any_other",
        f"{HERE}::test_tens_of_thousands_of_slashes_are_refused_where_topics_have_fewer_levels",
    ),
    "memory from a promised length, or by a first packet that is no CONNECT": (
        "mqtt/test_limits.py::test_a_promised_length_takes_no_memory",
        "mqtt/test_limits.py::test_connect_has_a_limit_of_its_own",
        "broker/test_connecting.py::test_a_promised_long_first_packet_is_refused_by_its_first_bytes",
        "broker/test_connecting.py::test_a_first_packet_that_is_no_connect_ends_the_connection_without_a_word",
        "broker/test_websocket.py::test_a_frame_before_connect_may_be_no_longer_than_a_connect",
        f"{HERE}::test_promises_of_long_packets_cost_next_to_nothing",
    ),
    "a partial CONNECT held for ever": (
        "broker/test_connecting.py::test_a_client_that_never_finishes_connect_is_cut_off",
        "broker/test_listeners.py::test_who_does_not_send_a_whole_connect_in_time_is_closed",
        "broker/test_proxy_protocol.py::test_a_header_that_does_not_come_in_time_ends_the_connection",
        f"{HERE}::test_a_handshake_that_trickles_in_is_cut_off",
    ),
    "leaks on odd CONNECT or will properties": (
        "broker/test_auth.py::test_a_client_that_leaves_in_the_middle_leaves_nothing",
        f"{HERE}::test_connects_with_odd_properties_leave_nothing_behind",
    ),
    "CPU by many user properties": (
        "mqtt/test_limits.py::test_user_properties_over_the_limit_are_refused_early",
        "mqtt/test_limits.py::test_many_user_properties_cost_no_more_than_their_number",
        f"{HERE}::test_hundreds_of_thousands_of_user_properties_are_refused_at_once",
    ),
    "QoS 2 packet ids without end": (
        "broker/test_qos2.py::test_who_never_releases_may_have_no_more_under_way_than_receive_maximum",
        "broker/test_qos2.py::test_a_3_1_1_client_that_never_releases_is_cut_off",
        f"{HERE}::test_a_sender_that_never_releases_gets_no_further_by_coming_back",
        f"{HERE}::test_a_subscriber_that_never_answers_has_a_bounded_queue",
        f"{HERE}::test_answers_to_what_was_never_sent_cost_no_memory",
    ),
    "an unbounded queue for an absent session": (
        "broker/test_session_queues.py::test_a_queue_holds_so_many_and_drops_the_newest_for_that_session_alone",
        "broker/test_session_queues.py::test_a_queue_holds_so_many_bytes",
        "broker/test_session_queues.py::test_sessions_that_are_kept_are_counted_and_others_are_let_in_beyond",
    ),
    "# or + in a user name or client id": (
        "broker/test_acl.py::test_a_name_that_reaches_beyond_its_level_is_allowed_nothing",
        "broker/test_acl.py::test_nobody_gets_around_a_deny_by_their_name",
        "broker/test_acl.py::test_a_pattern_never_grants_outside_the_users_own_level",
        "e2e/test_revoking.py::test_a_user_by_the_name_of_a_wildcard_reads_nothing_of_others",
    ),
    "a durable subscription that survives a revoke": (
        "app/test_broker.py::test_a_reload_revokes_and_grants_for_those_who_are_connected",
        "app/test_broker.py::test_what_waits_for_an_absent_user_is_not_delivered_once_it_may_not_be_read",
        "e2e/test_revoking.py::test_what_was_delivered_before_is_not_once_it_may_not_be_read",
        "e2e/test_revoking.py::test_what_is_in_flight_does_not_come_again_once_it_may_not_be_read",
        "e2e/test_revoking.py::test_what_waits_for_a_connected_user_is_not_sent_once_it_may_not_be_read",
    ),
    "a retained message or a will past a revoked permission": (
        "app/test_broker.py::test_a_restart_does_not_hand_out_what_may_not_be_read_any_more",
        "broker/test_wills.py::test_a_will_that_is_refused_when_its_time_comes_is_not_sent",
        "e2e/test_revoking.py::test_a_will_of_who_may_not_publish_there_any_more_is_not_published",
    ),
    "$ topics and $share slipping past a check": (
        "broker/test_acl.py::test_no_wildcard_at_the_start_reaches_a_dollar_topic",
        "broker/test_standalone.py::test_sharing_a_filter_gives_no_more_than_the_filter",
        "broker/test_standalone.py::test_no_acl_lets_a_client_publish_as_the_server",
        "mqtt/test_subscription.py::test_members_that_may_not_receive_a_topic_are_passed_over_and_the_turn_goes_on",
        "app/test_broker.py::test_a_subscription_is_granted_if_anything_of_it_may_be_read",
    ),
    "bad text forwarded, so that others are cut off": (
        "e2e/test_forwarding.py::test_no_publish_makes_the_clients_of_others_hang_up",
        "e2e/test_forwarding.py::test_no_will_makes_the_clients_of_others_hang_up",
    ),
    "WebSocket without an Origin check": ("broker/test_websocket.py::test_a_page_from_elsewhere_may_not",),
    "a wildcard matcher with exponential backtracking": (
        "mqtt/test_router.py::test_filters_that_all_differ_late_cost_as_much_as_they_are_long_and_no_more",
        "mqtt/test_router.py::test_thousands_of_wildcards_that_do_not_match_are_not_looked_at",
        f"{HERE}::test_a_thousand_overlapping_wildcards_cost_others_little",
    ),
    "a user name without a password": (
        "app/test_broker.py::test_a_user_with_the_right_password_is_let_in_and_nobody_without_one",
        "app/test_broker.py::test_anonymous_clients_are_let_in_if_the_operator_says_so_but_no_user_is_without_a_password",
        "broker/test_standalone.py::test_anonymity_is_for_those_who_claim_nothing",
    ),
    "compressed frames that grow": (
        "broker/test_websocket.py::test_compression_is_not_agreed_on_and_a_compressed_frame_ends_the_connection",
    ),
    "slow handshakes": (
        "broker/test_listeners.py::test_half_a_tls_handshake_is_closed_in_time",
        "broker/test_listeners.py::test_who_has_not_asked_for_the_upgrade_counts_against_the_listener",
        "broker/test_websocket.py::test_a_head_without_an_end_is_cut_off",
        f"{HERE}::test_a_handshake_that_trickles_in_is_cut_off",
    ),
}


@pytest.mark.parametrize("bug_class", PROOFS)
def test_each_class_of_bug_has_its_tests(bug_class: str) -> None:
    for proof in PROOFS[bug_class]:
        path, _, name = proof.partition("::")
        source = (Path(__file__).parents[1] / path).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{proof} is gone"


LIMITS = {"inflight_max": 10, "receive_maximum": 20, "received_max": 200, "queue_messages_max": 100}
SLASHES = "/" * 60_000
KEPT: Properties = {PropertyId.SESSION_EXPIRY_INTERVAL: 600}


def options(limits: dict[str, int]) -> list[str]:
    return [f"--limit.{name}={number}" for name, number in limits.items()]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One with small limits, which everybody may use; it must still be there at the end, and stop cleanly."""
    with running(BrokerProcess(tmp_path_factory.mktemp("broker"), *options(LIMITS))) as broker:
        yield broker
        assert "Traceback" not in broker.log
        broker.stop()


@pytest.fixture
async def bystander(broker: BrokerProcess) -> Client:
    """Who subscribes to a topic of its own and wants to go on."""
    client = await broker.connected(client_id="bystander")
    await subscribe(client, "bystander/#", 1)
    return client


async def is_undisturbed(bystander: Client) -> bool:
    """Whether it gets what it subscribed to, and nothing else came, within three seconds."""
    started = time.monotonic()
    await bystander.send(Publish("bystander/x", b"still here"))
    return await received(bystander) == [("bystander/x", "still here")] and time.monotonic() - started < 3


# Deep topics


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[BrokerProcess]:
    """One that takes as many levels as a topic has room for, and checks each against an ACL."""
    (tmp_path / "acl").write_text("everyone\ntopic readwrite #\ntopic deny secret/+/#\npattern deny private/%c/#")
    with running(
        BrokerProcess(tmp_path, "--limit.topic_levels_max=65535", "--limit.wildcard_levels_max=200000")
    ) as broker:
        yield broker


async def test_tens_of_thousands_of_slashes_are_a_topic_like_any_other(deep: BrokerProcess) -> None:
    will = Will(SLASHES, b"gone", 1, True)
    ana, dying = await deep.connected(client_id="ana"), await deep.connected(client_id="dying", will=will)
    sender = await deep.connected(client_id="sender")
    for topic_filter in ("#", "/" * 59_000 + "#", "+/" * 30_000 + "#", "$share/g/" + SLASHES):
        assert await subscribe(ana, topic_filter, 1) == 1
    assert (await sender.publish(SLASHES, "live")).reason_code == 0
    dying.close()
    assert {(await ana.expect(Publish)).payload for _ in range(4)} == {b"live", b"gone"}
    await sender.send(Publish("after/it", b"x", 1, True, packet_id=7))
    await sender.expect(Puback)  # what was retained before is on the disk, too
    deep.kill()
    deep.start()
    again = await deep.connected(client_id="again")
    assert await subscribe(again, "+/" * 30_000 + "#", 1) == 1
    assert (await again.expect(Publish)).payload == b"gone"
    await again.send(Unsubscribe(9, ["+/" * 30_000 + "#"]))
    await again.expect(Unsuback)
    assert (await again.publish(SLASHES, "")).reason_code == 0


@pytest.mark.parametrize(
    "packet",
    [
        Publish(SLASHES, b"", 1, packet_id=1),
        Publish(SLASHES[:10_000], b"", 1, packet_id=1),
        Subscribe(1, [SubscriptionRequest(each) for each in (SLASHES, "+/" * 30_000 + "#", f"$share/g{SLASHES}")]),
        Connect("deep", will=Will(SLASHES, b"")),
    ],
    ids=["publish", "shorter publish", "subscribe", "will"],
)
async def test_tens_of_thousands_of_slashes_are_refused_where_topics_have_fewer_levels(
    broker: BrokerProcess, bystander: Client, packet: Packet
) -> None:
    eve = await broker.client()
    await eve.send(*([packet] if isinstance(packet, Connect) else [Connect("eve"), packet]))
    answer: Packet | None = await eve.expect(Connack)
    if not isinstance(packet, Connect):
        answer = await eve.next()
    assert isinstance(answer, Connack | Disconnect | Suback)
    codes = answer.reason_codes if isinstance(answer, Suback) else [answer.reason_code]
    assert min(codes) >= ReasonCode.UNSPECIFIED_ERROR
    assert await is_undisturbed(bystander)


# Memory, before and after CONNECT


def test_promises_of_long_packets_cost_next_to_nothing(broker: BrokerProcess) -> None:
    before = broker.resident_bytes
    longest = bytes.fromhex("ff ff ff 7f")
    sockets = []
    for n in range(600):
        sockets.append(socket.create_connection(("127.0.0.1", broker.mqtt_port), 20))
        first = (b"\x10", b"\x30", b"\xf0")[n % 3]
        sockets[-1].sendall(first + longest + bytes(1_000))
    for each in sockets:
        with contextlib.suppress(ConnectionError):
            assert each.recv(100) == b"", "it is closed without a word"
        each.close()
    assert broker.resident_bytes - before < 10 * MIB


def odd_connects(n: int) -> list[tuple[Connect, Packet | None]]:
    """CONNECTs, good and bad, each with what the client says before it hangs up."""
    name = f"odd-{n}"
    p = PropertyId
    everything = {
        p.WILL_DELAY_INTERVAL: 1,
        p.PAYLOAD_FORMAT_INDICATOR: 1,
        p.MESSAGE_EXPIRY_INTERVAL: 1,
        p.CONTENT_TYPE: "t" * 200,
        p.RESPONSE_TOPIC: f"answers/{name}",
        p.CORRELATION_DATA: bytes(200),
        p.USER_PROPERTY: [(name, "v" * 50)] * 10,
    }
    will = Will(f"odd/{name}", b"gone", 2, False, everything)
    with_will = Disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)
    return [
        (Connect(name, will=will), None),
        (Connect(name, will=will), Disconnect()),
        (Connect(name, will=will), with_will),
        (Connect(name, will=will, properties={p.SESSION_EXPIRY_INTERVAL: 1}), None),
        (Connect(name, will=will, properties={p.SESSION_EXPIRY_INTERVAL: 1}), with_will),
        (Connect("", will=will, properties={p.REQUEST_RESPONSE_INFORMATION: 1}), None),
        (Connect(name, will=Will("a", b"\xff", properties={p.PAYLOAD_FORMAT_INDICATOR: 1})), None),
        (Connect(name, will=Will("a\x07", b"")), None),
        (Connect(name, will=will, properties={p.MAXIMUM_PACKET_SIZE: 1}), None),
        (Connect(name, properties={p.AUTHENTICATION_METHOD: name, p.AUTHENTICATION_DATA: b"x"}), None),
        (Connect(name, properties={p.USER_PROPERTY: [(name, "v")] * 1_001}), None),
        (Connect(name, username=name, will=will), None),
        (Connect(name, properties={p.TOPIC_ALIAS_MAXIMUM: 65_535, p.RECEIVE_MAXIMUM: 1}), Disconnect()),
    ]


def connect_and_leave(broker: BrokerProcess, connect: Connect, last_words: Packet | None) -> None:
    with socket.create_connection(("127.0.0.1", broker.mqtt_port), 20) as connected:
        connected.sendall(encode(connect, MQTT_5))
        try:
            connected.recv(4096)
            if last_words is not None:
                connected.sendall(encode(last_words, MQTT_5))
        except ConnectionError:
            pass


def test_connects_with_odd_properties_leave_nothing_behind(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path, "--database=off")

    def leave_all(numbers: range) -> int:
        for n in numbers:
            for connect, last_words in odd_connects(n):
                connect_and_leave(broker, connect, last_words)
        wait_until(lambda: broker.metric("recado_mqtt_connections") == broker.metric("recado_mqtt_sessions") == 0)
        return broker.resident_bytes

    try:
        broker.start()
        before = leave_all(range(100))
        assert leave_all(range(100, 300)) - before < 2 * MIB, "which is 800 bytes for each"
        assert "Traceback" not in broker.log
        broker.stop()
    finally:
        broker.close()


async def test_hundreds_of_thousands_of_user_properties_are_refused_at_once(
    broker: BrokerProcess, bystander: Client
) -> None:
    properties: Properties = {PropertyId.USER_PROPERTY: [("", "")] * 180_000}
    packets: list[Packet] = [
        Publish("a", b"", properties=properties),
        Subscribe(1, [SubscriptionRequest("a")], properties),
        Unsubscribe(1, ["a"], properties),
        Disconnect(properties=properties),
    ]
    before = broker.cpu_s
    for _ in range(4):
        for packet in packets:
            eve = await broker.connected(client_id="eve")
            await eve.send(packet)
            assert isinstance((await eve.rest())[-1:][0], Disconnect)
    assert broker.cpu_s - before < 1
    assert await is_undisturbed(bystander)


# QoS 2


async def flood(client: Client, first: int, count: int) -> None:
    await client.send(*(Publish("qos2", b"x" * 100, 2, packet_id=first + n) for n in range(count)))


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
async def test_a_sender_that_never_releases_gets_no_further_by_coming_back(broker: BrokerProcess, level: int) -> None:
    taken = 0
    for _ in range(LIMITS["received_max"] // LIMITS["receive_maximum"] + 5):
        eve = await broker.client(level)
        properties = KEPT if level == MQTT_5 else {}
        await eve.send(Connect(f"unreleased-{level}", level, False, properties=properties))
        await eve.expect(Connack)
        await flood(eve, taken + 1, LIMITS["received_max"] + 1)
        taken += sum(isinstance(packet, Pubrec) for packet in await eve.rest())
    assert taken == LIMITS["received_max"]


@pytest.mark.parametrize("properties", [{}, KEPT], ids=["in memory", "kept"])
async def test_a_subscriber_that_never_answers_has_a_bounded_queue(
    broker: BrokerProcess, bystander: Client, properties: Properties
) -> None:
    eve = await broker.connected(client_id=f"silent-{len(properties)}", properties=properties)
    topic_name = f"silent/{len(properties)}"
    await subscribe(eve, topic_name, 2)
    sender = await broker.connected(client_id="sender")
    full, queued = broker.metric("recado_mqtt_queue_full_total"), broker.metric("recado_mqtt_queued")
    for n in range(500):
        await sender.send(Publish(topic_name, b"x", 2, packet_id=n + 1))
        await sender.expect(Pubrec)
        await sender.send(Pubrel(n + 1))
        await sender.expect(Pubcomp)
    delivered = await eve.before_pong()
    assert len(delivered) == LIMITS["inflight_max"]
    assert broker.metric("recado_mqtt_queued") - queued == LIMITS["queue_messages_max"]
    lost = 500 - LIMITS["inflight_max"] - LIMITS["queue_messages_max"]
    assert broker.metric("recado_mqtt_queue_full_total") - full == lost
    assert await is_undisturbed(bystander)


async def test_answers_to_what_was_never_sent_cost_no_memory(broker: BrokerProcess, bystander: Client) -> None:
    before = broker.resident_bytes
    eve = await broker.connected(client_id="eve")
    for kind in (Puback, Pubrec, Pubrel, Pubcomp):
        for start in range(1, 65_000, 1_000):
            await eve.send(*(kind(packet_id) for packet_id in range(start, start + 1_000)))
            assert all(isinstance(each, Pubrel | Pubcomp) for each in await eve.before_pong())
    assert broker.resident_bytes - before < 5 * MIB
    assert await is_undisturbed(bystander)


# Matching


async def test_a_thousand_overlapping_wildcards_cost_others_little(broker: BrokerProcess, bystander: Client) -> None:
    """Each of them differs from each topic in its last level alone."""
    chooses = random.Random(7)
    filters = {"/".join(chooses.choices("a+", k=12)) + "/+/never" for _ in range(1_200)}
    eve = await broker.connected(client_id="eve")
    await eve.send(Subscribe(1, [SubscriptionRequest(each) for each in sorted(filters)[:900]]))
    await eve.next()
    before = broker.cpu_s
    for n in range(100):
        await eve.send(Publish("a/" * 12 + f"{n}/x", b""))
    assert await received(eve) == []
    assert broker.cpu_s - before < 3
    assert await is_undisturbed(bystander)


# Slow handshakes


@pytest.mark.parametrize("transport", ["tcp", "tls", "websocket", "upgraded"])
def test_a_handshake_that_trickles_in_is_cut_off(tmp_path: Path, transport: str) -> None:
    """A byte now and then buys no time."""
    broker = BrokerProcess(tmp_path, "--limit.connect_timeout_s=1", "--database=off")
    head = b"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += (
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
    )
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(400)
    frame = b"\x82\xfe\x04\x00\0\0\0\0" + encode(Connect("x" * 900), MQTT_5)
    said = {
        "tcp": (broker.mqtt_port, b"", encode(Connect("x" * 900), MQTT_5)),
        "tls": (broker.tls_port, b"", hello),
        "websocket": (broker.ws_port, b"", head),
        "upgraded": (broker.ws_port, head + b"\r\n", frame),
    }
    port, at_once, slowly = said[transport]
    try:
        broker.start()
        with socket.create_connection(("127.0.0.1", port), 20) as lame:
            lame.sendall(at_once)
            if at_once:
                assert b"101" in lame.recv(4096)
            assert is_cut_off_meanwhile(lame, slowly)
    finally:
        broker.close()


def is_cut_off_meanwhile(lame: socket.socket, slowly: bytes) -> bool:
    """Send a byte every 50 ms; whether the server hangs up before it has them all."""
    lame.settimeout(0.05)
    for byte in slowly:
        try:
            lame.send(bytes([byte]))
            if not lame.recv(4096):
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False
