"""`recado broker` as a process with a listener of each kind, and what it costs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

from deploy.services.ports import free_ports
from tests.app.brokers import Broker
from tests.broker.certificates import Certificate
from tests.support.connection import Login
from tests.support.metrics import resident_bytes


class BrokerProcess(Broker):
    """It keeps its ports and its database over restarts; everybody is let in unless the directory has `users`."""

    def __init__(self, directory: Path, *options: str, **settings: str) -> None:
        self.certificate = Certificate.make(directory, "broker")
        self.tls_port, self.wss_port = free_ports(2)
        self.unix_socket = directory / "mqtt.sock"
        super().__init__(
            directory,
            f"--tls-cert={self.certificate.certificate}",
            f"--tls-key={self.certificate.key}",
            f"--mqtts-port={self.tls_port}",
            f"--wss-port={self.wss_port}",
            f"--unix-socket={self.unix_socket}",
            *(() if (directory / "users").exists() else ("--allow-anonymous",)),
            *options,
            **settings,
        )

    @property
    def login(self) -> Login:
        """Without a user; `dataclasses.replace` names one."""
        return Login(
            self.mqtt_port,
            self.ws_url,
            tls_port=self.tls_port,
            wss_url=f"wss://127.0.0.1:{self.wss_port}/mqtt",
            unix_socket=str(self.unix_socket),
            trusted=str(self.certificate.certificate),
        )

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self)

    @property
    def cpu_s(self) -> float:
        """What it has used since it started."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str) -> float:
        """The sum over its labels."""
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=20)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        assert f"# HELP {name} " in text, f"there is no metric {name}"
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))


def wait_until(holds: Callable[[], bool]) -> None:
    """For what no client is told."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.05)
