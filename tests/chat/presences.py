"""Who is online, with a clock that the test moves and a store that it answers for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from recado.app.limits import DEFAULT
from recado.chat.membership import MembershipCache
from recado.chat.presence import Presence
from recado.ports import Circle, Membership, Store
from tests.chat.conftest import RecordingBroker

GRACE_S = 10
TRIO = frozenset({"ana", "bruno", "carla"})


@dataclass
class OneTimer:
    due: float
    callback: Callable[[], object]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Clock:
    """A loop's clock that stands still until the test moves it."""

    now_s: float = 1_000.0
    timers: list[OneTimer] = field(default_factory=list)

    def time(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def call_later(self, delay: float, callback: Callable[[], object], /) -> OneTimer:
        self.timers.append(OneTimer(self.now_s + delay, callback))
        return self.timers[-1]

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        due = [each for each in self.timers if each.due <= self.now_s and not each.is_cancelled]
        self.timers = [each for each in self.timers if each.due > self.now_s and not each.is_cancelled]
        for each in due:
            each.callback()


class CircleStore:
    """Everybody's circle is `circle`; a read ends when the test says so, or at once if `is_open`."""

    def __init__(self) -> None:
        self.circle = Circle("c", TRIO)
        self.asked: list[str] = []
        self.reads: list[asyncio.Future[None]] = []
        self.is_open = True
        self.members = TRIO
        self.open_pages: dict[tuple[str, str], tuple[bool, int]] = {}

    async def circles(self, user: str, conversations_max: int, members_max: int) -> list[Circle]:
        self.asked.append(user)
        read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reads.append(read)
        if self.is_open:
            read.set_result(None)
        await read
        return [self.circle]

    async def membership(self, conversation: str) -> Membership:
        return Membership(self.members, 1)

    async def note_page(self, user: str, page: str, visible: bool | None, at: int, until: int, pages_max: int) -> None:
        self.open_pages.pop((user, page), None)
        if visible is not None:
            self.open_pages[user, page] = (visible, until)

    async def pages(self, users: Sequence[str], now: int) -> dict[str, bool]:
        return {
            user: visible for (user, _), (visible, until) in self.open_pages.items() if user in users and until > now
        }


def open_presence(
    store: CircleStore, broker: RecordingBroker, clock: Clock, *, is_broker_shared: bool = False, **limits: int
) -> Presence:
    """One process on the store, which knows everybody's pages."""
    members = MembershipCache(cast(Store, store), 10)
    chat_limits = replace(DEFAULT.chat, **limits)
    return Presence(
        cast(Store, store), broker, members, chat_limits, clock.now_ms, clock, is_broker_shared=is_broker_shared
    )


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def told(broker: RecordingBroker) -> list[tuple[set[str], dict[str, Any]]]:
    """What has been signalled since this was last asked, without what is the same in each."""
    await turns()
    signals = [(set(recipients), json.loads(payload)) for _, recipients, payload in broker.signals]
    broker.signals.clear()
    for _, signal in signals:
        assert signal.pop("type") == "presence"
    return signals


ANA_CAME = ({"bruno"}, {"from": "ana", "online": True})
