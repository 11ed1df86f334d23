"""What somebody who only waits costs over HTTP: held polls, event streams and WebSockets, each of a user of its own.

    .venv/bin/python benchmarks/held.py [--kind poll|sse|ws] [--users 9000] [--seconds 60] [--wait 25]

Every user is a member of one conversation of two and of one of a thousand, follows all that is its own, and waits: a
poll that was answered is sent again at once. For each kind, on a server of its own, one line of JSON: the memory for
each user (the resident set, after some hundred others have come and gone), and the server's processor time of opening
one, of `seconds` in which nothing happens (with how many empty answers, comments or pings went out in them), and of one
message in each of the large conversations, for each that it is delivered to. Heads are as long as a browser's.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.own_server import OwnServer, own_server

KINDS = ("poll", "sse", "ws")
ROOM_MEMBERS = 1000
SENDER = "sender"
WARM_UP = 300
OPENING_AT_A_TIME = 500
TIMEOUT_S = 60
SETTLE_S = 2
BROWSER = (
    'Connection: keep-alive\r\nsec-ch-ua-platform: "Linux"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) '
    'AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36\r\nsec-ch-ua: "Chromium";v="150", '
    '"Not/A)Brand";v="24"\r\nsec-ch-ua-mobile: ?0\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n'
    "Sec-Fetch-Dest: empty\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
)
UPGRADE = (
    "GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Waiting:
    """One user's connection, which follows everything of the user. `quiet` counts what came although nothing happened:
    answers of nothing, comments, pings."""

    def __init__(self, server: OwnServer, user: str, wait_s: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.http_port), TIMEOUT_S)
        self.events = 0
        self.quiet = 0
        self._headers = f"Host: 127.0.0.1\r\n{BROWSER}Authorization: Bearer {server.token(user)}\r\n"
        self._wait_s = wait_s
        self._pending = b""

    def on_readable(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("the server ended a connection")
        self._pending = self.take(self._pending + data)

    def take(self, data: bytes) -> bytes:
        """Count what is whole; returns the rest."""
        raise NotImplementedError

    def ask(self, path: str, accept: str) -> None:
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nAccept: {accept}\r\n{self._headers}\r\n".encode())


class Poll(Waiting):
    def __init__(self, server: OwnServer, user: str, wait_s: int) -> None:
        super().__init__(server, user, wait_s)
        self._cursor = "0"
        self._again()

    def _again(self) -> None:
        self.ask(f"/v1/events?cursor={self._cursor}&wait={self._wait_s}", "*/*")

    def take(self, data: bytes) -> bytes:
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            return data
        if head.startswith(b"HTTP/1.1 204 "):
            self.quiet += 1
        else:
            assert head.startswith(b"HTTP/1.1 200 "), head
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(body) < length:
                return data
            answer = json.loads(body)
            self.events += len(answer["events"])
            self._cursor = answer["cursor"]
        self._again()
        return b""


class Stream(Waiting):
    def __init__(self, server: OwnServer, user: str, wait_s: int) -> None:
        super().__init__(server, user, wait_s)
        self.ask("/v1/events", "text/event-stream")

    def take(self, data: bytes) -> bytes:
        *blocks, rest = data.split(b"\n\n")
        for block in blocks:
            self.events += b'"event":{' in block
            self.quiet += block.endswith(b"\n:")
        return rest


class Socket(Waiting):
    def __init__(self, server: OwnServer, user: str, wait_s: int) -> None:
        super().__init__(server, user, wait_s)
        self.socket.sendall(UPGRADE.encode())
        head = self.socket.recv(4096)
        assert b" 101 " in head, head
        for frame in ({"type": "auth", "token": server.token(user)}, {"type": "subscribe", "conversations": "*"}):
            self._send(0x81, json.dumps(frame).encode())

    def take(self, data: bytes) -> bytes:
        while len(data) >= 2:
            begins = 4 if data[1] == 126 else 2
            length = int.from_bytes(data[2:4], "big") if begins == 4 else data[1]
            if len(data) < begins + length:
                break
            payload, opcode = data[begins : begins + length], data[0]
            if opcode == 0x89:
                self.quiet += 1
                self._send(0x8A, payload)
            else:
                assert opcode == 0x81, f"closed: {payload!r}"
                self.events += payload.startswith(b'{"type":"event"')
            data = data[begins + length :]
        return data

    def _send(self, opcode: int, payload: bytes) -> None:
        short = len(payload) < 126
        length = bytes([0x80 | len(payload)]) if short else bytes([0x80 | 126]) + len(payload).to_bytes(2, "big")
        self.socket.sendall(bytes([opcode]) + length + bytes(4) + payload)


class Crowd:
    """All those who wait, read by one loop."""

    def __init__(self, server: OwnServer, kind: str, wait_s: int) -> None:
        self._server = server
        self._kind = kind
        self._open = {"poll": Poll, "sse": Stream, "ws": Socket}[kind]
        self._wait_s = wait_s
        self._waiting: dict[int, Waiting] = {}
        self._epoll = select.epoll()

    def come(self, users: Sequence[str]) -> None:
        """Until the server has them all."""
        for number, user in enumerate(users):
            one = self._open(self._server, user, self._wait_s)
            self._waiting[one.socket.fileno()] = one
            self._epoll.register(one.socket, select.EPOLLIN)
            if number % OPENING_AT_A_TIME == 0:
                self.read_for(0)
        self.read_until_there_are(len(users))

    def go(self) -> None:
        for one in self._waiting.values():
            one.socket.close()
        self._waiting.clear()
        self.read_until_there_are(0)

    def read_until_there_are(self, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while (there := listeners(self._server, self._kind)) != count:
            assert time.monotonic() < deadline, f"there are {there} of {count}"
            self.read_for(0.1)

    def read_until_events(self, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while (came := self.count()[0]) < count:
            assert time.monotonic() < deadline, f"{came} of {count} events came"
            self.read_for(0.02)
        assert came == count, f"{came} events came, and {count} were to be delivered"

    def read_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            for fd, _ in self._epoll.poll(max(0.0, until - time.monotonic())):
                self._waiting[fd].on_readable()
            if time.monotonic() >= until:
                return

    def count(self) -> tuple[int, int]:
        """Events, and what came although nothing happened."""
        waiting = self._waiting.values()
        return sum(one.events for one in waiting), sum(one.quiet for one in waiting)


def listeners(server: OwnServer, kind: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/metrics", timeout=TIMEOUT_S) as answer:
        text: str = answer.read().decode()
    return int(float(text.partition(f'recado_feed_listeners{{kind="{kind}"}} ')[2].split()[0]))


def send(server: OwnServer, conversation: str) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http_port}/v1/conversations/{conversation}/messages",
        json.dumps({"body": "x" * 200}).encode(),
        {"Authorization": f"Bearer {server.token(SENDER)}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        assert answer.status == 201


def conversations_of(users: Sequence[str]) -> dict[str, list[str]]:
    """Everybody is in one of two, and in one of a thousand."""
    pairs = {f"pair-{first}": list(users[first : first + 2]) for first in range(0, len(users), 2)}
    size = ROOM_MEMBERS - 1
    rooms = {f"room-{first}": [SENDER, *users[first : first + size]] for first in range(0, len(users), size)}
    return {**pairs, **rooms}


def measure(server: OwnServer, kind: str, users: Sequence[str], asked: argparse.Namespace) -> Mapping[str, Any]:
    rooms = [name for name in conversations_of(users) if name.startswith("room-")]
    crowd = Crowd(server, kind, asked.wait)
    crowd.come([f"warm-{number}" for number in range(WARM_UP)])
    crowd.go()
    time.sleep(SETTLE_S)
    before, cpu_s = server.resident_bytes(), server.cpu_s()
    crowd.come(users)
    opening_s = server.cpu_s() - cpu_s
    crowd.read_for(SETTLE_S)
    grown = server.resident_bytes() - before
    quiet, cpu_s = crowd.count()[1], server.cpu_s()
    crowd.read_for(asked.seconds)
    idle_s, quiet = server.cpu_s() - cpu_s, crowd.count()[1] - quiet
    cpu_s = server.cpu_s()
    for room in rooms:
        send(server, room)
    crowd.read_until_events(len(users))
    crowd.read_until_there_are(len(users))
    delivering_s = server.cpu_s() - cpu_s
    return {
        "kind": kind,
        "users": len(users),
        "kib_each": round(grown / len(users) / 1024, 1),
        "opening_cpu_us_each": round(opening_s / len(users) * 1e6),
        "idle_cpu_percent": round(idle_s / asked.seconds * 100, 1),
        "idle_seconds": asked.seconds,
        "idle_sent": quiet,
        "idle_cpu_us_per_sent": round(idle_s / quiet * 1e6) if quiet else None,
        "delivery_cpu_us_each": round(delivering_s / len(users) * 1e6),
        "kib_each_afterwards": round((server.resident_bytes() - before) / len(users) / 1024, 1),
    }


@contextmanager
def filled_server(users: Sequence[str]) -> Iterator[OwnServer]:
    with own_server() as server:
        server.fill(conversations_of(users))
        server.start()
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, help="one of them alone")
    parser.add_argument("--users", type=int, default=9000)
    parser.add_argument("--seconds", type=int, default=60, help="in which nothing happens")
    parser.add_argument("--wait", type=int, default=25, help="seconds for which a poll asks to be held")
    asked = parser.parse_args()
    users = [f"user-{number}" for number in range(asked.users)]
    for kind in [asked.kind] if asked.kind else KINDS:
        with filled_server(users) as server:
            print(json.dumps(measure(server, kind, users, asked)), flush=True)


if __name__ == "__main__":
    main()
