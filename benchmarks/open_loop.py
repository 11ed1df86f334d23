"""Live traffic in an open loop: messages leave at a rate whether or not earlier ones have arrived.

Each message is timed from its sending to its arrival at each of its receivers, and to its PUBACK. Every receiver's
events must follow one another without a gap, and as many must arrive as were sent: else the measurement ends.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from benchmarks.own_server import OwnServer
from benchmarks.wire import TIMEOUT_S, Wire
from recado.mqtt.codec import encode, puback_bytes
from recado.mqtt.packets import MQTT_5, Packet, Puback, Publish

BODY = "x" * 200
UNACKNOWLEDGED_MAX = 100  # the server's receive maximum


class Entry(msgspec.Struct):
    """What a benchmark reads of an event."""

    seq: int
    id: str = ""


decode_entry = msgspec.json.Decoder(Entry).decode


@dataclass(slots=True)
class Times:
    """Of one stretch of traffic, in milliseconds. `late` is how long after its due time a message was sent: high
    figures there say that the client could not keep the rate."""

    arrival: list[float] = field(default_factory=list)
    puback: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


class OpenLoop:
    """`receivers` is how many there are for each message."""

    def __init__(self, server: OwnServer, transport: str = "tcp", receivers: int = 1) -> None:
        self._server = server
        self._transport = transport
        self._receivers = receivers
        self._targets: list[tuple[Wire, str]] = []
        self._times = Times()
        self._sent_at: dict[str, float] = {}
        self._unacknowledged: dict[Wire, dict[int, float]] = {}
        self._last_seqs: dict[tuple[Wire, str], int] = {}
        self._number = 0
        self._failure = ""
        self._ended = asyncio.Event()

    async def receive_as(self, user: str) -> None:
        wire = Wire(self._arrived, self._fail)
        await wire.connect(self._server, self._transport, user, f"{user}-in")
        await wire.subscribe("c/+")

    async def send_as(self, user: str, conversations: Sequence[str], connections: int) -> None:
        """Take turns with others, and these connections with one another, in sending into these conversations."""
        wires = [Wire(self._acknowledged, self._fail) for _ in range(connections)]
        for number, wire in enumerate(wires):
            await wire.connect(self._server, self._transport, user, f"{user}-out-{number}")
            self._unacknowledged[wire] = {}
        for turn in range(len(conversations) * connections):
            target = f"c/{conversations[turn % len(conversations)]}"
            self._targets.append((wires[turn % connections], target))

    async def run(self, rate: float, seconds: float, until: Callable[[], bool] = lambda: False) -> Times:
        """Send for so long, or until something, and return once everything has arrived."""
        self._times = times = Times()
        self._sent_at.clear()
        start = time.perf_counter()
        while (due := start + len(self._sent_at) / rate) < start + seconds and not until():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self._check()
            self._send()
            times.late.append((time.perf_counter() - due) * 1e3)
        self._ended.clear()
        self._end_if_complete()
        try:
            await asyncio.wait_for(self._ended.wait(), TIMEOUT_S)
        except TimeoutError:
            arrivals = f"{len(times.arrival)} arrivals and {len(times.puback)} PUBACKs"
            self._fail(f"{arrivals} of {len(self._sent_at)} messages for {self._receivers} each")
        self._check()
        return times

    def _send(self) -> None:
        self._number += 1
        wire, topic = self._targets[self._number % len(self._targets)]
        message_id, packet_id = f"live-{self._number}", self._number % 65_535 + 1
        unacknowledged = self._unacknowledged[wire]
        if len(unacknowledged) == UNACKNOWLEDGED_MAX:
            self._fail(
                f"{UNACKNOWLEDGED_MAX} messages of one connection wait for PUBACK: the server cannot keep the rate"
            )
        payload = json.dumps({"id": message_id, "body": BODY}).encode()
        packet = encode(Publish(topic, payload, 1, packet_id=packet_id), MQTT_5)
        self._sent_at[message_id] = unacknowledged[packet_id] = time.perf_counter()
        wire.send(packet)

    def _arrived(self, wire: Wire, packet: Packet) -> None:
        now = time.perf_counter()
        assert isinstance(packet, Publish)
        wire.send(puback_bytes(packet.packet_id))
        entry = decode_entry(packet.payload)
        log = wire, packet.topic_name
        if entry.seq != self._last_seqs.get(log, entry.seq - 1) + 1:
            self._fail(f"{entry.seq} came after {self._last_seqs[log]} in {packet.topic_name}")
        self._last_seqs[log] = entry.seq
        self._times.arrival.append((now - self._sent_at[entry.id]) * 1e3)
        self._end_if_complete()

    def _acknowledged(self, wire: Wire, packet: Packet) -> None:
        assert isinstance(packet, Puback)
        if packet.reason_code:
            self._fail(f"a message was refused: {packet}")
        self._times.puback.append((time.perf_counter() - self._unacknowledged[wire].pop(packet.packet_id)) * 1e3)
        self._end_if_complete()

    def _is_complete(self) -> bool:
        sent = len(self._sent_at)
        return len(self._times.puback) == sent and len(self._times.arrival) == sent * self._receivers

    def _end_if_complete(self) -> None:
        if self._is_complete():
            self._ended.set()

    def _fail(self, text: str) -> None:
        self._failure = self._failure or text
        self._ended.set()

    def _check(self) -> None:
        if self._failure:
            raise RuntimeError(self._failure)


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 3)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {f"p{percent:g}": percentile(ordered, percent) for percent in (50, 99, 99.9)}
