"""The configuration of a Mosquitto 2 that serves Recado's users: what `recado broker-config mosquitto` prints.

Its dynamic security plugin holds the users. Recado makes each at its first session; the operator sets up Recado's own,
which may publish to users' topics and administer the plugin. What no role allows, the plugin denies from the beginning.
"""

import sysconfig
from collections.abc import Sequence

from recado.adapters.broker.mqtt.dynamic_security import COMMANDS, RESPONSES

RECADO_USER = "recado"
# Where Debian has it, on a processor as this machine's.
PLUGIN = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or 'x86_64-linux-gnu'}/mosquitto_dynamic_security.so"
_USERS = "/var/lib/mosquitto/dynamic-security.json"
_PASSWORD = "$RECADO_BROKER_PASSWORD"  # noqa: S105 - the name of a variable of the shell
_LISTENERS = (
    "# MQTT over TCP, for Recado and for applications. Without TLS, for this machine alone:",
    "listener 1883 127.0.0.1",
    "# and with it, for the network:",
    "#listener 8883",
    "#certfile /etc/mosquitto/certs/fullchain.pem",
    "#keyfile /etc/mosquitto/certs/privkey.pem",
    "",
    "# MQTT over WebSocket, for browsers. A proxy in front adds TLS: wss://mqtt.example.com/mqtt",
    "listener 8083 127.0.0.1",
    "protocol websockets",
)
_NOTES = (
    "# Who is not known is not let in, and who is may do what its role says.",
    "allow_anonymous false",
    "# Its place depends on the processor and the distribution: find / -name mosquitto_dynamic_security.so",
    "plugin {plugin}",
    "plugin_opt_config_file {users}",
    "",
    "# Without this, what follows a packet that is not acknowledged yet may wait 40 ms.",
    "set_tcp_nodelay true",
    "",
    "# Recado has the log, and clients connect clean: nothing here need outlive a restart.",
    "persistence false",
    "# Should one connect otherwise, its session ends, too.",
    "persistent_client_expiration 1h",
    "# For one client that reads slowly. What does not fit it reads from Recado.",
    "max_queued_messages 1000",
    "max_queued_bytes 4194304",
    "# The largest packet: a message of limit.body_bytes_max, each of its characters escaped.",
    "max_packet_size 131072",
    "",
)


def conf(users: str = _USERS, listeners: Sequence[str] = _LISTENERS, plugin: str = PLUGIN) -> str:
    """A mosquitto.conf. `users` is the plugin's file, which Mosquitto must be able to write."""
    return "\n".join([*_NOTES, *listeners, ""]).format(plugin=plugin, users=users)


def control_commands(password: str) -> list[list[str]]:
    """What `mosquitto_ctrl dynsec` has to be told once, by the administrator that its `init` has made."""
    rights = [
        ("publishClientSend", "u/#"),
        ("publishClientSend", COMMANDS),
        ("subscribeLiteral", RESPONSES),
        ("publishClientReceive", RESPONSES),
    ]
    return [
        ["createRole", RECADO_USER],
        *(["addRoleACL", RECADO_USER, kind, topic, "allow"] for kind, topic in rights),
        ["createClient", RECADO_USER, "-p", password],
        ["addClientRole", RECADO_USER, RECADO_USER],
    ]


def printed() -> str:
    """The configuration, and how to set it up."""
    init = f"mosquitto_ctrl dynsec init {_USERS} admin $ADMIN_PASSWORD"
    control = "mosquitto_ctrl -h 127.0.0.1 -u admin -P $ADMIN_PASSWORD dynsec"
    lines = (" ".join(map(_quoted, command)) for command in control_commands(_PASSWORD))
    steps = [
        "# /etc/mosquitto/conf.d/recado.conf",
        conf(),
        "# Once, before its first start, with passwords of your own for the administrator and for Recado:",
        "#   ADMIN_PASSWORD=$(python3 -c 'import secrets; print(secrets.token_urlsafe(24))')",
        "#   RECADO_BROKER_PASSWORD=$(python3 -c 'import secrets; print(secrets.token_urlsafe(24))')",
        f"#   {init}",
        f"#   chown mosquitto: {_USERS}",
        "# Once, when it runs:",
        *(f"#   {control} {line}" for line in lines),
        "# Then, for `recado serve` and `recado worker`:",
        f"#   RECADO_BROKER=mqtt://{RECADO_USER}:{_PASSWORD}@127.0.0.1:1883",
        "#   RECADO_BROKER_AUTH=dynamic-security",
        "#   RECADO_BROKER_WS_URL=wss://mqtt.example.com/mqtt",
        "#   RECADO_BROKER_TCP_URL=mqtts://mqtt.example.com:8883",
        "",
    ]
    return "\n".join(steps)


def _quoted(word: str) -> str:
    """As the shell needs it; a variable stays one."""
    return f"'{word}'" if "#" in word or word.startswith("$CONTROL") else word
