"""Two `recado serve` on one PostgreSQL: whichever of them people are connected to, they are in the same conversations.

Where nothing may arrive, something that must arrive is sent after it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from deploy.services.child_process import running
from deploy.services.postgres import Postgres
from tests.support.connection import Login, next_event
from tests.support.paho_python import PahoPython
from tests.support.server import Server

NOT_AUTHORIZED = 0x87
BACK_WITHIN_S = 10.0
Json = dict[str, Any]
Connect = Callable[..., PahoPython]


@pytest.fixture(scope="module")
def nodes(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    folder = tmp_path_factory.mktemp("two-nodes")
    database = postgres.create_database("two_nodes")
    with running(Server.node(folder / "a", database)) as a, running(Server.node(folder / "b", database)) as b:
        yield a, b
        a.stop()
        b.stop()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect a user to a node by MQTT, and subscribe; the connections are closed after the test."""
    with ExitStack() as closer:

        def connect(server: Server, user: str, topic_filter: str = "c/+", after: tuple[str, ...] = ()) -> PahoPython:
            login = Login(server.mqtt_port, server.ws_url, user, server.token(user))
            connection = closer.enter_context(closing(PahoPython(login, "5", "tcp")))
            assert connection.connect() == 0
            assert connection.subscribe(topic_filter, 1, after) == 1
            return connection

        yield connect


class Stream:
    """A user's event stream at a node, from now on."""

    def __init__(self, server: Server, user: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", server.http_port, timeout=20)
        headers = {"Authorization": f"Bearer {server.token(user)}", "Accept": "text/event-stream"}
        self._connection.request("GET", "/v1/events", headers=headers)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        while not self._answer.readline().startswith(b"id:"):  # where it begins
            pass

    def next_event(self) -> Json:
        while not (line := self._answer.readline()).startswith(b"data:"):
            assert line, "the stream has ended"
        entry: Json = json.loads(line.removeprefix(b"data:"))
        return entry

    def close(self) -> None:
        self._connection.close()


def test_what_is_sent_at_one_node_arrives_at_the_other_by_every_transport(
    nodes: tuple[Server, Server], connect: Connect
) -> None:
    here, there = nodes
    conversation = here.host_api.create_conversation(["ana", "bruno"])
    by_mqtt = connect(there, "bruno")
    with closing(Stream(there, "bruno")) as by_stream:
        sent = here.api("ana").send(conversation, "hello", "m1")

        assert next_event(by_mqtt) == sent
        assert by_stream.next_event()["event"] == sent
    polled = there.api("bruno").call("GET", f"/conversations/{conversation}/events", after=0, wait=20).expect(200)
    assert polled["events"] == [sent]


def test_both_nodes_send_into_one_log(nodes: tuple[Server, Server], connect: Connect) -> None:
    conversation = nodes[0].host_api.create_conversation(["ana", "bruno"])
    readers = [connect(node, "bruno", f"c/{conversation}") for node in nodes]
    senders = [connect(node, "ana", f"c/{conversation}") for node in nodes]

    for n in range(20):
        assert senders[n % 2].publish(f"c/{conversation}", f"message {n}") == 0

    for reader in [*readers, *senders]:
        seqs = [next_event(reader)["seq"] for _ in range(20)]
        assert seqs == list(range(1, 21))


def test_a_removal_at_one_node_cuts_the_member_off_at_both(nodes: tuple[Server, Server], connect: Connect) -> None:
    here, there = nodes
    conversation = here.host_api.create_conversation(["ana", "bruno"])
    other = here.host_api.create_conversation(["ana", "bruno"])
    removed = [connect(node, "bruno") for node in nodes]
    with closing(Stream(there, "bruno")) as stream:
        here.host_api.remove_member(conversation, "bruno")
        for node in nodes:
            node.api("ana").send(conversation, "behind his back")
        here.api("ana").send(other, "elsewhere")

        for connection in removed:
            assert next_event(connection)["type"] == "member_removed"
            assert next_event(connection)["body"] == "elsewhere"
            assert connection.publish(f"c/{conversation}", "still here") == NOT_AUTHORIZED
        assert stream.next_event()["event"]["type"] == "member_removed"
        assert stream.next_event()["event"]["body"] == "elsewhere"
    for node in nodes:
        assert node.api("bruno").call("GET", f"/conversations/{conversation}/events").status == 404


def test_a_member_added_at_one_node_follows_the_conversation_at_the_other(
    nodes: tuple[Server, Server], connect: Connect
) -> None:
    here, there = nodes
    conversation = here.host_api.create_conversation(["ana"])
    carla = connect(there, "carla")

    here.host_api.add_member(conversation, "carla")
    here.api("ana").send(conversation, "welcome")

    assert [next_event(carla).get("body") for _ in range(2)] == [None, "welcome"]
    assert carla.publish(f"c/{conversation}", "thank you") == 0
    assert [event.get("body") for event in here.api("ana").history(conversation)] == [None, "welcome", "thank you"]


def test_an_erased_conversation_ends_at_both_nodes(nodes: tuple[Server, Server], connect: Connect) -> None:
    here, there = nodes
    conversation = here.host_api.create_conversation(["ana", "bruno"])
    bruno = connect(there, "bruno", f"c/{conversation}")
    here.api("ana").send(conversation, "hello")

    here.host_api.call("DELETE", f"/conversations/{conversation}").expect(204)

    assert [next_event(bruno).get("type") for _ in range(2)] == [None, "conversation_erased"]
    assert there.api("bruno").call("GET", f"/conversations/{conversation}").status == 404


def test_while_one_node_is_killed_and_restarted_the_other_goes_on_and_nothing_is_missed(
    postgres: Postgres, tmp_path: Path, connect: Connect
) -> None:
    database = postgres.create_database("a_node_is_killed")
    with running(Server.node(tmp_path / "a", database)) as a, running(Server.node(tmp_path / "b", database)) as b:
        conversation = a.host_api.create_conversation(["ana", "bruno"])
        bruno = connect(a, "bruno", f"c/{conversation}")
        a.api("ana").send(conversation, "1")
        assert next_event(bruno)["body"] == "1"

        a.kill()
        b.api("ana").send(conversation, "2")
        a.start()
        back = connect(a, "bruno", f"c/{conversation}", after=(f"{conversation}=1",))
        b.api("ana").send(conversation, "3")

        assert [next_event(back)["body"] for _ in range(2)] == ["2", "3"]
        a.stop()
        b.stop()


def send_until_acknowledged(server: Server, conversation: str, message_id: str) -> Json:
    """As a client does it: again, under the same id, while it is told that it may pass."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while True:
        answer = server.api("ana").call(
            "POST", f"/conversations/{conversation}/messages", {"id": message_id, "body": "hi"}
        )
        if answer.status in (200, 201):
            return answer.body
        assert answer.status == 503, answer
        assert time.monotonic() < deadline, "the nodes did not come back in time"
        time.sleep(0.05)  # a client's backoff


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_while_the_database_is_away_and_back_nothing_acknowledged_is_missed_or_comes_twice(
    own_postgres: Postgres, tmp_path: Path, connect: Connect, ending: str
) -> None:
    database = own_postgres.url("recado")
    with running(Server.node(tmp_path / "a", database)) as a, running(Server.node(tmp_path / "b", database)) as b:
        conversation = a.host_api.create_conversation(["ana", "bruno"])
        readers = [connect(node, "bruno", f"c/{conversation}") for node in (a, b)]
        with ThreadPoolExecutor(4) as senders:

            def send(number: int) -> Json:
                return send_until_acknowledged((a, b)[number % 2], conversation, f"m{number}")

            flowing = [senders.submit(send, number) for number in range(200)]
            flowing[20].result()
            getattr(own_postgres, ending)()
            assert a.api("ana").call("GET", f"/conversations/{conversation}").status == 503
            own_postgres.start()
            sent = [each.result() for each in flowing]

        assert sorted(event["seq"] for event in sent) == list(range(1, 201))
        for reader in readers:
            assert [next_event(reader)["seq"] for _ in range(200)] == list(range(1, 201))
        a.stop()
        b.stop()
