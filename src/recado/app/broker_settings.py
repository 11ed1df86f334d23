"""The settings of `recado broker`, beside those that it shares with `recado serve`."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from recado.app.config import SettingsError, SharedSettings, path_of_database

Port = int | Literal["off"]
Transport = Literal["tcp", "tls", "ws", "wss", "unix"]
_OFF = ", or off to keep nothing over a restart"
# Each port's listener.
PORTS: dict[str, Transport] = {"mqtt_port": "tcp", "mqtts_port": "tls", "ws_port": "ws", "wss_port": "wss"}


@dataclass(frozen=True, kw_only=True)
class BrokerSettings(SharedSettings):
    """Those of `recado broker`."""

    mqtt_port: Port = 1883
    """MQTT over TCP. 0 takes any free port, here and below, and off is none."""

    ws_port: Port = 8083
    """MQTT over WebSocket, at the path /mqtt."""

    mqtts_port: Port = "off"
    """MQTT over TLS; 8883 is usual."""

    wss_port: Port = "off"
    """MQTT over WebSocket over TLS."""

    http_port: Port = 9883
    """HTTP: /metrics, /healthz and /readyz."""

    http_host: str = "127.0.0.1"
    """Address of the HTTP port, which anybody who reaches it may read."""

    tls_cert: Path | None = None
    """The server's certificate and those that it is signed with, PEM."""

    tls_key: Path | None = None
    """The certificate's private key, PEM, if it is not in the same file."""

    unix_socket: Path | None = None
    """MQTT over a Unix socket at this path."""

    proxy_protocol: bool = False
    """Every connection but HTTP and the Unix socket's begins with the PROXY protocol, version 2."""

    allow_anonymous: bool = False
    """Let clients in that give no user name."""

    password_file: Path | None = None
    """Users and their passwords, made with `recado passwd`."""

    acl_file: Path | None = None
    """Who may publish and read which topics; without it everybody may publish and read everything."""

    database: str = "sqlite:///recado-broker.db"
    """Where sessions and retained messages are kept: sqlite:/// and a path; off keeps nothing over a restart."""

    listener_connections: Annotated[dict[str, int], Parameter(name="--listener-connections")] = field(
        default_factory=dict
    )
    """The most connections of one listener, as --listener-connections.ws 5000; of tcp, tls, ws, wss or unix."""

    def check(self) -> None:
        super().check()
        _check_who_may_connect(self)
        for name in (*PORTS, "http_port"):
            if getattr(self, name) != "off":
                self.check_port(name)
        if self.unix_socket is None and all(getattr(self, name) == "off" for name in PORTS):
            raise SettingsError("every listener is off: set mqtt_port, mqtts_port, ws_port, wss_port or unix_socket")
        _check_tls(self)
        self.database_path()
        _check_listener_connections(self.listener_connections)

    def database_path(self) -> Path | None:
        return None if self.database == "off" else path_of_database(self.database, _OFF)

    def is_open_to_strangers(self) -> bool:
        """Whether anybody on a network may connect, and everybody between may read along."""
        is_plain = self.mqtt_port != "off" or self.ws_port != "off"
        return self.allow_anonymous and is_plain and not _is_loopback(self.host)


def _check_who_may_connect(settings: BrokerSettings) -> None:
    if settings.allow_anonymous or settings.password_file or settings.secret or settings.jwks:
        return
    raise SettingsError(
        "nobody could connect: set --password-file (make it with `recado passwd FILE USER`), RECADO_SECRET or --jwks "
        "for tokens, or --allow-anonymous to let everybody in"
    )


def _check_tls(settings: BrokerSettings) -> None:
    wanted = [name for name in ("mqtts_port", "wss_port") if getattr(settings, name) != "off"]
    if wanted and settings.tls_cert is None:
        raise SettingsError(f"{wanted[0]} needs tls_cert, and tls_key if the key is in another file")
    if not wanted and (settings.tls_cert or settings.tls_key):
        raise SettingsError("tls_cert and tls_key are for mqtts_port and wss_port, which are off: set one of them")


def _check_listener_connections(connections: Mapping[str, int]) -> None:
    for name, most in connections.items():
        if name not in get_args(Transport):
            raise SettingsError(f"listener_connections are of {', '.join(get_args(Transport))}, not of {name!r}")
        if most < 1:
            raise SettingsError(f"listener_connections.{name} must be 1 or more, not {most}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
