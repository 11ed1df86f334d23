"""What happens to messages when the broker, or the server that tells it, goes away in the middle."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.connection import next_delivery
from tests.support.metrics import MIB, count_of, get_text, resident_bytes
from tests.support.mosquitto import RecadoAtMosquitto
from tests.support.paho_python import PahoPython

WITHIN_S = 10
"""Of the broker's return."""
Start = Callable[..., RecadoAtMosquitto]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Mosquitto and a server of the test's own, which it may kill and restart."""
    started: list[RecadoAtMosquitto] = []

    def start(*options: str, notify: str = "direct") -> RecadoAtMosquitto:
        started.append(RecadoAtMosquitto(tmp_path, f"--notify={notify}", *options))
        started[0].start()
        return started[0]

    yield start
    for each in started:
        each.close()


@contextmanager
def sending(api: Api, conversation: str) -> Iterator[list[str]]:
    """Send one message after the other until the end of the block; gives the bodies of those that are acknowledged."""
    acknowledged: list[str] = []
    stopped = threading.Event()

    def send() -> None:
        while not stopped.is_set():
            body = f"message {len(acknowledged)}"
            api.send(conversation, body, f"m{len(acknowledged)}")
            acknowledged.append(body)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield acknowledged
    finally:
        stopped.set()
        sender.join()


def wait_for_more(acknowledged: list[str], count: int) -> None:
    """Until so many more are acknowledged."""
    wanted = len(acknowledged) + count
    deadline = time.monotonic() + 60
    while len(acknowledged) < wanted:
        assert time.monotonic() < deadline, "sending stopped"
        time.sleep(0.01)


@pytest.mark.parametrize("notify", ["direct", "worker"])
def test_a_broker_that_is_killed_while_messages_flow_loses_none_and_fails_no_send(start: Start, notify: str) -> None:
    at = start(notify=notify)
    conversation = at.server.host_api.create_conversation(["ana", "bob"])
    with closing(at.reader("bob", conversation).start()) as reader:
        with sending(at.server.api("ana"), conversation) as acknowledged:
            for _ in range(2):
                wait_for_more(acknowledged, 30)
                at.mosquitto.kill()
                wait_for_more(acknowledged, 30)
                at.mosquitto.start()
            wait_for_more(acknowledged, 30)
        reader.wait_for_bodies(set(acknowledged), WITHIN_S)
        assert len(reader.connected_at) == 3
        assert reader.seqs == list(range(1, len(acknowledged) + 1))
        assert [event["body"] for event in reader.events] == acknowledged


@pytest.mark.parametrize("notify", ["direct", "worker"])
def test_what_was_committed_while_the_broker_was_away_is_told_by_the_server_that_is_started_after_a_kill(
    start: Start, notify: str
) -> None:
    """Nobody reads over HTTP here: it is the job that tells."""
    at = start(notify=notify)
    conversation = at.server.host_api.create_conversation(["ana", "bob"])
    login = at.login("bob")
    at.mosquitto.kill()
    for number in range(20):
        at.server.api("ana").send(conversation, f"message {number}")
    at.server.kill()
    at.mosquitto.start()
    with closing(PahoPython(login)) as client:
        assert client.connect() == 0
        assert client.subscribe("u/bob/#") == 1
        at.server.start()
        assert [next_delivery(client, WITHIN_S).event["seq"] for _ in range(20)] == list(range(1, 21))


def test_with_a_worker_the_events_come_in_order_and_only_once(start: Start) -> None:
    at = start(notify="worker")
    conversation = at.server.host_api.create_conversation(["ana", "bob"])
    with closing(PahoPython(at.login("bob"))) as client:
        assert client.connect() == 0
        assert client.subscribe("u/bob/#") == 1
        for number in range(50):
            at.server.api("ana").send(conversation, f"message {number}")
        assert [next_delivery(client).event["seq"] for _ in range(50)] == list(range(1, 51))
    assert_no_jobs(at)


def test_what_the_direct_path_has_told_no_worker_tells_again(start: Start) -> None:
    at = start()
    conversation = at.server.host_api.create_conversation(["ana", "bob"])
    with closing(PahoPython(at.login("bob"))) as client:
        assert client.connect() == 0
        assert client.subscribe("u/bob/#") == 1
        for number in range(50):
            at.server.api("ana").send(conversation, f"message {number}")
        assert [next_delivery(client).event["seq"] for _ in range(50)] == list(range(1, 51))
        assert_no_jobs(at)
    assert count_of(at.server, "recado_broker_announced_total") == 100


def assert_no_jobs(at: RecadoAtMosquitto) -> None:
    """All are settled, soon."""
    deadline = time.monotonic() + WITHIN_S
    while json.loads(get_text(at.server, "/admin/jobs"))["jobs"]:
        assert time.monotonic() < deadline, "jobs were left"
        time.sleep(0.05)


def test_a_broker_that_stands_still_costs_bounded_memory_and_gets_everything_later(start: Start) -> None:
    at = start("--limit.broker_waiting_max=100", "--limit.broker_inflight_max=50")
    conversation = at.server.host_api.create_conversation(["ana", "bob"])
    with closing(at.reader("bob", conversation).start()) as reader:
        os.kill(at.mosquitto.pid, signal.SIGSTOP)
        before = resident_bytes(at.server)
        try:
            sent = [f"{number} " + "x" * 10_000 for number in range(400)]
            for body in sent:
                at.server.api("ana").send(conversation, body)
            assert count_of(at.server, "recado_broker_overflowed_total") > 0
            assert count_of(at.server, "recado_broker_inflight") <= 50
            assert count_of(at.server, "recado_broker_waiting") <= 100
            assert resident_bytes(at.server) - before < 100 * MIB
        finally:
            os.kill(at.mosquitto.pid, signal.SIGCONT)
        reader.wait_for_bodies(set(sent), 60)
        assert reader.seqs == list(range(1, 401))


def test_a_server_starts_while_its_broker_is_away_and_says_so_once(start: Start) -> None:
    at = start()
    at.login("ana")
    at.server.stop()
    at.mosquitto.stop()
    at.server.start()
    conversation = at.server.host_api.create_conversation(["ana", "bob"])
    at.server.api("ana").send(conversation, "nobody is told yet")
    refused = at.server.api("ana").call("GET", "/session")
    assert (refused.status, refused.body["error"]["code"]) == (503, "unavailable")
    assert at.server.log.count("cannot be had, and is tried again") == 1
    at.mosquitto.start()
    at.server.awaited_line("is there again")
    assert at.login("ana").user == "u/ana"
