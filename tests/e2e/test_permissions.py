"""Membership is the permission: what a stranger, a removed member and a new member get, over every door of MQTT.

Nothing is proved by waiting: where nothing may arrive, something that must arrive is sent after it, and comes first.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from tests.support.connection import Login, Transport, Version, next_delivery, next_event
from tests.support.paho_python import PahoPython
from tests.support.server import Server

REFUSED: dict[Version, int] = {"3.1.1": 0x80, "5": 0x87}


@dataclass(frozen=True)
class Door:
    transport: Transport
    version: Version

    def __str__(self) -> str:
        return f"{self.transport}-{self.version}"


DOORS = [Door(transport, version) for transport in ("tcp", "websocket") for version in ("3.1.1", "5")]

Connect = Callable[[str], PahoPython]


@pytest.fixture(params=DOORS, ids=str)
def door(request: pytest.FixtureRequest) -> Door:
    assert isinstance(request.param, Door)
    return request.param


@pytest.fixture
def connect(door: Door, shared_server: Server) -> Iterator[Connect]:
    """Connect a user through the door."""
    with ExitStack() as closer:

        def connect(user: str) -> PahoPython:
            login = Login(shared_server.mqtt_port, shared_server.ws_url, user, shared_server.token(user))
            connection = closer.enter_context(closing(PahoPython(login, door.version, door.transport)))
            assert connection.connect() == 0
            return connection

        yield connect


@pytest.fixture
def user() -> str:
    """A user of this test's own, whose wildcard gets nothing from other tests."""
    return f"u-{uuid.uuid4().hex[:12]}"


def test_a_strangers_literal_subscription_is_refused_and_brings_nothing(
    connect: Connect, door: Door, shared_server: Server, user: str
) -> None:
    host = shared_server.host_api
    closed, own = host.create_conversation(["ana", "bruno"]), host.create_conversation(["ana", user])
    stranger = connect(user)

    assert stranger.subscribe(f"c/{closed}") == REFUSED[door.version]
    assert stranger.subscribe(f"c/{closed}/live") == REFUSED[door.version]
    assert stranger.subscribe(f"c/{own}") == 1

    shared_server.api("ana").send(closed, "not for you")
    shared_server.api("ana").send(own, "for you")
    assert next_event(stranger)["body"] == "for you"


def test_an_unknown_conversation_looks_like_one_of_others(connect: Connect, door: Door, user: str) -> None:
    assert connect(user).subscribe("c/there-is-no-such-conversation") == REFUSED[door.version]


@pytest.mark.parametrize("topic_filter", ["#", "c/#", "c/+", "+/+", "+/#"])
def test_a_wildcard_gives_a_stranger_nothing(
    connect: Connect, shared_server: Server, user: str, topic_filter: str
) -> None:
    host = shared_server.host_api
    closed, own = host.create_conversation(["ana", "bruno"]), host.create_conversation(["ana", user])
    stranger = connect(user)
    assert stranger.subscribe(topic_filter) == 1

    shared_server.api("ana").send(closed, "not for you")
    shared_server.api("ana").call("POST", f"/conversations/{closed}/typing").expect(204)
    shared_server.api("ana").send(own, "for you")

    delivery = next_delivery(stranger)
    assert (delivery.topic, delivery.event["body"]) == (f"c/{own}", "for you")


def test_a_removed_members_last_event_is_its_removal_while_the_others_go_on(
    connect: Connect, shared_server: Server, user: str
) -> None:
    host = shared_server.host_api
    conversation, other = host.create_conversation(["ana", "bruno", user]), host.create_conversation(["ana", user])
    removed, bruno = connect(user), connect("bruno")
    removed.subscribe("c/+")
    bruno.subscribe(f"c/{conversation}")
    shared_server.api("ana").send(conversation, "to all three")

    host.remove_member(conversation, user)
    shared_server.api("ana").send(conversation, "behind its back")
    shared_server.api("ana").send(other, "elsewhere")

    got = [next_delivery(removed) for _ in range(3)]
    assert [(d.topic, d.event.get("type", d.event.get("body"))) for d in got] == [
        (f"c/{conversation}", "to all three"),
        (f"c/{conversation}", "member_removed"),
        (f"c/{other}", "elsewhere"),
    ]
    assert got[1].event["user"] == user
    assert [next_event(bruno)["seq"] for _ in range(3)] == [1, 2, 3]


def test_a_removed_members_literal_subscription_ends_with_its_removal(
    connect: Connect, shared_server: Server, user: str
) -> None:
    host = shared_server.host_api
    conversation, other = host.create_conversation(["ana", user]), host.create_conversation(["ana", user])
    removed = connect(user)
    removed.subscribe(f"c/{conversation}")
    removed.subscribe(f"c/{conversation}/live")
    removed.subscribe(f"c/{other}")

    host.remove_member(conversation, user)
    shared_server.api("ana").send(conversation, "behind its back")
    shared_server.api("ana").call("POST", f"/conversations/{conversation}/typing").expect(204)
    shared_server.api("ana").send(other, "elsewhere")

    assert next_event(removed)["type"] == "member_removed"
    assert next_event(removed)["body"] == "elsewhere"


def test_a_removed_member_can_neither_subscribe_nor_send_nor_read(
    connect: Connect, door: Door, shared_server: Server, user: str
) -> None:
    host = shared_server.host_api
    conversation = host.create_conversation(["ana", user])
    removed = connect(user)
    host.remove_member(conversation, user)

    assert removed.subscribe(f"c/{conversation}") == REFUSED[door.version]
    sent = shared_server.api(user).call("POST", f"/conversations/{conversation}/messages", {"body": "still here"})
    read = shared_server.api(user).call("GET", f"/conversations/{conversation}/events")
    assert (sent.status, read.status) == (404, 404)
    if door.version == "5":
        assert removed.publish(f"c/{conversation}", "still here") == 0x87
    assert [event["type"] for event in shared_server.api("ana").history(conversation)] == ["member_removed"]


def test_a_new_members_wildcard_begins_with_its_own_member_added(
    connect: Connect, shared_server: Server, user: str
) -> None:
    host = shared_server.host_api
    conversation = host.create_conversation(["ana"])
    added, ana = connect(user), connect("ana")
    added.subscribe("c/+")
    ana.subscribe(f"c/{conversation}")
    shared_server.api("ana").send(conversation, "before it came")

    host.add_member(conversation, user)
    shared_server.api("ana").send(conversation, "welcome")

    first, second = next_event(added), next_event(added)
    assert (first["seq"], first["type"], first["user"]) == (2, "member_added", user)
    assert (second["seq"], second["body"]) == (3, "welcome")
    assert [next_event(ana)["seq"] for _ in range(3)] == [1, 2, 3]  # and nobody was disconnected


def test_a_member_that_comes_back_gets_what_is_sent_from_then_on(
    connect: Connect, shared_server: Server, user: str
) -> None:
    host = shared_server.host_api
    conversation = host.create_conversation(["ana", user])
    member = connect(user)
    member.subscribe("c/+")

    host.remove_member(conversation, user)
    shared_server.api("ana").send(conversation, "behind its back")
    host.add_member(conversation, user)
    shared_server.api("ana").send(conversation, "welcome back")

    events = [next_event(member) for _ in range(3)]
    assert [event["seq"] for event in events] == [1, 3, 4]
    assert [event.get("type", "message") for event in events] == ["member_removed", "member_added", "message"]


def test_a_strangers_publish_is_stored_nowhere_and_delivered_to_nobody(
    connect: Connect, door: Door, shared_server: Server, user: str
) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    stranger, bruno = connect(user), connect("bruno")
    bruno.subscribe(f"c/{conversation}")

    if door.version == "5":
        assert stranger.publish(f"c/{conversation}", json.dumps({"id": "x", "body": "let me in"})) == 0x87
    else:  # 3.1.1 has no refusal: the server closes the connection
        stranger.publish_unanswered(f"c/{conversation}", json.dumps({"id": "x", "body": "let me in"}))
        assert stranger.disconnected.get(timeout=20) != 0

    shared_server.api("ana").send(conversation, "private")
    event = next_event(bruno)
    assert (event["seq"], event["body"]) == (1, "private")
