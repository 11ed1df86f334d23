"""A real Recado server as a process, on free ports and with a directory of its own.

It is ready when start() returns. kill() is SIGKILL, stop() is SIGTERM and insists on exit status 0, and restart()
starts it again on the same data and the same ports. Everything it printed, over all its starts, is in `log`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TypeVar

from tests.support.api import Api
from tests.support.tokens import mint_token

SECRET = "tests-only-secret-of-more-than-thirty-two-bytes"
API_KEY = "tests-only-api-key-of-the-host-application"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
PRINT_TIMEOUT_S = 20.0
# Below Linux's ephemeral ports: a client that reconnects while the server is down can never be given the server's port.
PORTS = range(12_000, 32_000)


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return that many ports of 127.0.0.1 on which nothing listens, and which nobody got who may not listen yet."""
    ports: list[int] = []
    for port in random.sample(PORTS, 500):
        with socket.socket() as probe:
            if len(ports) < count and port not in _given and probe.connect_ex(("127.0.0.1", port)) != 0:
                ports.append(port)
    _given.update(ports)
    return ports


S = TypeVar("S", bound="Server")


@contextmanager
def running(server: S) -> Iterator[S]:
    """Start it; at the end of the block it is ended, if it is not yet."""
    try:
        server.start()
        yield server
    finally:
        server.close()


class Server:
    def __init__(self, directory: Path, command: str, options: tuple[str, ...], environment: dict[str, str]) -> None:
        self.directory = directory
        self._environment = environment
        self.http_port, self.mqtt_port, self.ws_port = free_ports(3)
        self.http_url = f"http://127.0.0.1:{self.http_port}"
        self.ws_url = f"ws://127.0.0.1:{self.ws_port}/mqtt"
        self.host_api = Api(self.http_url, API_KEY)
        self._arguments = [str(Path(sys.executable).with_name("recado")), command, *self._ports(), *options]
        self._log_path = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

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
    def pid(self) -> int:
        return self._running().pid

    @property
    def printed(self) -> list[str]:
        """The lines of `log` that are whole: the last one may be still in the writing."""
        return [line for line in self.log.splitlines(keepends=True) if line.endswith("\n")]

    @property
    def log(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace") if self._log_path.exists() else ""

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

    def start(self) -> None:
        assert self._process is None, "already started"
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self._whole_environment(),
            )
        self._wait_until_ready(self._process)

    def kill(self) -> None:
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def restart(self) -> None:
        """Start it again where it was killed or stopped."""
        self.start()

    def stop(self) -> None:
        process = self._running()
        process.send_signal(signal.SIGTERM)
        status = process.wait(STOP_TIMEOUT_S)
        self._process = None
        assert status == 0, f"SIGTERM ended the server with status {status}:\n{self.log}"

    def close(self) -> None:
        """End it whatever state it is in."""
        if self._process is not None:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server is not started"
        return self._process

    def _ports(self) -> tuple[str, ...]:
        ports = {"--http-port": self.http_port, "--mqtt-port": self.mqtt_port, "--ws-port": self.ws_port}
        return tuple(f"{flag}={port}" for flag, port in ports.items())

    def _whole_environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RECADO_")}
        return {**inherited, **self._environment, "PYTHONUNBUFFERED": "1"}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            assert process.poll() is None, f"the server ended with status {process.returncode}:\n{self.log}"
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server was not ready after {START_TIMEOUT_S:.0f} s:\n{self.log}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
