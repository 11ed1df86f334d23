"""The HTTP transports behind a real nginx with the documented configuration."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.metrics import listeners, wait_for
from tests.support.nginx import Nginx, behind_nginx
from tests.support.raw_websocket import UPGRADE, auth_frame, subscribe_frame
from tests.support.server import Server

Proxied = tuple[Server, Nginx]
KINDS = {"poll": "*/*", "sse": "text/event-stream"}


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Proxied]:
    with behind_nginx(tmp_path) as (server, nginx):
        nginx.start(nginx.documented(server))
        server.host_api.create_conversation(["ana", "bruno"], "order")
        yield server, nginx


def open_one(proxied: Proxied, kind: str) -> socket.socket:
    server, nginx = proxied
    connection = socket.create_connection(("127.0.0.1", nginx.port), 20)
    if kind == "ws":
        connection.sendall(UPGRADE)
        assert b" 101 " in connection.recv(4096)
        connection.sendall(auth_frame(server) + subscribe_frame())
    else:
        query = "?cursor=0&wait=60" if kind == "poll" else ""
        head = f"GET /v1/events{query} HTTP/1.1\r\nHost: x\r\nAccept: {KINDS[kind]}\r\n"
        connection.sendall(f"{head}Authorization: Bearer {server.token('bruno')}\r\n\r\n".encode())
    return connection


@pytest.mark.parametrize("kind", ["poll", "sse", "ws"])
def test_what_is_sent_arrives_at_once_and_who_leaves_is_gone_at_once(proxied: Proxied, kind: str) -> None:
    server, _ = proxied
    with ExitStack() as stack:
        leaving = [stack.enter_context(closing(open_one(proxied, kind))) for _ in range(20)]
        staying = stack.enter_context(closing(open_one(proxied, kind)))
        wait_for(lambda: listeners(server, kind) == len(leaving) + 1)
        for connection in leaving:
            connection.close()
        began = time.monotonic()
        wait_for(lambda: listeners(server, kind) == 1)
        assert time.monotonic() - began < 2
        server.api("ana").send("order", "at once")
        received = b""
        while b"at once" not in received:
            received += staying.recv(4096)
