"""Edits, deletions and erasure as open MQTT connections see them.

Nothing is proved by waiting: where nothing may arrive, something that must arrive is sent after it, and comes first.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from tests.support.connection import Login, next_event
from tests.support.paho_python import PahoPython
from tests.support.server import Server

ADMINISTRATIVE_ACTION = 0x98
NOT_AUTHORIZED = 0x87
Connect = Callable[[str], PahoPython]


@pytest.fixture
def connect(shared_server: Server) -> Iterator[Connect]:
    with ExitStack() as closer:

        def connect(user: str) -> PahoPython:
            login = Login(shared_server.mqtt_port, shared_server.ws_url, user, shared_server.token(user))
            connection = closer.enter_context(closing(PahoPython(login)))
            assert connection.connect() == 0
            return connection

        yield connect


@pytest.fixture
def user() -> str:
    """A user of this test's own."""
    return f"u-{uuid.uuid4().hex[:12]}"


def test_edits_and_deletions_come_live_as_they_stand_in_the_log(
    connect: Connect, shared_server: Server, user: str
) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", user])
    reader = connect(user)
    assert reader.subscribe(f"c/{conversation}") == 1
    ana = shared_server.api("ana")
    message = f"/conversations/{conversation}/messages/1"
    ana.send(conversation, "first")

    edited = ana.call("PATCH", message, {"body": "second"}).expect(200)
    assert [next_event(reader)["body"], next_event(reader)] == ["first", edited]

    deleted = ana.call("DELETE", message).expect(200)
    assert next_event(reader) == deleted
    assert [event.get("body") for event in shared_server.api(user).history(conversation)] == [None] * 3


def test_an_erased_conversation_says_so_last_and_is_closed_to_its_members(
    connect: Connect, shared_server: Server, user: str
) -> None:
    host = shared_server.host_api
    erased, other = host.create_conversation(["ana", user]), host.create_conversation(["ana", user])
    reader = connect(user)
    assert reader.subscribe("c/#") == 1
    shared_server.api("ana").send(erased, "last words")
    assert next_event(reader)["body"] == "last words"

    host.call("DELETE", f"/conversations/{erased}").expect(204)
    last = next_event(reader)
    assert (last["type"], last["from"], last["seq"]) == ("conversation_erased", None, 2)

    assert shared_server.api("ana").call("POST", f"/conversations/{erased}/typing").status == 404
    assert reader.publish(f"c/{erased}", "too late") == NOT_AUTHORIZED
    assert reader.publish(f"c/{erased}/live", '{"type":"typing"}') == NOT_AUTHORIZED
    assert reader.subscribe(f"c/{erased}") == NOT_AUTHORIZED
    shared_server.api("ana").send(other, "for you")
    assert next_event(reader)["body"] == "for you"


def test_an_erased_user_is_cut_off_and_the_others_hear_of_it(
    connect: Connect, shared_server: Server, user: str
) -> None:
    conversation = shared_server.host_api.create_conversation([user, "bruno"])
    gone, stays = connect(user), connect("bruno")
    assert stays.subscribe(f"c/{conversation}") == 1
    shared_server.api(user).send(conversation, "mine")
    assert next_event(stays)["body"] == "mine"

    shared_server.host_api.call("DELETE", f"/users/{user}").expect(204)

    assert gone.disconnected.get(timeout=20) == ADMINISTRATIVE_ACTION
    assert [next_event(stays)["type"], next_event(stays)["type"]] == ["member_removed", "user_erased"]
    back = connect(user)
    assert back.subscribe(f"c/{conversation}") == NOT_AUTHORIZED
    assert shared_server.api(user).call("GET", f"/conversations/{conversation}").status == 404


def test_a_users_connections_are_cut_at_once_and_may_come_back(
    connect: Connect, shared_server: Server, user: str
) -> None:
    connections = [connect(user), connect(user)]
    shared_server.host_api.call("DELETE", f"/users/{user}/sessions").expect(204)
    assert [each.disconnected.get(timeout=20) for each in connections] == [ADMINISTRATIVE_ACTION] * 2
    connect(user)
