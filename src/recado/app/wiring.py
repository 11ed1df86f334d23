"""One process, put together: store, conversations, MQTT server and HTTP door on one event loop.

Starting opens the store before any listener; stopping goes the other way round, so that what was accepted is
committed and acknowledged before the connections close.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import structlog
from prometheus_client import REGISTRY
from starlette.routing import BaseRoute

from recado.adapters.broker.brokers import Brokers
from recado.adapters.broker.embedded import EmbeddedBroker
from recado.adapters.broker.log_sessions import LogSessions
from recado.adapters.store.sqlite import SqliteStore
from recado.app import limits as all_limits
from recado.app.access import JwtAccess
from recado.app.config import Settings
from recado.app.http_server import naming, serving_http
from recado.app.limits import Limits
from recado.app.metrics import BrokerCollector, FeedCollector, SessionsCollector, SignalsCollector
from recado.app.sweeping import sweeping
from recado.broker.listening import ListenerSettings, listen
from recado.chat.actions import Chat
from recado.chat.event import Committed
from recado.chat.feed import Feed
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
        sessions = LogSessions(store, limits.storage.pending_transactions_max, limits.broker.own_positions_max)
        broker = EmbeddedBroker(access.authenticate, limits.broker, sessions)
        chat, feed = _connect(store, broker, limits)
        server = broker.server
        collectors = (BrokerCollector(server.counters), SessionsCollector(server), SignalsCollector(chat))
        for collector in (*collectors, FeedCollector(feed)):
            REGISTRY.register(collector)
            stack.callback(REGISTRY.unregister, collector)
        stack.push_async_callback(broker.server.drain)
        stack.push_async_callback(store.stop)  # before the connections end: what was accepted is acknowledged
        stack.push_async_callback(chat.close)
        await broker.server.start()
        interval_s = limits.chat.sweep_interval_s
        await stack.enter_async_context(sweeping(store, chat.now_ms, settings.retention_days, interval_s))

        mqtt_port = await _listen(broker, settings, "mqtt_port", ListenerSettings("tcp", settings.host), stack)
        websocket = ListenerSettings("ws", settings.host, ws_path=WS_PATH, allowed_origins=_websocket_origins(settings))
        ws_port = await _listen(broker, settings, "ws_port", websocket, stack)
        http_settings = _http_settings(settings, limits, mqtt_port, ws_port)
        app = create_app(chat, feed, access, http_settings, extra_routes=extra_routes)
        serving = serving_http(app, settings.host, settings.http_port, limits, broker.server.deadlines)
        http_port = await stack.enter_async_context(serving)
        stack.callback(feed.close)  # first of all: what is held is answered, and streams are closed
        log.info("ready", host=settings.host, http_port=http_port, mqtt_port=mqtt_port, ws_port=ws_port)
        yield Node(chat, access, http_port, mqtt_port, ws_port)
        log.info("stopping")


async def _listen(
    broker: EmbeddedBroker, settings: Settings, setting: str, where: ListenerSettings, stack: AsyncExitStack
) -> int:
    port = getattr(settings, setting)
    with naming(setting, settings.host, port):
        listening = await listen(broker.server, replace(where, port=port))
    stack.callback(listening.close)
    return listening.port


def _connect(store: SqliteStore, broker: EmbeddedBroker, limits: Limits) -> tuple[Chat, Feed]:
    members = MembershipCache(store, limits.chat.member_cache_entries_max)

    def on_committed(committed: Sequence[Committed]) -> None:
        members.apply(committed)
        brokers.publish(committed)
        chat.apply(committed)

    feed = Feed(store, members, limits.feed, _now_ms, broker.recent)
    brokers = Brokers(broker, feed)  # in this order: the feed reads the newest events where MQTT's broker has put them
    chat = broker.chat = Chat(store, brokers, members, limits.chat, _now_ms)
    store.on_committed = on_committed
    store.on_erased = broker.forget_recent
    return chat, feed


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


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
        wait_max_s=limits.http.wait_max_s,
        sse_keepalive_s=limits.http.sse_keepalive_s,
        sse_retry_ms=limits.http.sse_retry_ms,
        ws_auth_s=limits.http.ws_auth_s,
        ws_conversations_max=limits.http.ws_conversations_max,
        pages=Path(str(files("recado") / "web")) if settings.pages else None,
    )
