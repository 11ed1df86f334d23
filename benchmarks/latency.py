"""Time from sending a message (QoS 1) to its arrival at another member, through a server of its own with fsync on.

    .venv/bin/python benchmarks/latency.py [--rate 1000] [--conversations 500] [--users 1000] [--transport ws]

Open loop: messages leave at the rate whether or not earlier ones have arrived. The server has core 0, this has core 1.
The database is made in the current directory, so that its disk is the one that is measured, and removed afterwards.
The users are pairs, one sends and the other receives, and the pairs share the conversations evenly among them.
Prints one line of JSON: milliseconds from send to arrival, from send to PUBACK, and that a send came late.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.open_loop import OpenLoop, Times, percentile, percentiles
from benchmarks.own_server import OwnServer, own_server
from benchmarks.wire import TRANSPORTS

SENDING_CONNECTIONS_MIN = 10
WARM_UP_S = 1


async def measure(asked: argparse.Namespace, server: OwnServer, conversations: dict[str, list[str]]) -> Times:
    pairs: dict[tuple[str, str], list[str]] = {}
    for name, (sender, receiver) in conversations.items():
        pairs.setdefault((sender, receiver), []).append(name)
    traffic = OpenLoop(server, asked.transport)
    for (sender, receiver), names in pairs.items():
        await traffic.receive_as(receiver)
        await traffic.send_as(sender, names, math.ceil(SENDING_CONNECTIONS_MIN / len(pairs)))
    await traffic.run(asked.rate, WARM_UP_S)
    return await traffic.run(asked.rate, asked.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100, help="messages per second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--conversations", type=int, default=10)
    parser.add_argument("--users", type=int, default=2, help="an even number")
    parser.add_argument("--transport", choices=TRANSPORTS, default="tcp")
    asked = parser.parse_args()
    if asked.users < 2 or asked.users % 2 or asked.users > 2 * asked.conversations:
        parser.error("--users must be an even number, and at most two for each conversation")
    pairs = asked.users // 2
    conversations = {f"c{n}": [f"u{n % pairs}-a", f"u{n % pairs}-b"] for n in range(asked.conversations)}
    with own_server() as server:
        server.fill(conversations)
        server.start()
        times = uvloop.run(measure(asked, server, conversations))
    facts = {name: getattr(asked, name) for name in ("transport", "rate", "conversations", "users")}
    arrival, puback = percentiles(times.arrival), percentiles(times.puback)
    found = {"messages": len(times.arrival), "arrival_ms": arrival, "puback_ms": puback}
    print(json.dumps({**facts, **found, "late_ms": percentiles(times.late)}))
    print(
        f"{asked.rate:g} messages/s in {asked.conversations} conversations: "
        f"p50 {arrival['p50']} ms, p99 {arrival['p99']} ms to arrival (99 % were sent less than "
        f"{percentile(times.late, 99)} ms late)",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
