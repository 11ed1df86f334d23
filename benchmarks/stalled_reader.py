"""What the members of a conversation notice of one who stops reading: their p99 with one stalled and with none.

    .venv/bin/python benchmarks/stalled_reader.py [--members 100] [--rate 100] [--rounds 4] [--seconds 5]

One member sends (QoS 1) in an open loop, and every message is timed at each of the others. In turn, in one run, nobody
is stalled, and then one more member: it asks for the log from its beginning, whose messages are large, and neither
reads nor acknowledges anything, with a small receive buffer; so the server's buffer for it is full, which is checked.
At the end it reads, and must get the whole log, in order: what waited was in the log alone.
Prints one line of JSON: the others' p99, the ratio, and how much the server's memory grew with the stalled one.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.open_loop import OpenLoop, Times, decode_entry, percentile
from benchmarks.own_server import OwnServer, own_server
from benchmarks.wire import BlockingClient
from recado.mqtt.codec import puback_bytes
from recado.mqtt.packets import Publish, Suback
from recado.mqtt.properties import PropertyId

CONVERSATION = "group"
SENDER, STALLED = "sender", "stalled"
RECEIVE_BUFFER_BYTES = 4096
LARGE_MESSAGES, LARGE_BODY = 300, "x" * 8192  # more than the server's and the kernel's buffers together
STALLING_S_MAX = 15
WARM_UP_S = 2


class StalledReader:
    """Connected, subscribed, and silent from then on."""

    def __init__(self, server: OwnServer) -> None:
        self._server = server
        self._client = BlockingClient(server, STALLED, receive_buffer_bytes=RECEIVE_BUFFER_BYTES)
        self._client.subscribe(f"c/{CONVERSATION}", {PropertyId.USER_PROPERTY: [("after", f"{CONVERSATION}=0")]})

    async def until_full(self) -> None:
        """Wait until the server's socket to it takes nothing any more."""
        deadline = time.monotonic() + STALLING_S_MAX
        before, now = -1, 0
        while now == 0 or now != before:
            assert time.monotonic() < deadline, "the server goes on writing to a reader that reads nothing"
            await asyncio.sleep(0.2)
            before, now = now, self.waiting_bytes()

    def waiting_bytes(self) -> int:
        """What waits in the kernel on the server's side, 0 if the server has ended the connection."""
        own_port = self._client.socket.getsockname()[1]
        ends = f"0100007F:{self._server.mqtt_port:04X}", f"0100007F:{own_port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines():
            fields = line.split()
            if (fields[1], fields[2]) == ends and fields[3] == "01":
                return int(fields[4].partition(":")[0], 16)
        return 0

    def catch_up(self, last_seq: int) -> None:
        seq = 0
        while seq < last_seq:
            packet = self._client.receive()
            if isinstance(packet, Suback):
                continue
            assert isinstance(packet, Publish), packet
            seq, before = decode_entry(packet.payload).seq, seq
            assert seq == before + 1, f"{seq} came after {before}"
            self._client.send_bytes(puback_bytes(packet.packet_id))

    def close(self) -> None:
        self._client.socket.close()


async def measure(asked: argparse.Namespace, server: OwnServer) -> dict[str, Any]:
    others = asked.members - 2
    traffic = OpenLoop(server, receivers=others)
    for number in range(others):
        await traffic.receive_as(f"u{number}")
    await traffic.send_as(SENDER, [CONVERSATION], connections=10)
    await traffic.run(asked.rate, WARM_UP_S)
    alone: list[Times] = []
    beside: list[Times] = []
    grown: list[int] = []
    for number in range(asked.rounds):
        alone.append(await traffic.run(asked.rate, asked.seconds))
        resident = server.resident_bytes()
        stalled = StalledReader(server)
        await stalled.until_full()
        beside.append(await traffic.run(asked.rate, asked.seconds))
        grown.append(server.resident_bytes() - resident)
        assert stalled.waiting_bytes(), "the stalled reader was cut off"
        if number == asked.rounds - 1:
            await asyncio.to_thread(stalled.catch_up, server.last_seq(CONVERSATION))
        stalled.close()
    return figures_of(alone, beside, grown)


def figures_of(alone: list[Times], beside: list[Times], grown: list[int]) -> dict[str, Any]:
    p99s = [[percentile(times.arrival, 99) for times in stretches] for stretches in (alone, beside)]
    pooled = [percentile([ms for times in stretches for ms in times.arrival], 99) for stretches in (alone, beside)]
    return {
        "deliveries": sum(len(times.arrival) for times in (*alone, *beside)),
        "p99_ms_nobody_stalled": pooled[0],
        "p99_ms_one_stalled": pooled[1],
        "ratio": round(pooled[1] / pooled[0], 2),
        "p99_ms_of_rounds": p99s,
        "median_ratio_of_rounds": round(statistics.median(b / a for a, b in zip(*p99s, strict=True)), 2),
        "server_grown_kib": [round(grown_bytes / 1024) for grown_bytes in grown],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=100, help="the sender and the stalled one among them")
    parser.add_argument("--rate", type=float, default=100, help="messages per second")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5, help="of each stretch, two in a round")
    asked = parser.parse_args()
    if asked.members < 3 or asked.seconds > 30:
        parser.error("--members must be at least 3, and --seconds at most 30: who stalls for 60 s is cut off")
    members = [SENDER, STALLED, *(f"u{number}" for number in range(asked.members - 2))]
    with own_server() as server:
        large = ((CONVERSATION, SENDER, f"large-{number}", LARGE_BODY) for number in range(LARGE_MESSAGES))
        server.fill({CONVERSATION: members}, large)
        server.start()
        figures = uvloop.run(measure(asked, server))
    print(json.dumps({"members": asked.members, "rate": asked.rate, **figures}))
    print(
        f"the others' p99: {figures['p99_ms_nobody_stalled']} ms with nobody stalled, {figures['p99_ms_one_stalled']} "
        f"ms with 1 of {asked.members}: {figures['ratio']} times that; the server's memory grew by at most "
        f"{max(figures['server_grown_kib'])} KiB",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
