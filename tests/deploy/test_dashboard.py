"""The dashboard and the alerts ask for what the processes export: metrics by name, labels that are grouped by."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.services.child_process import running
from deploy.services.ports import free_ports
from deploy.services.postgres import Postgres
from deploy.services.sqs import CREDENTIALS, Sqs
from tests.support.connection import Login
from tests.support.metrics import get_text, wait_for
from tests.support.paho_python import PahoPython
from tests.support.push_service import PUSH_OPTIONS
from tests.support.server import API_KEY, SECRET, Server
from tests.support.worker import WorkerProcess

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "recado.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "prometheus-alerts.yml").read_text(encoding="utf-8"))
PROMETHEUS = (Path(__file__).parents[2] / "deploy" / "prometheus.yml").read_text(encoding="utf-8")
WEBHOOK_SECRET = "a-webhook-secret-of-the-tests-of-32-bytes-or-more"
SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? \S+$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="')
SELECTOR = re.compile(r"\b([a-z_]+)\{")
ALERTED = re.compile(r"\b(recado_[a-z_]+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"by \(([a-z_, ]+)\) \((?:rate\()?([a-z_]+)\{")


def targets() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]


@pytest.fixture(scope="module")
def exported(
    shared_server: Server, postgres: Postgres, sqs: Sqs, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """The labels of each sample, of a server with MQTT in it, and of one with a worker that has all that is behind
    the commit, all of them used."""
    folder = tmp_path_factory.mktemp("dashboard")
    broker, webhook = free_ports(2)  # nobody is there
    sqs.create_queue("dashboard")
    options = (
        f"--broker=mqtt://recado:password@127.0.0.1:{broker}",
        *(
            f"--webhook-url=http://127.0.0.1:{webhook}",
            "--webhook-private",
            f"--capture-file={folder / 'events.jsonl'}",
        ),
        *(f"--database={postgres.create_database('dashboard')}", f"--queue={sqs.url('dashboard')}", *PUSH_OPTIONS),
    )
    keys = {"RECADO_SECRET": SECRET, "RECADO_API_KEY": API_KEY, "RECADO_WEBHOOK_SECRET": WEBHOOK_SECRET, **CREDENTIALS}
    with (
        running(Server(folder, "serve", options, keys)) as node,
        running(WorkerProcess.of(folder, *options, environment=keys)) as worker,
    ):
        for server in (shared_server, node):
            conversation = server.host_api.create_conversation(["ana", "bruno"])
            server.api("ana").send(conversation, "Chegou!")
            server.api("ana").call("GET", "/conversations/nobodys").expect(404)
        client = PahoPython(Login(shared_server.mqtt_port, shared_server.ws_url, "ana", "no token"))
        assert client.connect() != 0
        client.close()
        wait_for(lambda: 'recado_job_seconds_count{sink="capture' in get_text(worker, "/metrics"))
        pages = "".join(get_text(process, "/metrics") for process in (shared_server, node, worker))
    samples: defaultdict[str, set[str]] = defaultdict(set)
    for name, labels in SAMPLE.findall(pages):
        samples[name] |= set(LABEL.findall(labels))
    for name in re.findall(r"^# TYPE (\S+) counter$", pages, re.MULTILINE):
        samples.setdefault(name, set())  # with labels, and never counted
    return samples


def test_every_metric_of_the_dashboard_is_exported(exported: dict[str, set[str]]) -> None:
    asked = {name for expression in targets() for name in SELECTOR.findall(expression)}
    assert len(asked) > 20, "found no metrics: has the dashboard changed?"
    assert sorted(asked - set(exported)) == []


def test_every_label_that_the_dashboard_groups_by_is_exported(exported: dict[str, set[str]]) -> None:
    missing = [
        (name, label)
        for expression in targets()
        for labels, name in GROUPED.findall(expression)
        for label in labels.split(", ")
        if exported[name] and label not in exported[name]
    ]
    assert missing == []


def test_every_legend_names_labels_that_are_grouped_by() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - {"instance"}
            grouped = {each for labels in re.findall(r"by \(([^)]*)\)", target["expr"]) for each in labels.split(", ")}
            assert named <= grouped, panel["title"]


def test_the_dashboard_has_the_form_of_one() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] for panel in panels)
    for expression in targets():
        assert expression.count("(") == expression.count(")"), expression


def test_the_example_for_prometheus_names_the_jobs_that_the_dashboard_looks_for() -> None:
    (wanted,) = re.findall(r'job=~"([^"]+)"', DASHBOARD["templating"]["list"][1]["definition"])
    jobs = re.findall(r"job_name: (\S+)", PROMETHEUS)
    assert jobs == ["recado", "recado-worker"]
    assert all(re.fullmatch(wanted, job) for job in jobs)


def test_every_metric_of_the_alerts_is_exported_with_the_labels_that_are_asked_for(
    exported: dict[str, set[str]],
) -> None:
    (group,) = ALERTS["groups"]
    asked = [selected for rule in group["rules"] for selected in ALERTED.findall(rule["expr"])]
    assert len(asked) == len(group["rules"]) - 1, "all but `up`, which is Prometheus's own"
    for name, labels in asked:
        assert name in exported
        assert not exported[name] or set(LABEL.findall(labels)) <= exported[name], name
