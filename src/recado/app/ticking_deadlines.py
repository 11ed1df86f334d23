"""Deadlines for a process without the embedded MQTT server, whose one-second timer would drive them."""

import asyncio

from recado.broker.deadlines import Deadlines


class TickingDeadlines(Deadlines):
    """They advance by themselves. Make it inside the running event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._ticker = self._loop.call_later(1, self._tick)

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(1, self._tick)
        self.advance()

    def close(self) -> None:
        self._ticker.cancel()
