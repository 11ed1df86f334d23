"""A real nginx in front of a server: a process of the test's own, on a free port, configured in its folder.

What it serves is the configuration that docs/configuration.md gives to operators, without TLS and so without HTTP/2,
and with the test's ports; a test that needs a worse proxy changes that text. Everything it was asked is in its access
log.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

from deploy.services.child_process import ChildProcess
from deploy.services.ports import free_ports
from deploy.services.programs import program
from tests.support.server import Server

RELOAD_TIMEOUT_S = 30.0
DOCUMENTED = Path(__file__).parents[2] / "docs" / "configuration.md"
LISTENING = "0A"  # in /proc/net/tcp
_MAIN = """
daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{servers}
}}
"""


def nginx_program() -> str:
    return program("nginx", "nginx: tests/install_needs.sh does")


class Nginx:
    """`port` is known before it is started: the server behind it has to be told its public URL."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        command = [nginx_program(), "-p", str(directory), "-c", "nginx.conf", "-e", f"{directory}/error.log"]
        self._process = ChildProcess("nginx", command, directory / "error.log", self._answers)

    def documented(self, server: Server) -> str:
        """The documented server block, with this nginx's port and the server's."""
        (found,) = re.finditer(r"```nginx\n(.*?)```", DOCUMENTED.read_text(encoding="utf-8"), re.DOTALL)
        block = found.group(1)
        ports = {
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.port};",
            "127.0.0.1:8000": f"127.0.0.1:{server.http_port}",
            "127.0.0.1:8083": f"127.0.0.1:{server.ws_port}",
        }
        for documented, ours in ports.items():
            assert documented in block, f"the documentation has no {documented}"
            block = block.replace(documented, ours)
        return block

    def start(self, servers: str) -> None:
        self._configure(servers)
        self._process.start()

    def reload(self, servers: str) -> None:
        """New connections get the new configuration; those that are open keep the old one. It is in force on return."""
        old_workers = self._accepting_workers(self._process.pid)
        name = f"reload-{time.monotonic_ns()}"
        self._configure(f"{servers}\nserver {{ listen 127.0.0.1:{self.port}; server_name {name}; return 204; }}")
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + RELOAD_TIMEOUT_S
        while self._status(name) != 204 or old_workers & self._accepting_workers(self._process.pid):
            assert time.monotonic() < deadline, f"nginx did not take the new configuration:\n{self.log}"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it with all its connections."""
        if self._process.is_started:
            self._process.stop()

    @property
    def log(self) -> str:
        return self._process.log

    @property
    def asked(self) -> list[str]:
        """The requests that were answered, as "GET /path 200"."""
        text = (self._directory / "access.log").read_text(encoding="utf-8", errors="replace")
        return [f"{method} {path} {status}" for method, path, status in re.findall(r'"(\w+) (\S+) [^"]*" (\d+)', text)]

    def _configure(self, servers: str) -> None:
        text = _MAIN.format(directory=self._directory, servers=servers)
        (self._directory / "nginx.conf").write_text(text, encoding="utf-8")

    def _accepting_workers(self, master: int) -> set[str]:
        """The processes that take connections: after a reload, for a moment, those of before do too."""
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()]
        (inode,) = (each[9] for each in sockets if each[1].endswith(f":{self.port:04X}") and each[3] == LISTENING)
        workers = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii").split()
        return {worker for worker in workers if f"socket:[{inode}]" in open_files(worker)}

    def _answers(self) -> bool:
        return self._status("127.0.0.1") is not None

    def _status(self, host: str) -> int | None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz", headers={"Host": host})
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()


def open_files(pid: str) -> set[str]:
    """What its descriptors lead to; nothing if it has ended."""
    found = set()
    with suppress(FileNotFoundError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since
                found.add(str(descriptor.readlink()))
    return found


@contextmanager
def behind_nginx(directory: Path, *options: str) -> Iterator[tuple[Server, Nginx]]:
    """A server whose public URL is that of an nginx, which is not started yet."""
    nginx = Nginx(directory / "nginx")
    server = Server.serve(directory, f"--public-url={nginx.url}", *options)
    try:
        server.start()
        yield server, nginx
    finally:
        nginx.stop()
        server.close()
