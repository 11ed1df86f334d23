"""A PostgreSQL server in a folder: a cluster of its own, with passwords, on a loopback port.

It is made at its first start and started again from then on. PostgreSQL refuses to run as root: there it runs as the
user `postgres`, whom Debian's package makes and who must be able to reach the folder. Recado's role is `recado`, which
owns the databases made here and is no superuser.
"""

import os
import pwd
import secrets
import signal
import time
from contextlib import suppress
from pathlib import Path

from deploy.services.child_process import ChildProcess
from deploy.services.ports import free_port
from deploy.services.programs import output_of, program

ROLE = "recado"
_SUPERUSER = "postgres"
_CONNECTIONS_MAX = 200
_STATUS_LINE = 7  # of postmaster.pid, where the server says that it is ready
# A crash of the machine may lose the data; a crash of the server alone still loses nothing.
_NOT_DURABLE = ("fsync=off", "full_page_writes=off")


class Postgres(ChildProcess):
    """`durable=False` is faster, and for data that may be lost with the machine."""

    def __init__(self, folder: Path, port: int | None = None, durable: bool = True) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._data = folder / "data"
        self._password_path = folder / "password"
        self._durable = durable
        super().__init__(
            "PostgreSQL", self._server_command(), folder / "postgres.log", self._says_ready, user=self._account()
        )

    def url(self, database: str) -> str:
        """What Recado is given as --database. It has the password."""
        return f"postgresql://{ROLE}:{self._password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Return once it takes connections. Raises ServiceFailed."""
        is_new = not self._data.exists()
        if is_new:
            self._make()
        super().start()
        if is_new:
            self.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self._password}'")

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """End its connections, and it, in good order: SIGINT is its "fast" shutdown."""
        return super().stop(how)

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, as a crash would have it."""
        pid = self.pid
        self.send_signal(signal.SIGSTOP)  # so that no more processes come while they are looked up
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        super().kill()  # each child is a group of its own
        for child in children:
            with suppress(ProcessLookupError):  # it has seen its parent die, and gone
                os.kill(int(child), signal.SIGKILL)
        _await_end(children)

    def close(self) -> None:
        """End it whatever state it is in. Data that may be lost with the machine is not written out first."""
        if self.is_started:
            self.stop(signal.SIGINT if self._durable else signal.SIGQUIT)

    def create_database(self, name: str) -> str:
        """Make an empty database of Recado's role; returns its URL."""
        self.execute(f'CREATE DATABASE "{name}" OWNER {ROLE}')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Delete it, and end the connections that it has."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as the superuser; returns what psql prints, without headings."""
        form = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        address = ["--host=127.0.0.1", f"--port={self.port}", f"--username={_SUPERUSER}", f"--dbname={database}"]
        return self._printed([_program("psql"), *form, *address], sql)

    @property
    def _password(self) -> str:
        return self._password_path.read_text(encoding="ascii").strip()

    def _make(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._password_path.touch(mode=0o600)
        self._password_path.write_text(secrets.token_urlsafe(24), encoding="ascii")
        self._own(self._folder)
        self._own(self._password_path)
        self._printed(
            [
                _program("initdb"),
                f"--pgdata={self._data}",
                f"--username={_SUPERUSER}",
                f"--pwfile={self._password_path}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                *([] if self._durable else ["--no-sync"]),
            ]
        )

    def _server_command(self) -> list[str]:
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            f"max_connections={_CONNECTIONS_MAX}",
            *(() if self._durable else _NOT_DURABLE),
        ]
        return [_program("postgres"), "-D", str(self._data), *(f"--{setting}" for setting in settings)]

    def _says_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        if len(lines) <= _STATUS_LINE:
            return False
        return lines[0] == str(self.pid) and lines[_STATUS_LINE].strip() == "ready"

    def _printed(self, command: list[str], sql: str = "") -> str:
        environment = {**os.environ, "PGPASSWORD": self._password, "PGCONNECT_TIMEOUT": "10"}
        return output_of(command, sql, environment=environment, user=self._account(), folder=self._folder).strip()

    def _account(self) -> str | None:
        """As whom its programs run, if not as who runs this."""
        return _SUPERUSER if os.geteuid() == 0 else None

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            account = pwd.getpwnam(_SUPERUSER)
            os.chown(path, account.pw_uid, account.pw_gid)


def _program(name: str) -> str:
    """That of the newest version that is installed: Debian has them beside one another, and not on the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return program(name, "PostgreSQL 15 or newer (on Debian: postgresql)", versions)


def _await_end(processes: list[str]) -> None:
    """Until then the dead server's memory would keep a new one from starting."""
    while any(_is_alive(process) for process in processes):
        time.sleep(0.01)


def _is_alive(process: str) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
