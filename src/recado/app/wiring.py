"""One process, put together: store, conversations, MQTT server and HTTP door on one event loop.

Starting opens the store before any listener; stopping goes the other way round, so that what was accepted is
committed and acknowledged before the connections close.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import structlog
from prometheus_client import REGISTRY
from starlette.routing import BaseRoute

from recado.adapters.broker.brokers import Brokers
from recado.adapters.broker.mqtt import parse_address
from recado.app import limits as all_limits
from recado.app.access import JwtAccess
from recado.app.clock import now_ms
from recado.app.config import Settings
from recado.app.embedded_mqtt import WS_PATH, EmbeddedMqtt
from recado.app.external_mqtt import ExternalMqtt
from recado.app.http_server import serving_http
from recado.app.limits import Limits
from recado.app.metrics import FeedCollector, SignalsCollector, StagesCollector
from recado.app.mqtt import Mqtt, MqttBroker
from recado.app.push import push_terms
from recado.app.rabbitmq_config import broker_key
from recado.app.sink_context import SinkContext
from recado.app.sinks import sinks_of
from recado.app.stores import open_store
from recado.app.sweeping import sweeping
from recado.app.tracing import open_tracer
from recado.app.working import behind_the_commit
from recado.chat.actions import Chat
from recado.chat.event import Committed
from recado.chat.feed import Feed
from recado.chat.membership import MembershipCache
from recado.chat.stages import Stages
from recado.http import HttpSettings, create_app
from recado.ports import Store

log = structlog.get_logger("recado")


@dataclass(frozen=True, slots=True)
class Node:
    """A running server: what to call it by, and where it listens; with an external broker, for HTTP alone."""

    chat: Chat
    access: JwtAccess
    http_port: int
    mqtt_port: int | None
    ws_port: int | None


@asynccontextmanager
async def running(settings: Settings, extra_routes: Sequence[BaseRoute] = ()) -> AsyncIterator[Node]:
    """Start everything; at the end of the block, drain and stop it. Raises SettingsError, Unusable."""
    settings.check()
    limits = all_limits.with_changes(settings.limit)
    access = JwtAccess(settings)
    async with AsyncExitStack() as stack:
        sinks = sinks_of(settings, limits)
        stages = Stages(now_ms, await open_tracer(settings, limits, "recado-serve", stack))
        store = await open_store(settings, limits, sinks)
        stack.push_async_callback(store.close)
        mqtt = _mqtt(settings, limits, access, store, stages)
        chat, feed = _connect(settings, store, mqtt.broker, limits, stages)
        for collector in (*mqtt.collectors(), SignalsCollector(chat), FeedCollector(feed), StagesCollector(stages)):
            REGISTRY.register(collector)
            stack.callback(REGISTRY.unregister, collector)
        stack.push_async_callback(mqtt.close)
        stack.push_async_callback(store.stop)  # before the connections end: what was accepted is acknowledged
        stack.push_async_callback(mqtt.finish)
        stack.push_async_callback(chat.close)
        await mqtt.start(chat)
        interval_s = limits.chat.sweep_interval_s
        await stack.enter_async_context(sweeping(store, chat.now_ms, settings.retention_days, interval_s))
        context = SinkContext(settings, limits, store, mqtt.broker, chat.presence.is_connected, stages.tracer)
        await stack.enter_async_context(behind_the_commit(context, sinks, chat.now_ms))

        http = await mqtt.listen(stack, _http_settings(settings, limits))
        app = create_app(chat, feed, access, http, extra_routes=extra_routes)
        serving = serving_http(app, settings.host, settings.http_port, limits, mqtt.deadlines)
        http_port = await stack.enter_async_context(serving)
        stack.callback(feed.close)  # first of all: what is held is answered, and streams are closed
        log.info("ready", host=settings.host, http_port=http_port, **_where_mqtt_is(settings, http))
        yield Node(chat, access, http_port, http.mqtt_port, http.ws_port)
        log.info("stopping")


def _mqtt(settings: Settings, limits: Limits, access: JwtAccess, store: Store, stages: Stages) -> Mqtt:
    if settings.is_broker_external():
        return ExternalMqtt(settings, limits, store, stages)
    return EmbeddedMqtt(settings, limits, access, store)


def _where_mqtt_is(settings: Settings, http: HttpSettings) -> dict[str, object]:
    if http.broker is None:
        return {"mqtt_port": http.mqtt_port, "ws_port": http.ws_port}
    return {"broker": str(parse_address(settings.broker))}


def _connect(settings: Settings, store: Store, broker: MqttBroker, limits: Limits, stages: Stages) -> tuple[Chat, Feed]:
    members = MembershipCache(store, limits.chat.member_cache_entries_max)

    def on_committed(committed: Sequence[Committed]) -> None:
        members.apply(committed)
        stages.commit(committed)
        brokers.publish(committed)
        chat.apply(committed)

    feed = Feed(store, members, limits.feed, now_ms, broker.recent)
    brokers = Brokers(broker, feed)  # in this order: the feed reads the newest events where MQTT's broker has put them
    is_shared = settings.is_broker_external()
    chat = Chat(store, brokers, members, limits.chat, now_ms, stages, push_terms(settings), is_shared)
    store.on_committed = on_committed
    store.on_erased = broker.forget_recent
    return chat, feed


def _http_settings(settings: Settings, limits: Limits) -> HttpSettings:
    return HttpSettings(
        public_url=settings.public_url,
        allowed_origins=settings.origins(),
        mqtt_port=None,
        ws_port=None,
        ws_path=WS_PATH,
        request_bytes_max=limits.http.request_bytes_max,
        token_ttl_s_max=limits.http.token_ttl_s_max,
        token_ttl_s_default=limits.http.token_ttl_s_default,
        wait_max_s=limits.http.wait_max_s,
        sse_keepalive_s=limits.http.sse_keepalive_s,
        sse_retry_ms=limits.http.sse_retry_ms,
        ws_auth_s=limits.http.ws_auth_s,
        ws_conversations_max=limits.http.ws_conversations_max,
        broker_key=_broker_key(settings),
        pages=Path(str(files("recado") / "web")) if settings.pages else None,
    )


def _broker_key(settings: Settings) -> str | None:
    asks = settings.is_broker_external() and settings.broker_auth == "http"
    return broker_key(settings.secret) if asks and settings.secret is not None else None
