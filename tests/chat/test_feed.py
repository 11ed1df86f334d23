"""The feed: whom a commit wakes; and whatever is slow, behind or removed, there is no gap and no repetition."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from recado.adapters.broker.recent_events import RecentEvents
from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.chat.event import MEMBER_ADDED, MEMBER_REMOVED, Committed, encode_event
from recado.chat.feed import Feed
from recado.chat.following import Delivery
from recado.chat.listener import Listener
from recado.chat.membership import MembershipCache
from recado.chat.principal import Principal
from recado.ports import NewConversation, NewMessage

NAMES = ["c", "d", "e"]
LIMITS = replace(DEFAULT.feed, stream_page=3, feed_cache_entries_max=2)
BRUNO = Principal("bruno")


class World:
    """A store and a feed on it; `recent` forgets, as the seed says, so that both ways of reading are gone. With `lag_s`
    the feed is told late, as when a reading thread sees a commit before the loop hears of it."""

    def __init__(self, path: Path, seed: int = 0, forgets: float = 0.0, lag_s: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.store = SqliteStore.open(path / "recado.db", DEFAULT.store)
        self.members = MembershipCache(self.store, 10)
        self._recent = RecentEvents(8, 100_000)
        self._forgets = forgets
        self.feed = Feed(self.store, self.members, LIMITS, lambda: 0, self._page)
        self.store.on_committed = self._later if lag_s else self._on_committed
        self._lag_s = lag_s
        self.untold: list[Sequence[Committed]] = []

    def _later(self, committed: Sequence[Committed]) -> None:
        self.untold.append(committed)
        self.feed.loop.call_later(self._lag_s, lambda: self._on_committed(self.untold.pop(0)))

    def _page(self, conversation: str, after: int, limit: int) -> tuple[Sequence[tuple[int, bytes]], int] | None:
        if self.random.random() < self._forgets:
            return None
        return self._recent.page(conversation, after, limit)

    def _on_committed(self, committed: Sequence[Committed]) -> None:
        self.members.apply(committed)
        for entry in committed:
            self._recent.add(entry.conversation, entry.event, encode_event(entry.event))
        self.feed.publish(committed)

    async def create(self, *names: str) -> None:
        for name in names:
            await self.store.put_conversation(NewConversation(name, ["ana", "bruno"], None, None, None, 1))

    async def send(self, name: str, number: int) -> None:
        await self.store.append_message(NewMessage(name, "ana", f"m{number}", "x", 1))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    world.feed.close()
    await world.store.close()


async def take(listener: Listener) -> list[Delivery]:
    """What there is for it now."""
    taken: list[Delivery] = []
    while deliveries := await listener.next(0.0):
        taken += deliveries
    return taken


def seqs(deliveries: list[Delivery], name: str = "c") -> list[int]:
    return [delivery.seq for delivery in deliveries if delivery.conversation == name]


async def test_a_commit_wakes_its_recipients_and_nobody_else(world: World) -> None:
    await world.create("c")
    bruno, carla = world.feed.listen(BRUNO, "poll"), world.feed.listen(Principal("carla"), "poll")
    for listener in (bruno, carla):
        await listener.follow_all(None)
    waiting = [asyncio.ensure_future(listener.next(world.feed.loop.time() + 60)) for listener in (bruno, carla)]
    while len(world.feed.wheel) < 2:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0)
    await world.send("c", 1)
    assert seqs(await waiting[0]) == [1]
    assert not waiting[1].done()
    waiting[1].cancel()


async def test_a_reader_that_is_far_behind_keeps_no_more_than_a_page_of_places(world: World) -> None:
    await world.create(*NAMES)
    everything, named = world.feed.listen(BRUNO, "ws"), world.feed.listen(BRUNO, "ws")
    await everything.follow_all(None)
    for name in NAMES:
        await named.follow(name, None)
    for number in range(300):
        await world.send(NAMES[number % 3], number)
    following = everything._following
    assert len(following._places) <= LIMITS.stream_page  # type: ignore[union-attr]
    for listener in (everything, named):
        taken = await take(listener)
        assert [seqs(taken, name) for name in NAMES] == [list(range(1, 101))] * 3


async def test_the_first_page_past_a_cursor_comes_once_though_somebody_sends_while_it_is_read(world: World) -> None:
    """Whoever delivers was woken, and read the page again that the beginning was reading."""
    await world.create("c")
    for number in (1, 2):
        await world.send("c", number)
    bruno = world.feed.listen(BRUNO, "ws")
    beginning = asyncio.ensure_future(bruno.follow_all(0))
    await asyncio.sleep(0)
    sent = asyncio.ensure_future(world.send("c", 3))
    woken = await bruno.next(0.0)
    await asyncio.gather(beginning, sent)
    assert seqs(woken + await take(bruno)) == [1, 2, 3]


async def test_what_is_forgotten_in_memory_is_read_again(world: World) -> None:
    await world.create("c", "d", "e")
    for name in ("c", "d", "e", "c"):
        assert await world.feed.last_seq("bruno", name) == 0
    await world.send("c", 1)
    assert [await world.feed.last_seq("bruno", name) for name in NAMES] == [1, 0, 0]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("follows_all", [False, True])
@pytest.mark.parametrize("lag_s", [0.0, 0.002])
async def test_in_any_order_of_things_a_prompt_reader_has_every_event_once_and_in_order(
    tmp_path: Path, seed: int, follows_all: bool, lag_s: float
) -> None:
    """Bruno reads while messages are sent and he is removed and added again; his own view of each log is without a gap
    from each joining to each removal."""
    world = World(tmp_path, seed, forgets=0.3, lag_s=lag_s)
    await world.create(*NAMES)
    listener = world.feed.listen(BRUNO, "ws")
    if follows_all:
        await listener.follow_all(None)
    else:
        for name in NAMES:
            await listener.follow(name, 0)
    taken: list[Delivery] = []
    sends: list[asyncio.Future[None]] = []
    for number in range(120):
        name = world.random.choice(NAMES)
        kind = world.random.random()
        if kind < 0.8:
            sends.append(asyncio.ensure_future(world.send(name, number)))
        elif kind < 0.9:
            await world.store.remove_member(name, "bruno", None, 1)
        elif not lag_s:  # or it could read the history of before, as a member may, while it is told of a removal
            await world.store.put_member(name, "bruno", None, 1, 10)
        if world.random.random() < 0.5:
            taken += await listener.next(0.0)
    await asyncio.gather(*sends)
    while world.untold:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.001)
    taken += await take(listener)
    for name in NAMES:
        await check(world, name, [delivery for delivery in taken if delivery.conversation == name])
    world.feed.leave(listener)
    world.feed.close()
    await world.store.close()


async def check(world: World, name: str, taken: list[Delivery]) -> None:
    """No repetition, nothing that was not for Bruno, and nothing missing that he could still have had."""
    log = (await world.store.events(name, None, 0, None, 1_000)).events
    got = [delivery.seq for delivery in taken]
    assert got == sorted(set(got)), f"{name}: {got}"
    is_member, visible, since_removal = True, set(), [event.seq for event in log]
    for event in log:
        if event.type == MEMBER_ADDED:
            is_member = True
        if is_member:
            visible.add(event.seq)
        if event.type == MEMBER_REMOVED:
            assert event.seq in got, f"{name}: the removal {event.seq} is not in {got}"
            is_member = False
            since_removal = [seq for seq in since_removal if seq > event.seq]
    assert set(got) <= visible, f"{name}: not for bruno: {set(got) - visible}"
    missing = visible.intersection(since_removal) - set(got)
    assert not missing, f"{name}: {missing} are missing in {got}"
