"""Wills (3.1.2.5, 3.1.3.2): when they are published, when they are not, and as what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recado.mqtt.packets import Pingreq, Publish, Will
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.client import Client
from tests.conformance.node import Node, over_tcp

PassSeconds = Callable[[int], None]
WILL = Will("w", b"bye", qos=1)


def delayed(seconds: int) -> Will:
    return Will("w", b"bye", 1, properties={P.WILL_DELAY_INTERVAL: seconds})


async def watching(node: Node) -> Client:
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("w", 2)
    return watcher


async def test_a_will_is_published_when_the_connection_breaks(node: Node) -> None:
    """[MQTT5-3.1.2-7] [MQTT5-3.1.2-8] [MQTT5-3.1.2-14]"""
    watcher = await watching(node)
    client = await node.connected(will=WILL)
    await node.hears_nothing(watcher)
    client.close()
    will = await watcher.receive()
    assert (will.topic_name, will.payload, will.qos, will.retain) == ("w", b"bye", 1, False)
    late = await node.connected("late")
    await late.subscribe_to("w", 1)
    await node.hears_nothing(late)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_will_is_published_at_its_qos(node: Node, qos: int) -> None:
    """[MQTT5-3.1.2-12]"""
    watcher = await watching(node)
    await node.gone(await node.connected(will=Will("w", b"", qos)))
    will = await watcher.receive()
    assert (will.payload, will.qos) == (b"", qos)


async def test_a_will_with_retain_becomes_the_retained_message(node: Node) -> None:
    """[MQTT5-3.1.2-15]"""
    watcher = await watching(node)
    await node.gone(await node.connected(will=Will("w", b"bye", 1, retain=True)))
    assert not (await watcher.receive()).retain
    late = await node.connected("late")
    await late.subscribe_to("w", 1)
    will = await late.receive()
    assert (will.payload, will.retain) == (b"bye", True)


async def test_a_will_is_published_with_its_properties_in_their_order(node: Node) -> None:
    """[MQTT5-3.1.3-10]"""
    properties = {
        P.PAYLOAD_FORMAT_INDICATOR: 1,
        P.CONTENT_TYPE: "text/plain",
        P.RESPONSE_TOPIC: "answers",
        P.CORRELATION_DATA: b"\x00\xff",
        P.USER_PROPERTY: [("b", "1"), ("a", "2"), ("b", "1"), ("", "")],
    }
    watcher = await watching(node)
    await node.gone(
        await node.connected(will=Will("w", b"bye", properties={P.MESSAGE_EXPIRY_INTERVAL: 100, **properties}))
    )
    got = dict((await watcher.receive()).properties)
    assert got.pop(P.MESSAGE_EXPIRY_INTERVAL) in range(80, 101)
    assert got == properties


@over_tcp
async def test_a_normal_disconnect_takes_the_will_away(node: Node) -> None:
    """[MQTT5-3.14.4-3] [MQTT5-3.1.2-10] [MQTT5-3.1.2-8]"""
    watcher = await watching(node)
    await (await node.connected(will=WILL)).disconnect()
    await (await node.connected("b", will=delayed(1), session_expiry=60)).disconnect()
    await node.let_pass(2.2)
    await node.hears_nothing(watcher)


async def test_a_disconnect_with_will_message_publishes_it(node: Node) -> None:
    """[MQTT5-3.1.2-8]"""
    watcher = await watching(node)
    await (await node.connected(will=WILL)).disconnect(R.DISCONNECT_WITH_WILL_MESSAGE)
    assert (await watcher.receive()).payload == b"bye"


async def test_a_client_that_breaks_the_protocol_leaves_its_will(node: Node) -> None:
    """[MQTT5-3.1.2-8]"""
    watcher = await watching(node)
    client = await node.connected(will=WILL)
    await client.send_bytes(b"\xff\xff\xff\xff\xff")
    assert (await watcher.receive()).payload == b"bye"


@over_tcp
async def test_a_client_whose_keep_alive_passed_leaves_its_will(node: Node) -> None:
    """[MQTT5-3.1.2-22] [MQTT5-3.1.2-8]"""
    watcher = await watching(node)
    await node.connected(will=WILL, keep_alive=1)
    assert (await watcher.receive()).payload == b"bye"


async def test_without_a_will_nothing_is_published(node: Node) -> None:
    """[MQTT5-3.1.2-7]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#", 2)
    await node.gone(await node.connected())
    await node.hears_nothing(watcher)


async def test_a_will_is_published_once(node: Node) -> None:
    """[MQTT5-3.1.2-10]"""
    watcher = await watching(node)
    await node.gone(await node.connected(will=WILL, session_expiry=60))
    await watcher.receive()
    await (await node.connected(clean_start=False, session_expiry=60)).disconnect(R.DISCONNECT_WITH_WILL_MESSAGE)
    await node.hears_nothing(watcher)


# The delay


@over_tcp
async def test_a_delayed_will_waits_for_its_delay(node: Node, pass_seconds: PassSeconds) -> None:
    """[MQTT5-3.1.2-8]"""
    watcher = await watching(node)
    await node.gone(await node.connected(will=delayed(20), session_expiry=60))
    pass_seconds(19)
    await node.hears_nothing(watcher)
    pass_seconds(3)  # the clock has whole seconds, and is never early
    assert (await watcher.receive()).payload == b"bye"


@over_tcp
async def test_a_delayed_will_is_not_published_if_its_client_comes_back_to_its_session(
    node: Node, pass_seconds: PassSeconds
) -> None:
    """[MQTT5-3.1.3-9] [MQTT5-3.1.2-8]"""
    watcher = await watching(node)
    await node.gone(await node.connected(will=delayed(20), session_expiry=60))
    pass_seconds(15)
    await node.connected(clean_start=False, session_expiry=60)
    pass_seconds(10)
    await node.hears_nothing(watcher)


@over_tcp
async def test_a_delayed_will_does_not_outwait_its_session(node: Node) -> None:
    """[MQTT5-3.1.2-8]"""
    watcher = await watching(node)
    await node.gone(await node.connected(will=delayed(60), session_expiry=1))
    assert (await watcher.receive()).payload == b"bye"
    assert not (await node.connected(clean_start=False)).connack.session_present


async def test_a_delayed_will_of_a_session_that_ends_at_once_is_published_at_once(node: Node) -> None:
    """[MQTT5-3.1.2-8]"""
    watcher = await watching(node)
    await node.gone(await node.connected(will=delayed(60)))
    assert (await watcher.receive()).payload == b"bye"


async def test_a_clean_start_ends_the_session_and_so_publishes_its_delayed_will(node: Node) -> None:
    """[MQTT5-3.1.2-8]"""
    watcher = await watching(node)
    await node.gone(await node.connected(will=delayed(60), session_expiry=60))
    await node.connected(clean_start=True)
    assert (await watcher.receive()).payload == b"bye"


@over_tcp
async def test_a_take_over_publishes_the_old_connections_will_unless_it_is_delayed(
    node: Node, pass_seconds: PassSeconds
) -> None:
    """[MQTT5-3.1.4-3] [MQTT5-3.1.3-9]"""
    watcher = await watching(node)
    await node.connected("now", will=WILL, session_expiry=60)
    await node.connected("now", clean_start=False, session_expiry=60)
    assert (await watcher.receive()).payload == b"bye"
    await node.connected("later", will=delayed(20), session_expiry=60)
    await node.connected("later", clean_start=False, session_expiry=60)
    pass_seconds(30)
    await node.hears_nothing(watcher)


@over_tcp
async def test_a_delayed_will_survives_the_servers_restart(node: Node) -> None:
    """[MQTT5-3.1.2-7]"""
    watcher = await node.connected("watcher", session_expiry=60)
    await watcher.subscribe_to("w", 1)
    await node.gone(await node.connected(will=delayed(2), session_expiry=60))
    await node.restart()
    again = await node.connected("watcher", clean_start=False, session_expiry=60)
    assert (await again.receive()).payload == b"bye"


async def test_a_will_that_may_not_be_published_is_not(node: Node) -> None:
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#", 1)
    await node.gone(await node.connected(will=Will("forbidden/w", b"bye", retain=True)))
    await node.hears_nothing(watcher)


async def test_a_will_of_bad_format_is_refused_before_it_can_harm_anyone(node: Node) -> None:
    client = await node.client()
    connack = await client.connect_as("ana", will=Will("w", b"\xff", properties={P.PAYLOAD_FORMAT_INDICATOR: 1}))
    assert connack.reason_code is R.PAYLOAD_FORMAT_INVALID
    assert await client.rest() == []


async def test_the_will_of_the_newest_connection_is_the_one_that_counts(node: Node) -> None:
    """[MQTT5-3.1.2-7]"""
    watcher = await watching(node)
    await node.connected(will=delayed(60), session_expiry=60)
    await node.gone(await node.connected(clean_start=False, session_expiry=60, will=Will("w", b"newest")))
    assert (await watcher.receive()).payload == b"newest"
    await watcher.send(Pingreq())
    assert not isinstance(await watcher.next(), Publish)
