"""Listening for MQTT clients: TCP, TLS, WebSocket, secure WebSocket and a Unix socket.

What must come before a connection's first byte, a PROXY header or a TLS handshake, has `connect_timeout_s` to come, and
counts against the listener's limit from the moment that the connection is accepted; so does an upgrade to WebSocket.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
import stat
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from recado.broker.listener import Listener
from recado.broker.proxy_protocol import MalformedHeader, client_of, missing
from recado.broker.server import Server
from recado.broker.tcp import TcpConnection, address
from recado.broker.tls import TlsCertificates
from recado.broker.websocket import Door, WsConnection, WsProtocol

_log = logging.getLogger(__name__)
_BACKLOG = 4096
_ACCEPT_RETRY_S = 1


class _NewProtocol(Protocol):
    """Makes a connection, given its peer as a PROXY header has it, or None."""

    def __call__(self, peer: str | None = None) -> asyncio.BaseProtocol: ...


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Where to listen, and for what. `path` is the Unix socket's, `socket_mode` its permissions. tls and wss need
    `certificates`. With `proxy_protocol` every connection begins with a PROXY header of version 2, before TLS."""

    transport: Literal["tcp", "tls", "ws", "wss", "unix"]
    host: str = "127.0.0.1"
    port: int = 0
    path: Path = field(default=Path())
    socket_mode: int = 0o660
    ws_path: str = "/mqtt"
    allowed_origins: tuple[str, ...] = ()
    trusts_host_names: bool = True
    certificates: TlsCertificates | None = None
    proxy_protocol: bool = False
    connections_max: int | None = None
    """None: only the server's own limit."""


class Listening:
    """An open listener. `where` is host:port, or the Unix socket's path, which has the `port` 0."""

    def __init__(
        self,
        server: Server,
        settings: ListenerSettings,
        sockets: list[socket.socket],
        context: ssl.SSLContext | None,
    ) -> None:
        most = server.limits.connections_max if settings.connections_max is None else settings.connections_max
        self.listener = Listener(settings.transport, most)
        self.port: int = 0 if settings.transport == "unix" else sockets[0].getsockname()[1]
        self.where = str(settings.path) if settings.transport == "unix" else address(settings.host, self.port)
        self._server = server
        self._settings = settings
        self._context = context
        self._new_protocol = _protocols(server, settings, self.listener)
        self._socket_file = _identity(settings.path) if settings.transport == "unix" else None
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Listen no more, and give up what has not opened yet. Open connections stay, for the server to drain."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        if self._socket_file is not None and self._socket_file == _identity(self._settings.path):
            self._settings.path.unlink()

    async def start(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for each in sockets:
            if self._context is not None or self._settings.proxy_protocol:
                task = loop.create_task(self._accept(each))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif self._settings.transport == "unix":
                self._servers.append(await loop.create_unix_server(self._new_protocol, sock=each, backlog=_BACKLOG))
            else:
                self._servers.append(await loop.create_server(self._new_protocol, sock=each, backlog=_BACKLOG))

    # What comes before the first byte

    async def _accept(self, listening: socket.socket) -> None:
        try:
            while True:
                try:
                    accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
                except OSError as error:  # such as: too many open files
                    _log.warning("no connection can be accepted now: %s", error)
                    await asyncio.sleep(_ACCEPT_RETRY_S)
                    continue
                if self.listener.is_full():
                    self._refuse("LISTENER_CONNECTIONS_MAX", _address_of(accepted))
                    accepted.close()
                else:
                    self._start_opening(accepted)
                await asyncio.sleep(0)  # a flood of connections keeps nobody else waiting
        finally:
            listening.close()

    def _start_opening(self, accepted: socket.socket) -> None:
        self.listener.opening += 1
        task = asyncio.get_running_loop().create_task(self._open(accepted))
        self._tasks.add(task)
        task.add_done_callback(partial(self._opened, accepted))

    def _opened(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.listener.opening -= 1
        if task.cancelled():
            accepted.close()

    async def _open(self, accepted: socket.socket) -> None:
        address_before = _address_of(accepted)  # nobody can say once it is closed
        peer = None
        try:
            if self._settings.proxy_protocol:
                peer = await self._peer(accepted)
            await self._hand_over(accepted, peer)
        except MalformedHeader as error:
            self._refuse("PROXY_PROTOCOL", address_before, str(error))
            accepted.close()
        except OSError as error:  # so are ssl.SSLError, ConnectionError and TimeoutError
            failed = "OPENING" if self._context is None else "TLS_HANDSHAKE"
            self._refuse(failed, peer or address_before, getattr(error, "reason", None) or str(error))
            accepted.close()

    async def _peer(self, accepted: socket.socket) -> str | None:
        """Read the PROXY header, and nothing after it. Raises MalformedHeader."""
        loop = asyncio.get_running_loop()
        header = b""
        try:
            async with asyncio.timeout(self._server.limits.connect_timeout_s):
                while more := missing(header):
                    received = await loop.sock_recv(accepted, more)
                    if not received:
                        raise MalformedHeader("it ends early")
                    header += received
        except OSError as error:
            raise MalformedHeader("it did not come") from error
        return client_of(header)

    async def _hand_over(self, accepted: socket.socket, peer: str | None) -> None:
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limits = self._server.limits
        is_tls = self._context is not None
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: self._new_protocol(peer),
            accepted,
            ssl=self._context,
            ssl_handshake_timeout=limits.connect_timeout_s if is_tls else None,
            ssl_shutdown_timeout=limits.drain_s if is_tls else None,
        )

    def _refuse(self, refusal: str, client: str, detail: str = "") -> None:
        self._server.counters.refusals[refusal] += 1
        self._server.refusal_log.log(
            "connection_refused",
            refusal,
            address=client,
            listener=self.listener.name,
            detail=detail,
        )


async def listen(server: Server, settings: ListenerSettings) -> Listening:
    """Listen, until `Listening.close`. Port 0 is any free one. Raises OSError if that address cannot be had, and
    ValueError for settings that contradict each other."""
    context = _context(settings)  # before a socket is bound, because it may raise
    if settings.transport == "unix":
        sockets = [_bind_unix(settings.path, settings.socket_mode)]
    else:
        sockets = await _bind(settings.host, settings.port)
    listening = Listening(server, settings, sockets, context)
    await listening.start(sockets)
    return listening


def _address_of(accepted: socket.socket) -> str:
    """The other end; nothing of one that is gone already."""
    try:
        name = accepted.getpeername()
    except OSError:
        return ""
    return address(*name[:2]) if isinstance(name, tuple) else "unix"


def _context(settings: ListenerSettings) -> ssl.SSLContext | None:
    is_tls = settings.transport in ("tls", "wss")
    if is_tls is (settings.certificates is None):
        raise ValueError(f"a listener for {settings.transport} with certificates {settings.certificates}")
    return None if settings.certificates is None else settings.certificates.context


def _protocols(server: Server, settings: ListenerSettings, listener: Listener) -> _NewProtocol:
    if settings.transport not in ("ws", "wss"):
        return lambda peer=None: TcpConnection(server, listener, peer)
    door = Door(server, settings.ws_path, settings.allowed_origins, trusts_host_names=settings.trusts_host_names)
    return lambda peer=None: WsProtocol(WsConnection(server, listener, peer), door)


async def _bind(host: str, port: int) -> list[socket.socket]:
    """One socket for each address of the host, all with the same port."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, name in dict.fromkeys(found):
            bound = socket.create_server((name[0], port), family=family, backlog=_BACKLOG)
            bound.setblocking(False)
            sockets.append(bound)
            port = bound.getsockname()[1]
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


# Unix sockets


def _bind_unix(path: Path, mode: int) -> socket.socket:
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.setblocking(False)
    former = os.umask(0o777 & ~mode)  # from its first moment on nobody else may connect
    try:
        bound.bind(str(path))
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(former)
    return bound


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that is gone. Raises OSError if somebody listens on it, or it is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # somebody listens, and is busy
    raise OSError(errno.EADDRINUSE, "somebody listens on it", str(path))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
