"""Several of Recado's processes on one PostgreSQL, and one Mosquitto that they tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from deploy.services.child_process import running
from deploy.services.mosquitto import Mosquitto
from tests.support.connection import Login, next_delivery
from tests.support.metrics import count_of
from tests.support.mosquitto import broker_options
from tests.support.paho_python import PahoPython
from tests.support.server import API_KEY, SECRET, Server
from tests.support.worker import WorkerProcess

WITHIN_S = 10
KEYS = {"RECADO_SECRET": SECRET, "RECADO_API_KEY": API_KEY}


class Place:
    """A database and a broker of the test's own, and what it starts there."""

    def __init__(self, folder: Path, database: str, stack: ExitStack) -> None:
        self.mosquitto = Mosquitto(folder / "mosquitto")
        stack.callback(self.mosquitto.close)
        self.mosquitto.start()
        self._folder, self._stack = folder, stack
        self._options = (f"--database={database}", *broker_options(self.mosquitto))

    def serve(self, name: str, *options: str) -> Server:
        return self._stack.enter_context(running(Server(self._new(name), "serve", (*self._options, *options), KEYS)))

    def work(self, name: str, *options: str) -> WorkerProcess:
        worker = WorkerProcess.of(self._new(name), *self._options, *options)
        return self._stack.enter_context(running(worker))

    def _new(self, name: str) -> Path:
        (self._folder / name).mkdir()
        return self._folder / name

    def login(self, server: Server, user: str) -> Login:
        mqtt = server.api(user).call("GET", "/session").expect(200)["mqtt"]
        return Login(self.mosquitto.tcp_port, mqtt["ws_url"], mqtt["username"], mqtt["password"])

    def reads(self, login: Login, user: str) -> PahoPython:
        client = self._stack.enter_context(closing(PahoPython(login)))
        assert client.connect() == 0
        assert client.subscribe(f"u/{user}/#") == 1
        return client


@pytest.fixture
def place(tmp_path: Path, postgres_database: str) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, postgres_database, stack)


def test_what_a_server_that_was_killed_had_committed_and_not_told_is_told_by_a_worker(place: Place) -> None:
    server = place.serve("api", "--no-worker")
    conversation = server.host_api.create_conversation(["ana", "bob"])
    login = place.login(server, "bob")
    place.mosquitto.kill()
    for number in range(20):
        server.api("ana").send(conversation, f"message {number}")
    server.kill()
    place.mosquitto.start()
    client = place.reads(login, "bob")
    place.work("worker")
    assert [next_delivery(client, WITHIN_S).event["seq"] for _ in range(20)] == list(range(1, 21))


def test_two_servers_tell_of_each_event_once(place: Place) -> None:
    servers = [place.serve(name, "--no-worker") for name in ("one", "two")]
    conversation = servers[0].host_api.create_conversation(["ana", "bob"])
    logins = [place.login(server, "bob") for server in servers]
    assert logins[0] == logins[1]
    client = place.reads(logins[0], "bob")
    for number in range(40):
        servers[number % 2].api("ana").send(conversation, f"message {number}")
    seqs = [next_delivery(client).event["seq"] for _ in range(40)]
    assert sorted(seqs) == list(range(1, 41))
    assert [count_of(server, "recado_broker_announced_total") for server in servers] == [40, 40]


def test_a_worker_elsewhere_tells_of_everything_if_it_is_asked_to(place: Place) -> None:
    server = place.serve("api", "--no-worker", "--notify=worker")
    worker = place.work("worker", "--notify=worker")
    conversation = server.host_api.create_conversation(["ana", "bob"])
    client = place.reads(place.login(server, "bob"), "bob")
    for number in range(40):
        server.api("ana").send(conversation, f"message {number}")
    assert [next_delivery(client).event["seq"] for _ in range(40)] == list(range(1, 41))
    assert count_of(server, "recado_broker_announced_total") == 0
    assert count_of(worker, "recado_broker_announced_total") == 80


def test_a_worker_that_is_killed_while_it_tells_leaves_nothing_untold(place: Place) -> None:
    server = place.serve("api", "--no-worker", "--notify=worker")
    worker = place.work("one", "--notify=worker", "--limit.job_lease_s=2")
    conversation = server.host_api.create_conversation(["ana", "bob"])
    client = place.reads(place.login(server, "bob"), "bob")
    for number in range(30):
        server.api("ana").send(conversation, f"message {number}")
        if number == 15:
            worker.kill()
            place.work("two", "--notify=worker", "--limit.job_lease_s=2")
    seqs: list[int] = []
    while not seqs or seqs[-1] < 30:
        seqs.append(next_delivery(client, WITHIN_S).event["seq"])
    assert list(dict.fromkeys(seqs)) == list(range(1, 31)), "in order, but for what the first had told and not settled"
