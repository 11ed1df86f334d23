"""A `recado serve` of the benchmark's own, with fsync on, and a database that is removed afterwards.

The database is made in the current directory, so that its disk is the one that is measured. The server has core 0, and
who asked for it core 1. The database may be filled while the server is not running: quicker than through any door. At
the end a line on stderr says how long the server had to wait for its core, which tells whether the machine was quiet.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import jwt

from benchmarks.idle import resident_bytes
from benchmarks.own_database import Database, PostgresServer, SqliteFile
from deploy.services.child_process import ChildProcess, ServiceFailed
from deploy.services.ports import answers, free_ports
from recado.ports import NewConversation, NewMessage

SERVER_CORE, CLIENT_CORE = 0, 1
TOKEN_TTL_S = 3600
FILL_AT_A_TIME = 1000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Message = tuple[str, str, str, str]
"""Conversation, sender, id and body."""


@contextmanager
def own_server(on_postgres: bool = False) -> Iterator[OwnServer]:
    """A server that is not started yet; at the end of the block it is stopped, and its database removed. A PostgreSQL
    server may use both cores."""
    gc.disable()  # a pause of the client's is none of the server's
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder:
        database = PostgresServer(Path(folder)) if on_postgres else SqliteFile(Path(folder))
        keep_to(CLIENT_CORE)
        server = OwnServer(Path(folder), database)
        try:
            yield server
            server.check_log()
            server.tell_of_waiting()
        except ServiceFailed as error:
            sys.exit(str(error))
        finally:
            server.end()
            database.close()


def keep_to(core: int) -> None:
    """Run on that core from now on, and what is started too; where there is none such, anywhere."""
    every = range(os.cpu_count() or 1)
    os.sched_setaffinity(0, {core} if core in every else set(every))


class OwnServer:
    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.http_port, self.mqtt_port, self.ws_port = free_ports(3)
        self._database = database
        self._log = folder / "server.log"
        self._secret = secrets.token_urlsafe(32)
        self._process: ChildProcess | None = None
        self._started_at = 0.0
        self._tokens: dict[str, str] = {}

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not started"
        return self._process.pid

    def token(self, user: str) -> str:
        if user not in self._tokens:
            claims = {"sub": user, "exp": int(time.time()) + TOKEN_TTL_S}
            self._tokens[user] = jwt.encode(claims, self._secret, algorithm="HS256")
        return self._tokens[user]

    def fill(self, conversations: Mapping[str, Sequence[str]], messages: Iterable[Message] = ()) -> None:
        """Create conversations with these members, then append messages, while the server is not running."""
        assert self._process is None, "the server has the database"
        asyncio.run(_fill(self._database, conversations, messages))

    def start(self, options: Sequence[str] = ()) -> None:
        """`options` are more of the command's."""
        ports = {"--http-port": self.http_port, "--mqtt-port": self.mqtt_port, "--ws-port": self.ws_port}
        flags = [f"{flag}={port}" for flag, port in ports.items()]
        command = [sys.executable, "-m", "recado", "serve", f"--database={self._database.url}", *flags, *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RECADO_")}
        environment["RECADO_SECRET"] = self._secret
        self._process = ChildProcess(
            "the server", command, self._log, lambda: answers(self.http_port, "/readyz"), environment=environment
        )
        self._started_at = time.monotonic()
        keep_to(SERVER_CORE)
        self._process.begin()
        keep_to(CLIENT_CORE)
        self._process.wait_until_ready()

    def stop(self) -> None:
        """As an operator does, so that what only memory has is written."""
        assert self._process is not None, "the server is not started"
        status = self._process.stop()
        self._process = None
        if status:
            sys.exit(f"the server ended with status {status}:\n{self._log.read_text()}")

    def end(self) -> None:
        """Whatever state it is in, and at once: its database has served its purpose."""
        if self._process is not None:
            self._process.close()

    def cpu_s(self) -> float:
        """Processor time that it has used, all threads, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def check_log(self) -> None:
        """What was measured while the server had errors means nothing."""
        log = self._log.read_text()
        errors = [line for line in log.splitlines() if '"level": "error"' in line or "Traceback" in line]
        if errors:
            sys.exit("\n".join(["the server logged errors:", *errors[:5]]))

    def tell_of_waiting(self) -> None:
        """Say how long it was ready to run and had no core. More than a few percent: the machine was not quiet."""
        waited_s = int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        seconds = time.monotonic() - self._started_at
        print(f"the server waited for its core for {waited_s:.2f} s of {seconds:.0f} s", file=sys.stderr)

    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    def committed(self) -> int:
        """Events in its database, as another process sees them."""
        return self._database.number("SELECT sum(last_seq) FROM conversations")

    def last_seq(self, conversation: str) -> int:
        return self._database.number(f"SELECT last_seq FROM conversations WHERE id = '{conversation}'")


async def _fill(database: Database, conversations: Mapping[str, Sequence[str]], messages: Iterable[Message]) -> None:
    store = await database.open()
    now = int(time.time() * 1000)
    created = (
        store.put_conversation(NewConversation(name, list(members), None, None, None, now))
        for name, members in conversations.items()
    )
    while writes := list(islice(created, FILL_AT_A_TIME)):
        await asyncio.gather(*writes)
    sent = iter(messages)
    while batch := list(islice(sent, FILL_AT_A_TIME)):
        await asyncio.gather(*(store.append_message(NewMessage(*message, now)) for message in batch))
    await store.close()
