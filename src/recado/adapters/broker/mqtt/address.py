"""The URL of a broker: mqtt:// or mqtts://, a user and a password, and one host or several of a cluster."""

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FORM = "mqtt://user:password@host:1883 or mqtts://user:password@host:8883, with more hosts after commas"


class BrokerAddress(NamedTuple):
    """`hosts` are tried in turn. `username` and `password` are as CONNECT has them."""

    hosts: tuple[tuple[str, int], ...]
    is_tls: bool
    username: str | None
    password: str | None

    def __str__(self) -> str:
        """For texts and logs: the password is not in it."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{'mqtts' if self.is_tls else 'mqtt'}://{hosts}"


def parse_address(url: str) -> BrokerAddress:
    """Raises ValueError, with a text that does not have the password."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _PORTS:
        raise ValueError(f"it is {_FORM}; this one has another scheme")
    login, _, hosts = rest.rpartition("@")
    username, has_password, password = login.partition(":")
    if has_password and not username:
        raise ValueError(f"it is {_FORM}; this one has a password without a user")
    return BrokerAddress(
        tuple(_host(each, _PORTS[scheme], n) for n, each in enumerate(hosts.removesuffix("/").split(","), 1)),
        scheme == "mqtts",
        unquote(username) or None,
        unquote(password) if has_password else None,
    )


def _host(text: str, default_port: int, number: int) -> tuple[str, int]:
    """The text is not repeated: without an @ it would have the password."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or parts.netloc != text:
        raise ValueError(f"it is {_FORM}; host {number} is none")
    return host, port or default_port
