"""The seven promises of the design, one test each, against a server as its users have it: a process, over real sockets.

Each is proved at length elsewhere; what is here is the promise itself, short, in the words in which it is given.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from deploy.services.child_process import running
from recado.app import limits
from recado.mqtt.packets import (
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.support.connection import Login, Session, next_event
from tests.support.metrics import MIB, resident_bytes
from tests.support.paho_python import PahoPython
from tests.support.raw_mqtt import RawClient
from tests.support.server import Server

KEPT = {PropertyId.SESSION_EXPIRY_INTERVAL: 3600}
BODY = "x" * 16_000
FLOOD = 1_500  # 24 MB
WARM_UP = 100
CHANGES = ("member_added", "member_removed")
SMALL = {
    "body_bytes_max": 100,
    "connections_per_user_max": 1,
    "members_max": 2,
    "packet_bytes_max": 4_000,
    "request_bytes_max": 2_000,
    "signal_rate_max": 1,
    "subscriptions_max": 1,
}


@pytest.fixture
def closer() -> Iterator[ExitStack]:
    with ExitStack() as closer:
        yield closer


def connect(server: Server, closer: ExitStack, user: str, *, is_kept: bool = False) -> RawClient:
    options: dict[str, Any] = {"clean_start": False, "properties": KEPT} if is_kept else {}
    return closer.enter_context(closing(RawClient(server, user, **options)))


def subscribe(client: RawClient, topic_filter: str, qos: int = 1, after: str = "") -> None:
    properties = {PropertyId.USER_PROPERTY: [("after", after)]} if after else {}
    client.send(Subscribe(1, [SubscriptionRequest(topic_filter, qos)], properties))
    assert client.expect(Suback).reason_codes == [qos]


def next_publish(client: RawClient, *, acknowledge: bool = True) -> dict[str, Any]:
    """The next event, at QoS 0 or 1."""
    publish = client.expect(Publish)
    if publish.qos and acknowledge:
        client.send(Puback(publish.packet_id))
    event = json.loads(publish.payload)
    assert isinstance(event, dict)
    return event


def nothing_comes(client: RawClient) -> None:
    client.send(Pingreq())
    assert isinstance(client.receive(), Pingresp)


def restart(server: Server) -> None:
    server.kill()
    server.start()


@contextmanager
def nobody_can_write(server: Server) -> Iterator[None]:
    """Inside the block no commit of the server's can end."""
    with closing(sqlite3.connect(server.directory / "recado.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


def test_promise_1_acknowledged_is_durable(server: Server, closer: ExitStack) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    topic_name = f"c/{conversation}"
    ana = connect(server, closer, "ana")
    with nobody_can_write(server):
        ana.send(Publish(topic_name, b"at QoS 1", 1, packet_id=1))
        ana.send(Publish(topic_name, b"at QoS 2", 2, packet_id=2))
        for _ in range(3):  # what the server has to say comes in order: no acknowledgement does
            nothing_comes(ana)
    assert (ana.receive(), ana.receive()) == (Puback(1), Pubrec(2))
    server.kill()  # with nothing in between
    server.start()
    server.api("bruno").send(conversation, "over HTTP")
    restart(server)
    assert [event["body"] for event in server.api("ana").history(conversation)] == ["at QoS 1", "at QoS 2", "over HTTP"]


def test_promise_2_a_conversation_is_a_log(server: Server, closer: ExitStack) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    ana, bruno, carla = (connect(server, closer, user) for user in ("ana", "bruno", "carla"))
    for client in (ana, bruno, carla):
        subscribe(client, "c/+")
    for number in range(1, 21):  # from two senders at once
        ana.send(Publish(f"c/{conversation}", b"of ana", 0))
        bruno.send(Publish(f"c/{conversation}", b"of bruno", 0))
        if number == 5:
            server.host_api.add_member(conversation, "carla")
        if number == 10:
            server.host_api.remove_member(conversation, "carla")
    seen = {user: [next_publish(client) for _ in range(42)] for user, client in (("ana", ana), ("bruno", bruno))}
    log = server.api("ana").history(conversation)
    assert [event["seq"] for event in log] == list(range(1, 43))
    assert seen == {"ana": log, "bruno": log}, "every member sees the log, in its order"
    added, removed = (next(n for n, each in enumerate(log) if each.get("type") == kind) for kind in CHANGES)
    assert [next_publish(carla) for _ in range(removed + 1 - added)] == log[added : removed + 1]
    nothing_comes(carla)
    server.host_api.add_member(conversation, "carla")
    assert server.api("carla").history(conversation)[:42] == log, "a member may read the whole of it"


def test_promise_3_sending_twice_is_sending_once(server: Server, closer: ExitStack) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    message = json.dumps({"id": "k3x9", "body": "by MQTT"}).encode()
    first = server.api("ana").send(conversation, "by HTTP", "k3x9")
    ana = connect(server, closer, "ana", is_kept=True)
    subscribe(ana, "c/+", 0)
    for qos, answer in ((0, Pingresp()), (1, Puback(7)), (2, Pubrec(7))):
        ana.send(Publish(f"c/{conversation}", message, qos, packet_id=7 if qos else 0))
        if not qos:
            ana.send(Pingreq())
        assert ana.receive() == answer
    restart(server)
    ana = connect(server, closer, "ana", is_kept=True)
    ana.send(Publish(f"c/{conversation}", message, 2, dup=True, packet_id=7))
    assert ana.receive() == Pubrec(7)
    ana.send(Pubrel(7))
    assert ana.receive() == Pubcomp(7)
    answer_again = server.api("ana").call(
        "POST", f"/conversations/{conversation}/messages", {"id": "k3x9", "body": "?"}
    )
    assert (answer_again.status, answer_again.body) == (200, first), "a retry returns the first event"
    assert server.api("bruno").send(conversation, "bruno's own", "k3x9")["seq"] == 2, "an id is its sender's"
    assert [event["body"] for event in server.api("ana").history(conversation)] == ["by HTTP", "bruno's own"]


def test_promise_4_nothing_is_missed(server: Server, closer: ExitStack) -> None:
    """By a session that is kept, with a client that others wrote, and by one that says how far it is."""
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    login = Login(server.mqtt_port, server.ws_url, "bruno", server.token("bruno"))
    phones = []

    def come() -> PahoPython:
        phones.append(PahoPython(login, "5", session=Session("phone")))
        assert phones[-1].connect() == 0
        closer.callback(phones[-1].close)
        return phones[-1]

    phone = come()
    phone.subscribe("c/+", 2)
    sent = [server.api("ana").send(conversation, "one")]
    assert next_event(phone) == sent[0]
    server.kill()
    assert phone.disconnected.get(timeout=10)
    server.start()
    sent += [server.api("ana").send(conversation, body) for body in ("two", "three")]
    restart(server)
    sent.append(server.api("ana").send(conversation, "four"))
    phone = come()
    assert [next_event(phone) for _ in range(3)] == sent[1:]
    tab = connect(server, closer, "bruno")
    subscribe(tab, "c/+", 1, after=f"{conversation}=2")
    sent.append(server.api("ana").send(conversation, "five"))
    assert [next_publish(tab) for _ in range(3)] == sent[2:]
    assert next_event(phone) == sent[4]


def test_promise_5_nothing_leaks(server: Server, closer: ExitStack) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno", "carla"])
    ana, stranger, live = (connect(server, closer, user) for user in ("ana", "dora", "carla"))
    for client, topic_filter in ((ana, "c/+"), (live, "c/+"), (stranger, "#")):
        subscribe(client, topic_filter, 0)
    bruno = connect(server, closer, "bruno", is_kept=True)
    subscribe(bruno, "c/+")
    assert stranger.subscribe(f"c/{conversation}") is ReasonCode.NOT_AUTHORIZED
    server.api("ana").send(conversation, "in flight")
    assert next_publish(bruno, acknowledge=False)["body"] == next_publish(live)["body"] == "in flight"
    bruno.close()
    server.api("ana").send(conversation, "behind")
    assert next_publish(live)["body"] == "behind"
    for user in ("bruno", "carla"):
        server.host_api.remove_member(conversation, user)
    server.api("ana").send(conversation, "after")
    assert [next_publish(live)["user"] for _ in range(2)] == ["bruno", "carla"], (
        "the removal is the last that one hears"
    )
    bruno = connect(server, closer, "bruno", is_kept=True)
    assert bruno.connack.session_present
    for client in (bruno, live, stranger):
        nothing_comes(client)
    for user in ("bruno", "carla", "dora"):
        assert server.api(user).call("GET", f"/conversations/{conversation}/events").status == 404
    server.host_api.add_member(conversation, "dora")
    assert [next_publish(ana).get("type") for _ in range(6)] == [
        None,
        None,
        *["member_removed"] * 2,
        None,
        "member_added",
    ]
    assert next_publish(stranger)["user"] == "dora", "and adding a member disconnects nobody"


@pytest.fixture
def small_cache(tmp_path: Path) -> Iterator[Server]:
    """A server whose writer remembers little of its database, which would fill memory with what was written."""
    with running(Server.serve(tmp_path, f"--limit.write_cache_bytes_max={MIB}")) as server:
        yield server


def test_promise_6_one_slow_thing_stays_alone(small_cache: Server, closer: ExitStack) -> None:
    server = small_cache
    conversation = server.host_api.create_conversation(["ana", "bruno", "carla"])
    ana, bruno, slow = (connect(server, closer, user) for user in ("ana", "bruno", "carla"))
    for client in (bruno, slow):
        subscribe(client, "c/+", 0)
    before, slowest = 0, 0.0
    for number in range(1, FLOOD + 1):
        begun = time.monotonic()
        ana.send(Publish(f"c/{conversation}", BODY.encode(), 1, packet_id=number))
        assert next_publish(bruno)["seq"] == number
        assert ana.receive() == Puback(number)
        slowest = max(slowest, time.monotonic() - begun)
        before = before or (resident_bytes(server) if number == WARM_UP else 0)
    assert resident_bytes(server) - before < 8 * MIB, "24 MB wait for who does not read, and not in memory"
    assert slowest < 2, "nobody else waits for it"
    assert [next_publish(slow)["seq"] for _ in range(FLOOD)] == list(range(1, FLOOD + 1)), "and it gets them all"


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Server]:
    """A server with small limits, given on its command line."""
    with running(Server.serve(tmp_path, *(f"--limit.{name}={number}" for name, number in SMALL.items()))) as server:
        yield server


def test_promise_7_every_limit_has_a_name_and_a_number(bounded: Server, closer: ExitStack) -> None:
    """And what passes it gets a clear error."""
    groups = [getattr(limits.DEFAULT, group.name) for group in fields(limits.DEFAULT)]
    numbers = {each.name: getattr(group, each.name) for group in groups for each in fields(group)}
    assert SMALL.keys() <= numbers.keys()
    assert all(type(number) is int and number > 0 for number in numbers.values())

    host, ana = bounded.host_api, bounded.api("ana")
    conversation = host.create_conversation(["ana", "bruno"])
    messages = f"/conversations/{conversation}/messages"
    typing = (ana.call("POST", f"/conversations/{conversation}/typing") for _ in range(50))
    for status, code, number, answer in (
        (413, "too_large", 100, ana.call("POST", messages, {"body": "x" * 101})),
        (413, "too_large", 2_000, ana.call("POST", messages, {"body": "x" * 2_001})),
        (413, "too_large", 2, host.call("PUT", f"/conversations/{conversation}/members/carla")),
        (400, "invalid", 200, ana.call("GET", f"/conversations/{conversation}/events", limit=201)),
        (429, "rate_limited", 1, next(each for each in typing if each.status != 204)),
    ):
        assert (answer.status, answer.body["error"]["code"]) == (status, code), answer
        assert str(number) in answer.body["error"]["message"], answer

    phone = connect(bounded, closer, "ana")
    subscribe(phone, "c/+")
    assert phone.subscribe("c/#") is ReasonCode.QUOTA_EXCEEDED
    phone.send(Publish(f"c/{conversation}", b"x" * 101, 1, packet_id=1))
    puback = phone.expect(Puback)
    assert puback.reason_code is ReasonCode.QUOTA_EXCEEDED
    assert "100" in puback.properties[PropertyId.REASON_STRING]
    one_too_many = PahoPython(Login(bounded.mqtt_port, bounded.ws_url, "ana", bounded.token("ana")))
    closer.callback(one_too_many.close)
    assert one_too_many.connect() == ReasonCode.QUOTA_EXCEEDED
    phone.send(Publish(f"c/{conversation}", b"x" * 4_001))
    assert phone.expect(Disconnect).reason_code is ReasonCode.PACKET_TOO_LARGE
