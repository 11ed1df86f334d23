"""How fast a client that is far behind in one conversation catches up (QoS 1), and what the others notice of it.

    .venv/bin/python benchmarks/catch_up.py [--events 100000] [--rate 200] [--seconds 10]

Twice: with a session that was kept while the messages were sent, over a restart of the server, and without one, by
`after=0`. Every event must come once and in order. Meanwhile others write to one another in other conversations, in an
open loop at the rate; their latency is compared with that of the stretches just before. The reader is a process of its
own, on the clients' core like the others, and gives way to them. The database is filled before the server starts.
Prints one line of JSON: events a second until caught up, and the others' p99 with its ratio.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.open_loop import BODY, OpenLoop, Times, decode_entry, percentile
from benchmarks.own_server import OwnServer, own_server
from benchmarks.wire import KEPT, BlockingClient, check_granted
from recado.mqtt.codec import puback_bytes
from recado.mqtt.packets import Disconnect, Publish
from recado.mqtt.properties import PropertyId

BEHIND = "behind"
KINDS = ("kept", "after")
LIVE_CONVERSATIONS = [f"live-{number}" for number in range(10)]
CONVERSATIONS = {BEHIND: ["writer", *KINDS], **{name: ["ana", "bruno"] for name in LIVE_CONVERSATIONS}}
NICE = 10
CATCH_UP_S_MAX = 300
WARM_UP_S = 2


def keep_session(server: OwnServer) -> None:
    client = BlockingClient(server, "kept", clean_start=False, properties=KEPT)
    client.subscribe(f"c/{BEHIND}")
    check_granted(client.receive())
    client.send(Disconnect())
    client.socket.close()


def read_on(server: OwnServer, kind: str, last_seq: int) -> dict[str, float]:
    """Events that came, and the time from CONNECT (kept) or SUBSCRIBE (after) to the last one."""
    start = time.perf_counter()
    if kind == "kept":
        client = BlockingClient(server, kind, clean_start=False, properties=KEPT)
        assert client.session_present, "the session was not kept"
        seq = 1  # what was there when it subscribed
    else:
        client = BlockingClient(server, kind)
        start, seq = time.perf_counter(), 0
        client.subscribe(f"c/{BEHIND}", {PropertyId.USER_PROPERTY: [("after", f"{BEHIND}=0")]})
        check_granted(client.receive())
    began_at = seq
    while seq < last_seq:
        acknowledgements = []
        for packet in client.receive_some():
            assert isinstance(packet, Publish), packet
            entry = decode_entry(packet.payload)
            assert entry.seq == seq + 1, f"{entry.seq} came after {seq}"
            seq = entry.seq
            acknowledgements.append(puback_bytes(packet.packet_id))
        client.send_bytes(b"".join(acknowledgements))
    seconds = time.perf_counter() - start
    client.send(Disconnect())
    events = seq - began_at
    rate, cpu_s = round(events / seconds), round(time.process_time(), 2)
    return {"events": events, "seconds": round(seconds, 2), "events_per_s": rate, "reader_cpu_s": cpu_s}


def reader(server: OwnServer, kind: str, last_seq: int, pipe: Connection) -> None:
    """The other process: read when told to, and tell how it was."""
    os.nice(NICE)
    pipe.recv()
    pipe.send(read_on(server, kind, last_seq))


async def measure(asked: argparse.Namespace, server: OwnServer, pipes: dict[str, Connection]) -> dict[str, Any]:
    traffic = OpenLoop(server)
    await traffic.receive_as("bruno")
    await traffic.send_as("ana", LIVE_CONVERSATIONS, connections=10)
    await traffic.run(asked.rate, WARM_UP_S)
    alone = Times()
    figures: dict[str, Any] = {}
    meanwhile: dict[str, Times] = {}
    for kind, pipe in pipes.items():
        before = await traffic.run(asked.rate, asked.seconds)
        alone.arrival += before.arrival
        cpu_s = server.cpu_s()
        pipe.send("go")
        finished = asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        meanwhile[kind] = await traffic.run(asked.rate, CATCH_UP_S_MAX, until=finished.done)
        figures[kind] = finished.result() | {"server_cpu_s": round(server.cpu_s() - cpu_s, 2)}
    alone_p99 = percentile(alone.arrival, 99)
    for kind, times in meanwhile.items():
        p99 = percentile(times.arrival, 99)
        figures[kind] |= {"live_messages": len(times.arrival), "live_p99_ms": p99}
        figures[kind]["live_p99_ratio"] = round(p99 / alone_p99, 2)
    return {"live_rate": asked.rate, "alone_live_messages": len(alone.arrival), "alone_p99_ms": alone_p99, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=200, help="live messages per second")
    parser.add_argument("--seconds", type=float, default=10, help="of live traffic alone, before each catching up")
    asked = parser.parse_args()
    with own_server() as server:
        server.fill(CONVERSATIONS, [(BEHIND, "writer", "first", BODY)])
        server.start()
        keep_session(server)
        server.stop()
        server.fill({}, ((BEHIND, "writer", f"m{number}", BODY) for number in range(asked.events)))
        server.start()
        last_seq = server.last_seq(BEHIND)
        pipes: dict[str, Connection] = {}
        processes = []
        for kind in KINDS:
            pipes[kind], other_end = multiprocessing.Pipe()
            processes.append(multiprocessing.Process(target=reader, args=(server, kind, last_seq, other_end)))
            processes[-1].start()
            other_end.close()  # so that the end of the process is heard
        try:
            figures = uvloop.run(measure(asked, server, pipes))
        finally:
            for process in processes:
                process.kill()
    assert figures["kept"]["events"] == asked.events, figures
    assert figures["after"]["events"] == last_seq, figures
    print(json.dumps(figures))
    for kind in KINDS:
        found, alone_ms = figures[kind], figures["alone_p99_ms"]
        print(
            f"{kind}: {found['events']:,} events behind, {found['events_per_s']:,} events/s; the others' p99 "
            f"meanwhile: {found['live_p99_ms']} ms, alone: {alone_ms} ms, ratio {found['live_p99_ratio']}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
