"""The article's production system on this machine: PostgreSQL, SQS, Mosquitto, two API processes and a worker.

    make production-demo

Everything listens on loopback, on free ports, and keeps its data in a folder that is removed at the end. Prints a URL
for each of two people, each at an API process of its own; Ctrl-C stops everything, in order. PostgreSQL and Mosquitto
are those of the system's packages; what speaks SQS is moto's server.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event
from typing import Any

from deploy.services.mosquitto import Mosquitto, MosquittoFailed
from deploy.services.ports import free_port
from deploy.services.postgres import Postgres, PostgresFailed
from deploy.services.sqs import CREDENTIALS, Sqs, SqsFailed
from recado.adapters.push.vapid import VapidKey
from recado.app import demo

_QUEUE = "recado-jobs"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_RECADO = str(Path(sys.executable).with_name("recado"))


class DemoFailed(Exception):
    """One of its processes did not start; the text has what it printed."""


class Process:
    """One `recado` process; what it prints is in `<name>.log`."""

    def __init__(self, folder: Path, name: str, arguments: list[str], environment: dict[str, str], port: int) -> None:
        self.name = name
        self.port = port
        self.log_path = folder / f"{name}.log"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [_RECADO, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**_plain_environment(), **environment},
                process_group=0,  # Ctrl-C is for the script, which stops them in their turn
            )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _is_ready(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"{self.name} did not start:\n{self.log_path.read_text(errors='replace')}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class System:
    """The running system: `urls` has a way in for each of the demo's people."""

    def __init__(self, folder: Path, stack: ExitStack, told: Callable[[str], None]) -> None:
        self.folder = folder
        told("PostgreSQL ...")
        self.postgres = _started(Postgres(folder / "postgres"), stack)
        told("SQS (moto) ...")
        self.sqs = _started(Sqs(folder / "sqs"), stack)
        self.sqs.create_queue(_QUEUE)
        told("Mosquitto ...")
        self.mosquitto = _started(Mosquitto(folder / "mosquitto"), stack)
        self._keys = demo.load_keys(folder / "demo")
        self._database = self.postgres.create_database("recado")
        self._push_key = VapidKey.make()
        told("two API processes and a worker ...")
        self.nodes = [self._node(number, stack) for number in (1, 2)]
        self.worker = self._worker(stack)
        people = zip(demo.USERS, self.nodes, strict=True)
        self.urls = {user: demo.urls(self._keys, "127.0.0.1", node.port)[user] for user, node in people}

    def _node(self, number: int, stack: ExitStack) -> Process:
        port = free_port()
        arguments = ["demo", f"--data={self.folder / 'demo'}", f"--http-port={port}", *self._settings()]
        node = Process(self.folder, f"api-{number}", arguments, self._environment(), port)
        stack.callback(node.stop)
        node.wait_until_ready()  # one after the other: the first one makes the tables
        return node

    def _worker(self, stack: ExitStack) -> Process:
        port = free_port()
        arguments = ["worker", f"--worker-port={port}", *self._settings()]
        worker = Process(self.folder, "worker", arguments, self._environment(), port)
        stack.callback(worker.stop)
        worker.wait_until_ready()
        return worker

    def _settings(self) -> list[str]:
        return [
            "--broker-auth=dynamic-security",
            f"--broker-ws-url={self.mosquitto.ws_url}",
            f"--broker-tcp-url={self.mosquitto.tcp_url}",
            f"--capture-file={self.folder / 'events.jsonl'}",
            "--push-contact=mailto:operator@example.com",
            "--log-level=info",
        ]

    def _environment(self) -> dict[str, str]:
        """What has a password in it is in no command line, which every user of the machine may read."""
        return {
            **CREDENTIALS,
            "RECADO_SECRET": self._keys.secret,
            "RECADO_PUSH_KEY": self._push_key,
            "RECADO_DATABASE": self._database,
            "RECADO_QUEUE": self.sqs.url(_QUEUE),
            "RECADO_BROKER": self.mosquitto.url,
        }


@contextmanager
def running_system(told: Callable[[str], None] = lambda text: None) -> Iterator[System]:
    """Raises PostgresFailed, SqsFailed, MosquittoFailed, DemoFailed."""
    folder = Path(tempfile.mkdtemp(prefix="recado-production-"))
    folder.chmod(0o755)  # PostgreSQL's account must be able to reach its own in there
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield System(folder, stack, told)


def _started(service: Any, stack: ExitStack) -> Any:
    stack.callback(service.close)
    service.start()
    return service


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RECADO_")}


def _tell(system: System) -> None:
    print("\nThe whole system is running. Open each of these in a window of its own:\n")
    for user, url in system.urls.items():
        print(f"  {user:8} {url}")
    facts = {
        "API": " and ".join(f"http://127.0.0.1:{node.port}" for node in system.nodes),
        "worker": f"http://127.0.0.1:{system.worker.port}/metrics",
        "Mosquitto": f"{system.mosquitto.tcp_url} and {system.mosquitto.ws_url}",
        "PostgreSQL": f"127.0.0.1:{system.postgres.port}, database recado",
        "SQS": f"{system.sqs.endpoint}, queue {_QUEUE}",
        "logs": f"{system.folder}, with every event in events.jsonl",
    }
    print("\n" + "\n".join(f"{name + ':':12} {text}" for name, text in facts.items()))
    print("\nCtrl-C stops everything and removes its data.", flush=True)


def main() -> None:
    stopped = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with running_system(lambda text: print(text, flush=True)) as system:
            _tell(system)
            stopped.wait()
            print("Stopping ...", flush=True)
    except (PostgresFailed, SqsFailed, MosquittoFailed, DemoFailed) as error:
        sys.exit(f"production-demo: {error}")


if __name__ == "__main__":
    main()
