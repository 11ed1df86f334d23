"""Whatever one client publishes, through `recado broker`: what the others get does not make them hang up.

The others are strict: two decoders that are not each other's, and real clients of which some close their connections on
text that MQTT allows, control characters for one. What is published is made of good packets with a place made bad.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing

import mqtt5
import pytest

from deploy.services.child_process import running
from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_3_1_1, MQTT_5, Connect, Publish, Will
from recado.mqtt.properties import PropertyId, variable_byte_integer
from tests.app.brokers import subscribe
from tests.broker.client import Client, TcpStream
from tests.support.broker_process import BrokerProcess
from tests.support.connection import Connection
from tests.support.node import NodeClient
from tests.support.paho_python import PahoPython

BAD_TEXTS = [
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xe2\x82",
    b"\xf4\x90\x80\x80",
    b"a\0b",
    b"\x01",
    b"a\nb",
    b"\x7f",
    b"\xc2\x80",
    b"\xef\xbf\xbe",
    b"\xef\xb7\x90",
    b"\xf4\x8f\xbf\xbf",
    b"+",
    b"a/#",
    b"",
    b"\xd8\x9c\xe2\x80\xae",
    "é 日本 😀".encode(),
]
# Identifiers with values that PUBLISH has no place for, or has only once, or only in some range.
BAD_PROPERTIES = """
    0102 0101 0100 01ff 02000000 0200000000 0200000000 02ffffffff 0b00 0b01 0bffffffff7f 1100000001 12000161 130001
    15000161 16000161 1701 1800000001 1901 1a000161 1c000161 1f000161 210001 220001 230000 23ffff 2401 2501 27000000ff
    2801 2901 2a01 00 7f 80 ff8001 26000161 2600016100 090005 09ffff 08ffff61 0300016103000162
"""
PLACES = ("topic name", "content type", "response topic", "user property name", "user property value", "payload")


def field(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def properties_with(texts: dict[str, bytes], more: bytes = b"") -> bytes:
    """All that is forwarded, with a text of ours in some places."""
    properties = b"\x03" + field(texts.get("content type", b"text/plain"))
    properties += b"\x08" + field(texts.get("response topic", b"answers"))
    properties += b"\x09" + field(b"\xff\x00") + b"\x02\x00\x00\x0e\x10"
    properties += b"\x26" + field(texts.get("user property name", b"a")) + field(texts.get("user property value", b"b"))
    if "payload" in texts:
        properties += b"\x01\x01"
    properties += more
    return variable_byte_integer(len(properties)) + properties


def publish_with(texts: dict[str, bytes], more: bytes = b"") -> bytes:
    body = field(texts.get("topic name", b"fuzz")) + properties_with(texts, more) + texts.get("payload", b"x")
    return b"\x30" + variable_byte_integer(len(body)) + body


def connect_with_will(texts: dict[str, bytes], more: bytes = b"") -> bytes:
    will = properties_with(texts, more) + field(texts.get("topic name", b"fuzz")) + field(texts.get("payload", b"x"))
    body = field(b"MQTT") + b"\x05\x06\x00\x00\x00" + field(b"") + will
    return b"\x10" + variable_byte_integer(len(body)) + body


def mutated(wire: bytes, choose: random.Random) -> bytes:
    data = bytearray(wire)
    for _ in range(choose.choice((1, 1, 2, 4))):
        data[choose.randrange(3, len(data))] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
    # paho-python hangs up on U+FEFF in a property, which a server may not strip and has no reason to refuse.
    return bytes(data).replace("\ufeff".encode(), b"abc")


def texts_of_all_places() -> Iterator[dict[str, bytes]]:
    for place in PLACES:
        for text in BAD_TEXTS:
            yield {place: text}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with running(BrokerProcess(tmp_path_factory.mktemp("broker"), "--database=off")) as broker:
        yield broker
        assert "Traceback" not in broker.log
        broker.stop()


class Others:
    """Subscribers to everything, of each kind."""

    def __init__(self, broker: BrokerProcess, closer: ExitStack) -> None:
        self.broker = broker
        login = broker.login
        self.libraries: list[Connection] = [
            PahoPython(login, "5"),
            PahoPython(login, "3.1.1"),
            NodeClient("mqttjs", login, "5", "tcp"),
            NodeClient("mqttjs", login, "3.1.1", "websocket"),
            NodeClient("pahojs", login, "3.1.1", "websocket"),
        ]
        for library in self.libraries:
            closer.enter_context(closing(library))
            assert library.connect() == 0
            assert library.subscribe("#") == 1
        self.mosquitto = [self._mosquitto(version, closer) for version in ("mqttv311", "mqttv5")]
        self.strict: list[Recorder] = []

    def _mosquitto(self, version: str, closer: ExitStack) -> subprocess.Popen[str]:
        command = ["stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.broker.mqtt_port)]
        command += ["-V", version, "-q", "1", "-t", "#", "-d", "-F", "%j", "-W", "300"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        closer.callback(process.wait)
        closer.callback(process.kill)
        assert process.stdout is not None
        assert any("Subscribed (mid:" in line for line in process.stdout)
        return process

    async def listen_strictly(self) -> None:
        for level in (MQTT_5, MQTT_3_1_1):
            recorder = Recorder(await TcpStream.open(self.broker.mqtt_port))
            client = Client(recorder, level)
            await client.send(Connect(f"strict-{level}", level))
            await client.next()
            assert await subscribe(client, "#", 1) == 1
            recorder.client = client
            recorder.received.clear()
            self.strict.append(recorder)

    async def are_still_there(self) -> None:
        """All of them get one more message over the connection that they had before."""
        assert (await (await self.broker.connected(client_id="last")).publish("last", "over")).reason_code == 0
        for recorder in self.strict:
            got = await recorder.client.before_pong()
            assert all(isinstance(packet, Publish) for packet in got)
            assert len(got) > 20
            assert isinstance(got[-1], Publish)
            assert got[-1].topic_name == "last"
        is_read_by_mqtt5(bytes(self.strict[0].received))
        for library in self.libraries:
            delivery = library.received.get(timeout=20)
            while delivery.topic != "last":
                delivery = library.received.get(timeout=20)
        for process in self.mosquitto:
            assert process.stdout is not None
            connects = 0
            for line in process.stdout:
                connects += "sending CONNECT" in line
                if line.startswith("{") and json.loads(line)["topic"] == "last":
                    break
            assert process.poll() is None, "it had to connect again, and gave up"
            assert not connects, "it had to connect again"


class Recorder(TcpStream):
    """All that came, too."""

    client: Client

    def __init__(self, stream: TcpStream) -> None:
        super().__init__(stream.socket)
        self.received = bytearray()

    async def receive(self) -> bytes:
        data = await super().receive()
        self.received += data
        return data


def is_read_by_mqtt5(data: bytes) -> None:
    offset = 0
    while offset < len(data):
        _, size = mqtt5.read(memoryview(data)[offset:])
        offset += size


@pytest.fixture
async def others(broker: BrokerProcess) -> Iterator[Others]:  # type: ignore[misc]
    with ExitStack() as closer:
        others = Others(broker, closer)
        await others.listen_strictly()
        yield others


async def say(broker: BrokerProcess, *wires: bytes) -> None:
    """Send the bytes over a connection of their own, to its end, which the server or this side makes."""
    stream = await TcpStream.open(broker.mqtt_port)
    try:
        await stream.send(b"".join(wires) + b"\xc0\x00")
        heard = b""
        while data := await stream.receive():
            heard += data
            if heard.endswith(b"\xd0\x00"):
                return
    except ConnectionError:
        return
    finally:
        stream.close()


async def test_no_publish_makes_the_clients_of_others_hang_up(broker: BrokerProcess, others: Others) -> None:
    hello = encode(Connect("fuzzer"), MQTT_5)
    for texts in texts_of_all_places():
        await say(broker, hello, publish_with(texts))
    for more in map(bytes.fromhex, BAD_PROPERTIES.split()):
        await say(broker, hello, publish_with({}, more))
    choose = random.Random(20_261_123)
    seed = publish_with({"payload": b"ola"})
    for _ in range(400):
        await say(broker, hello, mutated(seed, choose))
    await others.are_still_there()


async def test_no_will_makes_the_clients_of_others_hang_up(broker: BrokerProcess, others: Others) -> None:
    for texts in texts_of_all_places():
        await say(broker, connect_with_will(texts))
    for more in map(bytes.fromhex, BAD_PROPERTIES.split()):
        await say(broker, connect_with_will({}, more))
    choose = random.Random(4_711)
    seed = connect_with_will({"payload": b"ola"})
    for _ in range(300):
        await say(broker, mutated(seed, choose))
    await others.are_still_there()


@pytest.mark.parametrize("properties", [{}, {PropertyId.USER_PROPERTY: [("a", "x\ty")]}], ids=["topic", "property"])
async def test_who_publishes_what_others_would_hang_up_on_is_told_so_and_stays(
    broker: BrokerProcess, properties: dict[PropertyId, list[tuple[str, str]]]
) -> None:
    client = await broker.connected(client_id="careless")
    topic_name = "fine" if properties else "bell\x07"
    await client.send(Publish(topic_name, b"x", 1, packet_id=1, properties=properties))
    answer = await client.next()
    assert getattr(answer, "reason_code", None) == (0x83 if properties else 0x90)
    assert await client.before_pong() == []


async def test_a_will_that_others_would_hang_up_on_is_refused_at_connect(broker: BrokerProcess) -> None:
    _, connack = await broker.connect(will=Will("bell\x07", b""))
    assert connack.reason_code == 0x90


def test_the_seeds_are_good_packets() -> None:
    """Else nothing of what is made of them would be forwarded."""
    for wire in (publish_with({}), publish_with({"payload": b"ola"})):
        assert mqtt5.read(memoryview(wire))[1] == len(wire)
    assert mqtt5.read(memoryview(connect_with_will({})))[1] == len(connect_with_will({}))
