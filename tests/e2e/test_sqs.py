"""The article's path, with real processes: API nodes and workers on one PostgreSQL, and a stand-in of SQS between them,
each of which is killed while messages flow. What was acknowledged gets to the sink, in order."""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from deploy.services.sqs import CREDENTIALS, Sqs
from tests.app.commands import refusal
from tests.support.metrics import count_of, wait_for
from tests.support.server import API_KEY, SECRET, Server
from tests.support.webhook_receiver import Posted, Told, WebhookReceiver, receiving
from tests.support.worker import WorkerProcess

WEBHOOK_SECRET = "a-webhook-secret-of-the-tests-of-32-bytes-or-more"
RETURN_S = 10.0
"""Everything that waited is there so long after the return of what was away."""
ENVIRONMENT = {
    **{"RECADO_SECRET": SECRET, "RECADO_API_KEY": API_KEY, "RECADO_WEBHOOK_SECRET": WEBHOOK_SECRET},
    **CREDENTIALS,
}

S = TypeVar("S", bound=Server)


class System:
    """What it starts ends with it."""

    def __init__(self, folder: Path, database: str, sqs: Sqs, receiver: WebhookReceiver, stack: ExitStack) -> None:
        self.sqs = sqs
        self.receiver = receiver
        self.queue = f"jobs-{uuid.uuid4().hex[:12]}"
        sqs.create_queue(self.queue)
        self._folder = folder
        self._stack = stack
        self._options = (
            *(f"--database={database}", f"--queue={sqs.url(self.queue)}"),
            *(f"--webhook-url={receiver.url}", "--webhook-private", "--limit.job_backoff_ms=100"),
        )
        self.sent: defaultdict[str, int] = defaultdict(int)
        self.taken: defaultdict[str, list[int]] = defaultdict(list)

    def serve(self) -> Server:
        return self._started(Server(self._new_folder(), "serve", self._options, ENVIRONMENT))

    def worker(self) -> WorkerProcess:
        return self._started(WorkerProcess.of(self._new_folder(), *self._options, environment=ENVIRONMENT))

    def send(self, server: Server, conversation: str, count: int) -> None:
        ana = server.host_api.acting_as("ana")
        for _ in range(count):
            self.sent[conversation] += 1
            ana.send(conversation, f"{self.sent[conversation]}", f"m{self.sent[conversation]}")

    def take(self) -> Posted:
        posted = self.receiver.next()
        self.taken[posted.json["conversation"]].append(posted.json["event"]["seq"])
        return posted

    def take_all(self, within_s: float = RETURN_S) -> None:
        """Each first time in order; a worker that died may have told of one twice."""
        deadline = time.monotonic() + within_s
        while self._first_times() != {each: list(range(1, last + 1)) for each, last in self.sent.items()}:
            assert time.monotonic() < deadline, f"sent {dict(self.sent)}, taken {dict(self.taken)}"
            self.take()

    def _first_times(self) -> dict[str, list[int]]:
        return {each: list(dict.fromkeys(seqs)) for each, seqs in self.taken.items()}

    def _started(self, process: S) -> S:
        self._stack.callback(process.close)
        process.start()
        return process

    def _new_folder(self) -> Path:
        folder = self._folder / uuid.uuid4().hex[:8]
        folder.mkdir()
        return folder


@pytest.fixture
def system(tmp_path: Path, postgres_database: str, mortal_sqs: Sqs) -> Iterator[System]:
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        yield System(tmp_path, postgres_database, mortal_sqs, receiver, stack)


def test_what_two_nodes_accept_two_workers_bring_to_the_sink_and_nothing_is_left(system: System) -> None:
    nodes = [system.serve(), system.serve()]
    workers = [system.worker(), system.worker()]
    conversations = [nodes[0].host_api.create_conversation(["ana"]) for _ in range(4)]
    for _ in range(5):
        for node in nodes:
            for conversation in conversations:
                system.send(node, conversation, 1)
    system.take_all()
    assert {each: len(seqs) for each, seqs in system.taken.items()} == dict(system.sent), "one was told of twice"
    wait_for(lambda: system.sqs.counts(system.queue) == (0, 0))
    told = sum(count_of(each, "recado_sqs_messages_sent_total") for each in (*nodes, *workers))
    assert told < 1.5 * sum(system.sent.values()), "several processes told SQS of the same"


def test_nothing_is_missing_within_ten_seconds_of_the_return_of_an_sqs_that_forgot_everything(system: System) -> None:
    node = system.serve()
    system.worker()
    conversations = [node.host_api.create_conversation(["ana"]) for _ in range(3)]
    for conversation in conversations:
        system.send(node, conversation, 5)
    system.take()
    system.sqs.kill()
    for conversation in conversations:
        system.send(node, conversation, 5)
    system.sqs.start()
    for conversation in conversations:
        system.send(node, conversation, 5)
    system.sqs.create_queue(system.queue)
    system.take_all(within_s=RETURN_S)
    for conversation in conversations:
        system.send(node, conversation, 2)
    system.take_all(within_s=RETURN_S)
    assert node.log.count("SQS fails: send_message_batch") == 1


def test_when_a_worker_is_killed_with_a_claim_another_one_goes_on(system: System) -> None:
    node = system.serve()
    first = system.worker()
    conversation = node.host_api.create_conversation(["ana"])
    system.send(node, conversation, 3)
    system.take_all(within_s=30)
    system.receiver.usually(Told(when=threading.Event()))
    system.send(node, conversation, 3)
    assert system.receiver.next().json["event"]["seq"] == 4
    first.kill()
    system.receiver.usually(Told())
    system.worker()
    system.take_all(within_s=RETURN_S)


def test_when_the_only_node_is_killed_its_messages_get_to_the_sink_all_the_same(system: System) -> None:
    """The worker relays what the node had no time to."""
    node = system.serve()
    conversation = node.host_api.create_conversation(["ana"])
    system.send(node, conversation, 20)
    node.kill()
    system.worker()
    system.take_all(within_s=RETURN_S)


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_queue_that_does_not_exist_is_one_line_and_exit_status_2(
    command: str, tmp_path: Path, postgres_database: str, sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [f"--database={postgres_database}", f"--queue={sqs.url('no-such')}", "--capture-file=events.jsonl"]
    ports = ["--worker-port=0", "--http-port=0", "--mqtt-port=0", "--ws-port=0"]
    line = refusal(tmp_path, command, *flags, *ports, SECRET=SECRET)
    assert line == "queue: there is no SQS queue 'no-such': create it, or correct the name, the account or the region"
