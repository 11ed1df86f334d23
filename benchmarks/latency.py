#!/usr/bin/env python3
"""Time from sending a message (QoS 1) to its arrival at another member, through a server of its own with fsync on.

    .venv/bin/python benchmarks/latency.py [--rate 100] [--seconds 10] [--conversations 10] [--transport tcp|ws]

Open loop: messages leave at the rate whether or not earlier ones have arrived. The server has core 0, this has core 1.
The database is made in the current directory, so that its disk is the one that is measured, and removed afterwards.
Prints one line of JSON: milliseconds from send to arrival, and from send to PUBACK.
"""

import argparse
import asyncio
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from recado.mqtt.codec import Decoder, encode, puback_bytes
from recado.mqtt.packets import MQTT_5, Connect, Packet, Puback, Publish, Subscribe, SubscriptionRequest

BODY = "x" * 200


class Wire:
    """One MQTT client over TCP or WebSocket: packets out by `send`, packets in by the callback."""

    def __init__(self, on_packet: Callable[["Wire", Packet], None]) -> None:
        self.send: Callable[[bytes], None]
        self.packets: asyncio.Queue[Packet] = asyncio.Queue()
        self.on_packet = on_packet
        self._decoder = Decoder(packet_bytes_max=1 << 20, role="client", protocol_level=MQTT_5)

    def receive(self, data: bytes) -> None:
        self._decoder.receive(data)
        while (packet := self._decoder.next_packet()) is not None:
            if isinstance(packet, Publish | Puback):
                self.on_packet(self, packet)
            else:
                self.packets.put_nowait(packet)


class TcpClient(asyncio.Protocol):
    def __init__(self, wire: Wire) -> None:
        self.data_received = wire.receive  # type: ignore[method-assign]


class WsClient(WSListener):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._wire.receive(frame.get_payload_as_bytes())


async def connect(ports: dict[str, int], transport: str, user: str, token: str, wire: Wire) -> None:
    if transport == "tcp":
        loop = asyncio.get_running_loop()
        tcp, _ = await loop.create_connection(lambda: TcpClient(wire), "127.0.0.1", ports["mqtt_port"])
        wire.send = tcp.write
    else:
        url = f"ws://127.0.0.1:{ports['ws_port']}/mqtt"
        ws, _ = await ws_connect(lambda: WsClient(wire), url, extra_headers={"Sec-WebSocket-Protocol": "mqtt"})
        wire.send = lambda data: ws.send(WSMsgType.BINARY, data)
    wire.send(encode(Connect(user, username=user, password=token.encode(), keep_alive=60), MQTT_5))
    await wire.packets.get()


class Measurement:
    def __init__(self, total: int) -> None:
        self.total = total
        self.complete = asyncio.Event()
        self.sent_at: dict[str, float] = {}
        self.sent_by_packet_id: dict[tuple[int, int], float] = {}
        self.arrival_ms: list[float] = []
        self.puback_ms: list[float] = []

    def arrived(self, wire: Wire, packet: Packet) -> None:
        now = time.perf_counter()
        assert isinstance(packet, Publish)
        wire.send(puback_bytes(packet.packet_id))
        self.arrival_ms.append((now - self.sent_at[json.loads(packet.payload)["id"]]) * 1e3)
        if len(self.arrival_ms) == self.total:
            self.complete.set()

    def acknowledged(self, wire: Wire, packet: Packet) -> None:
        assert isinstance(packet, Puback)
        assert packet.reason_code == 0, packet
        self.puback_ms.append((time.perf_counter() - self.sent_by_packet_id[id(wire), packet.packet_id]) * 1e3)


async def measure(arguments: argparse.Namespace, ports: dict[str, int], tokens: dict[str, str]) -> Measurement:
    total = int(arguments.rate * arguments.seconds)
    result = Measurement(total)
    receiver = Wire(result.arrived)
    await connect(ports, arguments.transport, "bruno", tokens["bruno"], receiver)
    receiver.send(encode(Subscribe(1, [SubscriptionRequest("c/+", qos=1)]), MQTT_5))
    await receiver.packets.get()
    sender = Wire(result.acknowledged)
    await connect(ports, arguments.transport, "ana", tokens["ana"], sender)
    start = time.perf_counter()
    for number in range(total):
        await asyncio.sleep(max(0.0, start + number / arguments.rate - time.perf_counter()))
        message_id, packet_id = f"m{number}", number % 65_535 + 1
        payload = json.dumps({"id": message_id, "body": BODY}).encode()
        packet = encode(Publish(f"c/c{number % arguments.conversations}", payload, 1, packet_id=packet_id), MQTT_5)
        result.sent_at[message_id] = result.sent_by_packet_id[id(sender), packet_id] = time.perf_counter()
        sender.send(packet)
    try:
        await asyncio.wait_for(result.complete.wait(), 10)
    except TimeoutError:
        sys.exit(f"latency: {total} sent, {len(result.arrival_ms)} arrived")
    return result


class ServerProcess:
    """A server on free ports with a database in `folder`."""

    def __init__(self, folder: str, conversations: int) -> None:
        self.api_key = secrets.token_urlsafe(32)
        environment = os.environ | {"RECADO_SECRET": secrets.token_urlsafe(32), "RECADO_API_KEY": self.api_key}
        self.ports = {name: free_port() for name in ("http_port", "mqtt_port", "ws_port")}
        flags = [f"--{name.replace('_', '-')}={port}" for name, port in self.ports.items()]
        database = f"--database=sqlite:///{folder}/recado.db"
        command = ["taskset", "-c", "0", sys.executable, "-m", "recado", "serve", *flags, database]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        self._wait_until_ready()
        for number in range(conversations):
            self.call("PUT", f"/v1/conversations/c{number}", {"members": ["ana", "bruno"]})

    def call(self, method: str, path: str, body: object = None) -> dict[str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["http_port"], timeout=5)
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {content!r}")
        answer: dict[str, str] = json.loads(content)
        return answer

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.call("GET", "/readyz")
            except OSError:
                time.sleep(0.05)
            else:
                return
        sys.exit("latency: the server did not start")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"p{percent:g}": round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 3)
        for percent in (50, 99, 99.9)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100, help="messages per second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--conversations", type=int, default=10)
    parser.add_argument("--transport", choices=["tcp", "ws"], default="tcp")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {1} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".latency-") as folder:
        server = ServerProcess(folder, arguments.conversations)
        try:
            tokens = {user: server.call("POST", "/v1/tokens", {"user": user})["token"] for user in ("ana", "bruno")}
            result = asyncio.run(measure(arguments, server.ports, tokens))
        finally:
            server.stop()
    facts = {"transport": arguments.transport, "rate": arguments.rate, "messages": len(result.arrival_ms)}
    print(
        json.dumps({**facts, "arrival_ms": percentiles(result.arrival_ms), "puback_ms": percentiles(result.puback_ms)})
    )


if __name__ == "__main__":
    main()
