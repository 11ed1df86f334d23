"""`recado jobs` at a real server: what it shows, retries and drops, and what it says if it cannot."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from deploy.services.child_process import running
from deploy.services.ports import free_ports
from tests.app.commands import SECRET, run
from tests.support.server import API_KEY, Server
from tests.support.webhook_receiver import Told, WebhookReceiver, receiving

WEBHOOK_SECRET = "tests-only-secret-of-the-webhooks-of-the-host-application"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def webhook_server(tmp_path: Path, receiver: WebhookReceiver) -> Iterator[Server]:
    """A server that makes a dead letter of what fails once, and takes up again what a crash has interrupted."""
    options = [f"--webhook-url={receiver.url}", f"--webhook-secret={WEBHOOK_SECRET}", "--webhook-private"]
    server = Server.serve(tmp_path, *options, "--limit.job_attempts_max=2", "--limit.job_backoff_ms=1")
    with running(server):
        yield server


def jobs(server: Server, *arguments: str, **settings: str) -> CompletedProcess[str]:
    return run(server.directory, "jobs", *arguments, **{"URL": server.http_url, "API_KEY": API_KEY, **settings})


def printed(server: Server, *arguments: str) -> list[list[str]]:
    """The words of each line of what it prints."""
    ran = jobs(server, *arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [line.split() for line in ran.stdout.splitlines()]


def send(server: Server, conversation: str, count: int) -> None:
    for n in range(count):
        answer = server.api("ana").call("POST", f"/conversations/{conversation}/messages", {"id": f"m{n}", "body": "x"})
        answer.expect(201)


def make_dead_letters(server: Server, receiver: WebhookReceiver, count: int) -> str:
    receiver.usually(Told(500))
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    send(server, conversation, count)
    for _ in range(2 * count):
        receiver.next()
    receiver.usually(Told())
    server.awaited_line(f'"seq": {count}, "attempt": 2')
    return conversation


def test_dead_letters_are_listed_counted_and_retried_in_order(
    webhook_server: Server, receiver: WebhookReceiver
) -> None:
    conversation = make_dead_letters(webhook_server, receiver, 3)

    header, *rows = printed(webhook_server, "list", "--state=dead")
    assert header == ["sink", "conversation", "seq", "state", "attempt", "age", "due", "error"]
    assert [row[:5] for row in rows] == [["webhook", conversation, str(seq), "dead", "2"] for seq in (1, 2, 3)]
    assert rows[0][6:] == ["127.0.0.1", "answered", "500"]
    assert [row[:3] for row in printed(webhook_server, "stats")[1:]] == [["webhook", "dead", "3"]]

    assert printed(webhook_server, "retry", "--sink=webhook") == [["3", "retried"]]

    assert [receiver.next().json["event"]["seq"] for _ in range(3)] == [1, 2, 3]
    webhook_server.stop()
    webhook_server.start()
    assert printed(webhook_server, "list") == [["no", "jobs"]]
    assert printed(webhook_server, "stats") == [["no", "jobs"]]


def test_what_is_dropped_is_never_done_and_its_message_stays(webhook_server: Server, receiver: WebhookReceiver) -> None:
    conversation = make_dead_letters(webhook_server, receiver, 3)

    assert printed(webhook_server, "drop", f"--conversation={conversation}", "--seq=2") == [["1", "dropped"]]
    assert printed(webhook_server, "retry", "--all") == [["2", "retried"]]

    assert [receiver.next().json["event"]["seq"] for _ in range(2)] == [1, 3]
    history = webhook_server.api("ana").call("GET", f"/conversations/{conversation}/events").expect(200)
    assert [event["seq"] for event in history["events"]] == [1, 2, 3]


def test_json_is_the_servers_answer(webhook_server: Server, receiver: WebhookReceiver) -> None:
    make_dead_letters(webhook_server, receiver, 1)

    answer = json.loads(jobs(webhook_server, "list", "--json").stdout)
    assert [(job["seq"], job["state"]) for job in answer["jobs"]] == [(1, "dead")]
    assert json.loads(jobs(webhook_server, "drop", "--state=dead", "--json").stdout) == {"count": 1}
    assert json.loads(jobs(webhook_server, "stats", "--json").stdout) == {"counts": []}


def test_what_is_meant_must_be_said(shared_server: Server) -> None:
    for command in ("retry", "drop"):
        ran = jobs(shared_server, command)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.startswith("recado: name a sink, a state, a conversation or a seq, or else say all")


def test_a_key_that_is_not_the_servers_is_named_and_not_shown(shared_server: Server) -> None:
    ran = jobs(shared_server, "list", API_KEY="another-key-that-has-thirty-two-characters-too")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"recado: the server at {shared_server.http_url} has another API key than RECADO_API_KEY\n"


def test_without_a_key_nothing_is_asked(shared_server: Server) -> None:
    ran = run(shared_server.directory, "jobs", "list", URL=shared_server.http_url)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "RECADO_API_KEY is not set" in ran.stderr


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    ran = run(tmp_path, "jobs", "stats", f"--url=http://127.0.0.1:{port}", API_KEY=API_KEY)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"recado: no Recado answers at http://127.0.0.1:{port} (Connection refused): "
        "start it, or name another one with --url\n"
    )


def test_it_asks_the_server_of_this_machine_at_the_port_of_the_settings(shared_server: Server, tmp_path: Path) -> None:
    ran = run(tmp_path, "jobs", "stats", API_KEY=API_KEY, HTTP_PORT=str(shared_server.http_port))
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "http://127.0.0.1:8000/v1", "http://me:secret@127.0.0.1", "http://x:y"]
)
def test_a_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    ran = run(tmp_path, "jobs", "list", f"--url={url}", API_KEY=API_KEY)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("recado: url is http://host:port")
    assert "secret" not in ran.stderr


def test_what_answers_there_and_is_no_recado_is_said(tmp_path: Path, receiver: WebhookReceiver) -> None:
    ran = run(tmp_path, "jobs", "list", f"--url=http://127.0.0.1:{receiver.port}", API_KEY=API_KEY)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "is no Recado, or a proxy that does not pass /admin on: name the API process itself" in ran.stderr


@pytest.mark.parametrize("command", ["list", "retry", "drop"])
def test_a_sink_that_there_cannot_be_is_no_good_news(shared_server: Server, command: str) -> None:
    ran = jobs(shared_server, command, "--sink=webhok")
    said = (
        "recado: no jobs of the sink 'webhok'; it is not one of: push, notify, webhook, capture_file, capture_queue\n"
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", said)


def test_a_sink_that_is_not_configured_may_be_asked_about(shared_server: Server) -> None:
    assert printed(shared_server, "list", "--sink=webhook") == [["no", "jobs"]]


# Which jobs are run where


def test_what_a_killed_server_had_begun_it_does_in_order_when_it_is_back(
    webhook_server: Server, receiver: WebhookReceiver
) -> None:
    receiver.answer(Told(), Told(when=threading.Event()))
    conversation = webhook_server.host_api.create_conversation(["ana", "bruno"])
    send(webhook_server, conversation, 5)
    assert [receiver.next().json["event"]["seq"] for _ in range(2)] == [1, 2]

    webhook_server.kill()
    webhook_server.start()

    assert [receiver.next().json["event"]["seq"] for _ in range(4)] == [2, 3, 4, 5]


def test_jobs_of_a_sqlite_database_that_nobody_would_run_are_refused_at_the_start(tmp_path: Path) -> None:
    ran = run(tmp_path, "serve", "--no-worker", "--capture-file=events.jsonl", SECRET=SECRET)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("recado: worker is off, but nobody else can run the jobs of a SQLite database")


def test_sqs_is_refused_with_a_sqlite_database_also_without_a_sink(tmp_path: Path) -> None:
    ran = run(tmp_path, "serve", "--queue=sqs://jobs?region=eu-west-1", SECRET=SECRET)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("recado: queue is SQS, but nobody else can run the jobs of a SQLite database")
