"""Client libraries that no one here wrote, against the real server: each in every version and transport that it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from tests.support.connection import Connection, Login, Transport, Version, next_delivery, next_event
from tests.support.node import NodeClient
from tests.support.paho_python import PahoPython
from tests.support.server import Server

SUBSCRIPTION_REFUSED = {"3.1.1": 0x80, "5": 0x87}
BAD_TOKEN_REFUSED = {"3.1.1": {4, 5}, "5": {0x86, 0x87}}


@dataclass(frozen=True)
class Client:
    """One library in one version over one transport."""

    library: str
    version: Version
    transport: Transport
    make: Callable[[Login, Version, Transport], Connection]

    def __str__(self) -> str:
        return f"{self.library}-{self.version}-{self.transport}"


def mqttjs(login: Login, version: Version, transport: Transport) -> Connection:
    return NodeClient("mqttjs", login, version, transport)


def pahojs(login: Login, version: Version, transport: Transport) -> Connection:
    return NodeClient("pahojs", login, version, transport)


CLIENTS = [
    Client("paho-python", "3.1.1", "tcp", PahoPython),
    Client("paho-python", "3.1.1", "websocket", PahoPython),
    Client("paho-python", "5", "tcp", PahoPython),
    Client("paho-python", "5", "websocket", PahoPython),
    Client("mqttjs", "3.1.1", "tcp", mqttjs),
    Client("mqttjs", "3.1.1", "websocket", mqttjs),
    Client("mqttjs", "5", "tcp", mqttjs),
    Client("mqttjs", "5", "websocket", mqttjs),
    Client("pahojs", "3.1.1", "websocket", pahojs),
]


class Open:
    """Opens connections of one kind of client and closes them when the test ends."""

    def __init__(self, client: Client, server: Server, closer: ExitStack) -> None:
        self.client = client
        self._server = server
        self._closer = closer

    def unconnected(self, user: str, token: str | None = None) -> Connection:
        login = Login(self._server.mqtt_port, self._server.ws_url, user, token or self._server.token(user))
        connection = self.client.make(login, self.client.version, self.client.transport)
        self._closer.enter_context(closing(connection))
        return connection

    def connected(self, user: str) -> Connection:
        connection = self.unconnected(user)
        assert connection.connect() == 0
        return connection


@pytest.fixture(params=CLIENTS, ids=str)
def opened(request: pytest.FixtureRequest, shared_server: Server) -> Iterator[Open]:
    with ExitStack() as closer:
        yield Open(request.param, shared_server, closer)


def message(message_id: str, body: str) -> str:
    return json.dumps({"id": message_id, "body": body})


@pytest.mark.parametrize("qos", [1, 2])
def test_a_literal_subscription_gets_each_message_as_the_event_that_history_has(
    opened: Open, shared_server: Server, qos: int
) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    bruno, ana = opened.connected("bruno"), opened.connected("ana")
    assert bruno.subscribe(f"c/{conversation}", qos=qos) == qos

    assert ana.publish(f"c/{conversation}", message("k3x9", "Chegou! ☕"), qos=qos) == 0

    delivery = next_delivery(bruno)
    event = delivery.event
    assert (delivery.topic, delivery.qos) == (f"c/{conversation}", qos)
    assert set(event) == {"seq", "from", "at", "id", "body"}
    assert (event["seq"], event["from"], event["id"], event["body"]) == (1, "ana", "k3x9", "Chegou! ☕")
    assert shared_server.api("bruno").history(conversation) == [event]


def test_a_wildcard_subscription_gets_every_conversation_of_its_user_and_the_senders_own_messages(
    opened: Open, shared_server: Server
) -> None:
    host = shared_server.host_api
    user = f"wild-{host.create_conversation(['bruno'])}"  # a user of this test's own: no other test's events reach it
    first, second = host.create_conversation([user, "bruno"]), host.create_conversation([user, "bruno"])
    connection = opened.connected(user)
    assert connection.subscribe("c/+", qos=1) == 1

    shared_server.api("bruno").send(first, "one")
    assert connection.publish(f"c/{second}", message("own", "two"), qos=1) == 0

    deliveries = [next_delivery(connection) for _ in range(2)]
    assert [(d.topic, d.event["from"], d.event["body"]) for d in deliveries] == [
        (f"c/{first}", "bruno", "one"),
        (f"c/{second}", user, "two"),
    ]


def test_a_qos_0_publish_and_a_qos_0_subscription_carry_a_message(opened: Open, shared_server: Server) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    bruno, ana = opened.connected("bruno"), opened.connected("ana")
    assert bruno.subscribe(f"c/{conversation}", qos=0) == 0

    ana.publish(f"c/{conversation}", message("light", "hello"), qos=0)

    delivery = next_delivery(bruno)
    assert (delivery.qos, delivery.event["id"], delivery.event["body"]) == (0, "light", "hello")


def test_a_payload_of_plain_text_becomes_the_body(opened: Open, shared_server: Server) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    bruno, ana = opened.connected("bruno"), opened.connected("ana")
    bruno.subscribe(f"c/{conversation}")

    assert ana.publish(f"c/{conversation}", "Olá, tudo bem?", qos=1) == 0

    event = next_event(bruno)
    assert event["body"] == "Olá, tudo bem?"
    assert event["id"]


def test_the_same_id_published_twice_is_one_message(opened: Open, shared_server: Server) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    bruno, ana = opened.connected("bruno"), opened.connected("ana")
    bruno.subscribe(f"c/{conversation}")

    for message_id in ("one", "one", "two"):
        assert ana.publish(f"c/{conversation}", message(message_id, message_id), qos=1) == 0

    assert [next_event(bruno)["id"] for _ in range(2)] == ["one", "two"]
    assert [event["id"] for event in shared_server.api("ana").history(conversation)] == ["one", "two"]


def test_typing_reaches_the_other_member_and_not_the_log(opened: Open, shared_server: Server) -> None:
    host = shared_server.host_api
    reader = f"reads-{host.create_conversation(['ana'])}"  # of this test's own: it hears of no other test's presence
    conversation = host.create_conversation(["ana", reader])
    listening, ana = opened.connected(reader), opened.connected("ana")
    listening.subscribe("c/+/live", qos=0)

    ana.publish(f"c/{conversation}/live", json.dumps({"type": "typing"}), qos=0)

    topic, typing = f"c/{conversation}/live", {"type": "typing", "from": "ana", "for_ms": 6_000}
    while (delivery := next_delivery(listening)).event["type"] == "presence":
        assert delivery.topic == topic, "ana's, of whom other tests make somebody present too"
    assert (delivery.topic, delivery.event) == (topic, typing)
    assert shared_server.api("ana").history(conversation) == []


def test_a_wrong_token_is_refused_at_connect(opened: Open) -> None:
    ana = opened.unconnected("ana", token="no.such.token")
    code = ana.connect()
    # paho-python reports 3.1.1's codes as the ones of 5.
    version = "5" if opened.client.library == "paho-python" else opened.client.version
    assert code in BAD_TOKEN_REFUSED[version]


def test_an_expired_token_is_refused_at_connect(opened: Open, shared_server: Server) -> None:
    ana = opened.unconnected("ana", token=shared_server.token("ana", ttl_s=-60))
    assert ana.connect() != 0


def test_a_subscription_to_a_conversation_of_others_is_refused(opened: Open, shared_server: Server) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    stranger = opened.connected("stranger")
    assert stranger.subscribe(f"c/{conversation}") == SUBSCRIPTION_REFUSED[opened.client.version]


@pytest.mark.parametrize("opened", [client for client in CLIENTS if client.version == "5"], indirect=True, ids=str)
def test_after_in_mqtt_5_replays_the_log_and_goes_on_live(opened: Open, shared_server: Server) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    for body in ("one", "two", "three"):
        shared_server.api("ana").send(conversation, body)
    bruno = opened.connected("bruno")

    assert bruno.subscribe("c/+", qos=1, after=[f"{conversation}=1"]) == 1
    shared_server.api("ana").send(conversation, "four")

    mine = (event for event in iter(lambda: next_delivery(bruno), None) if event.topic == f"c/{conversation}")
    assert [next(mine).event["seq"] for _ in range(3)] == [2, 3, 4]
