"""Several brokers as one: MQTT's connections and the readers over HTTP."""

import asyncio
from collections.abc import Sequence

from recado.chat.event import Committed
from recado.ports import Broker


class Brokers:
    """A `recado.ports.Broker`. Each hears of everything, in the order in which they are given."""

    def __init__(self, *brokers: Broker) -> None:
        self._brokers = brokers

    def publish(self, committed: Sequence[Committed]) -> None:
        for broker in self._brokers:
            broker.publish(committed)

    def signal(self, conversation: str, recipients: frozenset[str], payload: bytes) -> None:
        for broker in self._brokers:
            broker.signal(conversation, recipients, payload)

    async def disconnect(self, user: str) -> None:
        await asyncio.gather(*(broker.disconnect(user) for broker in self._brokers))
