"""The feed: whom a commit wakes; and whatever is slow, behind or removed, there is no gap and no repetition."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import weakref
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recado.adapters.broker.recent_events import RecentEvents
from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.chat.errors import Forbidden, Unavailable
from recado.chat.event import MEMBER_ADDED, MEMBER_REMOVED, Committed, encode_event
from recado.chat.feed import Feed
from recado.chat.following import Delivery
from recado.chat.listener import Listener
from recado.chat.membership import MembershipCache
from recado.chat.principal import Principal
from recado.ports import NewConversation, NewMessage

NAMES = ["c", "d", "e"]
LIMITS = replace(
    DEFAULT.feed, stream_page=3, stream_page_bytes_max=1_000, stream_closed_max=20, feed_cache_entries_max=2
)
BRUNO = Principal("bruno")


class Page(list[Delivery]):
    """One that can be referred to weakly."""


class World:
    """A store and a feed on it; `recent` forgets, as the seed says, so that both ways of reading are gone. With `lag_s`
    the feed is told late, as when a reading thread sees a commit before the loop hears of it; if that is infinite, by
    `tell_all`."""

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
        if self._lag_s < math.inf:
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

    async def send(self, name: str, number: int, body: str = "x") -> None:
        await self.store.append_message(NewMessage(name, "ana", f"m{number}", body, 1))

    def tell_all(self) -> None:
        """What the feed was not told yet."""
        while self.untold:
            self._on_committed(self.untold.pop(0))


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


@pytest.mark.parametrize("follows_all", [False, True])
async def test_a_reader_that_reads_nothing_while_too_much_is_closed_to_it_is_ended_and_can_go_on(
    world: World, follows_all: bool
) -> None:
    names = [f"n{number}" for number in range(LIMITS.stream_closed_max + 2)]
    await world.create(*names)
    stalled, is_cut = world.feed.listen(BRUNO, "sse"), []
    cursor = await stalled.follow_all(None) if follows_all else 0
    for name in names if not follows_all else ():
        await stalled.follow(name, None)
    stalled.is_full, stalled.cut = True, lambda: is_cut.append(True)
    for name in names:
        assert bool(is_cut) == (name == names[-1])
        await world.store.remove_member(name, "bruno", None, 1)
    assert max(len(stalled.parted), len(stalled._farewells)) <= LIMITS.stream_closed_max + 1
    with pytest.raises(Unavailable, match="go on where you are"):
        await stalled.next(0.0)
    again = world.feed.listen(BRUNO, "sse")
    if follows_all:
        await again.follow_all(cursor)
        assert [delivery.conversation for delivery in await take(again)] == names


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


async def test_a_transport_that_was_ended_leaves_nothing_for_the_garbage_collector(world: World) -> None:
    """The page that it was sending stayed in memory, megabytes for each client that came and went."""
    pages: list[weakref.ref[list[Delivery]]] = []

    async def transport() -> None:
        listener = world.feed.listen(BRUNO, "sse")
        page = Page()
        pages.append(weakref.ref(page))
        try:
            await listener.next(math.inf)
        finally:
            world.feed.leave(listener)

    gc.collect()
    gc.disable()
    try:
        sending = asyncio.ensure_future(transport())
        await asyncio.sleep(0)
        await world.feed.disconnect("bruno")
        with pytest.raises(Forbidden, match="ended your sessions"):
            await sending
        del sending
        await asyncio.sleep(0)
        assert pages[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("forgets", [0.0, 1.0])
@pytest.mark.parametrize("follows_all", [False, True])
async def test_a_page_has_no_more_bytes_than_may_wait_for_a_client_that_does_not_read(
    tmp_path: Path, follows_all: bool, forgets: float
) -> None:
    """A body of control characters is six times as long in JSON, and a page of them was five megabytes."""
    world = World(tmp_path, forgets=forgets)
    await world.create("c")
    listener = world.feed.listen(BRUNO, "ws")
    await (listener.follow_all(None) if follows_all else listener.follow("c", None))
    for number in range(8):
        await world.send("c", number, "\x01" * (300 if number == 5 else 60))
    pages = []
    while page := await listener.next(0.0):
        pages.append([delivery.seq for delivery in page])
    assert pages == [[1, 2], [3, 4], [5], [6], [7, 8]]
    world.feed.close()
    await world.store.close()


async def test_a_removal_among_other_news_comes_once_and_when_it_is_its_turn(world: World) -> None:
    """The removal came before what was committed earlier, without a cursor, and again with the next request."""
    await world.create(*NAMES)
    first = world.feed.listen(BRUNO, "poll")
    await first.follow_all(0)
    await asyncio.gather(
        world.send("d", 1), world.send("c", 2), world.store.remove_member("c", "bruno", None, 1), world.send("e", 3)
    )
    taken = await take(first)
    assert [(each.conversation, each.seq) for each in taken] == [("d", 1), ("c", 1), ("c", 2), ("e", 1)]
    positions = [each.cursor for each in taken]
    assert positions == sorted({each for each in positions if each is not None})
    second = world.feed.listen(BRUNO, "poll")
    await second.follow_all(first.cursor())
    assert await second.next(0.0) == []


@pytest.mark.parametrize(
    ("follows_all", "is_back", "had"), [(True, False, [2]), (True, True, [3, 4]), (False, True, [2, 3, 4])]
)
async def test_a_page_that_the_store_had_after_a_removal_is_sent_when_the_feed_is_told_of_it(
    tmp_path: Path, follows_all: bool, is_back: bool, had: list[int]
) -> None:
    """What the transport was writing was thrown away, and the cursor was past it."""
    world = World(tmp_path, lag_s=math.inf)
    await world.create("c")
    await world.send("c", 1)
    await world.store.remove_member("c", "bruno", None, 1)
    if is_back:
        await world.store.put_member("c", "bruno", None, 1, 10)
        await world.send("c", 2)
    listener = world.feed.listen(BRUNO, "sse")
    await (listener.follow_all(0) if follows_all else listener.follow("c", 1))
    assert seqs(await listener.next(0.0)) == had
    world.tell_all()
    assert listener.parted == set()
    assert await take(listener) == []
    world.feed.close()
    await world.store.close()


async def test_the_ends_of_logs_that_are_remembered_are_bounded_whatever_becomes_of_their_reads(world: World) -> None:
    """Those grew that were read while somebody sent, or whose request was given up meanwhile."""
    await world.create(*NAMES)
    world.feed._recent = lambda conversation, after, limit: None
    for round_number in range(2):
        reads = [asyncio.ensure_future(world.feed.read("bruno", name, 0, 10)) for name in NAMES]
        while len(world.feed._ends) < LIMITS.feed_cache_entries_max:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0)
        if round_number:
            reads[-1].cancel()
        else:
            await world.send(NAMES[-1], 1)
        await asyncio.gather(*reads, return_exceptions=True)
        assert len(world.feed._ends) <= LIMITS.feed_cache_entries_max
        assert all(end >= 0 for end in world.feed._ends.values())


async def test_a_read_that_began_before_a_commit_says_nothing_of_the_end_to_one_that_began_after(world: World) -> None:
    """The end of the first was remembered, and what was sent meanwhile not found until the next was sent."""
    await world.create(*NAMES)
    world.feed._recent = lambda conversation, after, limit: None
    stale = asyncio.Event()
    events = world.store.events

    async def late_events(*arguments: Any) -> Any:
        page = await events(*arguments)
        if arguments[2] == 0:
            await stale.wait()
        return page

    world.feed.store.events = late_events  # type: ignore[method-assign,assignment]
    first = asyncio.ensure_future(world.feed.read("bruno", "c", 0, 10))
    while not world.feed._ends:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0)
    for name in ("d", "e"):
        await world.feed.read("bruno", name, 9, 10)  # until the first is forgotten
    await world.send("c", 1)
    second = asyncio.ensure_future(world.feed.read("bruno", "c", 0, 10))
    while "c" not in world.feed._ends:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0)
    stale.set()
    await asyncio.gather(first, second)
    assert (await world.feed.read("bruno", "c", 0, 10)).last_seq == 1


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
    if follows_all:
        positions = [delivery.cursor for delivery in taken]
        assert positions == sorted({each for each in positions if each is not None}), "each once, in order"
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
