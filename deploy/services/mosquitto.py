"""A Mosquitto in a folder: TCP and WebSocket on loopback ports, its users in the dynamic security plugin.

Its users are set up by the very commands that `recado broker-config mosquitto` prints. Recado's own may publish to
users' topics and make users; nobody else has any right but those that Recado gives. What it was told it keeps over
restarts; messages and sessions it does not.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from deploy.services.ports import free_port
from recado.app.mosquitto_config import RECADO_USER, conf, control_commands

_ADMIN = "admin"
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0
_COMMAND_TIMEOUT_S = 30.0


class MosquittoFailed(Exception):
    """It could not be set up or started; the text has what it printed."""


class Mosquitto:
    def __init__(self, folder: Path, tcp_port: int | None = None, ws_port: int | None = None) -> None:
        self.tcp_port = tcp_port or free_port()
        self.ws_port = ws_port or free_port()
        self.tcp_url = f"mqtt://127.0.0.1:{self.tcp_port}"
        self.ws_url = f"ws://127.0.0.1:{self.ws_port}/mqtt"
        self._folder = folder
        self._users = folder / "dynamic-security.json"
        self._passwords = folder / "passwords"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What Recado is given as --broker. It has the password."""
        return f"mqtt://{RECADO_USER}:{self._password(RECADO_USER)}@127.0.0.1:{self.tcp_port}"

    @property
    def admin(self) -> tuple[str, str]:
        """The user name and the password of who may do everything."""
        return _ADMIN, self._password(_ADMIN)

    @property
    def log(self) -> str:
        path = self._folder / "mosquitto.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Return once it takes connections."""
        assert self._process is None, "already started"
        is_new = not self._users.exists()
        if is_new:
            self._make()
        self._run()
        if is_new:
            for command in control_commands(self._password(RECADO_USER)):
                self.control(*command)

    def stop(self) -> None:
        process = self._running()
        process.send_signal(signal.SIGTERM)
        process.wait(_STOP_TIMEOUT_S)
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would have it."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def restart(self) -> None:
        """Start it again where it was stopped or killed: on the same ports, with the same users."""
        self._run()

    def close(self) -> None:
        """End it whatever state it is in."""
        if self._process is not None:
            self.kill()

    def control(self, *command: str) -> str:
        """Have the plugin do something, as its administrator."""
        user, password = self.admin
        login = ["-h", "127.0.0.1", "-p", str(self.tcp_port), "-u", user, "-P", password]
        return self._command("mosquitto_ctrl", *login, "dynsec", *command)

    def _make(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._passwords.mkdir(mode=0o700, exist_ok=True)
        for user in (_ADMIN, RECADO_USER):
            path = self._passwords / user
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24), encoding="ascii")
        self._command("mosquitto_ctrl", "dynsec", "init", str(self._users), _ADMIN, self._password(_ADMIN))
        listeners = [f"listener {self.tcp_port} 127.0.0.1", f"listener {self.ws_port} 127.0.0.1", "protocol websockets"]
        # As root it would become the user `mosquitto`, who need not be able to write here.
        account = ["user root"] if os.geteuid() == 0 else []
        lines = [conf(str(self._users), listeners), *account, ""]
        (self._folder / "mosquitto.conf").write_text("\n".join(lines), encoding="ascii")

    def _run(self) -> None:
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = process = subprocess.Popen(
                [_executable("mosquitto"), "-c", str(self._folder / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                process_group=0,  # Ctrl-C is for who started it, who stops it in its turn
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not all(_is_open(port) for port in (self.tcp_port, self.ws_port)):
            if process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise MosquittoFailed(f"Mosquitto did not start:\n{self.log}")
            time.sleep(0.02)

    def _password(self, user: str) -> str:
        return (self._passwords / user).read_text(encoding="ascii")

    def _command(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [_executable(program), *arguments], capture_output=True, text=True, check=False, timeout=_COMMAND_TIMEOUT_S
        )
        if done.returncode or "rror:" in done.stderr:  # mosquitto_ctrl ends with 0 when it was refused
            raise MosquittoFailed(f"{program} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "Mosquitto is not started"
        return self._process


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _executable(name: str) -> str:
    """Debian has the server where only root's PATH leads."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        raise MosquittoFailed(f"there is no {name} here: install Mosquitto 2 (on Debian: mosquitto, mosquitto-clients)")
    return found
