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
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

from deploy.services.child_process import ChildProcess, ServiceFailed, running
from deploy.services.mosquitto import Mosquitto
from deploy.services.ports import answers, free_port
from deploy.services.postgres import Postgres
from deploy.services.sqs import CREDENTIALS, Sqs
from recado.adapters.push.vapid import VapidKey
from recado.app import demo

_QUEUE = "recado-jobs"
_RECADO = str(Path(sys.executable).with_name("recado"))


class Recado(ChildProcess):
    """What it prints is in `<name>.log`."""

    def __init__(
        self, folder: Path, name: str, port_option: str, arguments: list[str], environment: dict[str, str]
    ) -> None:
        self.port = free_port()
        super().__init__(
            name,
            [_RECADO, *arguments, f"{port_option}={self.port}"],
            folder / f"{name}.log",
            lambda: answers(self.port, "/readyz"),
            environment={**_plain_environment(), **environment},
        )

    def close(self) -> None:
        """In order: it may have work to end."""
        if self.is_started:
            self.stop()


class System:
    """The running system: `urls` has a way in for each of the demo's people."""

    def __init__(self, folder: Path, stack: ExitStack, told: Callable[[str], None]) -> None:
        self.folder = folder
        told("PostgreSQL ...")
        self.postgres = stack.enter_context(running(Postgres(folder / "postgres")))
        told("SQS (moto) ...")
        self.sqs = stack.enter_context(running(Sqs(folder / "sqs")))
        self.sqs.create_queue(_QUEUE)
        told("Mosquitto ...")
        self.mosquitto = stack.enter_context(running(Mosquitto(folder / "mosquitto")))
        self._keys = demo.load_keys(folder / "demo")
        self._database = self.postgres.create_database("recado")
        self._push_key = VapidKey.make()
        told("two API processes and a worker ...")
        # One after the other: the first one makes the tables.
        self.nodes = [stack.enter_context(running(self._node(number))) for number in (1, 2)]
        self.worker = stack.enter_context(running(self._worker()))
        people = zip(demo.USERS, self.nodes, strict=True)
        self.urls = {user: demo.urls(self._keys, "127.0.0.1", node.port)[user] for user, node in people}

    def _node(self, number: int) -> Recado:
        arguments = ["demo", f"--data={self.folder / 'demo'}", *self._settings()]
        environment = {**self._environment(), "RECADO_SECRET": self._keys.secret}
        return Recado(self.folder, f"api-{number}", "--http-port", arguments, environment)

    def _worker(self) -> Recado:
        return Recado(self.folder, "worker", "--worker-port", ["worker", *self._settings()], self._environment())

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
            "RECADO_PUSH_KEY": self._push_key,
            "RECADO_DATABASE": self._database,
            "RECADO_QUEUE": self.sqs.url(_QUEUE),
            "RECADO_BROKER": self.mosquitto.url,
        }


@contextmanager
def running_system(told: Callable[[str], None] = lambda text: None) -> Iterator[System]:
    """Raises ServiceFailed."""
    folder = Path(tempfile.mkdtemp(prefix="recado-production-"))
    folder.chmod(0o755)  # PostgreSQL's account must be able to reach its own in there
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield System(folder, stack, told)


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
    except ServiceFailed as error:
        sys.exit(f"production-demo: {error}")


if __name__ == "__main__":
    main()
