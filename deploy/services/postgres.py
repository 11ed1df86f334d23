"""A PostgreSQL server in a folder: a cluster of its own, with passwords, on a loopback port.

It is made at its first start and started again from then on. PostgreSQL refuses to run as root: there it runs as the
user `postgres`, whom Debian's package makes and who must be able to reach the folder. Recado's role is `recado`, which
owns the databases made here and is no superuser.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.services.ports import free_port

ROLE = "recado"
_SUPERUSER = "postgres"
_CONNECTIONS_MAX = 200
_START_TIMEOUT_S = 60.0  # after a kill it replays its log first
_STOP_TIMEOUT_S = 30.0
_COMMAND_TIMEOUT_S = 60.0
_STATUS_LINE = 7  # of postmaster.pid, where the server says that it is ready
# A crash of the machine may lose the data; a crash of the server alone still loses nothing.
_NOT_DURABLE = ("fsync=off", "full_page_writes=off")


class PostgresFailed(Exception):
    """The server could not be made, started or asked; the text has what it printed."""


class Postgres:
    """`durable=False` is faster, and for data that may be lost with the machine."""

    def __init__(self, folder: Path, port: int | None = None, durable: bool = True) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._data = folder / "data"
        self._password_path = folder / "password"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """What Recado is given as --database. It has the password."""
        return f"postgresql://{ROLE}:{self._password}@127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> str:
        path = self._folder / "postgres.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Return once it takes connections."""
        assert self._process is None, "already started"
        is_new = not self._data.exists()
        if is_new:
            self._make()
        self._run()
        if is_new:
            self.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self._password}'")

    def stop(self) -> None:
        """End its connections, and it, in good order."""
        self._end(signal.SIGINT)  # its "fast" shutdown

    def _end(self, how: signal.Signals) -> None:
        process = self._running()
        process.send_signal(how)
        process.wait(_STOP_TIMEOUT_S)
        self._process = None

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, as a crash would have it."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)  # so that no more processes come while they are looked up
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        process.kill()
        for child in children:
            with suppress(ProcessLookupError):  # it has seen its parent die, and gone
                os.kill(int(child), signal.SIGKILL)
        process.wait()
        _await_end(children)
        self._process = None

    def restart(self) -> None:
        """Start it again where it was stopped or killed: on the same port and data."""
        self._run()

    def close(self) -> None:
        """End it whatever state it is in. Data that may be lost with the machine is not written out first."""
        if self._process is not None:
            self._end(signal.SIGINT if self._durable else signal.SIGQUIT)

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
        return self._command([_executable("psql"), *form, *address], sql)

    @property
    def _password(self) -> str:
        return self._password_path.read_text(encoding="ascii").strip()

    def _make(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._password_path.touch(mode=0o600)
        self._password_path.write_text(secrets.token_urlsafe(24), encoding="ascii")
        self._own(self._folder)
        self._own(self._password_path)
        self._command(
            [
                _executable("initdb"),
                f"--pgdata={self._data}",
                f"--username={_SUPERUSER}",
                f"--pwfile={self._password_path}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                *([] if self._durable else ["--no-sync"]),
            ]
        )

    def _run(self) -> None:
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            f"max_connections={_CONNECTIONS_MAX}",
            *(() if self._durable else _NOT_DURABLE),
        ]
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = process = subprocess.Popen(
                [_executable("postgres"), "-D", str(self._data), *(f"--{setting}" for setting in settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                process_group=0,  # Ctrl-C is for who started it, who stops it in its turn
                **self._account(),
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._is_ready(process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise PostgresFailed(f"PostgreSQL did not start:\n{self.log}")
            time.sleep(0.02)

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"

    def _command(self, arguments: list[str], sql: str = "") -> str:
        environment = {**os.environ, "PGPASSWORD": self._password, "PGCONNECT_TIMEOUT": "10"}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            arguments,
            input=sql,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            env=environment,
            timeout=_COMMAND_TIMEOUT_S,
            **self._account(),
        )
        if done.returncode:
            raise PostgresFailed(f"{Path(arguments[0]).name} failed:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "PostgreSQL is not started"
        return self._process

    def _account(self) -> dict[str, Any]:
        """As whom its programs run."""
        return {"user": _SUPERUSER, "group": _SUPERUSER, "extra_groups": []} if os.geteuid() == 0 else {}

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            account = pwd.getpwnam(_SUPERUSER)
            os.chown(path, account.pw_uid, account.pw_gid)


def _executable(name: str) -> str:
    """That of the newest version that is installed: Debian has them beside one another, and not on the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*map(str, versions), os.environ.get("PATH", "")]))
    if found is None:
        raise PostgresFailed(f"there is no {name} here: install PostgreSQL 15 or newer (on Debian: postgresql)")
    return found


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
