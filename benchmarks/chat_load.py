"""Messages of conversations in a closed loop (QoS 1, fsync on): committed, and delivered and acknowledged, a second.

    .venv/bin/python benchmarks/chat_load.py                  500 conversations of 2, everybody the same user
    .venv/bin/python benchmarks/chat_load.py --users 1000     and of 1,000 users, each in one of them
    .venv/bin/python benchmarks/chat_load.py --conversations 1 --members 1000
    ... --ws                                                  over WebSocket
    ... --postgres                                            in PostgreSQL, on the same machine

The load is mqttload's (`cc` builds it), on core 1; the server has core 0. What was committed is counted in the log,
while mqttload measures, and must agree with what it says was acknowledged; as must deliveries, for every member one.
Prints one line of JSON: mqttload's figures, commits and deliveries a second, and the server's processor time for each.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.idle import build_load
from benchmarks.own_server import OwnServer, own_server

ONE_USER = "load"
WARM_UP_S = 1.5  # mqttload's own is 1 s
END_S = 0.5  # before mqttload ends
AGREE_WITHIN = 0.2  # the two measure not quite the same seconds


def members_of(conversation: int, members: int, users: list[str]) -> list[str]:
    """As mqttload gives them out."""
    return sorted({users[(conversation * members + member) % len(users)] for member in range(members)})


def load_command(asked: argparse.Namespace, server: OwnServer, users: list[str]) -> list[str]:
    port = server.ws_port if asked.ws else server.mqtt_port
    command = [build_load(), "-j", "-q", "1", "-p", str(port), *(["-w", "/mqtt"] if asked.ws else [])]
    command += ["-n", str(asked.conversations), "-m", str(asked.members), "-b", str(asked.body_bytes)]
    command += ["-d", str(asked.seconds), "-k", str(asked.window)]
    if not asked.users:
        return [*command, "-u", ONE_USER, "-P", server.token(ONE_USER)]
    file = server.folder / "users"
    file.write_text("".join(f"{user} {server.token(user)}\n" for user in users))
    return [*command, "-U", str(file)]


def measure(asked: argparse.Namespace, server: OwnServer, command: list[str]) -> dict[str, Any]:
    before = server.committed()
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while server.committed() == before:
            time.sleep(0.05)
            if load.poll() is not None:
                sys.exit("chat_load: mqttload ended before anything was committed")
        time.sleep(WARM_UP_S)
        start, committed, cpu_s = time.perf_counter(), server.committed(), server.cpu_s()
        time.sleep(asked.seconds - END_S - (WARM_UP_S - 1))
        seconds, committed, cpu_s = time.perf_counter() - start, server.committed() - committed, server.cpu_s() - cpu_s
        output, _ = load.communicate(timeout=60)
    finally:
        load.kill()
    if load.returncode:
        sys.exit(f"chat_load: mqttload ended with status {load.returncode}")
    found: dict[str, Any] = json.loads(output)
    return {
        "committed_per_s": round(committed / seconds),
        "deliveries_per_s": round(found["delivered_per_s"]),
        "server_cpu_us_per_message": round(cpu_s / committed * 1e6, 1),
        "server_cpu_us_per_delivery": round(cpu_s / committed / asked.members * 1e6, 2),
        "server_core_used": round(cpu_s / seconds, 2),
        "mqttload": found,
    }


def check(figures: dict[str, Any], members: int) -> None:
    acknowledged, delivered = figures["mqttload"]["acked_per_s"], figures["deliveries_per_s"]
    for name, here, there in (
        ("commits and PUBACKs", figures["committed_per_s"], acknowledged),
        ("deliveries and PUBACKs times members", delivered, acknowledged * members),
    ):
        if abs(here - there) > AGREE_WITHIN * max(here, there):
            sys.exit(f"chat_load: {name} do not agree, {here} and {there} a second: {json.dumps(figures)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=500)
    parser.add_argument("--members", type=int, default=2, help="of each conversation, as connections")
    parser.add_argument(
        "--users", type=int, default=0, help="so many different ones; 0: all connections are one user's"
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--window", type=int, default=1, help="messages of a conversation that are under way")
    parser.add_argument("--body-bytes", type=int, default=200)
    parser.add_argument("--ws", action="store_true", help="over WebSocket instead of TCP")
    parser.add_argument("--postgres", action="store_true", help="in PostgreSQL instead of SQLite")
    asked = parser.parse_args()
    if asked.seconds < 2:
        parser.error("--seconds must be at least 2")
    users = [f"u{n}" for n in range(asked.users)] or [ONE_USER]
    names = range(asked.conversations)
    with own_server(asked.postgres) as server:
        server.fill({f"{n:08d}": members_of(n, asked.members, users) for n in names})
        server.start()
        figures = measure(asked, server, load_command(asked, server, users))
    check(figures, asked.members)
    database = "postgres" if asked.postgres else "sqlite"
    shape = {"transport": "ws" if asked.ws else "tcp", "database": database, "users": len(users)}
    print(json.dumps({**shape, **figures}))
    print(
        f"{asked.conversations} conversations of {asked.members}, {len(users)} user(s): "
        f"{figures['committed_per_s']:,} messages/s committed, {figures['deliveries_per_s']:,} deliveries/s, "
        f"{figures['server_cpu_us_per_message']} us of the server's core for each message",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
