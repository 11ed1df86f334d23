"""Recado with a RabbitMQ cluster of three nodes: who gets in, who reads what, and what the death of a node costs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.support.broker_reader import Address
from tests.support.connection import Login, Session, next_event
from tests.support.paho_python import PahoPython
from tests.support.rabbitmq import RecadoAtRabbitmq, new_user
from tests.support.rabbitmq_cluster import Node
from tests.support.server import API_KEY

REFUSED = (134, 135)  # bad user name or password, not authorized
PATIENCE_S = 20.0
RETURN_S = 10.0
Connect = Callable[..., PahoPython]


@pytest.fixture
def connect(at_rabbitmq: RecadoAtRabbitmq) -> Iterator[Connect]:
    """A user's client, connected."""
    clients: list[PahoPython] = []

    def connect(login: Login, session: Session | None = None) -> PahoPython:
        client = PahoPython(login, "3.1.1", session=session)
        clients.append(client)
        assert client.connect() == 0
        return client

    yield connect
    for client in clients:
        client.close()


def is_refused(login: Login, session: Session | None = None) -> bool:
    client = PahoPython(login, "3.1.1", session=session)
    try:
        return client.connect() in REFUSED
    finally:
        client.close()


def wait_until_cut_off(client: PahoPython) -> None:
    client.disconnected.get(timeout=PATIENCE_S)


def test_a_users_token_lets_it_in_and_nothing_else_does(at_rabbitmq: RecadoAtRabbitmq, connect: Connect) -> None:
    ana, server = new_user("ana"), at_rabbitmq.server
    connect(at_rabbitmq.login(ana))
    for password in (server.token(new_user("bruno")), server.token(ana, ttl_s=-1), "wrong", API_KEY):
        assert is_refused(at_rabbitmq.login(ana, token=password))
    assert is_refused(at_rabbitmq.login("recado", token=server.token(ana)))
    assert is_refused(at_rabbitmq.login("guest", token="guest"))


@pytest.mark.parametrize("topic_filter", ["#", "u/#", "u/+/#", "u/{other}/#", "u/{other}/c/x", "+/{other}/#", "c/+"])
def test_who_subscribes_to_more_than_its_own_is_cut_off(
    at_rabbitmq: RecadoAtRabbitmq, connect: Connect, topic_filter: str
) -> None:
    bruno = connect(at_rabbitmq.login(new_user("bruno")))
    bruno.subscribe_unanswered(topic_filter.format(other=new_user("ana")))
    wait_until_cut_off(bruno)


def test_who_publishes_is_cut_off_and_nobody_gets_it(at_rabbitmq: RecadoAtRabbitmq, connect: Connect) -> None:
    ana, bruno = new_user("ana"), new_user("bruno")
    conversation = at_rabbitmq.server.host_api.create_conversation([ana, bruno])
    reader = connect(at_rabbitmq.login(ana, node=1))
    assert reader.subscribe(f"u/{ana}/#") == 1
    for topic_name in (f"u/{ana}/c/{conversation}", f"u/{bruno}/c/{conversation}"):
        forger = connect(at_rabbitmq.login(bruno))
        forger.publish_unanswered(topic_name, '{"seq":2,"from":"ana","body":"forged"}')
        wait_until_cut_off(forger)
    at_rabbitmq.server.api(bruno).send(conversation, "true")
    assert next_event(reader)["body"] == "true"


def test_nobody_takes_over_what_waits_for_another_user(at_rabbitmq: RecadoAtRabbitmq, connect: Connect) -> None:
    """RabbitMQ has one queue for a client id, whoever comes with it."""
    ana, mallory = new_user("ana"), new_user("mallory")
    session = Session(f"{ana}.phone")
    reader = connect(at_rabbitmq.login(ana), session)
    assert reader.subscribe(f"u/{ana}/#") == 1
    assert is_refused(at_rabbitmq.login(mallory), session)
    assert is_refused(at_rabbitmq.login(mallory), Session("phone"))
    conversation = at_rabbitmq.server.host_api.create_conversation([ana, new_user("bruno")])
    at_rabbitmq.server.api(ana).send(conversation, "still hers")
    assert next_event(reader)["body"] == "still hers"


def test_events_come_in_order_over_mqtt_and_web_mqtt_at_every_node(at_rabbitmq: RecadoAtRabbitmq) -> None:
    ana, bruno = new_user("ana"), new_user("bruno")
    server = at_rabbitmq.server
    conversation = server.host_api.create_conversation([ana, bruno])
    readers = [
        at_rabbitmq.reader(user, conversation, [address]).start()
        for node, user in zip(at_rabbitmq.cluster.nodes, (ana, bruno, ana), strict=True)
        for address in (("tcp", node.mqtt_port), ("websockets", node.ws_port))
    ]
    try:
        bodies = [f"message {number}" for number in range(50)]
        for body in bodies:
            server.api(ana).send(conversation, body)
        for reader in readers:
            reader.wait_for_bodies(set(bodies), PATIENCE_S)
            assert [event["body"] for event in reader.events if "type" not in event] == bodies
            assert reader.seqs == [event["seq"] for event in server.api(ana).history(conversation)]
            assert reader.repeats == 0, "the broker brought something twice, with nothing having failed"
    finally:
        for reader in readers:
            reader.close()


class Sending:
    """A user who goes on sending; `acknowledged` are the bodies that the server has answered for."""

    def __init__(self, send: Callable[[str], object]) -> None:
        self.acknowledged: list[str] = []
        self._send = send
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> Sending:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ended.set()
        self._thread.join()

    def go_on_for(self, more: int) -> None:
        """Return when it has sent that many more."""
        until, deadline = len(self.acknowledged) + more, time.monotonic() + PATIENCE_S
        while len(self.acknowledged) < until:
            assert time.monotonic() < deadline, "sending has come to a halt"
            time.sleep(0.01)

    def _go_on(self) -> None:
        for number in itertools.count():
            if self._is_ended.wait(0.01):
                return
            body = f"message {number}"
            self._send(body)
            self.acknowledged.append(body)


def by_websocket(nodes: Sequence[Node]) -> list[Address]:
    return [("websockets", node.ws_port) for node in nodes]


@pytest.mark.parametrize("whose", ["server", "reader"])
def test_the_death_of_a_node_loses_and_repeats_nothing(at_rabbitmq: RecadoAtRabbitmq, whose: str) -> None:
    ana, bruno = new_user("ana"), new_user("bruno")
    server, cluster = at_rabbitmq.server, at_rabbitmq.cluster
    conversation = server.host_api.create_conversation([ana, bruno])
    of_server = at_rabbitmq.node_of_server()
    of_reader, third = (node for node in cluster.nodes if node is not of_server)
    victim = of_server if whose == "server" else of_reader
    reader = at_rabbitmq.reader(bruno, conversation, by_websocket([of_reader, third])).start()
    api = server.api(ana)
    try:
        with Sending(lambda body: api.send(conversation, body)) as sending:
            sending.go_on_for(50)
            victim.kill()
            killed_at = time.monotonic()
            sending.go_on_for(100)
        reader.wait_for_bodies(set(sending.acknowledged))
        last_at = time.monotonic()
    finally:
        victim.start()
        reader.close()
    assert len(reader.connected_at) == (1 if whose == "server" else 2)
    assert last_at - max(killed_at, reader.connected_at[-1]) < RETURN_S
    assert reader.seqs == list(range(1, len(reader.seqs) + 1))
    assert [event["body"] for event in reader.events if "type" not in event] == sending.acknowledged
    cluster.wait_until_whole()


def test_live_delivery_goes_on_while_the_node_that_had_it_is_away(at_rabbitmq: RecadoAtRabbitmq) -> None:
    ana, bruno = new_user("ana"), new_user("bruno")
    server, cluster = at_rabbitmq.server, at_rabbitmq.cluster
    conversation = server.host_api.create_conversation([ana, bruno])
    victim = at_rabbitmq.node_of_server()
    others = [node for node in cluster.nodes if node is not victim]
    reader = at_rabbitmq.reader(bruno, conversation, by_websocket(others)).start()
    bodies = {f"message {number}" for number in range(20)}
    try:
        victim.kill()
        read_before = reader.read
        for body in sorted(bodies):
            server.api(ana).send(conversation, body)
        reader.wait_for_bodies(bodies, RETURN_S)
        assert reader.read == read_before, "it came over HTTP, not from the broker"
    finally:
        victim.start()
        reader.close()
    cluster.wait_until_whole()
