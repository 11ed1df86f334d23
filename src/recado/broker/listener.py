"""One place that the server listens at: what counts its connections and bounds them."""

from __future__ import annotations


class Listener:
    """`name` is the transport for the metrics: tcp, tls, ws, wss or unix. `opening` are those whose PROXY header or
    TLS handshake is still to come; they count too."""

    __slots__ = ("connections", "connections_max", "name", "opening")

    def __init__(self, name: str, connections_max: int) -> None:
        self.name = name
        self.connections_max = connections_max
        self.connections = 0
        self.opening = 0

    def is_full(self) -> bool:
        return self.connections + self.opening >= self.connections_max
