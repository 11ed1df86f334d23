"""How a PostgreSQL store learns what others commit: whom an event goes to, and what a lost connection costs."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.services.postgres import Postgres
from recado.adapters.store.postgres.log import read_past, recipients_of
from recado.adapters.store.postgres.members import MemberCache
from recado.chat.errors import NotFound
from recado.chat.event import MEMBER_ADDED, MEMBER_REMOVED, Committed, Event
from recado.ports import NewMessage
from tests.adapters.conftest import OpenNode
from tests.adapters.database_nodes import Node
from tests.adapters.postgres import Behind, connected
from tests.contracts.stores import MEMBERS_MAX, POSTGRES_LIMITS, create, send, whole_log

USERS = ("ana", "bruno", "carla", "davi")
ERASED_AFTER = 90
STATEMENT_TIMEOUT_S = POSTGRES_LIMITS.statement_timeout_ms / 1000


async def do_something(node: Node, chance: random.Random, n: int) -> None:
    conversation, user = chance.choice("cde" if n < ERASED_AFTER else "cd"), chance.choice(USERS)
    match chance.randrange(4):
        case 0 | 1:
            await node.store.put_member(conversation, user, None, 3_000, MEMBERS_MAX)
        case 2:
            await node.store.remove_member(conversation, user, None, 3_000)
        case _:
            with suppress(NotFound):  # it is no member now
                await send(node.store, user, str(n), conversation=conversation)
    if n == ERASED_AFTER:
        await node.store.erase_conversation("e", 9_000)


async def read_all(db: asyncpg.Connection[asyncpg.Record], cache: MemberCache, limit: int) -> list[Committed]:
    found: list[Committed] = []
    while page := await read_past(db, cache, found[-1].position if found else 0, None, limit):
        found += page
    return found


async def test_who_gets_an_event_is_found_afterwards_as_it_was_told_at_the_commit(
    open_node: OpenNode, postgres_database: str
) -> None:
    node = await open_node()
    chance = random.Random(11)
    for conversation in "cde":
        await create(node.store, *USERS[:2], conversation=conversation)
    for n in range(120):
        await do_something(node, chance, n)
    there_still = [entry for entry in node.committed if entry.conversation != "e"]
    (end,) = (entry for entry in node.committed if entry.event.type == "conversation_erased")
    assert len({entry.recipients for entry in there_still}) > 8, "members came and went"

    async with connected(postgres_database) as db:
        for cache, limit in ((MemberCache(1), 1), (MemberCache(1), 7), (warm := MemberCache(10), 1_000), (warm, 1)):
            found = await read_all(db, cache, limit)
            told = sorted([*there_still, end], key=lambda entry: entry.position)
            assert [(each.position, each.event, each.recipients) for each in found] == [
                (each.position, each.event, each.recipients) for each in told
            ]
            assert all(each.elsewhere and each.origin is None for each in found)


def change(seq: int, kind: str, user: str) -> Event:
    return Event(seq, None, 1, type=kind, user=user)


def test_members_are_found_by_going_back_over_who_came_and_went() -> None:
    events = [
        Event(4, "ana", 1, id="m"),
        change(5, MEMBER_REMOVED, "bruno"),
        Event(6, "ana", 1, id="n"),
        change(7, MEMBER_ADDED, "bruno"),
        change(8, MEMBER_ADDED, "carla"),
    ]
    both, alone = frozenset({"ana", "bruno"}), frozenset({"ana"})

    found = recipients_of(events, frozenset({"ana", "bruno", "carla"}))

    assert found == {4: both, 5: both, 6: alone, 7: both, 8: both | {"carla"}}


async def listening_pid(node: Node) -> int:
    assert node.store._follower._db is not None
    return node.store._follower._db.get_server_pid()


async def test_what_comes_while_nobody_listens_is_handed_out_in_order_and_own_messages_keep_their_origin(
    open_node: OpenNode, postgres: Postgres, postgres_database: str
) -> None:
    here, there = await open_node(), await open_node()
    await create(here.store, "ana", "bruno")
    await send(here.store, "ana", "1")
    await there.has(1)
    name, origin = urlsplit(postgres_database).path[1:], object()

    async with Behind.connected(postgres_database) as behind:
        postgres.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')  # nobody is let in again
        await behind.cut(await listening_pid(there))
        await send(here.store, "ana", "2")
        sent = await there.store.append_message(NewMessage("c", "bruno", "3", "hi", 2_000, origin))
        assert (sent.event.seq, there.entries()) == (3, [("c", 1)]), "who comes before it is not known yet"
        postgres.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
        await there.has(3)

    assert there.entries() == [("c", 1), ("c", 2), ("c", 3)]
    assert [(each.origin, each.elsewhere) for each in there.committed[1:]] == [(None, True), (origin, False)]


async def test_without_another_process_a_lost_listening_connection_holds_up_nothing(
    open_node: OpenNode, postgres: Postgres, postgres_database: str
) -> None:
    node = await open_node()
    await create(node.store, "ana")
    name = urlsplit(postgres_database).path[1:]

    async with Behind.connected(postgres_database) as behind:
        postgres.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
        await behind.cut(await listening_pid(node))
        for n in range(3):
            await send(node.store, "ana", str(n))

    assert node.entries() == [("c", 1), ("c", 2), ("c", 3)]


async def test_who_was_not_listening_is_told_that_bodies_may_be_gone_and_jobs_be_there(
    open_node: OpenNode, postgres_database: str
) -> None:
    node = await open_node()
    erased, jobs = asyncio.Event(), asyncio.Event()
    node.store.on_erased, node.store.on_jobs = erased.set, jobs.set

    async with Behind.connected(postgres_database) as behind:
        await behind.cut(await listening_pid(node))
        async with asyncio.timeout(20):
            await erased.wait()
            await jobs.wait()


async def test_more_than_a_page_of_others_events_before_an_own_one_is_read_to_the_end(open_node: OpenNode) -> None:
    here, there = await open_node(), await open_node()
    await create(here.store, "ana", "bruno")
    count = 3 * POSTGRES_LIMITS.follow_page + 1
    async with there.store._follower._turn:  # it is slow to read what it was notified of
        for n in range(count):
            await send(here.store, "ana", str(n))
        own = asyncio.ensure_future(send(there.store, "bruno", "own"))
        while (await whole_log(here.store))[-1].id != "own":
            assert not own.done()
    await own

    assert there.entries() == [("c", seq) for seq in range(1, count + 2)]


async def test_a_connection_that_says_nothing_holds_up_a_sender_for_a_moment_alone(
    open_node: OpenNode, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = await open_node(), await open_node()
    await create(here.store, "ana", "bruno")
    silent, origin = await listening_pid(there), object()
    os.kill(silent, signal.SIGSTOP)
    try:
        await send(here.store, "ana", "1")
        async with asyncio.timeout(STATEMENT_TIMEOUT_S / 2):
            for n in range(2, 5):
                await there.store.append_message(NewMessage("c", "bruno", str(n), "hi", 2_000, origin))
            await there.has(4)
    finally:
        os.kill(silent, signal.SIGCONT)

    assert there.entries() == [("c", 1), ("c", 2), ("c", 3), ("c", 4)]
    assert [each.origin for each in there.committed] == [None, origin, origin, origin]
    assert len([line for line in caplog.messages if "cannot be read now" in line]) == 1
