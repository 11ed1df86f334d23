"""The HTTP server: uvicorn with protocols that have bounds, on a port of its own, that ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from recado.app.config import SettingsError
from recado.app.http_protocol import BoundedHttpProtocol, connections_cut
from recado.app.limits import Limits
from recado.app.websocket_protocol import BoundedWebSocketProtocol
from recado.broker.deadlines import Deadlines

_LEAVING_S = 1  # for the tasks of connections that were cut at the server's end


class _HttpServer(uvicorn.Server):
    """Signals are the command line's: it stops the whole, in order."""

    def __init__(self, config: uvicorn.Config, drain_s: int) -> None:
        super().__init__(config)
        self._drain_s = drain_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Connections that have not ended after `drain_s` are cut: their clients do not read, and their tasks would
        wait for that even when they are cancelled."""
        cut = asyncio.get_running_loop().call_later(self._drain_s, self._cut_connections)
        try:
            await super().shutdown(sockets)
        finally:
            cut.cancel()

    def _cut_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connections_cut.labels("drain_s").inc()
            connection.transport.abort()


@asynccontextmanager
async def serving_http(
    app: ASGIApp,
    host: str,
    port: int,
    limits: Limits,
    deadlines: Deadlines,
    host_setting: str = "host",
    port_setting: str = "http_port",
) -> AsyncIterator[int]:
    """Serve until the end of the block; gives the port. Raises SettingsError if it cannot be had."""
    with naming(port_setting, host, port, host_setting):
        listener = socket.create_server((host, port), backlog=2048)
    config = uvicorn.Config(
        app,
        http=partial(BoundedHttpProtocol, limits=limits.http, deadlines=deadlines),  # type: ignore[arg-type]
        ws=partial(BoundedWebSocketProtocol, limits=limits.http, deadlines=deadlines),  # type: ignore[arg-type]
        ws_max_size=limits.http.ws_frame_bytes_max,
        ws_ping_interval=None,  # BoundedWebSocketProtocol pings, without a timer for each
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.http.http_idle_s,
        timeout_graceful_shutdown=limits.broker.drain_s + _LEAVING_S,
    )
    server = _HttpServer(config, limits.broker.drain_s)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        listener.close()


@contextlib.contextmanager
def naming(setting: str, host: str, port: int, host_setting: str = "host") -> Iterator[None]:
    """Say which setting a port that cannot be had belongs to."""
    try:
        yield
    except OSError as error:
        if (error.errno or 0) < 0 or error.errno == errno.EADDRNOTAVAIL:  # getaddrinfo's: there is no such host
            raise SettingsError(
                f"cannot listen on {host}: {error.strerror}; name another address with {_flag(host_setting)}"
            ) from None
        raise SettingsError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; name another port with {_flag(setting)}"
        ) from None


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"
