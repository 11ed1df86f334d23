"""kill -9 while messages flow: what was acknowledged is in the log, once, and sending again duplicates nothing."""

from __future__ import annotations

import json
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from tests.support.connection import Login, next_event
from tests.support.paho_python import PahoPython
from tests.support.server import Server

ACKNOWLEDGED_BEFORE_KILL = (1, 20, 75, 150)
MESSAGES_PER_SENDER = 2000  # more than any round gets through


class Ledger:
    """What was sent and what was acknowledged, by message id."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self._changed = threading.Condition()

    def acknowledge(self, message_id: str) -> None:
        with self._changed:
            self.acknowledged.add(message_id)
            self._changed.notify_all()

    def wait_for_more(self, count: int) -> None:
        with self._changed:
            target = len(self.acknowledged) + count
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= target, timeout=30), "no more acks"


def send_over_http(server: Server, conversation: str, ledger: Ledger, prefix: str) -> None:
    """Send one message after the other as Ana until the server is gone."""
    api = server.api("ana")
    for number in range(MESSAGES_PER_SENDER):
        message_id = f"{prefix}-{number}"
        ledger.sent[message_id] = f"http {number}"
        try:
            api.send(conversation, f"http {number}", message_id)
        except (OSError, HTTPException):
            return
        ledger.acknowledge(message_id)


def send_over_mqtt(server: Server, conversation: str, ledger: Ledger, prefix: str) -> None:
    """Publish as Bruno, up to 20 at a time in flight, until the server is gone."""
    gone: queue.SimpleQueue[None] = queue.SimpleQueue()
    in_flight: dict[int, str] = {}
    numbering = threading.Lock()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False)
    client.username_pw_set("bruno", server.token("bruno"))

    def on_connect(*_: Any) -> None:
        for number in range(MESSAGES_PER_SENDER):
            message_id = f"{prefix}-{number}"
            ledger.sent[message_id] = f"mqtt {number}"
            payload = json.dumps({"id": message_id, "body": f"mqtt {number}"})
            with numbering:
                in_flight[client.publish(f"c/{conversation}", payload, qos=1).mid] = message_id

    def on_publish(_c: Any, _u: Any, mid: int, code: ReasonCode, _p: Any) -> None:
        assert code.value == 0, f"PUBACK {code}"
        with numbering:
            message_id = in_flight[mid]
        ledger.acknowledge(message_id)

    client.on_connect = on_connect
    client.on_publish = on_publish
    client.on_disconnect = lambda *_: gone.put(None)
    client.connect("127.0.0.1", server.mqtt_port)
    client.loop_start()
    gone.get(timeout=60)
    client.loop_stop()


def test_every_acknowledged_message_survives_and_sending_again_duplicates_nothing(server: Server) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    ledger = Ledger()

    for round_number, acknowledged in enumerate(ACKNOWLEDGED_BEFORE_KILL):
        senders = [
            threading.Thread(target=send, args=(server, conversation, ledger, f"{name}{round_number}"))
            for name, send in (("http", send_over_http), ("mqtt", send_over_mqtt))
        ]
        for sender in senders:
            sender.start()
        ledger.wait_for_more(acknowledged)
        server.kill()
        for sender in senders:
            sender.join(timeout=60)
            assert not sender.is_alive()
        server.start()

        assert_log_is_whole(server.api("ana").history(conversation), ledger)

    assert len(ledger.sent) > len(ledger.acknowledged), "the server was always killed while messages were in flight"
    send_all_again(server, conversation, ledger)
    log = server.api("ana").history(conversation)
    assert_log_is_whole(log, ledger)
    assert {event["id"] for event in log} == set(ledger.sent)


def assert_log_is_whole(log: list[dict[str, Any]], ledger: Ledger) -> None:
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1)), "seq has a gap or a duplicate"
    copies = Counter(event["id"] for event in log)
    assert not [message_id for message_id, count in copies.items() if count > 1]
    assert not ledger.acknowledged - set(copies), "acknowledged messages are lost"
    assert all(ledger.sent[event["id"]] == event["body"] for event in log)


def send_all_again(server: Server, conversation: str, ledger: Ledger) -> None:
    """Send what was not acknowledged, and a part of what was, each as its own sender and through the other door."""
    again = [message_id for message_id in ledger.sent if message_id not in ledger.acknowledged]
    again += sorted(ledger.acknowledged)[:50]
    with_mqtt = PahoPython(Login(server.mqtt_port, server.ws_url, "ana", server.token("ana")))
    assert with_mqtt.connect() == 0
    try:
        for message_id in again:
            body = ledger.sent[message_id]
            if message_id.startswith("http"):
                payload = json.dumps({"id": message_id, "body": body})
                assert with_mqtt.publish(f"c/{conversation}", payload) == 0
            else:
                server.api("bruno").send(conversation, body, message_id)
    finally:
        with_mqtt.close()


@pytest.fixture
def bruno(server: Server) -> Iterator[PahoPython]:
    connection = PahoPython(Login(server.mqtt_port, server.ws_url, "bruno", server.token("bruno")))
    assert connection.connect() == 0
    yield connection
    connection.close()


def test_what_a_member_saw_before_the_crash_is_in_the_log_after_it(server: Server, bruno: PahoPython) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    bruno.subscribe("c/+")
    sender = threading.Thread(target=send_over_http, args=(server, conversation, Ledger(), "m"))
    sender.start()
    seen = [next_event(bruno) for _ in range(30)]

    server.kill()
    sender.join(timeout=60)
    server.start()

    while not bruno.received.empty():
        seen.append(next_event(bruno))
    assert server.api("ana").history(conversation)[: len(seen)] == seen


def test_a_subscriber_that_resumes_after_the_crash_misses_nothing_and_sees_nothing_twice(server: Server) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    for number in range(10):
        server.api("ana").send(conversation, f"before {number}")

    server.kill()
    server.start()
    server.api("ana").send(conversation, "after")

    resumed = PahoPython(Login(server.mqtt_port, server.ws_url, "bruno", server.token("bruno")))
    assert resumed.connect() == 0
    try:
        assert resumed.subscribe("c/+", after=[f"{conversation}=4"]) == 1
        server.api("ana").send(conversation, "live")
        assert [next_event(resumed)["seq"] for _ in range(8)] == [5, 6, 7, 8, 9, 10, 11, 12]
    finally:
        resumed.close()


def test_membership_and_read_cursors_survive_a_crash(server: Server) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno", "carla"])
    server.api("ana").send(conversation, "one")
    server.api("ana").send(conversation, "two")
    server.api("bruno").call("PUT", f"/conversations/{conversation}/read", {"seq": 1}).expect(200)
    server.host_api.remove_member(conversation, "carla")

    server.kill()
    server.start()

    seen = server.api("bruno").call("GET", f"/conversations/{conversation}").expect(200)
    assert (seen["members"], seen["read_up_to"], seen["unread_count"]) == (["ana", "bruno"], 1, 1)
    assert server.api("carla").call("GET", f"/conversations/{conversation}").status == 404
