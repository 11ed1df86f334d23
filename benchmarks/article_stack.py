"""The article's stack, built in four ways, side by side: the API saves to PostgreSQL, Mosquitto tells the reader.

    .venv/bin/python benchmarks/article_stack.py [--rate 50] [--seconds 10] [--senders 16] [--stack NAME] [--json FILE]

`direct`: Recado, whose API process tells Mosquitto itself. `worker`: Recado's worker tells it, woken by PostgreSQL.
`sqs`: the worker is woken by SQS, as in the article. `by-hand`: benchmarks/handmade, the article's with FastAPI,
psycopg, boto3 and paho, one process each. All have the same PostgreSQL (fsync on), Mosquitto and moto's SQS, and the
same load on the same machine: `POST` of 200 bytes, each conversation with a sender and a reader.

moto carries some 100 messages a second where SQS carries thousands: more is a measurement of moto.

First messages at a rate, in an open loop: time from sending to the answer, and to arrival at the reader over MQTT.
Then as fast as so many senders can, each waiting for its answer: answers a second, and arrivals a second to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.open_loop import BODY, Entry, decode_entry, percentiles
from benchmarks.wire import Wire
from deploy.services.child_process import ChildProcess, ServiceFailed, running
from deploy.services.mosquitto import Mosquitto
from deploy.services.ports import answers, free_port
from deploy.services.postgres import Postgres
from deploy.services.sqs import CREDENTIALS, REGION, Sqs
from recado.mqtt.codec import puback_bytes
from recado.mqtt.packets import Packet, Publish

CONVERSATIONS = 100
WARM_UP_S = 2.0
ARRIVAL_TIMEOUT_S = 30.0
QUEUE = "jobs"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CONVERSATION_IDS = [f"c{number}" for number in range(CONVERSATIONS)]


def sender_of(conversation: str) -> str:
    return f"{conversation}-a"


def reader_of(conversation: str) -> str:
    return f"{conversation}-b"


@dataclass
class Services:
    """What every stack stands on, new for each."""

    folder: Path
    database: str
    sqs: Sqs
    mosquitto: Mosquitto
    stack: ExitStack
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    api_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def process(
        self, name: str, command: list[str], environment: dict[str, str], is_ready: Callable[[], bool]
    ) -> ChildProcess:
        """Start it; it ends with the stack."""
        process = ChildProcess(
            name, command, self.folder / f"{name}.log", is_ready, environment={**os.environ, **environment}
        )
        return self.stack.enter_context(running(process))

    def token(self, user: str) -> str:
        claims = {"sub": user, "exp": int(time.time()) + 3600}
        return jwt.encode(claims, self.secret, algorithm="HS256")


@contextmanager
def services() -> Iterator[Services]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recado-stack-")))
        folder.chmod(0o755)  # PostgreSQL's account must be able to reach its own in there
        postgres = stack.enter_context(running(Postgres(folder / "postgres")))
        sqs = stack.enter_context(running(Sqs(folder / "sqs")))
        mosquitto = stack.enter_context(running(Mosquitto(folder / "mosquitto")))
        sqs.create_queue(QUEUE)
        with ExitStack() as processes:
            yield Services(folder, postgres.create_database("chat"), sqs, mosquitto, processes)


class Stack:
    """How one of them is started and talked to."""

    def __init__(self, own: Services) -> None:
        self.own = own
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.mqtt_port = own.mosquitto.tcp_port
        self.ws_port = own.mosquitto.ws_port
        self.logins: dict[str, str] = {}
        """As whom each conversation's reader is known to Mosquitto."""
        self.passwords: dict[str, str] = {}
        """There, by user."""
        self.api: ChildProcess

    def token(self, user: str) -> str:
        """What `Wire` gives as a password."""
        return self.passwords[user]

    def start(self) -> None:
        raise NotImplementedError

    async def create(self, http: aiohttp.ClientSession) -> None:
        raise NotImplementedError

    def send_path(self, conversation: str) -> str:
        raise NotImplementedError

    def topic_filter(self, conversation: str) -> str:
        raise NotImplementedError


class Recado(Stack):
    def __init__(self, own: Services, notify: str, queue: str) -> None:
        super().__init__(own)
        self._notify = notify
        self._queue = queue

    def start(self) -> None:
        recado = str(Path(sys.executable).with_name("recado"))
        environment = {
            **CREDENTIALS,
            "RECADO_SECRET": self.own.secret,
            "RECADO_API_KEY": self.own.api_key,
            "RECADO_DATABASE": self.own.database,
            "RECADO_BROKER": self.own.mosquitto.url,
            "RECADO_BROKER_AUTH": "dynamic-security",
            "RECADO_NOTIFY": self._notify,
            "RECADO_QUEUE": self._queue,
            "RECADO_LOG_LEVEL": "warning",
        }
        if self._notify == "worker":
            port = free_port()
            command = [recado, "worker", f"--worker-port={port}"]
            self.own.process("worker", command, environment, lambda: answers(port, "/readyz"))
        command = [recado, "serve", f"--http-port={self.port}"]
        self.api = self.own.process("api", command, environment, lambda: answers(self.port, "/readyz"))

    async def create(self, http: aiohttp.ClientSession) -> None:
        host = {"Authorization": f"Bearer {self.own.api_key}"}
        for conversation in CONVERSATION_IDS:
            members = {"members": [sender_of(conversation), reader_of(conversation)]}
            async with http.put(f"{self.url}/v1/conversations/{conversation}", json=members, headers=host) as answer:
                answer.raise_for_status()
            reader = {"Authorization": f"Bearer {self.own.token(reader_of(conversation))}"}
            async with http.get(f"{self.url}/v1/session", headers=reader) as answer:
                mqtt = (await answer.json())["mqtt"]
            self.logins[conversation] = mqtt["username"]
            self.passwords[mqtt["username"]] = mqtt["password"]

    def send_path(self, conversation: str) -> str:
        return f"{self.url}/v1/conversations/{conversation}/messages"

    def topic_filter(self, conversation: str) -> str:
        return f"u/{reader_of(conversation)}/#"


class ByHand(Stack):
    def start(self) -> None:
        mosquitto = self.own.mosquitto
        password = secrets.token_urlsafe(16)
        for command in (
            ("createRole", "reader"),
            ("addRoleACL", "reader", "subscribePattern", "c/#", "allow"),
            ("addRoleACL", "reader", "publishClientReceive", "c/#", "allow"),
            ("addRoleACL", "reader", "publishClientSend", "c/#", "allow"),
        ):
            mosquitto.control(*command)
        for user in ("reader", "worker"):
            mosquitto.control("createClient", user, "-p", password)
            mosquitto.control("addClientRole", user, "reader")
        self.logins, self.passwords = dict.fromkeys(CONVERSATION_IDS, "reader"), {"reader": password}
        environment = {
            **CREDENTIALS,
            "AWS_DEFAULT_REGION": REGION,
            "SECRET": self.own.secret,
            "DATABASE_URL": self.own.database,
            "SQS_URL": self.own.sqs.endpoint,
            "QUEUE_URL": self.own.sqs.queue_url(QUEUE),
            "BROKER_PORT": str(self.mqtt_port),
            "BROKER_USER": "worker",
            "BROKER_PASSWORD": password,
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        }
        uvicorn = [sys.executable, "-m", "uvicorn", "benchmarks.handmade.api:app", "--port", str(self.port)]
        uvicorn += ["--log-level", "warning", "--no-access-log"]
        self.api = self.own.process("api", uvicorn, environment, lambda: answers(self.port, "/openapi.json"))
        # It has no port to ask at: the warm-up waits for what it does.
        self.own.process("worker", [sys.executable, "-m", "benchmarks.handmade.worker"], environment, lambda: True)

    async def create(self, http: aiohttp.ClientSession) -> None:
        for conversation in CONVERSATION_IDS:
            members = {"members": [sender_of(conversation), reader_of(conversation)]}
            async with http.put(f"{self.url}/conversations/{conversation}", json=members) as answer:
                answer.raise_for_status()

    def send_path(self, conversation: str) -> str:
        return f"{self.url}/conversations/{conversation}/messages"

    def topic_filter(self, conversation: str) -> str:
        return f"c/{conversation}"


STACKS: dict[str, Callable[[Services], Stack]] = {
    "direct": lambda own: Recado(own, "direct", "embedded"),
    "worker": lambda own: Recado(own, "worker", "embedded"),
    "sqs": lambda own: Recado(own, "worker", own.sqs.url(QUEUE)),
    "by-hand": ByHand,
}


class Load:
    """The senders and the readers. `arrived_at` and `sent_at` are by message id."""

    def __init__(self, stack: Stack, http: aiohttp.ClientSession) -> None:
        self.stack = stack
        self._http = http
        self._headers = {
            name: {"Authorization": f"Bearer {stack.own.token(sender_of(name))}"} for name in CONVERSATION_IDS
        }
        self.sent_at: dict[str, float] = {}
        self.answer_s: list[float] = []
        self.arrived_at: dict[str, float] = {}
        self.twice = 0
        self._number = 0
        self._arrived = asyncio.Event()

    async def listen(self) -> None:
        for conversation in CONVERSATION_IDS:
            wire = Wire(self._on_packet, sys.exit)
            await wire.connect(self.stack, "tcp", self.stack.logins[conversation], reader_of(conversation))
            await wire.subscribe(self.stack.topic_filter(conversation))

    def _on_packet(self, wire: Wire, packet: Packet) -> None:
        now = time.perf_counter()
        if not isinstance(packet, Publish) or packet.topic_name.endswith("/live"):
            return
        if packet.qos:
            wire.send(puback_bytes(packet.packet_id))
        entry: Entry = decode_entry(packet.payload)
        self.twice += entry.id in self.arrived_at
        self.arrived_at.setdefault(entry.id, now)
        if len(self.arrived_at) == len(self.sent_at):
            self._arrived.set()

    async def post(self, conversation: str) -> None:
        self._number += 1
        message_id = f"m{self._number}"
        self.sent_at[message_id] = sent_at = time.perf_counter()
        message = {"id": message_id, "body": BODY}
        path, headers = self.stack.send_path(conversation), self._headers[conversation]
        async with self._http.post(path, json=message, headers=headers) as answer:
            answer.raise_for_status()
            await answer.read()
        self.answer_s.append(time.perf_counter() - sent_at)

    async def all_arrived(self) -> None:
        """Raises TimeoutError."""
        while len(self.arrived_at) < len(self.sent_at):
            self._arrived.clear()
            await asyncio.wait_for(self._arrived.wait(), ARRIVAL_TIMEOUT_S)

    def forget(self) -> None:
        self.sent_at.clear()
        self.arrived_at.clear()
        self.answer_s.clear()

    async def at_rate(self, rate: float, seconds: float) -> None:
        posts: list[asyncio.Task[None]] = []
        start = time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            posts.append(asyncio.create_task(self.post(CONVERSATION_IDS[number % CONVERSATIONS])))
        await asyncio.gather(*posts)
        await self.all_arrived()

    async def as_fast_as_can(self, senders: int, seconds: float) -> tuple[float, float]:
        """Seconds until the last answer, and until the last arrival."""
        start = time.perf_counter()

        async def sender(number: int) -> None:
            while time.perf_counter() < start + seconds:
                await self.post(CONVERSATION_IDS[number % CONVERSATIONS])

        await asyncio.gather(*(sender(number) for number in range(senders)))
        answered_s = time.perf_counter() - start
        await self.all_arrived()
        return answered_s, time.perf_counter() - start


async def measure(stack: Stack, asked: argparse.Namespace) -> dict[str, Any]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        await stack.create(http)
        load = Load(stack, http)
        await load.listen()
        await load.at_rate(asked.rate, WARM_UP_S)
        load.forget()
        await load.at_rate(asked.rate, asked.seconds)
        arrival = [load.arrived_at[each] - at for each, at in load.sent_at.items()]
        found: dict[str, Any] = {"answer_ms": percentiles([each * 1e3 for each in load.answer_s])}
        found["arrival_ms"] = percentiles([each * 1e3 for each in arrival])
        load.forget()
        cpu_s = processor_s(stack.api)
        answered_s, arrived_s = await load.as_fast_as_can(asked.senders, asked.seconds)
        count = len(load.sent_at)
        found["answers_per_s"], found["arrivals_per_s"] = round(count / answered_s), round(count / arrived_s)
        found["api_cpu_ms_per_1000"] = round((processor_s(stack.api) - cpu_s) / count * 1e6)
        return {**found, "arrived_twice": load.twice}


def processor_s(process: ChildProcess) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def run(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    with services() as own, own.stack:
        stack = STACKS[name](own)
        try:
            stack.start()
            return uvloop.run(measure(stack, asked))
        except ServiceFailed as error:
            sys.exit(f"{name}: {error}")
        except TimeoutError:
            logs = "".join(path.read_text() for path in own.folder.glob("*.log"))
            sys.exit(f"{name}: not everything arrived:\n{logs}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50, help="messages a second, of the open loop")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--senders", type=int, default=16, help="of the closed loop")
    parser.add_argument("--stack", choices=STACKS, action="append", help="again for more; all without it")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = {}
    for name in asked.stack or STACKS:
        found[name] = run(name, asked)
        print(name, json.dumps(found[name]), flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
