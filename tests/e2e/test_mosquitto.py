"""Recado's users at a real Mosquitto: who gets what, who is refused, and what acts at once."""

from __future__ import annotations

import json
import subprocess
import uuid
from contextlib import closing

import pytest

from tests.support.connection import Transport, Version, next_delivery, next_event
from tests.support.mosquitto import RecadoAtMosquitto
from tests.support.paho_python import PahoPython

REFUSED = 0x80
NOT_AUTHORIZED = {0x86, 0x87}
TIMEOUT_S = 20


def new_user(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def connected(
    at: RecadoAtMosquitto, user: str, version: Version = "5", transport: Transport = "tcp", subscribe: bool = True
) -> PahoPython:
    """A client of the user's, which reads all its topics."""
    client = PahoPython(at.login(user), version, transport)
    assert client.connect() == 0
    if subscribe:
        assert client.subscribe(f"u/{user}/#") == 1
    return client


@pytest.fixture
def pair(at_mosquitto: RecadoAtMosquitto) -> tuple[str, str, str]:
    """A conversation, and the two who are in it."""
    ana, bob = new_user("ana"), new_user("bob")
    return at_mosquitto.server.host_api.create_conversation([ana, bob]), ana, bob


@pytest.mark.parametrize("transport", ["tcp", "websocket"])
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_every_member_gets_the_events_in_order_and_nobody_else_does(
    at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str], version: Version, transport: Transport
) -> None:
    conversation, ana, bob = pair
    stranger = new_user("eve")
    own = at_mosquitto.server.host_api.create_conversation([stranger])
    clients = [connected(at_mosquitto, user, version, transport) for user in (ana, bob, stranger)]
    try:
        for number in range(20):
            at_mosquitto.server.api(ana).send(conversation, f"message {number}")
        at_mosquitto.server.api(stranger).send(own, "to myself")
        for user, client in zip((ana, bob), clients, strict=False):
            deliveries = [next_delivery(client) for _ in range(20)]
            assert {each.topic for each in deliveries} == {f"u/{user}/c/{conversation}"}
            assert {each.qos for each in deliveries} == {1}
            assert [each.event["seq"] for each in deliveries] == list(range(1, 21))
            assert [each.event["body"] for each in deliveries] == [f"message {number}" for number in range(20)]
        assert next_event(clients[2])["body"] == "to myself", "the stranger got something of the others before its own"
    finally:
        for client in clients:
            client.close()


def test_mosquitto_sub_prints_what_its_user_may_read(
    at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]
) -> None:
    conversation, ana, bob = pair
    login = at_mosquitto.login(bob)
    address = ["-h", "127.0.0.1", "-p", str(login.tcp_port), "-u", login.user, "-P", login.token]
    command = ["stdbuf", "-oL", "mosquitto_sub", *address, "-t", f"u/{bob}/#", "-q", "1", "-d", "-W", str(TIMEOUT_S)]
    with subprocess.Popen([*command, "-F", "%p"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert any("Subscribed (mid:" in line for line in process.stdout)
            for number in range(3):
                at_mosquitto.server.api(ana).send(conversation, f"message {number}")
            events = (json.loads(line) for line in process.stdout if line.startswith("{"))
            assert [next(events)["body"] for _ in range(3)] == ["message 0", "message 1", "message 2"]
        finally:
            process.kill()


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize(
    "topic_filter",
    [
        *("#", "+/#", "u/#", "u/+/#", "u/+/c/+", "u/{other}/#", "u/{other}/c/+"),
        *("$share/group/u/{own}/#", "$share/group/u/{other}/#", "$SYS/#", "$CONTROL/#"),
        "$CONTROL/dynamic-security/v1/response",
    ],
)
def test_a_filter_that_reaches_beyond_its_users_topics_is_refused(
    at_mosquitto: RecadoAtMosquitto, version: Version, topic_filter: str
) -> None:
    own, other = new_user("ana"), new_user("bob")
    with closing(connected(at_mosquitto, own, version, subscribe=False)) as client:
        assert client.subscribe(topic_filter.format(own=own, other=other)) >= REFUSED


def test_what_a_client_publishes_reaches_nobody(at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]) -> None:
    conversation, ana, bob = pair
    clients = [connected(at_mosquitto, user) for user in (ana, bob)]
    try:
        for topic in (f"u/{bob}/c/{conversation}", f"u/{ana}/c/{conversation}", "$CONTROL/dynamic-security/v1", "x"):
            assert clients[0].publish(topic, '{"seq":1,"from":"forged"}') in NOT_AUTHORIZED
        at_mosquitto.server.api(ana).send(conversation, "the real one")
        assert [next_event(client)["body"] for client in clients] == ["the real one", "the real one"]
    finally:
        for client in clients:
            client.close()


def test_a_removal_acts_at_once_and_its_event_is_the_last_that_its_subject_gets(
    at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]
) -> None:
    conversation, ana, bob = pair
    other = at_mosquitto.server.host_api.create_conversation([bob])
    with closing(connected(at_mosquitto, bob)) as client:
        at_mosquitto.server.host_api.remove_member(conversation, bob)
        at_mosquitto.server.api(ana).send(conversation, "without bob")
        at_mosquitto.server.api(bob).send(other, "a later one, elsewhere")
        assert next_event(client)["type"] == "member_removed"
        assert next_event(client)["body"] == "a later one, elsewhere"


def test_a_new_user_and_a_new_member_disconnect_nobody(
    at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]
) -> None:
    conversation, ana, _ = pair
    carla = new_user("carla")
    with closing(connected(at_mosquitto, ana)) as old:
        at_mosquitto.server.host_api.add_member(conversation, carla)
        with closing(connected(at_mosquitto, carla)) as new:
            at_mosquitto.server.api(carla).send(conversation, "hello")
            assert next_event(old)["type"] == "member_added"
            assert next_event(old)["body"] == next_event(new)["body"] == "hello"
            assert old.disconnected.empty()


def test_who_is_cut_off_is_disconnected_and_its_password_is_worth_nothing_any_more(
    at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]
) -> None:
    conversation, ana, bob = pair
    before = at_mosquitto.login(bob)
    with closing(connected(at_mosquitto, ana)) as other, closing(connected(at_mosquitto, bob)) as client:
        at_mosquitto.server.host_api.call("DELETE", f"/users/{bob}/sessions").expect(204)
        client.disconnected.get(timeout=TIMEOUT_S)
        with closing(PahoPython(before)) as again:
            assert again.connect() in NOT_AUTHORIZED
        assert at_mosquitto.login(bob).token != before.token
        with closing(connected(at_mosquitto, bob)) as returned:
            at_mosquitto.server.api(ana).send(conversation, "welcome back")
            assert next_event(returned)["body"] == next_event(other)["body"] == "welcome back"
        assert other.disconnected.empty()


def test_nothing_is_left_at_the_broker_of_a_user_who_is_erased(
    at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]
) -> None:
    _, ana, bob = pair
    at_mosquitto.login(ana)
    at_mosquitto.login(bob)
    at_mosquitto.server.host_api.call("DELETE", f"/users/{ana}").expect(204)
    listed = at_mosquitto.mosquitto.control("listClients") + at_mosquitto.mosquitto.control("listRoles")
    assert f"u/{ana}" not in listed
    assert listed.count(f"u/{bob}") == 2


@pytest.mark.parametrize("user", ["recado", "admin"])
def test_a_user_who_is_called_as_an_account_of_the_broker_is_a_user_like_every_other(
    at_mosquitto: RecadoAtMosquitto, user: str
) -> None:
    conversation = at_mosquitto.server.host_api.create_conversation([user])
    with closing(connected(at_mosquitto, user)) as client:
        assert (
            client.publish("$CONTROL/dynamic-security/v1", '{"commands":[{"command":"listClients"}]}') in NOT_AUTHORIZED
        )
        at_mosquitto.server.host_api.call("DELETE", f"/users/{user}/sessions").expect(204)
        client.disconnected.get(timeout=TIMEOUT_S)
    with closing(connected(at_mosquitto, user)) as client:
        at_mosquitto.server.api(user).send(conversation, "still served")
        assert next_event(client)["body"] == "still served"


def test_signals_go_to_the_live_topic_at_qos_0(at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]) -> None:
    conversation, ana, bob = pair
    with closing(connected(at_mosquitto, ana)) as client:
        at_mosquitto.server.api(bob).call("POST", f"/conversations/{conversation}/typing").expect(204)
        delivery = next_delivery(client)
        assert (delivery.topic, delivery.qos) == (f"u/{ana}/c/{conversation}/live", 0)
        assert delivery.event == {"type": "typing", "from": bob, "for_ms": 6000}


def test_what_a_client_reports_as_delivered_is_told_to_who_sent_it(
    at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]
) -> None:
    conversation, ana, bob = pair
    with closing(connected(at_mosquitto, ana)) as client:
        event = at_mosquitto.server.api(ana).send(conversation, "has it arrived?")
        assert next_event(client) == event
        body = {"seq": event["seq"]}
        at_mosquitto.server.api(bob).call("PUT", f"/conversations/{conversation}/delivered", body).expect(204)
        delivery = next_delivery(client)
        assert delivery.topic == f"u/{ana}/c/{conversation}/live"
        assert delivery.event == {"type": "delivered", "from": bob, "seq": event["seq"]}


def test_http_readers_follow_as_ever(at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]) -> None:
    conversation, ana, bob = pair
    event = at_mosquitto.server.api(ana).send(conversation, "by long poll")
    path = f"/conversations/{conversation}/events"
    answer = at_mosquitto.server.api(bob).call("GET", path, after=0, wait=10).expect(200)
    assert answer["events"] == [event]


def test_the_end_of_a_conversation_is_told_to_who_were_in_it(
    at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]
) -> None:
    conversation, ana, bob = pair
    clients = [connected(at_mosquitto, user) for user in (ana, bob)]
    try:
        at_mosquitto.server.host_api.call("DELETE", f"/conversations/{conversation}").expect(204)
        assert [next_event(client)["type"] for client in clients] == ["conversation_erased"] * 2
    finally:
        for client in clients:
            client.close()


def test_a_client_that_reads_nothing_delays_nobody(at_mosquitto: RecadoAtMosquitto, pair: tuple[str, str, str]) -> None:
    conversation, ana, bob = pair
    with closing(connected(at_mosquitto, bob)) as deaf, closing(connected(at_mosquitto, ana)) as client:
        deaf.stop_reading()
        for number in range(200):
            at_mosquitto.server.api(ana).send(conversation, f"{number} " + "x" * 10_000)
        assert [next_event(client)["seq"] for _ in range(200)] == list(range(1, 201))
