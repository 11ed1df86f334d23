"""Bytes on the wire for one delivered message: MQTT 5 over WebSocket with a topic alias, at QoS 1, and its envelope.

    .venv/bin/python benchmarks/wire_overhead.py [--body-bytes 200] [--messages 20]

A real socket, byte for byte. What is counted is everything but the body's own bytes and those of the ids (sender,
message, conversation), in parts that must add up to the frame: WebSocket header, MQTT fixed header, topic length,
packet id, properties with the alias, and the rest of the JSON. The first message of a conversation has the topic's
name too, the later ones the alias alone. TCP and IP are not counted, nor is PUBACK, which goes the other way.
Prints one line of JSON: the parts of the first message and of the last, and the largest overhead.
"""

import argparse
import base64
import json
import secrets
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.own_server import OwnServer, own_server
from benchmarks.wire import BlockingClient, Where, check_granted
from recado.mqtt.codec import encode, puback_bytes
from recado.mqtt.packets import MQTT_5, Puback, Publish
from recado.mqtt.properties import PropertyId, read_variable_byte_integer

CONVERSATION, SENDER, READER = "order-4711", "ana", "bruno"
GOAL_BYTES = 80
BINARY, MASKED = 0x82, 0x80
QOS_1 = 0x32


class Frame(NamedTuple):
    header: bytes
    payload: bytes


class WebSocketClient(BlockingClient):
    """`receive_frame` gives the next WebSocket frame as it is on the wire."""

    def _open(self, server: Where) -> None:
        self._bytes = bytearray()
        self.socket.connect(("127.0.0.1", server.ws_port))
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = ("GET /mqtt HTTP/1.1", f"Host: 127.0.0.1:{server.ws_port}", "Upgrade: websocket", "Connection: Upgrade")
        websocket = (f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Version: 13")
        self.socket.sendall("".join(f"{line}\r\n" for line in (*lines, *websocket, "")).encode())
        while b"\r\n\r\n" not in self._bytes:
            self._bytes += self.socket.recv(4096)
        head, _, self._bytes = self._bytes.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def send_bytes(self, data: bytes) -> None:
        length = len(data)
        size = bytes([MASKED | length]) if length < 126 else bytes([MASKED | 126]) + length.to_bytes(2, "big")
        self.socket.sendall(bytes([BINARY]) + size + bytes(4) + data)  # a mask of zeros changes nothing

    def receive_bytes(self) -> bytes:
        return self.receive_frame().payload

    def receive_frame(self) -> Frame:
        header = self._take(2)
        assert header[0] == BINARY, f"not a whole binary frame: {header.hex()}"
        length = header[1]
        assert length < 127, "a frame of more than 65,535 bytes, or a masked one"
        if length == 126:
            header += self._take(2)
            length = int.from_bytes(header[2:], "big")
        return Frame(header, self._take(length))

    def _take(self, count: int) -> bytes:
        while len(self._bytes) < count:
            data = self.socket.recv(65_536)
            assert data, "the server closed the connection"
            self._bytes += data
        taken = bytes(self._bytes[:count])
        del self._bytes[:count]
        return taken


class Message(msgspec.Struct):
    """As docs/mqtt.md says, in full: `sender` is its `from`."""

    seq: int
    sender: str = msgspec.field(name="from")
    at: int
    id: str
    body: str


class Delivery(NamedTuple):
    packet_id: int
    parts: dict[str, int]


def taken_apart(frame: Frame, sent_id: str, body: str) -> Delivery:
    """How many bytes each part of a delivery has."""
    header, packet = frame
    assert packet[0] == QOS_1, f"no PUBLISH of QoS 1 in {packet!r}"
    remaining, topic_at = read_variable_byte_integer(packet, 1, len(packet))
    assert topic_at + remaining == len(packet), "more than one packet in a frame"
    topic_end = topic_at + 2 + int.from_bytes(packet[topic_at : topic_at + 2], "big")
    topic = packet[topic_at + 2 : topic_end]
    assert topic in (b"", f"c/{CONVERSATION}".encode()), topic
    packet_id_end = topic_end + 2
    properties, at = read_variable_byte_integer(packet, packet_id_end, len(packet))
    payload = packet[at + properties :]
    check_envelope(payload, sent_id, body)
    parts = {
        "websocket_header": len(header),
        "mqtt_fixed_header": topic_at,
        "topic_length_and_prefix": topic_end - topic_at - (len(CONVERSATION) if topic else 0),
        "packet_id": 2,
        "properties_and_alias": at + properties - packet_id_end,
        "json_envelope": len(payload) - len(body) - len(SENDER) - len(sent_id),
    }
    overhead = sum(parts.values())
    ids = len(SENDER) + len(sent_id) + (len(CONVERSATION) if topic else 0)
    assert overhead + ids + len(body) == len(header) + len(packet), parts
    rest = {"overhead": overhead, "ids": ids, "body": len(body), "frame": len(header) + len(packet)}
    return Delivery(int.from_bytes(packet[topic_end:packet_id_end], "big"), parts | rest)


def check_envelope(payload: bytes, sent_id: str, body: str) -> None:
    message = msgspec.json.decode(payload, type=Message)
    assert (message.sender, message.id, message.body) == (SENDER, sent_id, body), message
    assert msgspec.json.encode(message) == payload, f"not the envelope of docs/mqtt.md: {payload!r}"


def measure(server: OwnServer, messages: int, body: str) -> list[dict[str, int]]:
    reader = WebSocketClient(server, READER, properties={PropertyId.TOPIC_ALIAS_MAXIMUM: 10})
    reader.subscribe(f"c/{CONVERSATION}")
    check_granted(reader.receive())
    sender = BlockingClient(server, SENDER)
    found = []
    for _ in range(messages):
        message_id = f"{time.time_ns():x}"[-12:]
        payload = json.dumps({"id": message_id, "body": body}).encode()
        sender.send_bytes(encode(Publish(f"c/{CONVERSATION}", payload, 1, packet_id=1), MQTT_5))
        delivery = taken_apart(reader.receive_frame(), message_id, body)
        reader.send_bytes(puback_bytes(delivery.packet_id))
        puback = sender.receive()
        assert isinstance(puback, Puback), puback
        found.append(delivery.parts)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--body-bytes", type=int, default=200)
    parser.add_argument("--messages", type=int, default=20)
    asked = parser.parse_args()
    if asked.messages < 2 or not 1 <= asked.body_bytes <= 16_384:
        parser.error("--messages must be at least 2, and --body-bytes 1 to 16384")
    with own_server() as server:
        server.fill({CONVERSATION: [SENDER, READER]})
        server.start()
        found = measure(server, asked.messages, "x" * asked.body_bytes)
    first, last = found[0], found[-1]
    largest = max(parts["overhead"] for parts in found)
    print(json.dumps({"first": first, "last": last, "largest_overhead": largest, "goal": GOAL_BYTES}))
    for name, parts in (("first", first), ("last", last)):
        listed = ", ".join(f"{part} {count}" for part, count in parts.items())
        print(f"{name}: {parts['overhead']} bytes ({listed}); the goal is {GOAL_BYTES}", file=sys.stderr)


if __name__ == "__main__":
    main()
