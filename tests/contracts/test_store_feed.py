"""The Store port's contract on the feed: everything of a user past one position, in one order over all its logs."""

from __future__ import annotations

import asyncio
import random

import pytest

from recado.chat.errors import Invalid
from recado.chat.event import MEMBER_ADDED, MEMBER_REMOVED
from recado.ports import FeedPage, Store
from tests.contracts.stores import MEMBERS_MAX, PAGE, Shelf, create, message, send


async def places(store: Store, user: str, after: int = 0, limit: int = PAGE) -> list[tuple[str, int]]:
    return [(entry.conversation, entry.event.seq) for entry in (await store.feed(user, after, limit)).entries]


async def now(store: Store, user: str) -> int:
    page = await store.feed(user, None, 10)
    assert page == FeedPage([], page.position, True)
    return page.position


async def add(store: Store, user: str, conversation: str = "c") -> None:
    assert await store.put_member(conversation, user, None, 3_000, MEMBERS_MAX)


async def remove(store: Store, user: str, conversation: str = "c") -> None:
    assert await store.remove_member(conversation, user, None, 4_000)


async def test_it_has_the_events_of_all_the_users_conversations_in_the_order_of_their_commits(store: Store) -> None:
    for conversation in ("c", "d", "e"):
        await create(store, "ana", "bruno" if conversation != "e" else "carla", conversation=conversation)
    for number, conversation in enumerate("cdecdd"):
        await send(store, "ana", f"m{number}", conversation=conversation)

    assert await places(store, "bruno") == [("c", 1), ("d", 1), ("c", 2), ("d", 2), ("d", 3)]
    assert await places(store, "carla") == [("e", 1)]
    assert await places(store, "stranger") == []


async def test_pages_follow_each_other_without_a_gap_or_a_repetition(store: Store) -> None:
    names = [f"c{number}" for number in range(7)]
    for name in names:
        await create(store, "ana", "bruno", conversation=name)
    picked = random.Random(5).choices(names, k=90)
    sent = [(name, (await send(store, "ana", f"m{n}", conversation=name)).event.seq) for n, name in enumerate(picked)]

    for limit in (1, 4, 50, 200):
        read: list[tuple[str, int]] = []
        position, is_last = 0, False
        while not is_last:
            page = await store.feed("bruno", position, limit)
            assert len(page.entries) <= limit
            read += [(entry.conversation, entry.event.seq) for entry in page.entries]
            position, is_last = page.position, page.is_last
        assert read == sent, f"in pages of {limit}"
    assert position == await now(store, "bruno")


async def test_each_position_in_a_page_is_where_one_can_go_on(store: Store) -> None:
    await create(store, "ana", "bruno")
    await create(store, "ana", "bruno", conversation="d")
    for number in range(12):
        await send(store, "ana", f"m{number}", conversation="cd"[number % 3 == 0])
    whole = await places(store, "bruno")
    page = await store.feed("bruno", 0, PAGE)
    for index, entry in enumerate(page.entries):
        assert await places(store, "bruno", entry.position) == whole[index + 1 :]


async def test_without_a_position_it_says_where_it_is_now_and_no_more(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send(store, "ana", "old")
    position = await now(store, "bruno")
    assert await store.feed("bruno", position, 10) == FeedPage([], position, True)

    await send(store, "ana", "new")
    assert await places(store, "bruno", position) == [("c", 2)]
    store = await shelf.reopen()
    assert await places(store, "bruno", position) == [("c", 2)]
    await send(store, "ana", "after the restart")
    assert await places(store, "bruno", position) == [("c", 2), ("c", 3)]


async def test_a_position_that_nothing_has_reached_is_refused(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await send(store, "ana", "m")
    position = await now(store, "ana")
    with pytest.raises(Invalid):
        await store.feed("ana", position + 1, 10)
    store = await shelf.reopen()
    with pytest.raises(Invalid):
        await store.feed("ana", position + 1, 10)
    assert await places(store, "ana", position) == []


async def test_a_new_member_gets_what_happened_from_its_own_joining_on(store: Store) -> None:
    await create(store, "ana", "bruno")
    position = await now(store, "carla")
    await send(store, "ana", "before")
    await add(store, "carla")
    await send(store, "ana", "after")
    page = await store.feed("carla", position, PAGE)
    assert [(entry.event.seq, entry.event.type) for entry in page.entries] == [(2, MEMBER_ADDED), (3, None)]


async def test_of_a_conversation_that_it_was_removed_from_the_user_gets_the_removal_alone(store: Store) -> None:
    await create(store, "ana", "bruno")
    await create(store, "ana", "bruno", conversation="d")
    position = await now(store, "bruno")
    await send(store, "ana", "unread")
    await remove(store, "bruno")
    await send(store, "ana", "secret")
    await send(store, "ana", "elsewhere", conversation="d")

    page = await store.feed("bruno", position, PAGE)
    assert [(entry.conversation, entry.event.type) for entry in page.entries] == [("c", MEMBER_REMOVED), ("d", None)]
    assert await places(store, "bruno", page.position) == []


async def test_who_comes_back_gets_what_happens_from_then_on(store: Store) -> None:
    await create(store, "ana", "bruno")
    position = await now(store, "bruno")
    await remove(store, "bruno")
    await send(store, "ana", "secret")
    await add(store, "bruno")
    await send(store, "ana", "welcome")
    assert await places(store, "bruno", position) == [("c", 3), ("c", 4)]


async def test_an_erased_conversation_vanishes_and_positions_still_only_grow(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno", "carla")
    await create(store, "ana", "bruno", conversation="d")
    await send(store, "ana", "m")
    await remove(store, "carla")
    await store.erase_conversation("c", 5_000)
    erased_at = shelf.committed[-1].position
    assert await places(store, "bruno") == []
    assert await places(store, "carla") == []

    store = await shelf.reopen()
    assert (await store.feed("bruno", erased_at, 10)).entries == []
    await send(store, "ana", "m", conversation="d")
    assert await places(store, "bruno", erased_at) == [("d", 1)]


async def test_an_erased_user_has_nothing_left_there(store: Store) -> None:
    await create(store, "ana", "bruno")
    await create(store, "ana", "bruno", conversation="d")
    await send(store, "bruno", "m")
    await remove(store, "bruno", "d")
    await store.erase_user("bruno", 5_000)
    assert await places(store, "bruno") == []


async def test_what_is_committed_has_growing_positions_in_each_and_over_all_logs(shelf: Shelf) -> None:
    store = await shelf.open()
    await create(store, "ana", "bruno")
    await create(store, "ana", "bruno", conversation="d")
    await asyncio.gather(
        *(store.append_message(message("ana", f"m{n}", conversation="cd"[n % 2])) for n in range(40)),
        store.put_member("c", "carla", None, 1, MEMBERS_MAX),
        store.remove_member("d", "bruno", None, 1),
    )
    positions = [entry.position for entry in shelf.committed]
    assert positions == sorted(set(positions))
    assert len(positions) == 42


async def test_a_reader_that_follows_concurrent_sends_misses_nothing(store: Store) -> None:
    names = ["c", "d", "e"]
    for name in names:
        await create(store, "ana", "bruno", conversation=name)
    sends = asyncio.gather(
        *(store.append_message(message("ana", f"m{n}", conversation=names[n % 3])) for n in range(300))
    )
    read: list[tuple[str, int]] = []
    position = 0
    while len(read) < 300:
        page = await store.feed("bruno", position, 20)
        read += [(entry.conversation, entry.event.seq) for entry in page.entries]
        position = page.position
    await sends
    assert sorted(read) == sorted((name, seq) for name in names for seq in range(1, 101))
    for name in names:
        assert [seq for each, seq in read if each == name] == list(range(1, 101))
