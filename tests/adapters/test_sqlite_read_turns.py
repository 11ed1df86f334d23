"""Users share the store's reading threads: one who asks for much waits for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from recado.adapters.store.sqlite import SqliteStore
from recado.chat.conversation import ConversationView
from recado.chat.errors import Unavailable
from tests.adapters.conftest import OpenStore
from tests.contracts.stores import SQLITE_LIMITS, create

READS: dict[str, Callable[[SqliteStore], Awaitable[object]]] = {
    "conversation": lambda store: store.conversation("c", "ana"),
    "conversations": lambda store: store.conversations("ana", None, 10),
    "events": lambda store: store.events("c", "ana", None, None, 10),
    "feed": lambda store: store.feed("ana", None, 10),
    "receipts": lambda store: store.receipts("c", "ana", 10),
    "unread count": lambda store: store.unread_count("c", "ana", 0),
}


async def test_who_reads_once_waits_for_one_read_of_another_and_not_for_all(open_store: OpenStore) -> None:
    store = open_store(replace(SQLITE_LIMITS, reader_threads=1))
    await create(store, "ana", "bruno")
    ended: list[str] = []

    async def read(user: str) -> None:
        await store.conversation("c", user)
        ended.append(user)

    await asyncio.gather(*(read("ana") for _ in range(10)), read("bruno"))

    assert ended == ["ana", "bruno", *["ana"] * 9]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_whatever_a_user_reads_counts_as_that_users(
    open_store: OpenStore, read: Callable[[SqliteStore], Awaitable[object]]
) -> None:
    store = open_store(replace(SQLITE_LIMITS, pending_reads_per_user_max=1))
    await create(store, "ana")

    first, second = await asyncio.gather(store.conversation("c", "ana"), read(store), return_exceptions=True)

    assert isinstance(first, ConversationView)
    assert isinstance(second, Unavailable)
    assert "too many of your reads" in second.message
    await read(store)


async def test_one_users_waiting_reads_leave_room_for_those_of_others_and_of_the_host(open_store: OpenStore) -> None:
    store = open_store(replace(SQLITE_LIMITS, pending_reads_max=5, pending_reads_per_user_max=3))
    await create(store, "ana", "bruno")

    readers = ["ana"] * 5 + ["bruno", None]
    answers = await asyncio.gather(*(store.conversation("c", user) for user in readers), return_exceptions=True)

    assert [isinstance(answer, Unavailable) for answer in answers] == [False] * 3 + [True] * 2 + [False] * 2


async def test_reads_that_are_given_up_give_their_turns_and_their_room_back(open_store: OpenStore) -> None:
    store = open_store(replace(SQLITE_LIMITS, reader_threads=1, pending_reads_per_user_max=3))
    await create(store, "ana")
    given_up = [asyncio.ensure_future(store.conversation("c", "ana")) for _ in range(3)]
    await asyncio.sleep(0)
    for read in given_up:
        read.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)

    views = await asyncio.gather(*(store.conversation("c", "ana") for _ in range(3)))

    assert [view.id for view in views] == ["c"] * 3
    assert store._admission._read_turns._readers == {}, "who reads no more is forgotten"


async def test_reads_that_wait_for_their_turn_when_the_store_closes_are_told_so(open_store: OpenStore) -> None:
    store = open_store(replace(SQLITE_LIMITS, reader_threads=1))
    await create(store, "ana")
    reads = [asyncio.ensure_future(store.conversation("c", "ana")) for _ in range(5)]
    await asyncio.sleep(0)

    await store.close()

    running, *waiting = await asyncio.gather(*reads, return_exceptions=True)
    assert isinstance(running, ConversationView)
    assert [type(answer) for answer in waiting] == [Unavailable] * 4
