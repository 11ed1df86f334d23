"""What every page that a user has open has in common, whatever transport it follows what happens by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from recado.bench.failure import Failure
from recado.bench.ledger import Ledger
from recado.bench.radio import Radio
from recado.bench.wire import Traffic, Wire

OPEN_TIMEOUT_S = 60.0


class Ports(msgspec.Struct, frozen=True):
    http: int
    mqtt: int
    ws: int


class User(NamedTuple):
    name: str
    token: str
    conversation: str
    radio: Radio


class Surroundings(NamedTuple):
    """What all tabs of a run share. `interval_s` is their keep-alive, and the `wait` of a long poll."""

    ports: Ports
    interval_s: int
    ledger: Ledger
    failure: Failure


class Tab(Protocol):
    """Once it is open, whatever happens from then on reaches its reader; `handshake` is what that took."""

    wire: Wire
    handshake: Traffic

    async def open(self) -> None: ...

    def rest(self) -> None:
        """Ask nothing more of its own accord."""

    def close(self) -> None: ...


class Sender(Protocol):
    """May be a tab as well."""

    wire: Wire

    async def open(self) -> None: ...

    def send(self, message_id: str) -> None: ...


class Repeating:
    """Calls something every so many seconds from now on, without drifting, until it is stopped."""

    def __init__(self, every_s: float, call: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._every_s = every_s
        self._call = call
        self._due = self._loop.time() + every_s
        self._timer = self._loop.call_at(self._due, self._run)

    def stop(self) -> None:
        self._timer.cancel()

    def _run(self) -> None:
        self._due += self._every_s
        self._timer = self._loop.call_at(self._due, self._run)
        self._call()
