"""One process, put together: store, conversations, MQTT server and HTTP door on one event loop.

Starting opens the store before any listener; stopping goes the other way round, so that what was accepted is
committed and acknowledged before the connections close.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import structlog
import uvicorn
from prometheus_client import REGISTRY
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from recado.adapters.broker.embedded import EmbeddedBroker
from recado.adapters.store.sqlite import SqliteStore
from recado.app import limits as all_limits
from recado.app.access import JwtAccess
from recado.app.config import Settings, SettingsError
from recado.app.http_server import BoundedHttpProtocol
from recado.app.limits import Limits
from recado.app.metrics import BrokerCollector
from recado.broker.deadlines import Deadlines
from recado.broker.tcp import listen_tcp
from recado.broker.websocket import listen_websocket
from recado.chat.actions import Chat
from recado.chat.event import Committed
from recado.chat.membership import MembershipCache
from recado.http import HttpSettings, create_app

log = structlog.get_logger("recado")
WS_PATH = "/mqtt"


@dataclass(frozen=True, slots=True)
class Node:
    """A running server: what to call it by, and where it listens."""

    chat: Chat
    access: JwtAccess
    http_port: int
    mqtt_port: int
    ws_port: int


@asynccontextmanager
async def running(settings: Settings, extra_routes: Sequence[BaseRoute] = ()) -> AsyncIterator[Node]:
    """Start everything; at the end of the block, drain and stop it. Raises SettingsError, DatabaseUnusable."""
    settings.check()
    limits = all_limits.with_changes(settings.limit)
    access = JwtAccess(settings)
    async with AsyncExitStack() as stack:
        store = SqliteStore.open(settings.database_path(), limits.store)
        stack.push_async_callback(store.close)
        broker = EmbeddedBroker(access.authenticate, limits.broker)
        chat = _connect(store, broker, limits)
        collector = BrokerCollector(broker.server.counters)
        REGISTRY.register(collector)
        stack.callback(REGISTRY.unregister, collector)
        stack.push_async_callback(broker.server.drain)
        stack.push_async_callback(store.close)  # before the connections end: what was accepted is acknowledged

        with _naming("mqtt_port", settings.host, settings.mqtt_port):
            tcp, mqtt_port = await listen_tcp(broker.server, settings.host, settings.mqtt_port)
        stack.callback(tcp.close)
        with _naming("ws_port", settings.host, settings.ws_port):
            ws, ws_port = await listen_websocket(
                broker.server, settings.host, settings.ws_port, WS_PATH, _websocket_origins(settings)
            )
        stack.callback(ws.close)
        http_settings = _http_settings(settings, limits, mqtt_port, ws_port)
        app = create_app(chat, access, http_settings, extra_routes=extra_routes)
        http_port = await stack.enter_async_context(_serving_http(app, settings, limits, broker.server.deadlines))
        log.info("ready", host=settings.host, http_port=http_port, mqtt_port=mqtt_port, ws_port=ws_port)
        yield Node(chat, access, http_port, mqtt_port, ws_port)
        log.info("stopping")


def _connect(store: SqliteStore, broker: EmbeddedBroker, limits: Limits) -> Chat:
    members = MembershipCache(store, limits.chat.member_cache_entries_max)

    def on_committed(committed: Sequence[Committed]) -> None:
        members.apply(committed)
        broker.publish(committed)

    store.on_committed = on_committed
    broker.chat = Chat(store, broker, members, limits.chat, now_ms=lambda: time.time_ns() // 1_000_000)
    return broker.chat


def _websocket_origins(settings: Settings) -> tuple[str, ...]:
    """The pages that this server serves itself may connect too, under the name that the proxy gives them."""
    return settings.origins() if settings.public_url is None else (*settings.origins(), settings.public_url)


def _http_settings(settings: Settings, limits: Limits, mqtt_port: int, ws_port: int) -> HttpSettings:
    return HttpSettings(
        public_url=settings.public_url,
        allowed_origins=settings.origins(),
        mqtt_port=mqtt_port,
        ws_port=ws_port,
        ws_path=WS_PATH,
        request_bytes_max=limits.http.request_bytes_max,
        token_ttl_s_max=limits.http.token_ttl_s_max,
        token_ttl_s_default=limits.http.token_ttl_s_default,
        pages=Path(str(files("recado") / "web")) if settings.pages else None,
    )


class _HttpServer(uvicorn.Server):
    """Signals are the command line's: it stops the whole, in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _serving_http(app: ASGIApp, settings: Settings, limits: Limits, deadlines: Deadlines) -> AsyncIterator[int]:
    with _naming("http_port", settings.host, settings.http_port):
        listener = socket.create_server((settings.host, settings.http_port), backlog=2048)
    config = uvicorn.Config(
        app,
        http=partial(BoundedHttpProtocol, limits=limits.http, deadlines=deadlines),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.http.http_connections_max,
        timeout_keep_alive=limits.http.http_idle_s,
        timeout_graceful_shutdown=limits.broker.drain_s,
    )
    server = _HttpServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        listener.close()


@contextlib.contextmanager
def _naming(setting: str, host: str, port: int) -> Iterator[None]:
    """Say which setting a port that cannot be had belongs to."""
    try:
        yield
    except OSError as error:
        if isinstance(error, socket.gaierror):
            raise SettingsError(
                f"cannot listen on {host}: {error.strerror}; name another address with --host"
            ) from None
        raise SettingsError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; name another port with "
            f"--{setting.replace('_', '-')}"
        ) from None
