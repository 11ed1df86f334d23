"""`recado broker` with mosquitto_sub and mosquitto_pub, in 3.1, 3.1.1 and 5."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.services.child_process import running
from tests.support.broker_process import BrokerProcess
from tests.support.connection import new_topic

TIMEOUT_S = 60
VERSIONS = ("mqttv31", "mqttv311", "mqttv5")
each_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with running(BrokerProcess(tmp_path_factory.mktemp("broker"))) as broker:
        yield broker
        broker.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[BrokerProcess]:
    with running(BrokerProcess(tmp_path)) as broker:
        yield broker


@pytest.fixture
def topic() -> str:
    return new_topic()


def place(broker: BrokerProcess, transport: str = "tcp") -> list[str]:
    places = {
        "tcp": ["-h", "127.0.0.1", "-p", str(broker.mqtt_port)],
        "tls": ["-h", "127.0.0.1", "-p", str(broker.tls_port), "--cafile", broker.login.trusted],
        "unix": ["--unix", broker.login.unix_socket],
    }
    return places[transport]


class Subscriber:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def messages(self, count: int) -> list[dict[str, Any]]:
        """The next ones that it printed, with all that it tells of each."""
        assert self.process.stdout is not None
        lines = (json.loads(line) for line in self.process.stdout if line.startswith("{"))
        return list(itertools.islice(lines, count))

    def payloads(self, count: int) -> list[str]:
        return [message["payload"] for message in self.messages(count)]

    def leave(self) -> None:
        """SIGTERM: it sends DISCONNECT and ends."""
        self.process.terminate()
        self.process.wait(TIMEOUT_S)


@contextmanager
def subscriber(
    broker: BrokerProcess, version: str, *options: str, transport: str = "tcp", waits: bool = True
) -> Iterator[Subscriber]:
    """Run mosquitto_sub; it has its SUBACK when the block begins, unless a message may come sooner."""
    command = ["stdbuf", "-oL", "mosquitto_sub", *place(broker, transport), "-V", version, "-d", "-F", "%j"]
    command += ["-W", str(TIMEOUT_S), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            if waits:
                heard = list(itertools.takewhile(lambda line: "Subscribed (mid:" not in line, process.stdout))
                assert process.poll() is None, heard
            yield Subscriber(process)
        finally:
            process.kill()


def publish(broker: BrokerProcess, version: str, *options: str, transport: str = "tcp") -> str:
    """Run mosquitto_pub to its end; returns what it said."""
    command = ["mosquitto_pub", *place(broker, transport), "-V", version, "-d", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@each_version
@pytest.mark.parametrize("transport", ["tcp", "tls", "unix"])
def test_each_qos_arrives(broker: BrokerProcess, topic: str, version: str, transport: str) -> None:
    with subscriber(broker, version, "-q", "2", "-t", f"{topic}/+", transport=transport) as ana:
        for qos in ("0", "1", "2"):
            publish(broker, version, "-t", f"{topic}/{qos}", "-q", qos, "-m", f"olá {qos}", transport=transport)
        got = [(each["topic"], each["qos"], each["payload"], each["retain"]) for each in ana.messages(3)]
    assert got == [(f"{topic}/{qos}", qos, f"olá {qos}", 0) for qos in (0, 1, 2)]


@each_version
def test_a_retained_message_waits_until_it_is_removed(broker: BrokerProcess, topic: str, version: str) -> None:
    publish(broker, version, "-t", f"{topic}/a", "-m", "kept", "-r", "-q", "1")
    publish(broker, version, "-t", f"{topic}/b", "-m", "kept too", "-r")
    with subscriber(broker, version, "-t", f"{topic}/#") as ana:
        got = ana.messages(2)
    assert {(each["payload"], each["retain"]) for each in got} == {("kept", 1), ("kept too", 1)}
    publish(broker, version, "-t", f"{topic}/a", "-n", "-r", "-q", "1")
    with subscriber(broker, version, "-t", f"{topic}/#") as ana:
        assert ana.payloads(1) == ["kept too"]
        publish(broker, version, "-t", f"{topic}/c", "-m", "next")
        assert ana.payloads(1) == ["next"]


@each_version
def test_a_kept_session_survives_the_brokers_end(own: BrokerProcess, topic: str, version: str) -> None:
    kept = ["-c", "-i", "kept", "-q", "2", "-t", topic, *(["-x", "600"] if version == "mqttv5" else [])]
    with subscriber(own, version, *kept) as ana:
        ana.leave()
    for n in range(3):
        publish(own, version, "-t", topic, "-q", str(n), "-m", str(n))
    own.kill()
    own.start()
    publish(own, version, "-t", topic, "-q", "1", "-m", "3")
    with subscriber(own, version, *kept, waits=False) as ana:
        assert sorted(ana.payloads(3)) == ["1", "2", "3"], "QoS 0 does not wait; QoS 2 takes longer than QoS 1"


@each_version
def test_a_will_is_published_for_who_was_killed_and_not_for_who_left(
    broker: BrokerProcess, topic: str, version: str
) -> None:
    will = ["--will-topic", topic, "--will-qos", "1", "--will-retain", "--will-payload"]
    with subscriber(broker, version, "-q", "1", "-t", topic) as ana:
        with subscriber(broker, version, *will, "left", "-C", "1", "-t", f"{topic}/bell") as leaving:
            publish(broker, version, "-t", f"{topic}/bell", "-m", "rings")
            assert leaving.process.wait(TIMEOUT_S) == 0
        with subscriber(broker, version, *will, "killed", "-t", f"{topic}/bell") as dying:
            dying.process.kill()
            dying.process.wait(TIMEOUT_S)
        assert ana.payloads(1) == ["killed"]
    with subscriber(broker, version, "-t", topic) as later:
        assert [(each["payload"], each["retain"]) for each in later.messages(1)] == [("killed", 1)]


def test_properties_arrive_as_they_were_given(broker: BrokerProcess, topic: str) -> None:
    given = {
        "payload-format-indicator": 1,
        "content-type": "text/plain",
        "response-topic": "answers/here",
        "correlation-data": "4711",
    }
    options = [each for name, value in given.items() for each in ("-D", "publish", name, str(value))]
    users = ["-D", "publish", "user-property", "a", "1", "-D", "publish", "user-property", "b", "2"]
    with subscriber(broker, "mqttv5", "-q", "1", "-t", topic) as ana:
        publish(broker, "mqttv5", "-t", topic, "-q", "1", "-m", "olá", *options, *users)
        (message,) = ana.messages(1)
    assert {name: message["properties"][name] for name in given} == given
    assert message["properties"]["user-properties"] == {"a": "1", "b": "2"}


def test_a_message_that_expires_is_given_the_time_that_is_left(broker: BrokerProcess, topic: str) -> None:
    expiry = ["-D", "publish", "message-expiry-interval", "600"]
    publish(broker, "mqttv5", "-t", topic, "-q", "1", "-r", "-m", "still good", *expiry)
    with subscriber(broker, "mqttv5", "-q", "1", "-t", topic) as ana:
        (message,) = ana.messages(1)
    assert 0 < message["properties"]["message-expiry-interval"] <= 600


def test_retain_as_published_tells_live_messages_that_are_retained(broker: BrokerProcess, topic: str) -> None:
    with (
        subscriber(broker, "mqttv5", "-t", topic, "--retain-as-published") as told,
        subscriber(broker, "mqttv5", "-t", topic) as plain,
    ):
        publish(broker, "mqttv5", "-t", topic, "-r", "-m", "x")
        assert (told.messages(1)[0]["retain"], plain.messages(1)[0]["retain"]) == (1, 0)


def test_a_subscriber_that_wants_no_retained_messages_gets_the_live_ones(broker: BrokerProcess, topic: str) -> None:
    publish(broker, "mqttv5", "-t", topic, "-r", "-q", "1", "-m", "old")
    with subscriber(broker, "mqttv5", "-t", topic, "-R") as ana:
        publish(broker, "mqttv5", "-t", topic, "-m", "new")
        assert ana.payloads(1) == ["new"]


@each_version
def test_a_shared_subscription_gives_each_message_to_one(broker: BrokerProcess, topic: str, version: str) -> None:
    shared = f"$share/workers/{topic}"
    with (
        subscriber(broker, version, "-q", "1", "-t", shared) as one,
        subscriber(broker, version, "-q", "1", "-t", shared) as two,
    ):
        for n in range(6):
            publish(broker, version, "-t", topic, "-q", "1", "-m", str(n))
        shares = one.payloads(3), two.payloads(3)
    assert sorted(shares[0] + shares[1]) == [str(n) for n in range(6)]


def test_subscription_identifiers_and_topic_aliases_are_taken(broker: BrokerProcess, topic: str) -> None:
    with subscriber(broker, "mqttv5", "-t", topic, "-D", "subscribe", "subscription-identifier", "7") as ana:
        publish(broker, "mqttv5", "-t", topic, "-m", "x", "-D", "publish", "topic-alias", "3")
        (message,) = ana.messages(1)
    assert message["payload"] == "x"


@each_version
def test_many_lines_are_as_many_messages_in_their_order(broker: BrokerProcess, topic: str, version: str) -> None:
    lines = [f"line {n}" for n in range(500)]
    with subscriber(broker, version, "-q", "2", "-t", topic) as ana:
        command = ["mosquitto_pub", *place(broker), "-V", version, "-t", topic, "-q", "2", "-l"]
        done = subprocess.run(command, input="\n".join(lines), text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0
        assert ana.payloads(len(lines)) == lines


@each_version
def test_a_large_file_arrives_whole(broker: BrokerProcess, topic: str, version: str, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_text("x" * 900_000)
    with subscriber(broker, version, "-q", "1", "-t", topic) as ana:
        publish(broker, version, "-t", topic, "-q", "1", "-f", str(sent))
        assert ana.payloads(1) == [sent.read_text()]


def test_sys_topics_are_told(broker: BrokerProcess) -> None:
    with subscriber(broker, "mqttv311", "-t", "$SYS/broker/version", waits=False) as ana:
        assert ana.payloads(1)[0].startswith("Recado ")
