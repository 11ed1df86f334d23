"""A Mosquitto in a folder: TCP and WebSocket on loopback ports, its users in the dynamic security plugin.

Its users are set up by the very commands that `recado broker-config mosquitto` prints. Recado's own may publish to
users' topics and make users; nobody else has any right but those that Recado gives. What it was told it keeps over
restarts; messages and sessions it does not.
"""

import os
import secrets
from pathlib import Path

from deploy.services.child_process import ChildProcess
from deploy.services.ports import free_port, is_open
from deploy.services.programs import output_of, program
from recado.app.mosquitto_config import RECADO_USER, conf, control_commands

_ADMIN = "admin"
_NEEDED = "Mosquitto 2 (on Debian: mosquitto, mosquitto-clients)"


class Mosquitto(ChildProcess):
    def __init__(self, folder: Path, tcp_port: int | None = None, ws_port: int | None = None) -> None:
        self.tcp_port = tcp_port or free_port()
        self.ws_port = ws_port or free_port()
        self.tcp_url = f"mqtt://127.0.0.1:{self.tcp_port}"
        self.ws_url = f"ws://127.0.0.1:{self.ws_port}/mqtt"
        self._folder = folder
        self._users = folder / "dynamic-security.json"
        self._passwords = folder / "passwords"
        command = [program("mosquitto", _NEEDED), "-c", str(folder / "mosquitto.conf")]
        ports = (self.tcp_port, self.ws_port)
        super().__init__("Mosquitto", command, folder / "mosquitto.log", lambda: all(map(is_open, ports)))

    @property
    def url(self) -> str:
        """What Recado is given as --broker. It has the password."""
        return f"mqtt://{RECADO_USER}:{self._password(RECADO_USER)}@127.0.0.1:{self.tcp_port}"

    @property
    def admin(self) -> tuple[str, str]:
        """The user name and the password of who may do everything."""
        return _ADMIN, self._password(_ADMIN)

    def start(self) -> None:
        """Return once it takes connections. Raises ServiceFailed."""
        is_new = not self._users.exists()
        if is_new:
            self._make()
        super().start()
        if is_new:
            for command in control_commands(self._password(RECADO_USER)):
                self.control(*command)

    def control(self, *command: str) -> str:
        """Have the plugin do something, as its administrator."""
        user, password = self.admin
        login = ["-h", "127.0.0.1", "-p", str(self.tcp_port), "-u", user, "-P", password]
        return self._printed("mosquitto_ctrl", *login, "dynsec", *command)

    def _make(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._passwords.mkdir(mode=0o700, exist_ok=True)
        for user in (_ADMIN, RECADO_USER):
            path = self._passwords / user
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24), encoding="ascii")
        self._printed("mosquitto_ctrl", "dynsec", "init", str(self._users), _ADMIN, self._password(_ADMIN))
        listeners = [f"listener {self.tcp_port} 127.0.0.1", f"listener {self.ws_port} 127.0.0.1", "protocol websockets"]
        # As root it would become the user `mosquitto`, who need not be able to write here.
        account = ["user root"] if os.geteuid() == 0 else []
        lines = [conf(str(self._users), listeners), *account, ""]
        (self._folder / "mosquitto.conf").write_text("\n".join(lines), encoding="ascii")

    def _password(self, user: str) -> str:
        return (self._passwords / user).read_text(encoding="ascii")

    def _printed(self, name: str, *arguments: str) -> str:
        # mosquitto_ctrl ends with 0 when it was refused.
        return output_of([program(name, _NEEDED), *arguments], trouble="rror:")
