"""Ports of 127.0.0.1 for servers that are stopped and started again."""

import random
import socket

# Below Linux's ephemeral ports: a client that reconnects while a server is down can never be given the server's port.
_RANGE = range(12_000, 32_000)


def free_port() -> int:
    """Return a port on which nothing listens now."""
    while True:
        port = random.choice(_RANGE)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
