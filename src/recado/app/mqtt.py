"""What the wiring needs of MQTT, whichever way the settings have it: in this process, or an external broker."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Protocol

from prometheus_client.registry import Collector

from recado.broker.deadlines import Deadlines
from recado.chat.actions import Chat
from recado.http import HttpSettings
from recado.ports import Broker


class Mqtt(Protocol):
    """What brings events to MQTT clients, and lets them in: the server in this process, or an external broker."""

    @property
    def broker(self) -> "MqttBroker": ...

    @property
    def deadlines(self) -> Deadlines:
        """One timer for every connection of this process, HTTP's too."""

    def collectors(self) -> Sequence[Collector]: ...

    async def start(self, chat: Chat) -> None:
        """Before the first listener opens. Raises Unusable, StorageFailed."""

    async def listen(self, stack: AsyncExitStack, http: HttpSettings) -> HttpSettings:
        """From now on there may be clients; returns the settings with where they connect. Raises SettingsError."""

    async def finish(self) -> None:
        """The server stops: do what needs the store, while it still takes writes."""

    async def close(self) -> None: ...


class MqttBroker(Broker, Protocol):
    """It remembers the newest events, and has them when `publish` returns."""

    def recent(self, conversation: str, after: int, limit: int) -> tuple[Sequence[tuple[int, bytes]], int] | None:
        """The entries past a seq and the log's end, if they are in memory."""

    def forget_recent(self) -> None:
        """Events in memory may read otherwise in the store now, though no event says so."""
