"""A WebSocket by bare bytes: its handshake, its frames with a mask of zeros, and clients of `/v1/ws` made of them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.server import Server

PING, CLOSE, TEXT, CONTINUATION = 0x9, 0x8, 0x1, 0x0


def handshake(path: str, *more: str) -> bytes:
    """A client's opening handshake, with more header lines."""
    upgrade = ("Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade")
    websocket = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    return "\r\n".join((f"GET {path} HTTP/1.1", *upgrade, *websocket, *more, "", "")).encode()


UPGRADE = handshake("/v1/ws", "Sec-WebSocket-Extensions: permessage-deflate")
MQTT_UPGRADE = handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt")


def frame(opcode: int, payload: bytes = b"", *, is_last: bool = True) -> bytes:
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    elif len(payload) < 65_536:
        length = bytes([0x80 | 126]) + len(payload).to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + len(payload).to_bytes(8, "big")
    return bytes([(0x80 if is_last else 0) | opcode]) + length + bytes(4) + payload


def json_frame(content: object) -> bytes:
    return frame(TEXT, json.dumps(content).encode())


def auth_frame(server: Server, user: str = "bruno", ttl_s: float = 3600) -> bytes:
    return json_frame({"type": "auth", "token": server.token(user, ttl_s)})


def subscribe_frame() -> bytes:
    """To everything of the user."""
    return json_frame({"type": "subscribe", "conversations": "*"})


@contextmanager
def upgraded(server: Server) -> Iterator[socket.socket]:
    """A WebSocket that is open, and has sent nothing yet."""
    with socket.create_connection(("127.0.0.1", server.http_port), 20) as connection:
        connection.sendall(UPGRADE)
        assert b" 101 " in connection.recv(4096)
        yield connection


@contextmanager
def signed_in(server: Server) -> Iterator[socket.socket]:
    """Bruno's."""
    with upgraded(server) as connection:
        connection.sendall(auth_frame(server))
        assert b'"ready"' in connection.recv(4096)
        yield connection


def stalled_websocket(server: Server, ttl_s: float = 3600) -> socket.socket:
    """A WebSocket with everything of bruno's, who reads nothing of it."""
    connection = socket.create_connection(("127.0.0.1", server.http_port), 20)
    connection.sendall(UPGRADE)
    assert b" 101 " in connection.recv(4096)
    connection.sendall(auth_frame(server, ttl_s=ttl_s) + subscribe_frame())
    return connection
