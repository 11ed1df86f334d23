"""HTTP by bare sockets, for clients that leave, stall or push as no library does."""

from __future__ import annotations

import socket

from tests.support.server import Server


def ask(
    server: Server, path: str, user: str = "bruno", *, accept: str = "*/*", more: str = "", ttl_s: float = 3600
) -> socket.socket:
    """A connection on which that was asked; its token lives for `ttl_s` seconds."""
    connection = socket.create_connection(("127.0.0.1", server.http_port), 20)
    token = server.token(user, ttl_s)
    head = f"GET /v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nAccept: {accept}\r\n"
    connection.sendall(f"{head}{more}\r\n".encode())
    return connection


def stalled_stream(server: Server, ttl_s: float = 3600) -> socket.socket:
    """An event stream of everything of bruno's, who reads nothing of it."""
    return ask(server, "/events", accept="text/event-stream", ttl_s=ttl_s)


def push(connection: socket.socket, chunk: bytes, total: int) -> int:
    """Write up to `total` bytes until the peer takes no more for a while, or hangs up; returns how many it took."""
    connection.settimeout(1)
    sent = 0
    try:
        while sent < total:
            sent += connection.send(chunk)
    except OSError:
        pass
    return sent


def wait_until_closed(connection: socket.socket, within_s: float) -> None:
    connection.settimeout(within_s)
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass
