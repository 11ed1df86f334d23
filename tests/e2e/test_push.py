"""A real server and a push service of the tests: who is called for a message, and what happens while that service is
away. The service decrypts what it is sent as a browser would."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.services.child_process import running
from recado.adapters.push.vapid import VapidKey
from tests.support.api import Api, JsonObject
from tests.support.connection import Login
from tests.support.paho_python import PahoPython
from tests.support.push_service import PUSH_KEY, PUSH_OPTIONS, Browser, PushService
from tests.support.server import Server

BODY = "Chegou! segredo-do-corpo"


@pytest.fixture(scope="module")
def calling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Server.serve(tmp_path_factory.mktemp("calling"), *PUSH_OPTIONS)) as server:
        yield server
        assert BODY not in server.log
        assert PUSH_KEY not in server.log
        server.stop()


class Talk:
    """A conversation of people whom nobody else uses."""

    def __init__(self, server: Server, service: PushService, *people: str) -> None:
        self.server = server
        self.service = service
        self.users = {person: f"{person}-{uuid.uuid4().hex[:8]}" for person in people}
        self.id = server.host_api.create_conversation(list(self.users.values()))

    def api(self, person: str) -> Api:
        return self.server.host_api.acting_as(self.users[person])

    def subscribe(self, person: str) -> Browser:
        browser = self.service.subscribe(f"{self.users[person]}/{uuid.uuid4().hex[:8]}")
        self.api(person).call("PUT", "/push/subscriptions", browser.subscription).expect(201)
        return browser

    def send(self, person: str, body: str = BODY) -> JsonObject:
        return self.api(person).call("POST", f"/conversations/{self.id}/messages", {"body": body}).expect(201)

    def look(self, person: str, *, visible: bool) -> None:
        self.api(person).call("PUT", "/presence", {"page": "page", "visible": visible}).expect(200)


def test_who_is_away_is_called_and_reads_who_wrote_what(calling_server: Server, service: PushService) -> None:
    talk = Talk(calling_server, service, "ana", "bruno")
    ana, phone, laptop = talk.subscribe("ana"), talk.subscribe("bruno"), talk.subscribe("bruno")
    calling_server.host_api.call("PUT", f"/users/{talk.users['ana']}", {"name": "Ana Souza"}).expect(200)
    event = talk.send("ana")
    service.wait_until(lambda: len(service.calls) == 2)
    notice = {
        "conversation": talk.id,
        "subject": None,
        "seq": event["seq"],
        "from": talk.users["ana"],
        "name": "Ana Souza",
        "body": BODY,
        "at": event["at"],
    }
    assert service.shown(phone) == service.shown(laptop) == [notice]
    assert service.shown(ana) == []


def test_who_looks_has_muted_it_has_read_it_or_was_removed_is_left_in_peace(
    calling_server: Server, service: PushService
) -> None:
    people = ("ana", "looking", "muted", "removed", "hidden", "away")
    talk = Talk(calling_server, service, *people)
    browsers = {person: talk.subscribe(person) for person in people}
    talk.look("looking", visible=True)
    talk.look("hidden", visible=False)
    talk.api("muted").call("PUT", f"/conversations/{talk.id}/mute").expect(204)
    gone = talk.users["removed"]
    calling_server.host_api.call("DELETE", f"/conversations/{talk.id}/members/{gone}").expect(200)
    talk.send("ana")
    service.wait_until(lambda: len(service.calls) == 2)
    talk.api("muted").call("DELETE", f"/conversations/{talk.id}/mute").expect(204)
    talk.api("looking").call("DELETE", "/presence/page").expect(204)
    talk.send("ana", "and again")
    service.wait_until(lambda: len(service.calls) == 6)
    said = {person: [notice["body"] for notice in service.shown(browser)] for person, browser in browsers.items()}
    assert said == {
        "ana": [],
        "looking": ["and again"],
        "muted": ["and again"],
        "removed": [],
        "hidden": [BODY, "and again"],
        "away": [BODY, "and again"],
    }


def test_who_is_connected_is_not_called_until_its_pages_say_that_they_are_hidden(
    calling_server: Server, service: PushService
) -> None:
    talk = Talk(calling_server, service, "ana", "bruno", "carla")
    bruno, carla = talk.subscribe("bruno"), talk.subscribe("carla")
    user = talk.users["bruno"]
    login = Login(calling_server.mqtt_port, calling_server.ws_url, user, calling_server.token(user))
    with closing(PahoPython(login)) as connection:
        assert connection.connect() == 0
        talk.send("ana", "while he is connected")
        service.wait_until(lambda: len(service.shown(carla)) == 1)
        talk.look("bruno", visible=False)
        talk.send("ana", "while he looks elsewhere")
        service.wait_until(lambda: len(service.calls) == 3)
    assert [notice["body"] for notice in service.shown(bruno)] == ["while he looks elsewhere"]


def test_the_notices_of_a_conversation_replace_one_another(calling_server: Server, service: PushService) -> None:
    talk = Talk(calling_server, service, "ana", "bruno")
    bruno = talk.subscribe("bruno")
    other = calling_server.host_api.create_conversation(list(talk.users.values()))
    talk.send("ana", "one")
    talk.send("ana", "two")
    service.wait_until(lambda: len(service.calls) == 2)
    talk.api("ana").call("POST", f"/conversations/{other}/messages", {"body": "elsewhere"}).expect(201)
    service.wait_until(lambda: len(service.calls) == 3)
    topics = {
        notice["body"]: call.headers["topic"] for call, notice in zip(service.calls, service.shown(bruno), strict=True)
    }
    assert topics["one"] == topics["two"] != topics["elsewhere"]
    assert talk.id not in "".join(topics.values())


@pytest.mark.parametrize("status", [404, 410])
def test_a_browser_that_has_ended_its_subscription_is_called_no_more(
    calling_server: Server, service: PushService, status: int
) -> None:
    talk = Talk(calling_server, service, "ana", "bruno")
    ended, other = talk.subscribe("bruno"), talk.subscribe("bruno")
    service.answer = lambda endpoint: status if endpoint == ended.endpoint else 201
    talk.send("ana", "one")
    service.wait_until(lambda: len(service.calls) == 2)
    for body in ("two", "three"):
        talk.send("ana", body)
    service.wait_until(lambda: len(service.shown(other)) == 3)
    assert len(service.calls_of(ended)) == 1


def test_what_a_push_service_could_not_take_reaches_the_browser_once_it_is_back_and_delays_nobody_else(
    tmp_path: Path, service: PushService
) -> None:
    """Also if the server dies meanwhile: the job is on disk."""
    with running(Server.serve(tmp_path, *PUSH_OPTIONS)) as server:
        talk, other = Talk(server, service, "ana", "bruno"), Talk(server, service, "dora", "elisa")
        bruno, elisa = talk.subscribe("bruno"), other.subscribe("elisa")
        service.answer = lambda endpoint: 500 if endpoint == bruno.endpoint else 201
        talk.send("ana", "for bruno")
        service.wait_until(lambda: len(service.calls_of(bruno)) >= 2)
        sent_s = time.monotonic()
        other.send("dora", "for elisa")
        service.wait_until(lambda: len(service.shown(elisa)) == 1)
        assert time.monotonic() - sent_s < 2
        server.kill()
        server.start()
        service.answer = lambda endpoint: 201
        service.wait_until(lambda: len(service.shown(bruno)) == 1)
        assert [notice["body"] for notice in service.shown(bruno)] == ["for bruno"]
        assert "for bruno" not in server.log


def test_a_push_service_that_hangs_delays_no_other_conversation(calling_server: Server, service: PushService) -> None:
    talk, other = Talk(calling_server, service, "ana", "bruno"), Talk(calling_server, service, "dora", "elisa")
    bruno, elisa = talk.subscribe("bruno"), other.subscribe("elisa")
    goes_on = threading.Event()
    service.answer = lambda endpoint: 201 if endpoint != bruno.endpoint or goes_on.wait(20) else 500
    talk.send("ana", "for bruno")
    sent_s = time.monotonic()
    other.send("dora", "for elisa")
    service.wait_until(lambda: len(service.shown(elisa)) == 1)
    assert time.monotonic() - sent_s < 2
    goes_on.set()
    service.wait_until(lambda: len(service.shown(bruno)) == 1)


def test_the_key_that_the_command_makes_is_the_one_that_browsers_are_told(calling_server: Server) -> None:
    told = calling_server.api("ana").call("GET", "/push").expect(200)
    assert told == {"public_key": VapidKey(PUSH_KEY).public}
