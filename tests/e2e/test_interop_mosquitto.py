"""Mosquitto's own command line clients against the real server, in 3.1.1 and 5."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest

from tests.support.server import Server

Version = Literal["311", "5"]
TIMEOUT_S = 60

pytestmark = pytest.mark.parametrize("version", ["311", "5"])


def login(server: Server, version: Version, user: str, token: str | None = None) -> list[str]:
    address = ["-h", "127.0.0.1", "-p", str(server.mqtt_port), "-V", version]
    return [*address, "-u", user, "-P", token or server.token(user)]


@contextmanager
def subscriber(server: Server, version: Version, user: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run mosquitto_sub; it has its SUBACK when the block begins."""
    command = ["mosquitto_sub", *login(server, version, user), "-d", "-W", str(TIMEOUT_S), *options]
    command += ["-F", "%j"]
    with subprocess.Popen(["stdbuf", "-oL", *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "Subscribed (mid:" in line:
                    break
            yield process
        finally:
            process.kill()


def deliveries(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    """Return what mosquitto_sub printed: topic, qos and payload of each message."""
    assert process.stdout is not None
    found: list[dict[str, Any]] = []
    for line in process.stdout:
        if line.startswith("{"):
            found.append(json.loads(line))
        if len(found) == count:
            break
    return found


def publish(server: Server, version: Version, user: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["mosquitto_pub", *login(server, version, user), "-d", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_sub_prints_the_event_that_mosquitto_pub_caused(
    shared_server: Server, version: Version, qos: str
) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    topic = f"c/{conversation}"
    with subscriber(shared_server, version, "bruno", "-q", qos, "-t", topic) as bruno:
        payload = json.dumps({"id": "k3x9", "body": "Chegou!"})
        done = publish(shared_server, version, "ana", "-q", qos, "-t", topic, "-m", payload)
        assert done.returncode == 0, done.stderr
        (delivery,) = deliveries(bruno, 1)

    event = json.loads(delivery["payload"])
    assert (delivery["topic"], delivery["qos"]) == (topic, int(qos))
    assert set(event) == {"seq", "from", "at", "id", "body"}
    assert (event["seq"], event["from"], event["id"], event["body"]) == (1, "ana", "k3x9", "Chegou!")


def test_a_wildcard_brings_the_conversations_of_its_user_and_plain_text_is_a_body(
    shared_server: Server, version: Version
) -> None:
    host = shared_server.host_api
    user = f"wild-{host.create_conversation(['bruno'])}"
    mine = [host.create_conversation([user, "bruno"]) for _ in range(2)]
    others = host.create_conversation(["ana", "bruno"])
    with subscriber(shared_server, version, user, "-q", "1", "-t", "#") as process:
        for conversation in (others, *mine):
            done = publish(shared_server, version, "bruno", "-q", "1", "-t", f"c/{conversation}", "-m", "Bom dia")
            assert done.returncode == 0, done.stderr
        found = deliveries(process, 2)

    assert [delivery["topic"] for delivery in found] == [f"c/{conversation}" for conversation in mine]
    assert [json.loads(delivery["payload"])["body"] for delivery in found] == ["Bom dia"] * 2


def test_a_wrong_token_is_refused_with_the_code_of_the_version(shared_server: Server, version: Version) -> None:
    command = ["mosquitto_sub", *login(shared_server, version, "ana", "no.such.token"), "-d", "-t", "c/+"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode != 0
    codes = {"311": ("CONNACK (4)", "CONNACK (5)"), "5": ("CONNACK (134)", "CONNACK (135)")}[version]
    assert any(code in done.stdout for code in codes), done.stdout + done.stderr


def test_a_stranger_is_refused_the_subscription(shared_server: Server, version: Version) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    stranger = login(shared_server, version, "stranger")
    command = ["mosquitto_sub", *stranger, "-d", "-E", "-t", f"c/{conversation}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    refusal = {"311": 0x80, "5": 0x87}[version]
    assert f": {refusal}" in done.stdout, done.stdout + done.stderr
    assert "All subscription requests were denied" in done.stdout + done.stderr


def test_a_stranger_is_refused_the_publish(shared_server: Server, version: Version) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    done = publish(shared_server, version, "stranger", "-q", "1", "-t", f"c/{conversation}", "-m", "let me in")
    # 3.1.1 cannot say no: the server closes.
    refusal = {"311": "The connection was lost", "5": "RC:135"}[version]
    assert refusal in done.stdout + done.stderr
    assert shared_server.api("ana").history(conversation) == []
