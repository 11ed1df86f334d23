"""`recado worker`: it starts, says so, stops in order, and takes over what a dead one had begun."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from deploy.services.child_process import running
from deploy.services.ports import free_ports
from deploy.services.postgres import Postgres
from tests.app.commands import refusal
from tests.support.api import Api
from tests.support.metrics import get_text
from tests.support.server import API_KEY, SECRET, Server
from tests.support.webhook_receiver import Told, WebhookReceiver, receiving
from tests.support.worker import WorkerProcess

WEBHOOK_SECRET = "tests-only-secret-of-the-webhooks-of-the-host-application"
SINK = ("--capture-file=events.jsonl",)
NOWHERE = f"postgresql://recado:hidden@127.0.0.1:{free_ports(1)[0]}/recado"


@dataclass
class Place:
    """A server on PostgreSQL that leaves its jobs to workers, and where they post."""

    server: Server
    receiver: WebhookReceiver
    options: list[str]
    folder: Path

    @contextmanager
    def worker(self, name: str, **environment: str) -> Iterator[WorkerProcess]:
        folder = self.folder / name
        folder.mkdir()
        with running(WorkerProcess.of(folder, *self.options, environment=environment)) as worker:
            yield worker

    def send(self, count: int) -> str:
        conversation = self.server.host_api.create_conversation(["ana", "bruno"])
        ana: Api = self.server.api("ana")
        for n in range(count):
            ana.call("POST", f"/conversations/{conversation}/messages", {"id": f"m{n}", "body": "x"}).expect(201)
        return conversation


@pytest.fixture
def place(tmp_path: Path, postgres_database: str) -> Iterator[Place]:
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        options = [
            f"--database={postgres_database}",
            f"--webhook-url={receiver.url}",
            f"--webhook-secret={WEBHOOK_SECRET}",
            "--webhook-private",
            "--limit.job_lease_s=2",
        ]
        folder = tmp_path / "server"
        folder.mkdir()
        keys = {"RECADO_SECRET": SECRET, "RECADO_API_KEY": API_KEY}
        server = stack.enter_context(running(Server(folder, "serve", ("--no-worker", *options), keys)))
        yield Place(server, receiver, options, tmp_path)


def seqs(receiver: WebhookReceiver, count: int) -> list[int]:
    return [receiver.next().json["event"]["seq"] for _ in range(count)]


def test_a_worker_runs_the_jobs_that_a_server_leaves_to_it_and_needs_no_key_of_its_users(place: Place) -> None:
    place.send(3)
    with place.worker("one") as worker:
        ready = json.loads(worker.awaited_line('"ready"'))
        assert (ready["sinks"], ready["http_port"]) == (["webhook"], worker.http_port)
        assert seqs(place.receiver, 3) == [1, 2, 3]
        assert place.receiver.posted.empty()
        place.send(1)
        assert seqs(place.receiver, 1) == [1], "the commit wakes the worker"
        worker.stop()
        assert worker.log.count('"ready"') == 1


def test_a_workers_pages_say_what_it_did(place: Place) -> None:
    place.send(1)
    with place.worker("one") as worker:
        seqs(place.receiver, 1)
        worker.stop()
        worker.start()
        place.receiver.answer(Told(500), Told(200))
        place.send(1)
        assert seqs(place.receiver, 2) == [1, 1]
        place.send(1)
        seqs(place.receiver, 1)
        text = get_text(worker, "/metrics")
        assert 'recado_jobs_total{outcome="failed",sink="webhook"} 1.0' in text
        assert get_text(worker, "/healthz") == '{"status":"ok"}'
        assert get_text(worker, "/readyz") == get_text(place.server, "/readyz") == '{"status":"ready"}'


def test_a_worker_with_nothing_to_do_is_not_ready_while_its_store_is_away(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    database = own_postgres.create_database("of_an_idle_worker")
    with running(WorkerProcess.of(tmp_path, f"--database={database}", *SINK)) as worker:
        assert page(worker, "/readyz", "127.0.0.1") == (200, '{"status":"ready"}')
        own_postgres.stop()
        worker.awaited_line("is away")
        assert page(worker, "/readyz", "127.0.0.1") == (503, '{"status":"the store is away"}')
        own_postgres.start()
        back = json.loads(worker.awaited_line("is back"))
        assert back["level"] == "info"
        assert page(worker, "/readyz", "127.0.0.1") == (200, '{"status":"ready"}')


def test_what_a_worker_had_begun_when_it_was_killed_another_does_in_order(place: Place) -> None:
    never = threading.Event()
    place.receiver.answer(Told(), Told(when=never))
    with place.worker("one") as one, place.worker("two") as two:
        place.send(5)
        assert seqs(place.receiver, 2) == [1, 2], "one of them has the lane, and waits for its second answer"
        busy, other = (one, two) if is_at_work(one) else (two, one)
        busy.kill()
        assert is_at_work(other) is False

        assert seqs(place.receiver, 4) == [2, 3, 4, 5]
        never.set()


def is_at_work(worker: WorkerProcess) -> bool:
    return 'recado_jobs_running{sink="webhook"} 1.0' in get_text(worker, "/metrics")


def test_a_worker_that_stops_leaves_at_once_to_others_what_it_has_not_begun(place: Place) -> None:
    held = threading.Event()
    place.receiver.answer(Told(when=held))
    with place.worker("one") as one:
        place.send(3)
        assert seqs(place.receiver, 1) == [1]
        with place.worker("two"):
            stopping = threading.Thread(target=one.stop)
            stopping.start()
            one.awaited_line('"stopping"')
            held.set()
            stopping.join()
            assert seqs(place.receiver, 2) == [2, 3]


def page(worker: WorkerProcess, path: str, host: str = "127.0.0.1", **headers: str) -> tuple[int, str]:
    with closing(HTTPConnection(host, worker.http_port, timeout=20)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_a_workers_metrics_are_for_its_machine_and_for_the_host_alone(place: Place) -> None:
    stranger = {"X-Forwarded-For": "198.51.100.9"}
    with place.worker("one", RECADO_API_KEY=API_KEY, RECADO_SECRET=SECRET) as worker:
        assert [page(worker, path, **stranger)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        assert page(worker, "/metrics")[0] == 200

        status, text = page(worker, "/metrics", **stranger)
        assert (status, json.loads(text)["error"]["code"]) == (401, "unauthenticated")
        for token in ("of nobody", place.server.token("ana")):
            assert page(worker, "/metrics", Authorization=f"Bearer {token}", **stranger)[0] == 401
        status, text = page(worker, "/metrics", Authorization=f"Bearer {API_KEY}", **stranger)
        assert status == 200
        assert "recado_jobs_running" in text


def test_a_worker_listens_at_the_address_that_it_is_told(tmp_path: Path, postgres_database: str) -> None:
    worker = WorkerProcess.of(tmp_path, f"--database={postgres_database}", *SINK, "--worker-host=127.0.0.2")
    worker.begin()
    with closing(worker):
        worker.awaited_line('"ready"')
        assert page(worker, "/healthz", "127.0.0.2")[0] == 200
        with pytest.raises(ConnectionRefusedError):
            page(worker, "/healthz", "127.0.0.1")


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (SINK, "recado worker needs a database that processes can share: set database to a postgresql:// URL"),
        ((f"--database={NOWHERE}",), "there is nothing to do: no sink is configured"),
        ((f"--database={NOWHERE}", *SINK), "Connection refused"),
        ((f"--database={NOWHERE}", *SINK, "--worker-port=70000"), "worker_port is 0 to 65535, not 70000"),
    ],
)
def test_a_worker_that_cannot_work_says_why_in_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    line = refusal(tmp_path, "worker", *arguments)
    assert said in line
    assert "\n" not in line
    assert "hidden" not in line


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    elsewhere = "--worker-host=192.0.2.1"
    assert "name another address with --worker-host" in refusal(
        tmp_path, "worker", f"--database={NOWHERE}", *SINK, elsewhere
    )


def test_a_port_that_is_taken_is_named(tmp_path: Path, shared_server: Server) -> None:
    taken = f"--worker-port={shared_server.http_port}"
    assert "name another port with --worker-port" in refusal(tmp_path, "worker", f"--database={NOWHERE}", *SINK, taken)
