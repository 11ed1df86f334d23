"""Time from sending a message (HTTP) to its arrival at another member through Mosquitto, with fsync on.

    .venv/bin/python benchmarks/external_latency.py [--rate 200] [--database postgresql] [--notify worker]

Open loop: messages leave at the rate whether or not earlier ones have arrived. The server, with its worker in it, has
core 0; Mosquitto and this have core 1. The members are pairs: one sends, the other has a connection to Mosquitto and
acknowledges (QoS 1). The database is made in the current directory, and removed afterwards. An event may come twice
through a worker and counts once; each must come. Prints one line of JSON: milliseconds to arrival, to the answer, and
that a send came late.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.open_loop import BODY, Times, decode_entry, percentiles
from benchmarks.own_server import OwnServer, own_server
from benchmarks.wire import TIMEOUT_S, Wire
from deploy.services.mosquitto import Mosquitto
from recado.mqtt.codec import puback_bytes
from recado.mqtt.packets import Packet, Publish

WARM_UP_S = 2
SENDING_CONNECTIONS = 32


class AtBroker:
    """Where a user's client finds Mosquitto, and its name and password there, by its session."""

    def __init__(self, mosquitto: Mosquitto, password: str) -> None:
        self.mqtt_port, self.ws_port = mosquitto.tcp_port, mosquitto.ws_port
        self._password = password

    def token(self, user: str) -> str:
        return self._password


class Traffic:
    def __init__(self, server: OwnServer, mosquitto: Mosquitto, http: aiohttp.ClientSession) -> None:
        self._server, self._mosquitto, self._http = server, mosquitto, http
        self._url = f"http://127.0.0.1:{server.http_port}/v1"
        self._times = Times()
        self._sent_at: dict[str, float] = {}
        self._all_arrived = asyncio.Event()
        self._number = 0
        self.repeats = 0

    async def receive_as(self, user: str, transport: str) -> None:
        async with self._http.get(f"{self._url}/session", headers=self._headers(user)) as answer:
            mqtt = (await answer.json())["mqtt"]
        wire = Wire(self._arrived, sys.exit)
        await wire.connect(AtBroker(self._mosquitto, mqtt["password"]), transport, mqtt["username"], f"{user}-in")
        await wire.subscribe(mqtt["topics"]["subscribe"][0])

    async def run(self, conversations: dict[str, list[str]], rate: float, seconds: float) -> Times:
        self._times = times = Times()
        names = list(conversations)
        start = time.perf_counter()
        async with asyncio.TaskGroup() as sends:
            for number in range(int(rate * seconds)):
                due = start + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                times.late.append((time.perf_counter() - due) * 1e3)
                name = names[number % len(names)]
                sends.create_task(self._send(name, conversations[name][0]))
        self._all_arrived.clear()
        if self._sent_at:
            await asyncio.wait_for(self._all_arrived.wait(), TIMEOUT_S)
        return times

    async def _send(self, conversation: str, user: str) -> None:
        self._number += 1
        message_id = f"m{self._number}"
        url = f"{self._url}/conversations/{conversation}/messages"
        self._sent_at[message_id] = sent_at = time.perf_counter()
        async with self._http.post(url, json={"id": message_id, "body": BODY}, headers=self._headers(user)) as answer:
            if answer.status != 201:
                sys.exit(f"a message was refused: {await answer.text()}")
        self._times.puback.append((time.perf_counter() - sent_at) * 1e3)

    def _arrived(self, wire: Wire, packet: Packet) -> None:
        now = time.perf_counter()
        assert isinstance(packet, Publish)
        wire.send(puback_bytes(packet.packet_id))
        sent_at = self._sent_at.pop(decode_entry(packet.payload).id, None)
        if sent_at is None:
            self.repeats += 1
            return
        self._times.arrival.append((now - sent_at) * 1e3)
        if not self._sent_at:
            self._all_arrived.set()

    def _headers(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._server.token(user)}"}


async def measure(
    asked: argparse.Namespace, server: OwnServer, mosquitto: Mosquitto, conversations: dict[str, list[str]]
) -> tuple[Times, int]:
    connector = aiohttp.TCPConnector(limit=SENDING_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as http:
        traffic = Traffic(server, mosquitto, http)
        for _, receiver in conversations.values():
            await traffic.receive_as(receiver, asked.transport)
        await traffic.run(conversations, asked.rate, WARM_UP_S)
        return await traffic.run(conversations, asked.rate, asked.seconds), traffic.repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200, help="messages per second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--transport", choices=("tcp", "ws"), default="tcp")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--notify", choices=("direct", "worker"), default="direct")
    asked = parser.parse_args()
    conversations = {f"c{number}": [f"u{number}-a", f"u{number}-b"] for number in range(asked.conversations)}
    with (
        own_server(on_postgres=asked.database == "postgresql") as server,
        tempfile.TemporaryDirectory(prefix="recado-mosquitto-") as folder,
    ):
        mosquitto = Mosquitto(Path(folder) / "broker")
        mosquitto.start()
        try:
            server.fill(conversations)
            server.start([f"--broker={mosquitto.url}", "--broker-auth=dynamic-security", f"--notify={asked.notify}"])
            times, repeats = uvloop.run(measure(asked, server, mosquitto, conversations))
        finally:
            mosquitto.close()
    facts = {name: getattr(asked, name) for name in ("database", "notify", "transport", "rate", "conversations")}
    found = {"messages": len(times.arrival), "arrival_ms": percentiles(times.arrival)}
    print(json.dumps({**facts, **found, "answer_ms": percentiles(times.puback), "repeats": repeats}))
    print(f"late by {percentiles(times.late)} ms", file=sys.stderr)


if __name__ == "__main__":
    main()
