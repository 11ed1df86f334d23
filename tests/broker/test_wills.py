"""Wills: what is published for a client that is gone, when, and when not."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import (
    MQTT_5,
    Disconnect,
    Publish,
    Suback,
    Will,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.conftest import PublicNode
from tests.broker.public import PUBLIC_LIMITS, TOPIC, PublicClient

WINDOW = LIMITS.inflight_max


def will(text: str = "gone", delay_s: int = 0, **more: object) -> Will:
    properties = {PropertyId.WILL_DELAY_INTERVAL: delay_s} if delay_s else {}
    return Will(TOPIC, text.encode(), 1, properties=properties, **more)  # type: ignore[arg-type]


@pytest.fixture
async def mourner(public: PublicNode) -> PublicClient:
    mourner = await public.connected("bruno", "mourner")
    await mourner.subscribe(TOPIC)
    return mourner


@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_will_comes_when_the_connection_is_lost(
    public: PublicNode, mourner: PublicClient, level: int, is_kept: bool
) -> None:
    client = await public.client(level=level)
    await (client.keep(will=will()) if is_kept else client.connect_with("ana", will=will()))
    await public.leave(client)
    assert await mourner.take(1) == ["gone"]
    assert public.server.counters.wills == 1


async def test_a_will_does_not_come_after_a_disconnect_in_order(
    public: PublicNode, mourner: PublicClient, level: int
) -> None:
    client = await public.client(level=level)
    await client.keep(will=will())
    await client.send(Disconnect())
    assert await client.rest() == []
    public.pass_by(PUBLIC_LIMITS.session_expiry_max_s + 1)
    assert await mourner.before_pong() == []


async def test_a_will_comes_after_a_disconnect_that_wants_it(public: PublicNode, mourner: PublicClient) -> None:
    client = await public.kept(will=will())
    await client.send(Disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE))
    assert await mourner.take(1) == ["gone"]


async def test_a_will_waits_as_long_as_it_asks_and_comes_once(public: PublicNode, mourner: PublicClient) -> None:
    await public.leave(await public.kept(will=will(delay_s=20)))
    public.pass_by(19)
    assert await mourner.before_pong() == []
    public.pass_by(2)
    assert await mourner.take(1) == ["gone"]
    public.pass_by(PUBLIC_LIMITS.session_expiry_max_s + 1)
    assert await mourner.before_pong() == []
    assert public.users() == {"bruno"}


async def test_a_will_comes_with_the_end_of_the_session_if_that_is_sooner(
    public: PublicNode, mourner: PublicClient
) -> None:
    await public.leave(await public.kept(will=will(delay_s=200), expiry_s=10))
    public.pass_by(11)
    assert await mourner.take(1) == ["gone"]


@pytest.mark.parametrize("clean_start", [False, True])
async def test_who_comes_back_in_time_has_no_will_unless_it_starts_anew(
    public: PublicNode, mourner: PublicClient, clean_start: bool
) -> None:
    await public.leave(await public.kept(will=will(delay_s=20)))
    again = await public.kept(clean_start=clean_start, will=will("gone again"))
    assert await mourner.take(clean_start) == ["gone"] * clean_start
    public.pass_by(100)
    assert await again.before_pong() == []
    assert await mourner.before_pong() == []
    await public.leave(again)
    assert await mourner.take(1) == ["gone again"]


@pytest.mark.parametrize(("delay_s", "is_sent"), [(0, True), (20, False)])
async def test_a_take_over_sends_a_will_that_does_not_wait(
    public: PublicNode, mourner: PublicClient, delay_s: int, is_sent: bool
) -> None:
    await public.kept(will=will(delay_s=delay_s))
    await public.kept()
    assert await mourner.take(is_sent) == ["gone"] * is_sent
    public.pass_by(100)
    assert await mourner.before_pong() == []


@pytest.mark.parametrize("end", ["restart", "kill"])
async def test_a_will_that_waits_survives_the_servers_end(public: PublicNode, end: str) -> None:
    mourner = await public.kept("bruno")
    await mourner.subscribe(TOPIC)
    await public.kept(will=will(delay_s=20, retain=True))
    await public.written()
    await (public.restart() if end == "restart" else public.kill())
    assert public.server.counters.wills == 0
    public.pass_by(21)
    assert await (await public.kept("bruno")).take(1) == ["gone"]
    late = await public.connected("carla")
    await late.send(late.subscription(TOPIC))
    assert {type(await late.next()) for _ in range(2)} == {Suback, Publish}


async def test_after_a_will_was_sent_the_session_is_kept_no_longer_than_before(public: PublicNode) -> None:
    await public.leave(await public.kept(will=will(delay_s=60), expiry_s=100))
    public.pass_by(61)
    await public.written()
    await public.kill()
    public.pass_by(41)
    assert public.users() == set()


async def test_a_will_that_is_refused_when_its_time_comes_is_not_sent(
    public: PublicNode, mourner: PublicClient
) -> None:
    client = await public.kept(will=will())
    public.hooks.answers[TOPIC] = ReasonCode.NOT_AUTHORIZED
    await public.leave(client)
    assert await mourner.before_pong() == []
    assert public.server.counters.refusals["NOT_AUTHORIZED"] == 1


async def test_a_will_that_the_application_fails_on_is_lost_and_nothing_else_is(
    public: PublicNode, mourner: PublicClient
) -> None:
    public.hooks.wills_fail = True
    for client_id in ("1", "2"):
        await public.leave(await public.kept("ana", client_id=client_id, will=will(delay_s=5), expiry_s=10))
    public.pass_by(11)
    assert public.users() == {"bruno"}
    assert await mourner.before_pong() == []


async def test_a_will_that_could_never_be_published_is_refused_at_connect(public: PublicNode, level: int) -> None:
    client = await public.client(level=level)
    connack = await client.connect_with("ana", will=Will("/".join("abcdefghi"), b"x"))
    assert connack.reason_code == (ReasonCode.TOPIC_NAME_INVALID if level == MQTT_5 else ReasonCode.NOT_AUTHORIZED)
    other = await public.client()
    bad = Will(TOPIC, b"\xff", properties={PropertyId.PAYLOAD_FORMAT_INDICATOR: 1})
    assert (await other.connect_with("ana", will=bad)).reason_code == ReasonCode.PAYLOAD_FORMAT_INVALID
