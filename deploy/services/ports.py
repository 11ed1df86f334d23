"""Ports of 127.0.0.1, for servers that are stopped and started again."""

import random
import socket
from http.client import HTTPConnection, HTTPException

# Below Linux's ephemeral ports: a client that reconnects while a server is down can never be given the server's port.
_RANGE = range(12_000, 32_000)
_ANSWER_TIMEOUT_S = 5.0
_given: set[int] = set()


def free_port() -> int:
    """Return a port on which nothing listens, and which nobody here was given who may not listen yet."""
    while True:
        port = random.choice(_RANGE)
        if port not in _given and not is_open(port):
            _given.add(port)
            return port


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


def is_open(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int, path: str) -> bool:
    """Whether GET gets a 200 there."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
