"""Receipts, presence and typing between real clients: who hears what, and who must not.

Nothing is proved by waiting: where nothing may arrive, something that must arrive is sent after it. Seconds pass only
where time is what is tested, the grace of presence and the rate of signals.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from deploy.services.child_process import running
from recado.mqtt.packets import Disconnect, Pingreq, Pingresp, Puback, Publish
from recado.mqtt.reason_codes import ReasonCode
from tests.support.connection import Delivery, Login, Transport, Version, next_delivery
from tests.support.paho_python import PahoPython
from tests.support.raw_mqtt import RawClient
from tests.support.server import Server

Connect = Callable[..., PahoPython]
JsonObject = dict[str, Any]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server where who has gone is offline a second later, and where few signals may be sent."""
    options = ("--limit.presence_grace_s=1", "--limit.signal_rate_max=3")
    with running(Server.serve(tmp_path_factory.mktemp("hasty"), *options)) as server:
        yield server
        server.stop()


@pytest.fixture(params=[("tcp", "5"), ("websocket", "5"), ("tcp", "3.1.1")], ids=lambda door: "-".join(door))
def door(request: pytest.FixtureRequest) -> tuple[Transport, Version]:
    transport, version = request.param
    return transport, version


@pytest.fixture
def connect(door: tuple[Transport, Version], shared_server: Server) -> Iterator[Connect]:
    """Connect a user through the door and subscribe; the connections are closed after the test."""
    transport, version = door
    with ExitStack() as closer:

        def connect(user: str, *topic_filters: str, qos: int = 1, server: Server = shared_server) -> PahoPython:
            login = Login(server.mqtt_port, server.ws_url, user, server.token(user))
            connection = closer.enter_context(closing(PahoPython(login, version, transport)))
            assert connection.connect() == 0
            for topic_filter in topic_filters:
                assert connection.subscribe(topic_filter, qos) == qos
            return connection

        yield connect


one_door = pytest.mark.parametrize("door", [("websocket", "5")], ids=["websocket-5"])


@pytest.fixture
def ana() -> str:
    return a_user()


@pytest.fixture
def bruno() -> str:
    return a_user()


@pytest.fixture
def carla() -> str:
    return a_user()


def a_user() -> str:
    """A user of this test's own, of whom the other tests hear nothing."""
    return f"u-{uuid.uuid4().hex[:12]}"


def signals_until(connection: PahoPython, kind: str) -> list[JsonObject]:
    """The signals that came, up to the first of that type."""
    signals: list[JsonObject] = []
    while not signals or signals[-1]["type"] != kind:
        delivery: Delivery = next_delivery(connection)
        if delivery.topic.endswith("/live"):
            signals.append(delivery.event)
    return signals


def of_type(signals: list[JsonObject], kind: str) -> list[JsonObject]:
    return [signal for signal in signals if signal["type"] == kind]


def type_in(server: Server, conversation: str, user: str) -> None:
    server.api(user).call("POST", f"/conversations/{conversation}/typing").expect(204)


# Receipts


@pytest.mark.parametrize("qos", [1, 2])
def test_delivered_goes_to_all_connections_of_the_sender_and_to_nobody_else(
    connect: Connect, shared_server: Server, ana: str, bruno: str, carla: str, qos: int
) -> None:
    conversation = shared_server.host_api.create_conversation([ana, bruno, carla])
    third = connect(carla, "c/+/live")
    tabs = [connect(ana, "c/+/live"), connect(ana, "c/#")]
    receiver = connect(bruno, "c/#", qos=qos)

    sent = shared_server.api(ana).send(conversation, "are you there?")
    delivered = {"type": "delivered", "from": bruno, "seq": sent["seq"]}
    for tab in tabs:
        assert signals_until(tab, "delivered")[-1] == delivered

    type_in(shared_server, conversation, ana)
    for other in (third, receiver):
        assert of_type(signals_until(other, "typing"), "delivered") == []


def test_what_was_sent_at_qos_0_has_no_proof_of_delivery(
    connect: Connect, shared_server: Server, ana: str, bruno: str
) -> None:
    unproven, proven = (shared_server.host_api.create_conversation([ana, bruno]) for _ in range(2))
    sender = connect(ana, "c/+/live")
    connect(bruno, f"c/{unproven}", qos=0)
    connect(bruno, f"c/{proven}")
    shared_server.api(ana).send(unproven, "who knows")
    shared_server.api(ana).send(proven, "this one")
    while not (delivery := next_delivery(sender)).topic.startswith(f"c/{proven}/"):
        assert delivery.event["type"] != "delivered"


def test_read_goes_to_the_members_and_never_back(connect: Connect, shared_server: Server, ana: str, bruno: str) -> None:
    conversation = shared_server.host_api.create_conversation([ana, bruno])
    sender, reader = connect(ana, "c/+/live"), connect(bruno, "c/+/live")
    for body in ("one", "two", "three"):
        shared_server.api(ana).send(conversation, body)

    assert reader.publish(f"c/{conversation}/live", json.dumps({"type": "read", "seq": 2})) in (0, 0x10)
    assert reader.publish(f"c/{conversation}/live", json.dumps({"type": "read", "seq": 1})) in (0, 0x10)
    shared_server.api(bruno).call("PUT", f"/conversations/{conversation}/read", {"seq": 3}).expect(200)
    type_in(shared_server, conversation, ana)

    for each in (sender, reader):
        read = of_type(signals_until(each, "typing"), "read")
        assert read == [{"type": "read", "from": bruno, "seq": seq} for seq in (2, 3)]


def test_delivered_cursors_that_wait_are_written_when_the_server_stops(tmp_path: Path) -> None:
    server = Server.serve(tmp_path, "--limit.receipts_interval_ms=3600000")
    with closing(server):
        server.start()
        conversation = server.host_api.create_conversation(["ana", "bruno"])
        with closing(RawClient(server, "bruno")) as bruno:
            bruno.subscribe("c/+")
            for body in ("one", "two", "three"):
                server.api("ana").send(conversation, body)
                bruno.send(Puback(bruno.expect(Publish).packet_id))
            bruno.send(Pingreq())
            bruno.expect(Pingresp)  # the server has all that came before it
            server.stop()
    with closing(sqlite3.connect(tmp_path / "recado.db")) as database:
        assert database.execute("SELECT user, delivered_up_to FROM members ORDER BY user").fetchall() == [
            ("ana", 0),
            ("bruno", 3),
        ]


# Presence


def test_a_page_that_is_reloaded_within_the_grace_is_no_news(
    connect: Connect, shared_server: Server, ana: str, bruno: str
) -> None:
    conversation = shared_server.host_api.create_conversation([ana, bruno])
    watcher = connect(bruno, "c/+/live")
    for _ in range(3):
        connect(ana).close()
    type_in(shared_server, conversation, ana)
    assert of_type(signals_until(watcher, "typing"), "presence") == [{"type": "presence", "from": ana, "online": True}]


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_who_stays_away_is_offline_after_the_grace_however_it_went(
    connect: Connect, hasty: Server, ana: str, bruno: str, says_goodbye: bool
) -> None:
    hasty.host_api.create_conversation([ana, bruno])
    watcher = connect(bruno, "c/+/live", server=hasty)
    with closing(RawClient(hasty, ana)) as gone:
        assert signals_until(watcher, "presence")[-1]["online"] is True
        before = time.time_ns() // 1_000_000
        if says_goodbye:
            gone.send(Disconnect(ReasonCode.SUCCESS))
    (offline,) = signals_until(watcher, "presence")
    heard = time.time_ns() // 1_000_000
    assert (offline["from"], offline["online"]) == (ana, False)
    assert before <= offline["last_seen"] <= heard - 1_000 + 5, "a second passed since"


@one_door
def test_as_long_as_one_tab_is_left_the_user_is_there(connect: Connect, hasty: Server, ana: str, bruno: str) -> None:
    conversation = hasty.host_api.create_conversation([ana, bruno])
    watcher = connect(bruno, "c/+/live", server=hasty)
    first, second = connect(ana, server=hasty), connect(ana, server=hasty)
    first.close()
    other = a_user()  # who goes later, and is known to be offline: the first tab's grace is over by then
    hasty.host_api.add_member(conversation, other)
    connect(other, server=hasty).close()
    heard = [signals_until(watcher, "presence")[-1] for _ in range(3)]
    assert [(signal["from"], signal["online"]) for signal in heard] == [(ana, True), (other, True), (other, False)]
    second.close()
    assert signals_until(watcher, "presence")[-1]["from"] == ana


@one_door
def test_who_was_removed_hears_no_more_presence_and_is_not_heard_of(
    connect: Connect, hasty: Server, ana: str, bruno: str, carla: str
) -> None:
    shop = hasty.host_api.create_conversation([ana, bruno, carla])
    other = hasty.host_api.create_conversation([bruno, carla])
    removed, watcher = connect(bruno, f"c/{shop}/live", f"c/{other}/live", server=hasty), connect(carla, server=hasty)
    watcher.subscribe(f"c/{shop}/live")
    hasty.host_api.remove_member(shop, bruno)

    connect(ana, server=hasty).close()
    assert [signals_until(watcher, "presence")[-1]["online"] for _ in range(2)] == [True, False]
    type_in(hasty, other, carla)
    assert {signal["from"] for signal in signals_until(removed, "typing")} == {carla}

    removed.close()
    connect(ana, server=hasty).close()
    heard = [signals_until(watcher, "presence")[-1] for _ in range(2)]
    assert [(signal["from"], signal["online"]) for signal in heard] == [(ana, True), (ana, False)]


@one_door
def test_above_receipt_members_max_there_are_no_receipts_and_no_presence(
    connect: Connect, hasty: Server, ana: str, bruno: str
) -> None:
    large = hasty.host_api.create_conversation([ana, bruno, *(f"m{number}" for number in range(49))])
    watcher = connect(ana, "c/+/live", server=hasty)
    with closing(RawClient(hasty, bruno)) as reader:
        reader.subscribe("c/+")
        sent = hasty.api(ana).send(large, "to all 51")
        reader.send(Puback(reader.expect(Publish).packet_id))
        hasty.api(bruno).call("PUT", f"/conversations/{large}/read", {"seq": sent["seq"]}).expect(200)

        pair = hasty.host_api.create_conversation([ana, bruno])  # what is heard of this one came after all that
        hasty.api(ana).send(pair, "to you")
        reader.send(Puback(reader.expect(Publish).packet_id))
        assert next_delivery(watcher).topic == f"c/{pair}/live"
    type_in(hasty, large, bruno)
    while (delivery := next_delivery(watcher)).topic != f"c/{large}/live":
        pass
    assert delivery.event["type"] == "typing"


# Typing


def test_a_renewal_of_typing_is_not_passed_on_until_there_was_a_message(
    connect: Connect, shared_server: Server, ana: str, bruno: str
) -> None:
    conversation = shared_server.host_api.create_conversation([ana, bruno])
    watcher, typist = connect(bruno, "c/+/live"), connect(ana)
    topic = f"c/{conversation}/live"
    for _ in range(3):
        typist.publish(topic, '{"type":"typing"}')
    shared_server.api(ana).send(conversation, "Chegou!")
    typist.publish(topic, '{"type":"typing"}')
    typist.publish(topic, '{"type":"read","seq":1}')
    typing = of_type(signals_until(watcher, "read"), "typing")
    assert typing == [{"type": "typing", "from": ana, "for_ms": 6000}] * 2


def test_a_stranger_can_neither_type_nor_read(
    connect: Connect, door: tuple[Transport, Version], shared_server: Server, ana: str, bruno: str, carla: str
) -> None:
    conversation = shared_server.host_api.create_conversation([ana, bruno])
    watcher, stranger = connect(bruno, "c/+/live"), connect(carla)
    for signal in ('{"type":"typing"}', '{"type":"read","seq":0}'):
        if door[1] == "5":
            assert stranger.publish(f"c/{conversation}/live", signal) == 0x87
        else:  # 3.1.1 has no word for it
            stranger = connect(carla)
            stranger.publish_unanswered(f"c/{conversation}/live", signal)
            assert stranger.disconnected.get(timeout=10) != 0
    type_in(shared_server, conversation, ana)
    assert {signal["from"] for signal in signals_until(watcher, "typing")} == {ana}


# Rates


def test_over_http_a_signal_too_many_is_refused_and_may_come_later(hasty: Server, ana: str, bruno: str) -> None:
    conversation = hasty.host_api.create_conversation([ana, bruno])
    connection = HTTPConnection("127.0.0.1", hasty.http_port, timeout=10)
    headers = {"Authorization": f"Bearer {hasty.token(ana)}", "Content-Type": "application/json"}

    def read() -> tuple[int, str | None, JsonObject]:
        connection.request("PUT", f"/v1/conversations/{conversation}/read", '{"seq":0}', headers)
        response = connection.getresponse()
        return response.status, response.getheader("Retry-After"), json.loads(response.read())

    with closing(connection):
        answers = [read() for _ in range(3)]
        while (answer := read())[0] == 200:  # at the turn of a second it may be a few more
            answers.append(answer)
            assert len(answers) < 100
        assert (answer[0], answer[1], answer[2]["error"]["code"]) == (429, "1", "rate_limited")
        while read()[0] == 429:
            time.sleep(0.05)


def test_over_mqtt_a_signal_too_many_is_taken_and_what_follows_is_read_later(
    hasty: Server, ana: str, bruno: str
) -> None:
    conversation = hasty.host_api.create_conversation([ana, bruno])
    last = 12
    for number in range(last):
        hasty.api(bruno).send(conversation, str(number))
    with closing(RawClient(hasty, ana)) as eager:
        began = time.monotonic()
        for seq in range(1, last + 1):
            eager.send(Publish(f"c/{conversation}/live", b'{"type":"read","seq":%d}' % seq, 1, packet_id=seq))
        for packet_id in range(1, last + 1):
            answer = eager.expect(Puback)
            assert (answer.packet_id, answer.reason_code) == (packet_id, ReasonCode.SUCCESS)
        assert time.monotonic() - began > 1, "three a second, and one more when it is told to wait"
    view = hasty.api(ana).call("GET", f"/conversations/{conversation}").expect(200)
    assert (view["read_up_to"], view["unread_count"]) == (last, 0)
