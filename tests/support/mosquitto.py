"""A Mosquitto, and a server that publishes there and makes its users."""

from __future__ import annotations

from pathlib import Path

from deploy.services.mosquitto import Mosquitto
from tests.support.broker_reader import Address, BrokerReader
from tests.support.connection import Login
from tests.support.server import Server


class RecadoAtMosquitto:
    """`options` are more of the server's."""

    def __init__(self, folder: Path, *options: str, mosquitto: Mosquitto | None = None) -> None:
        (folder / "server").mkdir()
        self.mosquitto = mosquitto or Mosquitto(folder / "mosquitto")
        self._is_own = mosquitto is None
        self._folder, self._options = folder, options
        self.server: Server

    def start(self) -> None:
        if self._is_own:
            self.mosquitto.start()
        self.server = Server.serve(self._folder / "server", *broker_options(self.mosquitto), *self._options)
        self.server.start()

    def close(self) -> None:
        if hasattr(self, "server"):
            self.server.close()
        if self._is_own:
            self.mosquitto.close()

    def login(self, user: str) -> Login:
        """What the user's session says."""
        mqtt = self.server.api(user).call("GET", "/session").expect(200)["mqtt"]
        return Login(self.mosquitto.tcp_port, mqtt["ws_url"], mqtt["username"], mqtt["password"])

    def reader(self, user: str, conversation: str) -> BrokerReader:
        login = self.login(user)
        address: Address = ("tcp", self.mosquitto.tcp_port)
        return BrokerReader(user, login.token, self.server.api(user), conversation, [address], username=login.user)


def broker_options(mosquitto: Mosquitto) -> tuple[str, ...]:
    """What `recado serve` is told of it."""
    return (
        f"--broker={mosquitto.url}",
        "--broker-auth=dynamic-security",
        f"--broker-ws-url={mosquitto.ws_url}",
        f"--broker-tcp-url={mosquitto.tcp_url}",
    )
