"""The MQTT server in this process, as the wiring needs it: what `--broker embedded` stands for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from prometheus_client.registry import Collector

from recado.adapters.broker.embedded import EmbeddedBroker
from recado.adapters.broker.log_sessions import LogSessions
from recado.adapters.store.sqlite import SqliteStore
from recado.app.access import JwtAccess
from recado.app.config import Settings
from recado.app.http_server import naming
from recado.app.limits import Limits
from recado.app.metrics import BrokerCollector, SessionsCollector
from recado.broker.listening import ListenerSettings, listen
from recado.chat.actions import Chat
from recado.http import HttpSettings
from recado.ports import Store

WS_PATH = "/mqtt"


class EmbeddedMqtt:
    """Two listeners, TCP and WebSocket, on the loop of everything else."""

    def __init__(self, settings: Settings, limits: Limits, access: JwtAccess, store: Store) -> None:
        self._settings = settings
        self.broker = EmbeddedBroker(access.authenticate, limits.broker, _kept_sessions(store, limits))
        self.deadlines = self.broker.server.deadlines

    def collectors(self) -> Sequence[Collector]:
        server = self.broker.server
        return BrokerCollector(server.counters), SessionsCollector(server)

    async def start(self, chat: Chat) -> None:
        """Raises StorageFailed."""
        self.broker.chat = chat
        await self.broker.server.start()

    async def listen(self, stack: AsyncExitStack, http: HttpSettings) -> HttpSettings:
        """Take connections until the end of the stack; returns the settings with the ports. Raises SettingsError if one
        cannot be had."""
        host = self._settings.host
        mqtt_port = await self._listen(stack, "mqtt_port", ListenerSettings("tcp", host))
        origins = _origins(self._settings)
        websocket = ListenerSettings("ws", host, ws_path=WS_PATH, allowed_origins=origins)
        ws_port = await self._listen(stack, "ws_port", websocket)
        return replace(http, mqtt_port=mqtt_port, ws_port=ws_port, ws_path=WS_PATH)

    async def _listen(self, stack: AsyncExitStack, setting: str, where: ListenerSettings) -> int:
        port = getattr(self._settings, setting)
        with naming(setting, where.host, port):
            listening = await listen(self.broker.server, replace(where, port=port))
        stack.callback(listening.close)
        return listening.port

    async def finish(self) -> None:
        """There is nothing that needs the store: connections end in `close`."""

    async def close(self) -> None:
        await self.broker.server.drain()


def _kept_sessions(store: Store, limits: Limits) -> LogSessions | None:
    """Where sessions outlive their connections: not with a store that several processes share."""
    if not isinstance(store, SqliteStore):
        return None
    return LogSessions(store, limits.storage.pending_transactions_max, limits.broker.own_positions_max)


def _origins(settings: Settings) -> tuple[str, ...]:
    """The pages that this server serves itself may connect too, under the name that the proxy gives them."""
    return settings.origins() if settings.public_url is None else (*settings.origins(), settings.public_url)
