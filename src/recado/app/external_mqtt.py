"""An external broker, as the wiring needs it: what `--broker mqtt://...` stands for.

Recado then listens for HTTP alone: MQTT clients connect to that broker, and it is told by one connection from here. A
broker that is away keeps no process from starting: what it would have been told waits as jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from recado.adapters.broker.mqtt import (
    NOTIFY,
    Announcer,
    DynamicSecurity,
    ExternalBroker,
    NotifyHandler,
    Publisher,
    Settling,
    TokenLogins,
    Users,
    parse_address,
)
from recado.adapters.broker.recent_events import RecentEvents
from recado.app.config import DYNAMIC_SECURITY, Settings, client_urls
from recado.app.limits import Limits
from recado.app.metrics import PublisherCollector
from recado.app.sink_context import SinkContext
from recado.app.ticking_deadlines import TickingDeadlines
from recado.chat.actions import Chat
from recado.chat.stages import Stages
from recado.http import ClientBroker, HttpSettings
from recado.ports import Sink, Store


class ExternalMqtt:
    """One connection to the broker."""

    def __init__(self, settings: Settings, limits: Limits, store: Store, stages: Stages) -> None:
        self._settings = settings
        self._drain_s = limits.broker.drain_s
        self._publisher = Publisher(parse_address(settings.broker), limits.publisher)
        self._users = _users(settings, limits, self._publisher)
        self._settling = Settling(store, limits.direct_path)
        recent = RecentEvents(limits.broker.read_page, limits.broker.recent_bytes_max)
        is_direct = settings.notify == "direct"
        announcer = Announcer(self._publisher)
        self.broker = ExternalBroker(announcer, self._users, self._settling, recent, is_direct, stages)
        self.deadlines = TickingDeadlines()

    def collectors(self) -> Sequence[Collector]:
        return (PublisherCollector(self._publisher),)

    async def start(self, chat: Chat) -> None:
        """Raises Unusable if the broker refuses what it is told. One that is away is tried again from now on."""
        await self._publisher.start()
        if isinstance(self._users, DynamicSecurity):
            await self._users.check()

    async def listen(self, stack: AsyncExitStack, http: HttpSettings) -> HttpSettings:
        settings = self._settings
        ws_urls, tcp_urls = client_urls(settings.broker_ws_url), client_urls(settings.broker_tcp_url)
        return replace(http, broker=ClientBroker(ws_urls, tcp_urls, self._users))

    async def finish(self) -> None:
        await self._publisher.close(self._drain_s)
        await self._settling.close()

    async def close(self) -> None:
        self.deadlines.close()


def _users(settings: Settings, limits: Limits, publisher: Publisher) -> Users:
    if settings.broker_auth != DYNAMIC_SECURITY:
        return TokenLogins()
    assert settings.secret is not None, "Settings.check has seen to it"
    return DynamicSecurity(publisher, settings.secret, limits.dynamic_security)


def notify_sink(settings: Settings, limits: Limits) -> Sink | None:
    """None without an external broker."""
    if not settings.is_broker_external():
        return None
    return Sink(NOTIFY, delay_ms=limits.direct_path.notify_delay_ms if settings.notify == "direct" else 0)


async def open_notify(context: SinkContext) -> NotifyHandler:
    """By the connection of the process's broker, if it has one, else by one of its own. Raises Unusable."""
    if isinstance(context.broker, ExternalBroker):
        return NotifyHandler(context.broker.announcer)
    publisher = Publisher(parse_address(context.settings.broker), context.limits.publisher)
    await publisher.start()
    return _WorkersNotify(publisher, context.limits.broker.drain_s)


class _WorkersNotify(NotifyHandler):
    """With a connection of its own, which ends with it."""

    def __init__(self, publisher: Publisher, drain_s: int) -> None:
        super().__init__(Announcer(publisher))
        self._publisher = publisher
        self._drain_s = drain_s
        self._collector = PublisherCollector(publisher)
        REGISTRY.register(self._collector)

    async def close(self) -> None:
        REGISTRY.unregister(self._collector)
        await self._publisher.close(self._drain_s)
