"""Thousands of clients with kept sessions are dropped at once, and all come back at once for what they missed.

    .venv/bin/python benchmarks/reconnect_storm.py [--clients 5000] [--missed 5] [--transport ws]

Each client is another user; they are pairs with a conversation each, subscribed to `c/+` at QoS 1. While they are away,
a third member sends messages into every conversation. Then all connect in the same moment: each must be told that its
session is present, and get every message that it missed, once and in order. The server has core 0, all clients core 1.
Prints one line of JSON: seconds until all are connected, and until all have everything.
"""

import argparse
import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.open_loop import BODY, decode_entry, percentile
from benchmarks.own_server import OwnServer, own_server
from benchmarks.wire import KEPT, TRANSPORTS, BlockingClient, Wire
from recado.mqtt.codec import encode, puback_bytes
from recado.mqtt.packets import MQTT_5, Packet, Puback, Publish

WRITER = "writer"
UNDER_WAY_MAX = 100  # the server's receive maximum
OPENED_AT_A_TIME = 100  # before the storm
STORM_S_MAX = 120


class Client:
    """One user. `seqs` is what it got since it came back; `complete_at` is when that was all."""

    def __init__(self, number: int) -> None:
        self.user = f"u{number}"
        self.conversation = f"pair-{number // 2}"
        self.complete = asyncio.Event()
        self.connected_at = self.complete_at = 0.0
        self.last_seq = 0
        self._seqs: list[int] = []
        self._wire = Wire(self._arrived, self._lost)

    async def open(self, server: OwnServer, transport: str) -> bool:
        """Whether there was a session."""
        self._wire = Wire(self._arrived, self._lost)
        connack = await self._wire.connect(server, transport, self.user, self.user, clean_start=False, properties=KEPT)
        self.connected_at = self._wire.answered_at
        return connack.session_present

    async def subscribe(self) -> None:
        await self._wire.subscribe("c/+")

    def drop(self) -> None:
        self._wire.drop()

    def check(self, first: int) -> None:
        expected = list(range(first, self.last_seq + 1))
        if self._seqs != expected:
            sys.exit(f"reconnect_storm: {self.user} missed {expected} and got {self._seqs}")

    def _arrived(self, wire: Wire, packet: Packet) -> None:
        assert isinstance(packet, Publish)
        assert packet.topic_name == f"c/{self.conversation}", packet
        wire.send(puback_bytes(packet.packet_id))
        seq = decode_entry(packet.payload).seq
        self._seqs.append(seq)
        if seq == self.last_seq:
            self.complete_at = time.perf_counter()
            self.complete.set()

    def _lost(self, text: str) -> None:
        print(f"reconnect_storm: {self.user}: {text}", file=sys.stderr)
        self.complete.set()


def send_all(server: OwnServer, conversations: list[str], each: int) -> None:
    """Into every conversation so many messages, from its third member; returns once all are committed."""
    client = BlockingClient(server, WRITER)
    total = len(conversations) * each
    sent = acknowledged = 0
    while acknowledged < total:
        batch = []
        while sent < total and sent - acknowledged < UNDER_WAY_MAX:
            payload = json.dumps({"id": f"m{sent}", "body": BODY}).encode()
            topic = f"c/{conversations[sent % len(conversations)]}"
            batch.append(encode(Publish(topic, payload, 1, packet_id=sent % 65_535 + 1), MQTT_5))
            sent += 1
        client.send_bytes(b"".join(batch))
        for packet in client.receive_some():
            assert isinstance(packet, Puback), packet
            assert packet.reason_code == 0, packet
            acknowledged += 1
    client.socket.close()


async def storm(asked: argparse.Namespace, server: OwnServer) -> dict[str, Any]:
    clients = [Client(number) for number in range(asked.clients)]
    for start in range(0, asked.clients, OPENED_AT_A_TIME):
        some = clients[start : start + OPENED_AT_A_TIME]
        assert not any(await asyncio.gather(*(client.open(server, asked.transport) for client in some)))
        await asyncio.gather(*(client.subscribe() for client in some))
    seq_before = server.last_seq(clients[0].conversation)
    for client in clients:
        client.drop()
        client.last_seq = seq_before + asked.missed
    conversations = sorted({client.conversation for client in clients})
    await asyncio.to_thread(send_all, server, conversations, asked.missed)
    cpu_s, start_at = server.cpu_s(), time.perf_counter()
    present = await asyncio.gather(*(client.open(server, asked.transport) for client in clients))
    if not all(present):
        sys.exit(f"reconnect_storm: {present.count(False)} sessions were not there any more")
    with suppress(TimeoutError):  # `check` says what is missing
        await asyncio.wait_for(asyncio.gather(*(client.complete.wait() for client in clients)), STORM_S_MAX)
    cpu_s = server.cpu_s() - cpu_s
    for client in clients:
        client.check(seq_before + 1)
    connected = [client.connected_at - start_at for client in clients]
    complete = [client.complete_at - start_at for client in clients]
    return {
        "connected_s": round(max(connected), 2),
        "connected_p50_s": percentile(connected, 50),
        "complete_s": round(max(complete), 2),
        "complete_p50_s": percentile(complete, 50),
        "deliveries": asked.clients * asked.missed,
        "server_cpu_s": round(cpu_s, 2),
        "server_mib": round(server.resident_bytes() / 2**20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=5000, help="an even number")
    parser.add_argument("--missed", type=int, default=5, help="messages that each one misses")
    parser.add_argument("--transport", choices=TRANSPORTS, default="tcp")
    asked = parser.parse_args()
    if asked.clients < 2 or asked.clients % 2 or asked.missed < 1:
        parser.error("--clients must be an even number, and --missed at least 1")
    with own_server() as server:
        server.fill({f"pair-{n}": [f"u{2 * n}", f"u{2 * n + 1}", WRITER] for n in range(asked.clients // 2)})
        server.start()
        figures = uvloop.run(storm(asked, server))
    print(json.dumps({"transport": asked.transport, "clients": asked.clients, "missed": asked.missed, **figures}))
    print(
        f"{asked.clients:,} clients: all connected after {figures['connected_s']} s, "
        f"and with all {figures['deliveries']:,} missed messages after {figures['complete_s']} s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
