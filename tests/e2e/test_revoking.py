"""Permissions of `recado broker` that are taken away, and names that look like wildcards: nothing slips past."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.services.child_process import running
from recado.mqtt.packets import MQTT_5, Connack, Connect, Puback, Publish, Will
from recado.mqtt.properties import Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.app.brokers import received, subscribe, users
from tests.app.commands import SECRET
from tests.broker.client import Client
from tests.support.broker_process import BrokerProcess, wait_until
from tests.support.tokens import mint_token

KEPT: Properties = {PropertyId.SESSION_EXPIRY_INTERVAL: 600}

ACL = "user ana\ntopic readwrite #\nuser bruno\ntopic read {}\ntopic write {}"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[BrokerProcess]:
    """One on which bruno may do what ana does, until `revoke`."""
    users(tmp_path, ana="secret of ana", bruno="secret of bruno")
    (tmp_path / "acl").write_text(ACL.format("#", "#"))
    with running(BrokerProcess(tmp_path, "--limit.inflight_max=2")) as broker:
        yield broker


def revoke(broker: BrokerProcess, *, restart: bool = False) -> None:
    (broker.directory / "acl").write_text(ACL.format("news/#", "news/#"))
    if restart:
        broker.kill()
        broker.start()
    else:
        assert broker.reload()["event"] == "reloaded"


async def come_back(broker: BrokerProcess) -> Client:
    bruno = await broker.client()
    await bruno.send(Connect("phone", MQTT_5, False, 0, None, "bruno", b"secret of bruno", KEPT))
    assert (await bruno.expect(Connack)).session_present
    return bruno


@pytest.mark.parametrize("topic_filter", ["home/x", "#", "$share/g/#"])
async def test_what_was_delivered_before_is_not_once_it_may_not_be_read(
    guarded: BrokerProcess, topic_filter: str
) -> None:
    bruno = await guarded.connected("bruno", "secret of bruno")
    await subscribe(bruno, topic_filter)
    ana = await guarded.connected("ana", "secret of ana")
    await ana.publish("home/x", "before")
    assert await received(bruno) == [("home/x", "before")]

    revoke(guarded)

    await ana.publish("home/x", "after")
    assert await received(bruno) == []


@pytest.mark.parametrize("restart", [False, True], ids=["reload", "restart"])
async def test_what_is_in_flight_does_not_come_again_once_it_may_not_be_read(
    guarded: BrokerProcess, restart: bool
) -> None:
    bruno = await guarded.connected("bruno", "secret of bruno", properties=KEPT)
    assert await subscribe(bruno, "#", 2) == 2
    ana = await guarded.connected("ana", "secret of ana")
    await ana.publish("home/x", "secret by now")
    await ana.publish("news/x", "for all")
    assert [(await bruno.expect(Publish)).topic_name for _ in range(2)] == ["home/x", "news/x"]
    bruno.close()

    revoke(guarded, restart=restart)

    again = await come_back(guarded)
    publish = await again.expect(Publish)
    assert (publish.topic_name, publish.dup) == ("news/x", True)
    await again.send(Puback(publish.packet_id))
    assert await received(again) == []


@pytest.mark.parametrize("properties", [{}, KEPT], ids=["in memory", "kept"])
async def test_what_waits_for_a_connected_user_is_not_sent_once_it_may_not_be_read(
    guarded: BrokerProcess, properties: Properties
) -> None:
    bruno = await guarded.connected("bruno", "secret of bruno", properties=properties)
    assert await subscribe(bruno, "#", 1) == 1
    ana = await guarded.connected("ana", "secret of ana")
    for topic_name in ("home/1", "home/2", "home/3", "news/4", "home/5"):
        await ana.publish(topic_name, topic_name)
    assert await bruno.take(2, acknowledge=False) == ["home/1", "home/2"]

    revoke(guarded)

    await bruno.send(Puback(1), Puback(2))
    assert await bruno.take(1) == ["news/4"]
    assert await received(bruno) == []


@pytest.mark.parametrize("restart", [False, True], ids=["reload", "restart"])
async def test_a_will_of_who_may_not_publish_there_any_more_is_not_published(
    guarded: BrokerProcess, restart: bool
) -> None:
    for topic_name in ("home/will", "news/will"):
        will = Will(topic_name, b"gone", 1, True, {PropertyId.WILL_DELAY_INTERVAL: 1} if restart else {})
        bruno = await guarded.client()
        connect = Connect(topic_name, MQTT_5, True, 0, will, "bruno", b"secret of bruno", KEPT)
        await bruno.send(connect)
        assert (await bruno.expect(Connack)).reason_code == 0
        assert await subscribe(bruno, "news/none") == 0  # once it is answered, the will is on the disk
        if topic_name == "home/will":
            unwanted = bruno
    if not restart:
        revoke(guarded)
    unwanted.close()
    bruno.close()
    if restart:
        revoke(guarded, restart=True)
    ana = await guarded.connected("ana", "secret of ana")
    await subscribe(ana, "+/will", 1)
    assert (await ana.expect(Publish)).topic_name == "news/will"
    wait_until(lambda: guarded.metric("recado_mqtt_refusals_total") == 1)
    assert await received(ana) == []


@pytest.mark.parametrize("name", ["#", "+", "ana/#", "+/+", "%u", "$SYS"])
async def test_a_user_by_the_name_of_a_wildcard_reads_nothing_of_others(tmp_path: Path, name: str) -> None:
    users(tmp_path, ana="secret of ana")
    (tmp_path / "acl").write_text(
        "user ana\ntopic readwrite #\neveryone\npattern readwrite home/%u/#\npattern read %c/x"
    )
    broker = BrokerProcess(tmp_path, "--database=off", SECRET=SECRET)
    try:
        broker.start()
        ana = await broker.connected("ana", "secret of ana")
        await ana.send(Publish("home/ana/x", b"kept", retain=True))
        eve = await broker.connected(name, mint_token(SECRET, name), client_id=name)
        for topic_filter in (f"home/{name}/#", f"home/{name}", "home/#", "home/+/x", f"{name}/x", "+/x", "home/ana/x"):
            if not topic_filter.count("#/"):
                await subscribe(eve, topic_filter)
        await ana.publish("home/ana/x", "private")
        await ana.publish("a/x", "private")
        assert await received(eve) == []
        assert (await eve.publish("home/ana/x", "forged")).reason_code == ReasonCode.NOT_AUTHORIZED
        broker.stop()
    finally:
        broker.close()
