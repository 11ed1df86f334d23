"""A RabbitMQ cluster of three nodes on this machine: MQTT and Web MQTT on loopback ports, nothing else.

The nodes share a cookie, a home and an `epmd` of their own, so that a RabbitMQ of the system is left alone; `close`
ends all of it. They run as whoever starts them, root or not. What Recado asks of a RabbitMQ is not written here:
`start` is given what `recado broker-config rabbitmq` prints, and the plugins are those that it names.

The first node starts alone, the others when it is up. Nodes that start for the first time together find no peer, and
each may make a Raft group of its own for MQTT's client ids (RabbitMQ 3.10): such a node lets no client in.
"""

import os
import secrets
import time
from pathlib import Path

from deploy.services.child_process import ChildProcess, ServiceFailed
from deploy.services.ports import free_port, is_open
from deploy.services.programs import output_of, program
from recado.app.rabbitmq_config import enabled_plugins

NODES = 3
_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # not the one on the path: that has the system's folders and account
_START_TIMEOUT_S = 120.0
_POLL_S = 0.1
_NEEDED = "rabbitmq-server (on Debian and Ubuntu: apt-get install rabbitmq-server)"
# Three schedulers of one core each would spin for two cores; and none is bound to a core, or all three share one.
_ERLANG = "+S 1:1 +SDcpu 1:1 +SDio 2 +A 2 -kernel inet_dist_use_interface {127,0,0,1}"
_OWN = ("listeners.tcp = none", "disk_free_limit.absolute = 10MB", "vm_memory_high_watermark.absolute = 400MB")


class Rabbitmq:
    """The cluster: its ports are known before it starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._epmd_port = free_port()
        command = [program("epmd", _NEEDED), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        self._epmd = ChildProcess("epmd", command, folder / "epmd.log", lambda: is_open(self._epmd_port))
        names = [f"rabbit{number}@127.0.0.1" for number in range(1, NODES + 1)]
        self.nodes = [Node(folder, name, names[0], self._epmd_port) for name in names]

    @property
    def mqtt_ports(self) -> list[int]:
        return [node.mqtt_port for node in self.nodes]

    @property
    def definitions(self) -> Path:
        """The file that `configuration` has to name."""
        return self._folder / "definitions.json"

    @property
    def log(self) -> str:
        return "\n".join(node.log for node in self.nodes)

    def url(self, user: str, password: str) -> str:
        """What Recado is given as --broker."""
        return f"mqtt://{user}:{password}@" + ",".join(f"127.0.0.1:{port}" for port in self.mqtt_ports)

    def start(self, configuration: str, definitions: str) -> None:
        """Return once the cluster is whole and every node takes MQTT's clients. `configuration` is a rabbitmq.conf
        without listeners, `definitions` what is loaded at the first start."""
        _make_home(self._folder)
        self.definitions.write_text(definitions, encoding="utf-8")
        for node in self.nodes:
            node.configure(configuration)
        self._epmd.start()
        first, *others = self.nodes
        first.start()
        for node in others:
            node.begin()
        for node in others:
            node.wait_until_ready()
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Until each node that runs sees all the others, and they have one register of client ids."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not all(node.is_joined(NODES) for node in self.nodes):
            if time.monotonic() > deadline:
                raise ServiceFailed(f"the cluster is not whole:\n{self.log}")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End it whatever state it is in."""
        for node in self.nodes:
            node.close()
        self._epmd.close()


class Node(ChildProcess):
    """One node: it keeps its name, its ports and its data from one start to the next, which joins it to the others
    again."""

    def __init__(self, home: Path, name: str, first: str, epmd_port: int) -> None:
        self.mqtt_port, self.ws_port, self._erlang_port = free_port(), free_port(), free_port()
        self._home = home
        self._folder = home / name.partition("@")[0]
        self._peers = list(dict.fromkeys([first, name]))
        self._epmd_port = epmd_port
        super().__init__(
            name,
            [_SERVER],
            self._folder / "rabbitmq.log",
            lambda: is_open(self.mqtt_port) and is_open(self.ws_port),
            environment=self._whole_environment(name),
            start_timeout_s=_START_TIMEOUT_S,
        )

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.ws_port}/mqtt"

    def configure(self, configuration: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        own = [
            *_OWN,
            f"mqtt.listeners.tcp.1 = 127.0.0.1:{self.mqtt_port}",
            f"web_mqtt.tcp.listener = 127.0.0.1:{self.ws_port}",
            "cluster_formation.peer_discovery_backend = classic_config",
            *(f"cluster_formation.classic_config.nodes.{at} = {peer}" for at, peer in enumerate(self._peers, 1)),
        ]
        text = "\n".join([configuration, *own, ""])
        (self._folder / "rabbitmq.conf").write_text(text, encoding="utf-8")
        (self._folder / "enabled_plugins").write_text(enabled_plugins(), encoding="ascii")

    def is_joined(self, nodes: int) -> bool:
        """Whether it sees that many nodes, and as many share the register of client ids and know its leader."""
        running = self.call("rabbit_nodes", "all_running", "[]")
        members = self.call("ra", "members", f"[{{mqtt_node, '{self.name}'}}]")
        return running.count("@") == nodes and members.count("@") == nodes + 1

    def call(self, module: str, function: str, arguments: str) -> str:
        """Have the node call a function of Erlang's; returns what comes out, as Erlang writes it."""
        environment = {**os.environ, "ERL_EPMD_PORT": str(self._epmd_port)}
        cookie = (self._home / ".erlang.cookie").read_text(encoding="ascii")
        command = [_erl_call(), "-c", cookie, "-name", self.name, "-a", f"{module} {function} {arguments}"]
        return output_of(command, environment=environment)

    def _whole_environment(self, name: str) -> dict[str, str]:
        folder = self._folder
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))},
            "HOME": str(self._home),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self._erlang_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "configuration"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_NODENAME": name,
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
            "RABBITMQ_USE_LONGNAME": "true",
        }


def _make_home(folder: Path) -> None:
    """The cookie lets whoever has it run anything in the nodes."""
    folder.mkdir(parents=True, exist_ok=True)
    cookie = folder / ".erlang.cookie"
    if not cookie.exists():
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(16), encoding="ascii")
        cookie.chmod(0o400)


def _erl_call() -> str:
    """It belongs to Erlang's runtime and is on no path."""
    return program("erl_call", _NEEDED, Path("/usr/lib/erlang").glob("erts-*/bin"))
