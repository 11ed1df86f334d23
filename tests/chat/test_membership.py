"""The membership cache: it may be slow to grant, but never grants what a commit took away."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recado.chat.errors import NotFound, Unavailable, no_such_conversation
from recado.chat.event import CONVERSATION_ERASED, MEMBER_ADDED, MEMBER_REMOVED, Committed, Event
from recado.chat.membership import MembershipCache
from recado.ports import Membership, Store

PAIR = frozenset({"ana", "bruno"})


class SlowStore:
    """Each read is a future that the test resolves: `reads[conversation]`."""

    def __init__(self) -> None:
        self.reads: defaultdict[str, list[asyncio.Future[Membership]]] = defaultdict(list)

    async def membership(self, conversation: str) -> Membership:
        self.reads[conversation].append(asyncio.get_running_loop().create_future())
        return await self.reads[conversation][-1]


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


def new_cache(store: SlowStore, entries_max: int = 10) -> MembershipCache:
    return MembershipCache(cast(Store, store), entries_max)


def changed(kind: str | None, user: str, recipients: frozenset[str], conversation: str = "c") -> Committed:
    return Committed(conversation, Event(seq=1, sender=None, at=1, type=kind, user=user), recipients)


async def settle() -> None:
    """Let whoever can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def read(cache: MembershipCache, store: SlowStore, members: frozenset[str], conversation: str = "c") -> None:
    """Fill the cache from the store."""
    asking = asyncio.ensure_future(cache.members(conversation))
    await settle()
    store.reads[conversation][-1].set_result(Membership(members, 1))
    assert await asking == members


async def test_members_are_read_once_and_remembered(store: SlowStore) -> None:
    cache = new_cache(store)
    await read(cache, store, PAIR)
    assert await cache.members("c") == PAIR
    assert len(store.reads["c"]) == 1


async def test_many_who_ask_at_once_share_one_read(store: SlowStore) -> None:
    cache = new_cache(store)
    asking = [asyncio.ensure_future(cache.members("c")) for _ in range(50)]
    await settle()
    assert len(store.reads["c"]) == 1
    store.reads["c"][0].set_result(Membership(PAIR, 1))
    assert await asyncio.gather(*asking) == [PAIR] * 50


async def test_a_removal_and_an_addition_take_effect_at_once(store: SlowStore) -> None:
    cache = new_cache(store)
    await read(cache, store, PAIR)
    cache.apply([changed(MEMBER_REMOVED, "ana", PAIR)])
    assert await cache.members("c") == {"bruno"}
    cache.apply([changed(MEMBER_ADDED, "carla", frozenset({"bruno", "carla"})), changed(None, "x", frozenset())])
    assert await cache.members("c") == {"bruno", "carla"}


async def test_an_old_answer_that_comes_after_a_removal_grants_nothing(store: SlowStore) -> None:
    cache = new_cache(store)
    asking = asyncio.ensure_future(cache.members("c"))
    await settle()

    cache.apply([changed(MEMBER_REMOVED, "ana", PAIR)])
    store.reads["c"][0].set_result(Membership(PAIR, 1))

    assert await asking == {"bruno"}
    assert await cache.members("c") == {"bruno"}


async def test_an_old_answer_that_is_there_but_not_yet_seen_when_a_removal_commits_grants_nothing(
    store: SlowStore,
) -> None:
    cache = new_cache(store)
    asking = [asyncio.ensure_future(cache.members("c")) for _ in range(2)]
    await settle()
    store.reads["c"][0].set_result(Membership(PAIR, 1))
    cache.apply([changed(MEMBER_REMOVED, "ana", PAIR)])
    assert await asyncio.gather(*asking) == [{"bruno"}] * 2


async def test_an_old_answer_grants_nothing_even_if_the_removal_was_forgotten_meanwhile(store: SlowStore) -> None:
    cache = new_cache(store, entries_max=1)
    asking = asyncio.ensure_future(cache.members("c"))
    await settle()
    cache.apply([changed(MEMBER_REMOVED, "ana", PAIR), changed(MEMBER_ADDED, "zoe", frozenset({"zoe"}), "other")])
    store.reads["c"][0].set_result(Membership(PAIR, 1))
    await settle()

    assert not asking.done(), "it reads again"
    store.reads["c"][1].set_result(Membership(frozenset({"bruno"}), 2))
    assert await asking == {"bruno"}


async def test_other_conversations_that_change_all_the_time_hold_nobody_up(store: SlowStore) -> None:
    cache = new_cache(store)
    asking = asyncio.ensure_future(cache.members("c"))
    await settle()
    cache.apply([changed(MEMBER_ADDED, "zoe", PAIR, "other")])
    store.reads["c"][0].set_result(Membership(PAIR, 1))
    await settle()
    assert asking.done()
    assert await asking == PAIR


@pytest.mark.parametrize("error", [no_such_conversation("c"), Unavailable("the disk is away")])
async def test_a_read_that_fails_fails_for_all_who_asked_and_is_made_again_for_the_next(
    store: SlowStore, error: NotFound | Unavailable
) -> None:
    cache = new_cache(store)
    asking = [asyncio.ensure_future(cache.members("c")) for _ in range(3)]
    await settle()
    store.reads["c"][0].set_exception(error)
    for each in asking:
        with pytest.raises(type(error)):
            await each
    await read(cache, store, PAIR)


async def test_who_stops_waiting_takes_nobody_along(store: SlowStore) -> None:
    cache = new_cache(store)
    first, second = (asyncio.ensure_future(cache.members("c")) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    store.reads["c"][0].set_result(Membership(PAIR, 1))
    assert await second == PAIR


async def test_only_so_many_conversations_are_remembered_and_the_one_asked_for_longest_ago_goes_first(
    store: SlowStore,
) -> None:
    cache = new_cache(store, entries_max=3)
    for conversation in ("a", "b", "c"):
        await read(cache, store, PAIR, conversation)
    await cache.members("a")
    await read(cache, store, PAIR, "d")
    for conversation in ("a", "c", "d"):
        assert await cache.members(conversation) == PAIR
        assert len(store.reads[conversation]) == 1
    await read(cache, store, PAIR, "b")
    assert len(store.reads["b"]) == 2, "it was forgotten"

    cache.apply([changed(MEMBER_ADDED, "zoe", PAIR, f"e{n}") for n in range(100)])
    assert len(cache._members) == 3, "changes are bounded too"


async def test_what_changes_again_is_not_the_first_to_be_forgotten(store: SlowStore) -> None:
    cache = new_cache(store, entries_max=2)
    for conversation in ("a", "b", "a", "c"):
        cache.apply([changed(MEMBER_REMOVED, "ana", PAIR, conversation)])
    assert await cache.members("a") == {"bruno"}
    assert store.reads["a"] == []


@pytest.mark.parametrize("error", [None, Unavailable("the disk is away")])
async def test_of_a_read_that_nobody_waits_for_any_more_nothing_is_left_but_what_it_brought(
    store: SlowStore, error: Unavailable | None
) -> None:
    cache = new_cache(store)
    asking = asyncio.ensure_future(cache.members("c"))
    await settle()
    asking.cancel()
    await settle()
    if error is not None:
        store.reads["c"][0].set_exception(error)
    else:
        store.reads["c"][0].set_result(Membership(PAIR, 1))
    await settle()
    assert cache._reads == {}
    assert list(cache._members.values()) == ([PAIR] if error is None else [])


# Who is to be told, of those whom the store has named


async def test_who_was_a_member_when_the_store_was_asked_still_is_if_nothing_has_changed_and_no_read_is_needed(
    store: SlowStore,
) -> None:
    cache = new_cache(store)
    assert await cache.without_removed("c", PAIR, cache.version) == PAIR
    assert store.reads["c"] == []


async def test_who_was_removed_since_is_not_told_though_the_removal_is_forgotten(store: SlowStore) -> None:
    cache = new_cache(store, entries_max=1)
    version = cache.version
    cache.apply([changed(MEMBER_REMOVED, "ana", PAIR), changed(MEMBER_ADDED, "zoe", frozenset({"zoe"}), "other")])
    asking = asyncio.ensure_future(cache.without_removed("c", PAIR, version))
    await settle()
    store.reads["c"][0].set_result(Membership(frozenset({"bruno", "carla"}), 2))
    assert await asking == {"bruno"}, "and carla was none of those whom the store had named"


@pytest.mark.parametrize("error", [no_such_conversation("c"), Unavailable("the disk is away")])
async def test_if_the_store_cannot_say_who_is_left_nobody_is_told(
    store: SlowStore, error: NotFound | Unavailable
) -> None:
    cache = new_cache(store)
    version = cache.version
    cache.apply([changed(MEMBER_ADDED, "zoe", PAIR, "other")])
    asking = asyncio.ensure_future(cache.without_removed("c", PAIR, version))
    await settle()
    store.reads["c"][0].set_exception(error)
    assert await asking == frozenset()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["ask", "read", "answer", "remove", "add", "other"]), max_size=40), st.integers(1, 2))
def test_in_any_order_whoever_gets_an_answer_gets_one_that_held_since_they_asked(
    steps: list[str], entries_max: int
) -> None:
    async def run() -> None:
        store = SlowStore()
        cache = new_cache(store, entries_max)
        now = PAIR
        versions = [now]
        asked: list[tuple[int, asyncio.Future[frozenset[str]]]] = []
        snapshots: list[tuple[asyncio.Future[Membership], frozenset[str]]] = []

        async def look() -> None:
            await settle()
            snapshots.extend((reading, now) for reading in store.reads["c"][len(snapshots) :])
            for since, answer in asked:
                if answer.done():
                    assert answer.result() in versions[since:]

        for step in steps:
            if step == "ask":
                asked.append((len(versions) - 1, asyncio.ensure_future(cache.members("c"))))
            elif step == "answer":
                for reading, snapshot in snapshots:
                    if not reading.done():
                        reading.set_result(Membership(snapshot, 1))
                        break
            elif step in ("remove", "add"):
                before, now = now, now - {"ana"} if step == "remove" else now | {"ana"}
                if before != now:
                    versions.append(now)
                    kind = MEMBER_REMOVED if step == "remove" else MEMBER_ADDED
                    cache.apply([changed(kind, "ana", before | now)])
            elif step == "other":
                cache.apply([changed(MEMBER_ADDED, "zoe", PAIR, "other")])
            await look()
        while not all(answer.done() for _, answer in asked):
            for reading, snapshot in snapshots:
                if not reading.done():
                    reading.set_result(Membership(snapshot, 1))
            await look()
        assert len(cache._members) <= entries_max

    asyncio.run(run())


async def test_an_erased_conversation_has_no_members_also_for_a_read_that_was_under_way(store: SlowStore) -> None:
    cache = new_cache(store)
    await read(cache, store, PAIR)
    erased = Committed("c", Event(seq=2, sender=None, at=1, type=CONVERSATION_ERASED), PAIR)

    cache.apply([erased])

    assert await cache.members("c") == frozenset()
    assert await cache.without_removed("c", PAIR, cache.version) == frozenset()

    late = new_cache(store)
    asking = asyncio.ensure_future(late.members("c"))
    await settle()
    late.apply([erased])
    store.reads["c"][-1].set_result(Membership(PAIR, 1))
    assert await asking == frozenset()


async def test_who_asks_between_the_end_of_a_read_and_its_callback_gets_the_answer(store: SlowStore) -> None:
    """Nobody may wait for a read that is done: that takes no turn of the loop, so the callback would never get one."""
    cache = new_cache(store)
    first = asyncio.ensure_future(cache.members("c"))
    await settle()
    store.reads["c"][-1].set_result(Membership(PAIR, 1))
    await asyncio.sleep(0)
    assert cache._reads["c"].done()
    assert await cache.members("c") == PAIR
    assert await first == PAIR
    assert len(store.reads["c"]) == 1
