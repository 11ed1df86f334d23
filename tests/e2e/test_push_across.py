"""Two servers and a worker on one PostgreSQL: who is there is known everywhere, and the worker calls the others."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.services.child_process import running
from tests.support.push_service import PUSH_KEY, Browser, PushService
from tests.support.server import API_KEY, SECRET, Server
from tests.support.worker import WorkerProcess


@dataclass
class Place:
    here: Server
    there: Server
    worker: WorkerProcess
    service: PushService

    def subscribe(self, user: str) -> Browser:
        browser = self.service.subscribe(f"{user}/{uuid.uuid4().hex[:8]}")
        self.here.host_api.acting_as(user).call("PUT", "/push/subscriptions", browser.subscription).expect(201)
        return browser

    def send(self, conversation: str, user: str, body: str) -> None:
        self.here.host_api.acting_as(user).call(
            "POST", f"/conversations/{conversation}/messages", {"body": body}
        ).expect(201)


def look(server: Server, user: str, *, visible: bool) -> None:
    body = {"page": "p1", "visible": visible}
    server.host_api.acting_as(user).call("PUT", "/presence", body).expect(200)


def online(server: Server, conversation: str) -> list[str]:
    found: list[str] = server.host_api.call("GET", f"/conversations/{conversation}").expect(200)["online"]
    return found


@pytest.fixture
def place(tmp_path: Path, postgres_database: str, service: PushService) -> Iterator[Place]:
    environment = {
        "RECADO_SECRET": SECRET,
        "RECADO_API_KEY": API_KEY,
        "RECADO_DATABASE": postgres_database,
        "RECADO_PUSH_KEY": PUSH_KEY,
        "RECADO_PUSH_CONTACT": "mailto:ops@example.com",
        "RECADO_PUSH_PRIVATE": "true",
        "RECADO_WORKER": "false",
    }
    folders = [tmp_path / name for name in ("here", "there", "worker")]
    for folder in folders:
        folder.mkdir()
    with ExitStack() as stack:
        here, there = (
            stack.enter_context(running(Server(folder, "serve", (), dict(environment)))) for folder in folders[:2]
        )
        worker = stack.enter_context(running(WorkerProcess.of(folders[2], environment=environment)))
        yield Place(here, there, worker, service)


def test_a_page_that_speaks_to_one_server_is_there_for_all_of_them_until_it_says_to_any_that_it_has_gone(
    place: Place,
) -> None:
    conversation = place.here.host_api.create_conversation(["ana", "bruno"])
    look(place.there, "ana", visible=False)
    assert online(place.here, conversation) == online(place.there, conversation) == ["ana"]
    place.here.host_api.acting_as("ana").call("DELETE", "/presence/p1").expect(204)
    assert online(place.there, conversation) == []


def test_the_worker_calls_who_looks_at_no_server(place: Place) -> None:
    conversation = place.here.host_api.create_conversation(["ana", "bruno", "carla", "dora"])
    browsers = {user: place.subscribe(user) for user in ("ana", "bruno", "carla", "dora")}
    look(place.here, "bruno", visible=True)
    look(place.there, "carla", visible=True)
    look(place.there, "dora", visible=False)
    place.send(conversation, "ana", "one")
    place.service.wait_until(lambda: len(place.service.calls) == 1)
    look(place.here, "carla", visible=False)
    place.send(conversation, "ana", "two")
    place.service.wait_until(lambda: len(place.service.calls) == 3)
    said = {user: [notice["body"] for notice in place.service.shown(browser)] for user, browser in browsers.items()}
    assert said == {"ana": [], "bruno": [], "carla": ["two"], "dora": ["one", "two"]}


def test_what_a_worker_was_at_when_it_died_is_done_by_the_next_one(place: Place) -> None:
    conversation = place.here.host_api.create_conversation(["ana", "bruno"])
    bruno = place.subscribe("bruno")
    called, goes_on = threading.Event(), threading.Event()

    def hang(endpoint: str) -> int:
        called.set()
        return 503 if goes_on.wait(20) else 500

    place.service.answer = hang
    place.send(conversation, "ana", "one")
    assert called.wait(20)
    place.worker.kill()
    goes_on.set()
    place.service.answer = lambda endpoint: 201
    place.send(conversation, "ana", "two")
    place.worker.start()
    place.service.wait_until(lambda: len(place.service.shown(bruno)) == 2)
    assert [notice["body"] for notice in place.service.shown(bruno)] == ["one", "two"]
