"""`recado broker` with the client libraries of others, each in every version and over every transport that it has, and
as Home Assistant and its devices use a broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import aiomqtt
import pytest

from deploy.services.child_process import running
from tests.support.broker_process import BrokerProcess
from tests.support.connection import Connection, Delivery, Session, Transport, Version, Will, new_topic, next_delivery
from tests.support.node import NodeClient
from tests.support.paho_python import PahoPython

Make = Callable[..., Connection]
TIMEOUT_S = 20


@dataclass(frozen=True)
class Kind:
    """One library in one version over one transport."""

    library: Literal["paho-python", "mqttjs", "pahojs"]
    version: Version
    transport: Transport

    def __str__(self) -> str:
        return f"{self.library}-{self.version}-{self.transport}"

    @property
    def make(self) -> Make:
        if self.library == "paho-python":
            return PahoPython
        return partial(NodeClient, self.library)


VERSIONS: tuple[Version, ...] = ("3.1.1", "5")
EVERYWHERE: tuple[Transport, ...] = ("tcp", "tls", "websocket", "wss")
KINDS = [
    *(Kind("paho-python", version, transport) for version in VERSIONS for transport in (*EVERYWHERE, "unix")),
    *(Kind("mqttjs", version, transport) for version in VERSIONS for transport in EVERYWHERE),
    Kind("pahojs", "3.1.1", "websocket"),
]
ONE_OF_EACH = [kind for kind in KINDS if kind.transport == ("websocket" if kind.library == "pahojs" else "tcp")]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One that everybody may use, for topics of the test's own; it must stop cleanly."""
    with running(BrokerProcess(tmp_path_factory.mktemp("broker"))) as broker:
        yield broker
        broker.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[BrokerProcess]:
    """One of the test's own, which it may kill and restart."""
    with running(BrokerProcess(tmp_path)) as broker:
        yield broker


@pytest.fixture
def closer() -> Iterator[ExitStack]:
    with ExitStack() as closer:
        yield closer


@pytest.fixture
def topic() -> str:
    return new_topic()


def connected(kind: Kind, broker: BrokerProcess, closer: ExitStack, **options: Any) -> Connection:
    connection = kind.make(broker.login, kind.version, kind.transport, **options)
    closer.enter_context(closing(connection))
    assert connection.connect() == 0
    return connection


# The libraries


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_qos_arrives_once_and_a_retained_message_waits_for_who_comes_later(
    kind: Kind, broker: BrokerProcess, closer: ExitStack, topic: str
) -> None:
    ana, bruno = connected(kind, broker, closer), connected(kind, broker, closer)
    assert bruno.subscribe(f"{topic}/#", qos=2) == 2
    for qos in (0, 1, 2):
        assert ana.publish(f"{topic}/{qos}", f"olá {qos}", qos, retain=qos == 1) == 0
    assert [next_delivery(bruno) for _ in range(3)] == [Delivery(f"{topic}/{n}", n, f"olá {n}") for n in range(3)]
    assert ana.subscribe(f"{topic}/+", qos=1) == 1
    assert next_delivery(ana) == Delivery(f"{topic}/1", 1, "olá 1", retain=True)
    assert bruno.received.empty()


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=str)
def test_a_session_that_is_kept_gets_what_came_while_its_client_was_away(
    kind: Kind, broker: BrokerProcess, closer: ExitStack, topic: str
) -> None:
    session = Session(f"kept-{uuid.uuid4().hex}")
    first = connected(kind, broker, closer, session=session)
    assert first.subscribe(topic, qos=2) == 2
    first.close()
    ana = connected(kind, broker, closer)
    for qos in (1, 2):
        assert ana.publish(topic, str(qos), qos) == 0
    again = connected(kind, broker, closer, session=session)
    assert [next_delivery(again).payload for _ in range(2)] == ["1", "2"]


@pytest.mark.parametrize("kind", [kind for kind in ONE_OF_EACH if kind.library != "paho-python"], ids=str)
def test_the_will_of_a_process_that_was_killed_is_published(
    kind: Kind, broker: BrokerProcess, closer: ExitStack, topic: str
) -> None:
    watcher = connected(kind, broker, closer)
    watcher.subscribe(topic)
    dying = connected(kind, broker, closer, will=Will(topic, "gone"))
    assert isinstance(dying, NodeClient)
    dying.kill()
    assert next_delivery(watcher) == Delivery(topic, 1, "gone")


def test_every_library_hears_every_other(broker: BrokerProcess, closer: ExitStack, topic: str) -> None:
    connections = [connected(kind, broker, closer) for kind in KINDS]
    for connection in connections:
        connection.subscribe(topic, qos=1)
    for n, connection in enumerate(connections):
        assert connection.publish(topic, str(n), qos=1) == 0
    expected = {str(n) for n in range(len(connections))}
    for connection in connections:
        assert {next_delivery(connection).payload for _ in expected} == expected


# aiomqtt


AIOMQTT = [
    (version, transport)
    for version in (aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5)
    for transport in ("tcp", "tls", "websocket", "unix")
]


def aiomqtt_client(broker: BrokerProcess, version: aiomqtt.ProtocolVersion, transport: str, **options: Any) -> Any:
    if transport == "unix":
        return aiomqtt.Client(str(broker.unix_socket), transport="unix", protocol=version, **options)
    where: dict[str, Any] = {"port": broker.mqtt_port}
    if transport == "tls":
        where = {"port": broker.tls_port, "tls_context": ssl.create_default_context(cafile=broker.login.trusted)}
    if transport == "websocket":
        where = {"port": broker.ws_port, "transport": "websockets", "websocket_path": "/mqtt"}
    return aiomqtt.Client("127.0.0.1", protocol=version, **where, **options)


async def first_messages(client: Any, count: int) -> list[tuple[str, bytes, int, bool]]:
    async with asyncio.timeout(TIMEOUT_S):
        found = []
        async for message in client.messages:
            found.append((message.topic.value, message.payload, message.qos, message.retain))
            if len(found) == count:
                break
        return found


@pytest.mark.parametrize(("version", "transport"), AIOMQTT)
async def test_aiomqtt_publishes_and_subscribes_at_each_qos(
    broker: BrokerProcess, topic: str, version: aiomqtt.ProtocolVersion, transport: str
) -> None:
    async with aiomqtt_client(broker, version, transport) as client:
        await client.publish(f"{topic}/before", b"kept", qos=1, retain=True)
        await client.subscribe(f"{topic}/+", qos=2)
        for qos in (0, 1, 2):
            await client.publish(f"{topic}/{qos}", str(qos), qos=qos)
        assert await first_messages(client, 4) == [
            (f"{topic}/before", b"kept", 1, True),
            *((f"{topic}/{qos}", b"%d" % qos, qos, False) for qos in (0, 1, 2)),
        ]
        await client.unsubscribe(f"{topic}/+")


async def test_workers_with_aiomqtt_share_a_subscription(broker: BrokerProcess, topic: str) -> None:
    five = aiomqtt.ProtocolVersion.V5
    async with (
        aiomqtt_client(broker, five, "tcp") as one,
        aiomqtt_client(broker, five, "websocket") as two,
        aiomqtt_client(broker, five, "tcp") as sender,
    ):
        for worker in (one, two):
            await worker.subscribe(f"$share/workers/{topic}", qos=1)
        for n in range(10):
            await sender.publish(topic, str(n), qos=1)
        shares = await asyncio.gather(first_messages(one, 5), first_messages(two, 5))
        assert sorted(int(payload) for share in shares for _, payload, _, _ in share) == list(range(10))


async def test_the_will_of_an_aiomqtt_client_that_fails_is_published(broker: BrokerProcess, topic: str) -> None:
    five = aiomqtt.ProtocolVersion.V5
    async with aiomqtt_client(broker, five, "tcp") as watcher:
        await watcher.subscribe(topic, qos=1)
        dying = aiomqtt_client(broker, five, "tcp", will=aiomqtt.Will(topic, "gone", 1))
        await dying.__aenter__()
        dying._client._sock_close()  # no DISCONNECT
        assert await first_messages(watcher, 1) == [(topic, b"gone", 1, False)]
        with contextlib.suppress(aiomqtt.MqttError):
            await dying.__aexit__(None, None, None)


# Home Assistant: devices that announce themselves by retained messages, and a hub


BIRTH = "homeassistant/status"
PAHO = Kind("paho-python", "3.1.1", "tcp")
NODE = Kind("mqttjs", "3.1.1", "tcp")


class Device:
    """A process of its own, which announces its sensors, its state and whether it is there."""

    def __init__(self, name: str, broker: BrokerProcess) -> None:
        self.name = name
        self.availability = f"{name}/availability"
        will = Will(self.availability, "offline")
        self.client = NodeClient("mqttjs", broker.login, "3.1.1", "tcp", will)
        assert self.client.connect() == 0
        for sensor in ("temperature", "humidity"):
            topic_name, config = self.discovery(sensor)
            assert self.client.publish(topic_name, config, qos=1, retain=True) == 0
        # The state is not acknowledged: the availability after it is, when both are kept.
        assert self.client.publish(f"{name}/state", "21.5", qos=0, retain=True) == 0
        assert self.client.publish(self.availability, "online", qos=1, retain=True) == 0

    def discovery(self, sensor: str) -> tuple[str, str]:
        config = {
            "name": sensor,
            "unique_id": f"{self.name}-{sensor}",
            "state_topic": f"{self.name}/state",
            "availability_topic": self.availability,
            "device": {"identifiers": [self.name], "name": f"Sensor {self.name} • °C"},
        }
        return f"homeassistant/sensor/{self.name}-{sensor}/config", json.dumps(config, ensure_ascii=False)

    @property
    def retained(self) -> set[tuple[str, str]]:
        """What a hub that starts must find."""
        return {
            *(self.discovery(sensor) for sensor in ("temperature", "humidity")),
            (self.availability, "online"),
            (f"{self.name}/state", "21.5"),
        }


def start_hub(broker: BrokerProcess, closer: ExitStack, *names: str) -> Connection:
    """It subscribes as Home Assistant does: to the discovery topics first, then to what they name."""
    hub = connected(PAHO, broker, closer, will=Will(BIRTH, "offline"))
    hub.subscribe("homeassistant/#", qos=0)
    for name in names:
        hub.subscribe(f"{name}/state", qos=0)
        hub.subscribe(f"{name}/availability", qos=0)
    return hub


def found(connection: Connection, count: int) -> set[tuple[str, str]]:
    deliveries = [next_delivery(connection) for _ in range(count)]
    assert all(each.retain for each in deliveries), deliveries
    return {(each.topic, each.payload) for each in deliveries}


@pytest.fixture
def device(own: BrokerProcess) -> Iterator[Device]:
    device = Device("kitchen", own)
    with closing(device.client):
        yield device


def test_a_hub_that_starts_finds_every_device_and_again_after_its_own_restart(
    own: BrokerProcess, device: Device, closer: ExitStack
) -> None:
    other = Device("cellar", own)
    closer.callback(other.client.close)
    everything = device.retained | other.retained
    for _ in range(2):
        hub = start_hub(own, closer, device.name, other.name)
        assert found(hub, len(everything)) == everything
        hub.close()


def test_a_hub_sees_a_device_die_and_come_back(own: BrokerProcess, device: Device, closer: ExitStack) -> None:
    hub = start_hub(own, closer, device.name)
    found(hub, len(device.retained))

    device.client.kill()
    assert next_delivery(hub) == Delivery(device.availability, 0, "offline")

    later = connected(PAHO, own, closer)
    later.subscribe(device.availability)
    assert found(later, 1) == {(device.availability, "offline")}

    again = Device(device.name, own)
    closer.callback(again.client.close)
    assert {next_delivery(hub).topic for _ in again.retained} == {topic for topic, _ in again.retained}
    assert next_delivery(later) == Delivery(device.availability, 1, "online")


def test_devices_announce_themselves_again_at_the_hubs_birth_message(
    own: BrokerProcess, device: Device, closer: ExitStack
) -> None:
    device.client.subscribe(BIRTH, qos=1)
    hub = start_hub(own, closer, device.name)
    found(hub, len(device.retained))
    assert hub.publish(BIRTH, "online", qos=1, retain=True) == 0
    assert next_delivery(device.client) == Delivery(BIRTH, 1, "online")
    assert next_delivery(hub) == Delivery(BIRTH, 0, "online")
    topic_name, config = device.discovery("temperature")
    assert device.client.publish(topic_name, config, qos=1, retain=True) == 0
    assert next_delivery(hub) == Delivery(topic_name, 0, config)


def test_a_device_that_is_removed_by_an_empty_config_is_not_found_again(
    own: BrokerProcess, device: Device, closer: ExitStack
) -> None:
    topic_name, config = device.discovery("humidity")
    hub = start_hub(own, closer)
    found(hub, 2)
    assert device.client.publish(topic_name, "", qos=1, retain=True) == 0
    assert next_delivery(hub) == Delivery(topic_name, 0, "")
    again = start_hub(own, closer, device.name)
    rest = device.retained - {(topic_name, config)}
    assert found(again, len(rest)) == rest


def test_a_broker_that_was_killed_has_the_devices_and_their_last_states_when_it_is_back(
    own: BrokerProcess, device: Device, closer: ExitStack
) -> None:
    own.kill()
    own.start()
    hub = start_hub(own, closer, device.name)
    assert found(hub, len(device.retained)) == device.retained


async def test_a_kept_subscription_survives_the_brokers_end_and_brings_what_came_meanwhile(
    own: BrokerProcess, topic: str
) -> None:
    def hub() -> Any:
        return aiomqtt_client(own, aiomqtt.ProtocolVersion.V311, "tcp", identifier="hub", clean_session=False)

    async with hub() as first:
        await first.subscribe(topic, qos=2)
    async with aiomqtt_client(own, aiomqtt.ProtocolVersion.V5, "tcp") as sender:
        for n in range(20):
            await sender.publish(topic, str(n), qos=1 + n % 2)
    own.kill()
    own.start()
    async with hub() as again:
        got = [int(payload) for _, payload, _, _ in await first_messages(again, 20)]
        assert sorted(got) == list(range(20)), "QoS 1 comes by one packet, and QoS 2 by three"
