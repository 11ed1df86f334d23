"""A real Recado server as a process, on free ports and with a directory of its own.

It is ready when start() returns. kill() is SIGKILL, stop() is SIGTERM and insists on exit status 0; after both, start()
starts it again on the same data and the same ports. Everything it printed, over all its starts, is in `log`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from deploy.services.child_process import ChildProcess
from deploy.services.ports import answers, free_ports
from tests.support.api import Api
from tests.support.tokens import mint_token

SECRET = "tests-only-secret-of-more-than-thirty-two-bytes"
API_KEY = "tests-only-api-key-of-the-host-application"
PRINT_TIMEOUT_S = 20.0


class Server(ChildProcess):
    def __init__(self, directory: Path, command: str, options: tuple[str, ...], environment: dict[str, str]) -> None:
        self.directory = directory
        self.http_port, self.mqtt_port, self.ws_port = free_ports(3)
        self.http_url = f"http://127.0.0.1:{self.http_port}"
        self.ws_url = f"ws://127.0.0.1:{self.ws_port}/mqtt"
        self.host_api = Api(self.http_url, API_KEY)
        super().__init__(
            f"recado {command}",
            [str(Path(sys.executable).with_name("recado")), command, *self._ports(), *options],
            directory / "server.log",
            lambda: answers(self.http_port, "/readyz"),
            environment=_whole(environment),
        )

    @classmethod
    def serve(cls, directory: Path, *options: str) -> Server:
        """Return a server that is not started yet, with its database in `directory`."""
        database = f"--database=sqlite:///{directory / 'recado.db'}"
        return cls(directory, "serve", (database, *options), {"RECADO_SECRET": SECRET, "RECADO_API_KEY": API_KEY})

    @classmethod
    def node(cls, directory: Path, database: str, *options: str) -> Server:
        """Return a server that is not started yet, on a database that others may use, too. A URL with a password does
        not belong on a command line."""
        environment = {"RECADO_SECRET": SECRET, "RECADO_API_KEY": API_KEY, "RECADO_DATABASE": database}
        directory.mkdir()
        return cls(directory, "serve", options, environment)

    @classmethod
    def demo(cls, directory: Path) -> Server:
        """Return a demo that is not started yet; like on a fresh machine, nothing is configured."""
        return cls(directory, "demo", (f"--data={directory / 'data'}",), {})

    @property
    def printed(self) -> list[str]:
        """The lines of `log` that are whole: the last one may be still in the writing."""
        return [line for line in self.log.splitlines(keepends=True) if line.endswith("\n")]

    def awaited_line(self, text: str) -> str:
        """The first line with that text that it printed, which may be still to come: it prints when it has done."""
        deadline = time.monotonic() + PRINT_TIMEOUT_S
        while not (found := [line for line in self.printed if text in line]):
            assert time.monotonic() < deadline, f"no line with {text!r}:\n{self.log}"
            time.sleep(0.02)
        return found[0]

    def token(self, user: str, ttl_s: float = 3600) -> str:
        return mint_token(SECRET, user, ttl_s)

    def api(self, user: str) -> Api:
        """Return the HTTP API as that user sees it."""
        return Api(self.http_url, self.token(user))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        status = super().stop(how)
        assert status == 0, f"{how.name} ended the server with status {status}:\n{self.log}"
        return status

    def _ports(self) -> tuple[str, ...]:
        ports = {"--http-port": self.http_port, "--mqtt-port": self.mqtt_port, "--ws-port": self.ws_port}
        return tuple(f"{flag}={port}" for flag, port in ports.items())


def _whole(environment: dict[str, str]) -> dict[str, str]:
    """With what this process has, except Recado's settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RECADO_")}
    return {**inherited, **environment, "PYTHONUNBUFFERED": "1"}
