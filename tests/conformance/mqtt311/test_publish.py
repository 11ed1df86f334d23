"""PUBLISH and the three qualities of service (3.3 to 3.7, 4.3, 4.4, 4.5)."""

from __future__ import annotations

import pytest

from recado.broker.hooks import Outcome
from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_3_1_1, Puback, Pubcomp, Publish, Pubrec, Pubrel, Will
from recado.mqtt.reason_codes import ReasonCode as R
from recado.mqtt.session import Session
from tests.conformance.client import Client
from tests.conformance.mqtt311.wire import packet, text
from tests.conformance.node import Node


async def watching(node: Node, qos: int = 2) -> Client:
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#", qos)
    return watcher


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
async def test_a_publish_comes_at_the_lower_of_the_two_qualities_of_service(
    node: Node, published: int, granted: int, clean: bool
) -> None:
    """[MQTT311-3.3.4-1] [MQTT311-3.8.4-6] [MQTT311-4.3.1-1] [MQTT311-4.3.2-1] [MQTT311-4.3.3-1] [MQTT311-3.3.2-3]
    [MQTT311-4.5.0-1]"""
    client = await node.connected(clean_start=clean)
    assert await client.subscribe_to("a/+", granted) == granted
    payload = bytes(range(256))
    await client.publish_to("a/b", payload, published)
    got = await client.receive()
    assert (got.topic_name, got.payload) == ("a/b", payload)
    assert (got.qos, got.dup, got.retain) == (min(published, granted), False, False)
    assert await client.before_pong() == []


async def test_a_publish_may_be_empty(node: Node) -> None:
    """[MQTT311-3.3.4-1]"""
    client = await node.connected()
    await client.subscribe_to("a", 2)
    for qos in (0, 1, 2):
        await client.publish_to("a", b"", qos)
        assert (await client.receive()).payload == b""


async def test_qos_0_gets_no_answer(node: Node) -> None:
    """[MQTT311-3.3.4-1]"""
    client = await node.connected()
    await client.send(Publish("a", b"x"))
    assert await client.before_pong() == []


# DUP and QoS bits (3.3.1)


@pytest.mark.parametrize("first", [0x36, 0x37, 0x3E, 0x3F])
async def test_qos_3_ends_the_connection(node: Node, first: int) -> None:
    """[MQTT311-3.3.1-4]"""
    watcher = await watching(node)
    client = await node.connected()
    await client.send_bytes(packet(first, text("a"), b"\0\1", b"x"))
    assert await client.rest() == []
    await node.hears_nothing(watcher)


async def test_dup_at_qos_0_ends_the_connection(node: Node) -> None:
    """[MQTT311-3.3.1-2]"""
    watcher = await watching(node)
    client = await node.connected()
    await client.send_bytes(packet(0x38, text("a"), b"x"))
    assert await client.rest() == []
    await node.hears_nothing(watcher)


async def test_the_publishers_dup_is_not_handed_on(node: Node) -> None:
    """[MQTT311-3.3.1-3] [MQTT311-4.3.2-1] [MQTT311-4.3.3-1]"""
    watcher = await watching(node)
    client = await node.connected()
    await client.send(Publish("a", b"x", 1, dup=True, packet_id=1), Publish("a", b"y", 2, dup=True, packet_id=2))
    assert [(each.payload, each.dup) for each in (await watcher.receive(), await watcher.receive())] == [
        (b"x", False),
        (b"y", False),
    ]


# From the client, QoS 1


async def test_after_puback_the_same_packet_id_is_a_new_publish_even_with_dup(node: Node) -> None:
    """[MQTT311-4.3.2-2]"""
    watcher = await watching(node)
    client = await node.connected()
    for payload, dup in ((b"1", False), (b"2", False), (b"3", True)):
        await client.send(Publish("a", payload, 1, dup=dup, packet_id=5))
        assert await client.expect(Puback) == Puback(5)
        assert (await watcher.receive()).payload == payload


async def test_a_publish_that_is_sent_again_while_it_is_under_way_is_answered_once(node: Node) -> None:
    """[MQTT311-2.3.1-3] [MQTT311-4.3.2-2]"""
    client = await node.connected()
    await client.send(Publish("held/a", b"x", 1, packet_id=5))
    await client.send(Publish("held/a", b"x", 1, dup=True, packet_id=5))
    await client.ping()
    (settle,) = node.hooks.held
    settle(R.SUCCESS, "")
    assert await client.expect(Puback) == Puback(5)
    assert await client.before_pong() == []


# From the client, QoS 2


async def test_until_pubrel_a_publish_that_is_sent_again_is_answered_and_not_delivered_again(node: Node) -> None:
    """[MQTT311-4.3.3-2] [MQTT311-2.3.1-3] [MQTT311-2.3.1-6]"""
    watcher = await watching(node)
    client = await node.connected()
    for dup in (False, True, True):
        await client.send(Publish("a", b"once", 2, dup=dup, packet_id=5))
        assert await client.expect(Pubrec) == Pubrec(5)
    await client.send(Pubrel(5))
    assert await client.expect(Pubcomp) == Pubcomp(5)
    assert (await watcher.receive()).payload == b"once"
    await node.hears_nothing(watcher)


async def test_after_pubcomp_the_same_packet_id_is_a_new_publish(node: Node) -> None:
    """[MQTT311-4.3.3-2]"""
    watcher = await watching(node)
    client = await node.connected()
    for payload in (b"1", b"2"):
        await client.send(Publish("a", payload, 2, packet_id=5))
        assert await client.expect(Pubrec) == Pubrec(5)
        await client.send(Pubrel(5))
        assert await client.expect(Pubcomp) == Pubcomp(5)
        assert (await watcher.receive()).payload == payload


async def test_a_pubrel_that_is_sent_again_is_answered_again(node: Node) -> None:
    """[MQTT311-4.3.3-2] [MQTT311-4.4.0-1]"""
    client = await node.connected()
    await client.send(Publish("a", b"x", 2, packet_id=5))
    assert await client.expect(Pubrec) == Pubrec(5)
    for _ in range(2):
        await client.send(Pubrel(5))
        assert await client.expect(Pubcomp) == Pubcomp(5)


async def test_a_qos_2_publish_counts_once_however_often_the_connection_is_lost(node: Node) -> None:
    """[MQTT311-4.3.3-2] [MQTT311-4.4.0-1] [MQTT311-2.3.1-3]"""
    watcher = await watching(node)
    for _ in range(3):
        client = await node.connected(clean_start=False)
        await client.send(Publish("a", b"once", 2, dup=client.connack.session_present, packet_id=5))
        assert await client.expect(Pubrec) == Pubrec(5)
        await node.gone(client)
    for _ in range(2):
        client = await node.connected(clean_start=False)
        await client.send(Pubrel(5))
        assert await client.expect(Pubcomp) == Pubcomp(5)
        await node.gone(client)
    assert (await watcher.receive()).payload == b"once"
    await node.hears_nothing(watcher)
    client = await node.connected(clean_start=False)
    await client.send(Publish("a", b"new", 2, packet_id=5))
    assert (await watcher.receive()).payload == b"new"


# To the client


@pytest.mark.parametrize("clean", [True, False])
async def test_a_qos_2_delivery_goes_from_pubrec_to_pubrel_and_is_over_at_pubcomp(node: Node, clean: bool) -> None:
    """[MQTT311-4.3.3-1] [MQTT311-2.3.1-6]"""
    watcher = await node.connected("watcher", clean_start=clean)
    await watcher.subscribe_to("a", 2)
    await (await node.connected("publisher")).publish_to("a", b"x", 2)
    coming = await watcher.expect(Publish)
    await watcher.send(Pubrec(coming.packet_id))
    assert await watcher.expect(Pubrel) == Pubrel(coming.packet_id)
    await watcher.send(Pubrec(coming.packet_id))  # sent again, it is answered again
    assert await watcher.expect(Pubrel) == Pubrel(coming.packet_id)
    await watcher.send(Pubcomp(coming.packet_id))
    assert await watcher.before_pong() == []


async def test_nothing_is_sent_again_on_the_same_connection(node: Node) -> None:
    """[MQTT311-4.4.0-1] [MQTT311-4.3.2-1]"""
    watcher = await watching(node)
    await (await node.connected("publisher")).publish_to("a", b"x", 1)
    await watcher.expect(Publish)
    await node.hears_nothing(watcher)
    await node.hears_nothing(watcher)


async def test_what_was_not_acknowledged_is_sent_again_with_dup_and_its_packet_id(node: Node) -> None:
    """[MQTT311-4.4.0-1] [MQTT311-3.3.1-1] [MQTT311-4.3.2-1] [MQTT311-4.5.0-2]"""
    watcher = await node.connected("watcher", clean_start=False)
    await watcher.subscribe_to("a", 2)
    publisher = await node.connected("publisher")
    for qos in (1, 2):
        await publisher.publish_to("a", b"at %d" % qos, qos)
    sent = [await watcher.expect(Publish) for _ in range(2)]
    for _ in range(2):  # as often as it takes
        await node.gone(watcher)
        watcher = await node.connected("watcher", clean_start=False)
        again = [await watcher.expect(Publish) for _ in range(2)]
        assert [(each.packet_id, each.qos, each.payload, each.dup) for each in again] == [
            (each.packet_id, each.qos, each.payload, True) for each in sent
        ]


async def test_what_was_acknowledged_is_over(node: Node) -> None:
    """[MQTT311-4.3.2-1] [MQTT311-4.3.3-1]"""
    watcher = await node.connected("watcher", clean_start=False)
    await watcher.subscribe_to("a", 1)
    publisher = await node.connected("publisher")
    for payload in (b"1", b"2", b"3"):
        await publisher.publish_to("a", payload, 1)
    sent = [await watcher.expect(Publish) for _ in range(3)]
    await watcher.send(Puback(sent[1].packet_id))
    await watcher.ping()
    await node.gone(watcher)
    again = await node.connected("watcher", clean_start=False)
    assert [((await again.expect(Publish)).payload) for _ in range(2)] == [b"1", b"3"]
    assert await again.before_pong() == []


@pytest.mark.parametrize("restart", [False, True])
async def test_after_pubrec_only_pubrel_is_sent_again(node: Node, restart: bool) -> None:
    """[MQTT311-4.3.3-1] [MQTT311-4.4.0-1]"""
    watcher = await node.connected("watcher", clean_start=False)
    await watcher.subscribe_to("a", 2)
    await (await node.connected("publisher")).publish_to("a", b"x", 2)
    coming = await watcher.expect(Publish)
    await watcher.send(Pubrec(coming.packet_id))
    assert await watcher.expect(Pubrel) == Pubrel(coming.packet_id)
    await (node.restart() if restart else node.gone(watcher))
    again = await node.connected("watcher", clean_start=False)
    assert await again.expect(Pubrel) == Pubrel(coming.packet_id)
    await again.send(Pubcomp(coming.packet_id))
    assert await again.before_pong() == []
    await node.gone(again)
    await node.hears_nothing(await node.connected("watcher", clean_start=False))


async def test_a_client_that_acknowledges_nothing_gets_no_more_than_the_server_lets_be_in_flight(node: Node) -> None:
    """[MQTT311-4.5.0-2]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("a", 1)
    publisher = await node.connected("publisher")
    window = node.limits.inflight_max
    for number in range(window + 3):
        await publisher.publish_to("a", b"%d" % number, 1)
    held = [await watcher.expect(Publish) for _ in range(window)]
    assert await watcher.before_pong() == []
    for each in held:
        await watcher.send(Puback(each.packet_id))
    assert await watcher.receive_payloads(3) == [b"%d" % number for number in range(window, window + 3)]


@pytest.mark.parametrize(
    "wrong",
    [Puback(77), Pubcomp(77)],
)
async def test_an_acknowledgement_of_nothing_changes_nothing(node: Node, wrong: Puback | Pubcomp) -> None:
    client = await node.connected()
    await client.send(wrong)
    assert await client.before_pong() == []


@pytest.mark.parametrize(("qos", "wrong"), [(1, Pubrec), (2, Puback), (2, Pubcomp)])
async def test_the_acknowledgement_of_another_quality_of_service_ends_the_connection(
    node: Node, qos: int, wrong: type[Pubrec] | type[Puback] | type[Pubcomp]
) -> None:
    """[MQTT311-3.3.4-1] [MQTT311-4.8.0-1]"""
    watcher = await watching(node)
    await (await node.connected("publisher")).publish_to("a", b"x", qos)
    coming = await watcher.expect(Publish)
    await watcher.send(wrong(coming.packet_id))
    assert await watcher.rest() == []


# Publishes that are not allowed (3.3.5), and errors (4.8)


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_publish_that_is_not_allowed_ends_the_connection_and_reaches_nobody(node: Node, qos: int) -> None:
    """[MQTT311-3.3.5-2]"""
    watcher = await watching(node)
    client = await node.connected(clean_start=False)
    await client.send(Publish("forbidden/x", b"x", qos, packet_id=1))
    assert await client.rest() == []
    again = await node.connected(clean_start=False)
    await again.send(Publish("forbidden/x", b"x", qos, dup=True, packet_id=1))  # or it would never get out of this
    assert await again.next() == (Puback(1) if qos == 1 else Pubrec(1))
    await node.hears_nothing(watcher)


async def test_a_qos_0_publish_that_is_not_allowed_is_dropped(node: Node) -> None:
    """[MQTT311-3.3.5-2]"""
    watcher = await watching(node)
    client = await node.connected()
    await client.publish_to("forbidden/x")
    await client.publish_to("a", b"allowed")
    assert (await watcher.receive()).payload == b"allowed"


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_an_error_of_the_server_ends_the_connection_whose_packet_it_was(
    node: Node, monkeypatch: pytest.MonkeyPatch, qos: int
) -> None:
    """[MQTT311-4.8.0-2]"""
    other = await node.connected("other")
    client = await node.connected(will=Will("forbidden/w", b""))

    def fails(session: Session, publish: Publish) -> Outcome | None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(node.hooks, "on_publish", fails)
    await client.send(Publish("a", b"x", qos, packet_id=1 if qos else 0))
    assert await client.rest() == []
    await other.ping()


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_publish_that_cannot_be_taken_now_is_not_acknowledged_and_the_connection_ends(
    node: Node, qos: int
) -> None:
    """[MQTT311-4.8.0-2] [MQTT311-4.3.2-2] [MQTT311-4.3.3-2]"""
    client = await node.connected()
    await client.send(Publish("held/a", b"x", qos, packet_id=1))
    await node.until(lambda: len(node.hooks.held) == 1)
    (settle,) = node.hooks.held
    settle(R.SERVER_BUSY, "the disk is full")
    assert await client.rest() == []


def test_a_sent_publish_has_its_topic_name_first_and_its_packet_id_only_above_qos_0() -> None:
    """[MQTT311-3.3.2-1] [MQTT311-2.3.1-5] [MQTT311-2.3.1-1]"""
    assert encode(Publish("a/b", b"xy"), MQTT_3_1_1) == b"\x30\x07\x00\x03a/bxy"
    assert encode(Publish("a/b", b"xy", 1, packet_id=10), MQTT_3_1_1) == b"\x32\x09\x00\x03a/b\x00\x0axy"
    assert encode(Publish("a/b", b"xy", 2, True, True, 10), MQTT_3_1_1) == b"\x3d\x09\x00\x03a/b\x00\x0axy"
