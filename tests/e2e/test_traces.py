"""Traces of a real server and a real worker, as a collector gets them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.services.child_process import running
from tests.support.collector import Collector, Span, collecting
from tests.support.connection import Login, next_event
from tests.support.paho_python import PahoPython
from tests.support.server import Server
from tests.support.webhook_receiver import Told, receiving
from tests.support.worker import WorkerProcess

WEBHOOK_SECRET = "a-webhook-secret-of-the-tests-of-32-bytes-or-more"
STAGES = ["commit", "deliver", "job capture_file", "publish"]


def options(collector: Collector, one_in: int = 1) -> Sequence[str]:
    return (f"--traces={collector.url}", f"--limit.trace_one_in={one_in}", "--limit.trace_interval_ms=50")


def reader(server: Server, user: str) -> PahoPython:
    client = PahoPython(Login(server.mqtt_port, server.ws_url, user, server.token(user)))
    assert client.connect() == 0
    assert client.subscribe("c/+") == 1
    return client


def about(spans: list[Span], seq: int) -> list[Span]:
    return [span for span in spans if span.attributes["recado.seq"] == seq]


def names(spans: list[Span]) -> list[str]:
    return sorted(span.name for span in spans)


def test_a_message_is_one_trace_through_the_server_and_the_worker(tmp_path: Path, postgres_database: str) -> None:
    captured = tmp_path / "worker" / "events.jsonl"
    with collecting() as collector:
        own = (f"--capture-file={captured}", *options(collector))
        server = Server.node(tmp_path / "server", postgres_database, "--no-worker", *own)
        (tmp_path / "worker").mkdir()
        worker = WorkerProcess.of(tmp_path / "worker", *own, environment={"RECADO_DATABASE": postgres_database})
        with running(server), running(worker):
            conversation = server.host_api.create_conversation(["ana", "bruno"])
            bruno = reader(server, "bruno")
            started_ns = time.time_ns()
            event = server.api("ana").send(conversation, "Chegou!")
            assert next_event(bruno) == event
            seq = event["seq"]
            spans = about(collector.wait_for(lambda spans: len(about(spans, seq)) == len(STAGES)), seq)
            bruno.close()
        assert names(spans) == STAGES
        assert len({span.trace_id for span in spans}) == 1
        (commit,) = [span for span in spans if span.name == "commit"]
        assert commit.parent_id == b""
        assert {span.parent_id for span in spans if span is not commit} == {commit.span_id}
        assert {span.service for span in spans} == {"recado-serve", "recado-worker"}
        assert [span.name for span in spans if span.service == "recado-worker"] == ["job capture_file"]
        assert commit.start_ns == event["at"] * 1_000_000
        for span in spans:
            assert span.attributes == {"recado.conversation": conversation, "recado.seq": seq}
            assert started_ns - 1_000_000 <= span.start_ns <= span.end_ns <= time.time_ns()
            assert not span.failed


def test_an_attempt_that_fails_is_a_span_that_says_so(tmp_path: Path) -> None:
    with collecting() as collector, receiving() as receiver:
        receiver.answer(Told(500))
        webhook = (f"--webhook-url={receiver.url}", f"--webhook-secret={WEBHOOK_SECRET}", "--webhook-private")
        with running(Server.serve(tmp_path, *webhook, *options(collector))) as server:
            conversation = server.host_api.create_conversation(["ana", "bruno"])
            server.api("ana").send(conversation, "Chegou!")

            def jobs(spans: list[Span]) -> list[bool]:
                return [span.failed for span in spans if span.name == "job webhook"]

            spans = collector.wait_for(lambda spans: len(jobs(spans)) >= 2)
    assert jobs(spans)[:2] == [True, False]


def test_all_processes_follow_the_same_events_and_those_alone(tmp_path: Path) -> None:
    with collecting() as collector:
        with running(Server.serve(tmp_path, *options(collector, one_in=10))) as server:
            conversation = server.host_api.create_conversation(["ana", "bruno"])
            for number in range(200):
                server.api("ana").send(conversation, f"message {number}")
            server.stop()
        spans = collector.wait_for(lambda spans: len(names(spans)) >= 2 * len({span.trace_id for span in spans}) > 0)
    followed = {span.attributes["recado.seq"] for span in spans if span.name == "commit"}
    assert followed == {span.attributes["recado.seq"] for span in spans if span.name == "publish"}
    assert 2 <= len(followed) <= 60


def test_a_collector_that_is_away_keeps_no_server_from_working_or_stopping(tmp_path: Path) -> None:
    with collecting() as collector:
        collector.refuse(503)
        with running(Server.serve(tmp_path, *options(collector), "--limit.trace_timeout_s=1")) as server:
            conversation = server.host_api.create_conversation(["ana", "bruno"])
            server.api("ana").send(conversation, "Chegou!")
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 10


def test_without_traces_nothing_of_opentelemetry_is_loaded(tmp_path: Path) -> None:
    script = "import json, sys, recado.app.cli; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", script], cwd=tmp_path))
    assert "recado.app.wiring" in loaded
    assert not [name for name in loaded if name.startswith("opentelemetry")]
