"""A RabbitMQ cluster, and a server that publishes there and lets its users in: each is told of the other's ports."""

from __future__ import annotations

import secrets
import uuid
from pathlib import Path

from recado.app import rabbitmq_config
from tests.support.broker_reader import Address, BrokerReader
from tests.support.connection import Login
from tests.support.metrics import wait_for
from tests.support.rabbitmq_cluster import Node, Rabbitmq
from tests.support.server import SECRET, Server

PUBLISHER = "recado"
PASSWORD = "the-publishers-password-of-the-tests"
_ESTABLISHED = "01"


class RecadoAtRabbitmq:
    def __init__(self, folder: Path) -> None:
        (folder / "server").mkdir()
        self.cluster = Rabbitmq(folder / "cluster")
        self.server = Server.serve(folder / "server", f"--broker={self.cluster.url(PUBLISHER, PASSWORD)}")

    def start(self) -> None:
        key = rabbitmq_config.broker_key(SECRET)
        recado = f"127.0.0.1:{self.server.http_port}"
        configuration = rabbitmq_config.configuration(recado, key, str(self.cluster.definitions))
        definitions = rabbitmq_config.definitions(PUBLISHER, PASSWORD, secrets.token_bytes(4))
        self.cluster.start(configuration, definitions)
        self.server.start()

    def close(self) -> None:
        self.server.close()
        self.cluster.close()

    def node_of_server(self) -> Node:
        """The node that the server publishes at. Others who connect meanwhile must do so by WebSocket."""
        wait_for(lambda: bool(self._nodes_in_use()))
        return self._nodes_in_use()[0]

    def _nodes_in_use(self) -> list[Node]:
        connections = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
        ports = {int(remote.partition(":")[2], 16) for _, _, remote, state, *_ in connections if state == _ESTABLISHED}
        return [node for node in self.cluster.nodes if node.mqtt_port in ports]

    def login(self, user: str, node: int = 0, token: str | None = None) -> Login:
        return login_at(self.cluster.nodes[node], user, self.server.token(user) if token is None else token)

    def reader(self, user: str, conversation: str, addresses: list[Address]) -> BrokerReader:
        return BrokerReader(user, self.server.token(user), self.server.api(user), conversation, addresses)


def login_at(node: Node, user: str, password: str) -> Login:
    return Login(node.mqtt_port, node.ws_url, user, password)


def new_user(name: str) -> str:
    """A user of the test's own."""
    return f"{name}-{uuid.uuid4().hex[:8]}"
