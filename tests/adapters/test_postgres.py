"""What the PostgreSQL store promises beyond the contract: batches, limits, lost connections, migrations, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from asyncpg import DataError

from deploy.services.postgres import Postgres
from recado.adapters.store.postgres import database
from recado.adapters.store.postgres.database import DatabaseUnusable, Db
from recado.adapters.store.postgres.limits import PostgresLimits
from recado.adapters.store.postgres.store import PostgresStore
from recado.chat.conversation import ConversationView
from recado.chat.errors import Unavailable
from recado.ports import DeliveredMark, JobFilter, Sent
from tests.adapters.postgres import Behind, until
from tests.contracts.stores import POSTGRES_LIMITS, create, message, send, seqs, whole_log

OpenStore = Callable[..., Coroutine[Any, Any, PostgresStore]]


@pytest.fixture
async def open_store(postgres_database: str) -> AsyncIterator[OpenStore]:
    """Open one more store on the database; they are closed after the test."""
    opened: list[PostgresStore] = []

    async def open_store(limits: PostgresLimits = POSTGRES_LIMITS) -> PostgresStore:
        opened.append(await PostgresStore.open(postgres_database, limits))
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
async def behind(postgres_database: str) -> AsyncIterator[Behind]:
    async with Behind.connected(postgres_database) as behind:
        yield behind


# Batches


async def test_messages_that_arrive_during_a_commit_share_the_next_one(open_store: OpenStore, behind: Behind) -> None:
    store = await open_store()
    await create(store, "ana")

    async with behind.locked():
        first = asyncio.ensure_future(store.append_message(message("ana", "first")))
        await behind.until_somebody_waits()
        others = [store.append_message(message("ana", str(n))) for n in range(90)]
    await asyncio.gather(first, *others)

    assert await behind.commits() == 2, "one for the first, one for the ninety that came meanwhile"


async def test_a_message_that_the_database_chokes_on_fails_alone_and_is_not_logged(
    open_store: OpenStore, behind: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store()
    await create(store, "ana")
    await behind.db.execute("ALTER TABLE events ADD CHECK (body <> 'secret words')")
    asked = [message("ana", f"m{n}", "secret words" if n == 30 else f"body {n}") for n in range(60)]

    async with behind.locked():
        answers = [asyncio.ensure_future(store.append_message(each)) for each in asked]
        await behind.until_somebody_waits()
    ended = await asyncio.gather(*answers, return_exceptions=True)

    assert [type(each) for each in ended] == [Sent] * 30 + [Unavailable] + [Sent] * 29
    assert [event.id for event in await whole_log(store)] == [each.id for each in asked if each.id != "m30"]
    assert "the store could not commit" in caplog.text
    assert "secret" not in caplog.text


async def test_writes_of_every_kind_in_one_batch_see_what_was_asked_for_before_them(
    open_store: OpenStore, behind: Behind
) -> None:
    store = await open_store()
    await create(store, "ana", "bruno", "carla")
    before = await behind.db.fetchval("SELECT pg_current_xact_id()::text::bigint")

    async with behind.locked():
        held = asyncio.ensure_future(store.append_message(message("ana", "0")))
        await behind.until_somebody_waits()
        asked: list[Callable[[], Awaitable[Any]]] = [
            lambda: store.append_message(message("bruno", "1")),
            lambda: store.mark_delivered([DeliveredMark("c", "carla", 2)], 10),
            lambda: store.mark_read("c", "ana", 2),
            lambda: store.put_member("c", "davi", None, 3_000, 10),
            lambda: store.append_message(message("davi", "2")),
            lambda: store.mark_delivered([DeliveredMark("c", "carla", 4), DeliveredMark("c", "davi", 4)], 10),
            lambda: store.remove_member("c", "davi", None, 4_000),
            lambda: store.mark_delivered([DeliveredMark("c", "davi", 4)], 10),
            lambda: store.put_member("c", "davi", None, 5_000, 10),
            lambda: store.mark_read("c", "davi", 6),
        ]
        futures = []
        for ask in asked:
            futures.append(asyncio.ensure_future(ask()))
            await asyncio.sleep(0)  # it has been asked
    await held
    first, early, read, added, _, delivered, removed, gone, again, moved = await asyncio.gather(*futures)

    assert (first.event.seq, read.moved, added, removed, gone, again) == (2, True, True, True, [], True)
    assert [(each.user, each.senders) for each in early] == [("carla", {"ana", "bruno"})]
    assert [(each.user, each.senders) for each in delivered] == [("carla", {"davi"}), ("davi", frozenset())]
    assert (moved.read_up_to, moved.moved) == (6, True), "who joins has read what was there before"
    assert seqs(await whole_log(store)) == [1, 2, 3, 4, 5, 6]
    after = await behind.db.fetchval("SELECT pg_current_xact_id()::text::bigint")
    assert after - before <= 4, "the test's own two, the one that was held, and one batch"


async def test_a_conversation_of_two_that_grows_in_the_same_batch_tells_every_sender(
    open_store: OpenStore, behind: Behind
) -> None:
    store = await open_store()
    await create(store, "ana", "bruno")
    await send(store, "ana", "1")
    await send(store, "bruno", "2")

    async with behind.locked():
        held = asyncio.ensure_future(store.append_message(message("ana", "3")))
        await behind.until_somebody_waits()
        added = asyncio.ensure_future(store.put_member("c", "carla", None, 3_000, 10))
        await asyncio.sleep(0)  # it has been asked
        delivered = asyncio.ensure_future(store.mark_delivered([DeliveredMark("c", "bruno", 3)], 10))
    assert (await held).created
    assert await added
    assert [(each.senders, each.members) for each in await delivered] == [(frozenset({"ana"}), 3)]


async def test_stores_that_create_the_same_conversations_at_once_create_each_once(open_store: OpenStore) -> None:
    stores = [await open_store() for _ in range(2)]
    names = [f"c{n}" for n in range(40)]

    created = await asyncio.gather(
        *(create_or_not(stores[0], name) for name in names),
        *(create_or_not(stores[1], name) for name in reversed(names)),
    )

    assert sum(created) == len(names)


async def create_or_not(store: PostgresStore, conversation: str) -> bool:
    try:
        await create(store, "ana", conversation=conversation)
    except AssertionError:
        return False
    return True


async def test_who_was_in_an_erased_conversation_is_forgotten_after_a_while(
    open_store: OpenStore, behind: Behind
) -> None:
    store = await open_store(replace(POSTGRES_LIMITS, erased_notice_s=10))
    await create(store, "ana", "bruno")
    await store.erase_conversation("c", 9_000)
    names = "SELECT members FROM erased_conversations"

    await store.finish_erasures(19_000)
    assert await behind.db.fetchval(names) == ["ana", "bruno"], "others may not have been told yet"
    await store.finish_erasures(19_001)
    assert await behind.db.fetchval(names) is None


# Limits


async def test_writes_beyond_the_limit_are_refused_and_one_user_leaves_room_for_the_others(
    open_store: OpenStore, behind: Behind
) -> None:
    store = await open_store(replace(POSTGRES_LIMITS, pending_writes_max=5, pending_sends_per_user_max=3))
    await create(store, "ana", "bruno")

    async with behind.locked():
        accepted = [asyncio.ensure_future(store.append_message(message("ana", str(n)))) for n in range(3)]
        with pytest.raises(Unavailable, match="too many of your messages"):
            store.append_message(message("ana", "3"))
        accepted += [asyncio.ensure_future(store.append_message(message("bruno", str(n)))) for n in range(2)]
        with pytest.raises(Unavailable, match="the store is too busy"):
            store.append_message(message("bruno", "2"))
        await behind.until_somebody_waits()
    await asyncio.gather(*accepted)

    await send(store, "ana", "3")
    assert len(await whole_log(store)) == 6


async def test_one_users_waiting_reads_leave_room_for_those_of_others_and_of_the_host(open_store: OpenStore) -> None:
    store = await open_store(replace(POSTGRES_LIMITS, pending_reads_max=5, pending_reads_per_user_max=3))
    await create(store, "ana", "bruno")

    readers = ["ana"] * 5 + ["bruno", None]
    answers = await asyncio.gather(*(store.conversation("c", user) for user in readers), return_exceptions=True)

    assert [isinstance(answer, Unavailable) for answer in answers] == [False] * 3 + [True] * 2 + [False] * 2


async def test_reads_share_so_many_connections_and_no_more(open_store: OpenStore, behind: Behind) -> None:
    store = await open_store(replace(POSTGRES_LIMITS, read_connections=2))
    await create(store, "ana")

    answers = await asyncio.gather(*(store.conversation("c", None) for _ in range(50)))

    assert all(isinstance(answer, ConversationView) for answer in answers)
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'recado' AND datname = current_database()"
    assert await behind.db.fetchval(count) == 4, "two that read, one that writes, one that listens"


async def test_a_commit_that_waits_for_too_long_is_refused_and_holds_up_nobody_after_it(
    open_store: OpenStore, behind: Behind
) -> None:
    store = await open_store(replace(POSTGRES_LIMITS, statement_timeout_ms=300, reconnect_interval_ms=10))
    await create(store, "ana")

    async with behind.locked():
        with pytest.raises(Unavailable):
            await store.append_message(message("ana", "1"))
    await until(lambda: is_writable(store), bool)
    assert (await send(store, "ana", "2")).event.seq == 1


# Connections that are lost


async def is_writable(store: PostgresStore) -> bool:
    try:
        await store.ping()
    except Unavailable:
        return False
    return True


async def test_a_lost_connection_fails_what_was_asked_for_and_comes_back_by_itself(
    open_store: OpenStore, behind: Behind
) -> None:
    store = await open_store(replace(POSTGRES_LIMITS, reconnect_interval_ms=10))
    await create(store, "ana")

    async with behind.locked():
        asked = [asyncio.ensure_future(store.append_message(message("ana", "1")))]
        await behind.until_somebody_waits()
        asked += [asyncio.ensure_future(store.append_message(message("ana", str(n)))) for n in range(2, 5)]
        await behind.cut(store._follower.own_pid)
        ended = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in ended] == [Unavailable] * 4, "all of them: a later one must not overtake"

    await until(lambda: is_writable(store), bool)
    assert await whole_log(store) == []
    assert (await send(store, "ana", "1")).event.seq == 1


async def test_a_reading_connection_that_was_lost_is_made_again_at_the_next_read(
    open_store: OpenStore, behind: Behind
) -> None:
    store = await open_store(replace(POSTGRES_LIMITS, read_connections=1))
    await create(store, "ana")
    pid = await store.on_connection(lambda db: db.fetchval("SELECT pg_backend_pid()"))

    await behind.cut(pid)
    await until(lambda: is_closed(store), bool)

    assert (await store.conversation("c", None)).members == ["ana"]


async def test_a_connection_that_could_not_be_made_ready_is_not_left_open(
    postgres_database: str, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def are_closed() -> bool:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return bool(await behind.db.fetchval(others) == 0)

    monkeypatch.setattr(database, "_COMMITS_ARE_DURABLE", "SELECT 1 / 0")
    made = database.Database(postgres_database, POSTGRES_LIMITS)
    ended = [await asyncio.gather(made.connect(), return_exceptions=True) for _ in range(3)]

    assert [type(error).__name__ for (error,) in ended] == ["DivisionByZeroError"] * 3
    await until(are_closed, bool)


async def test_what_fails_beside_the_batches_tells_that_the_store_cannot_be_reached(
    open_store: OpenStore,
) -> None:
    """It may have been a read or a write."""
    store = await open_store()

    async def cut_itself(db: Db) -> None:
        await db.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Unavailable, match="the store cannot be reached now"):
        await store.on_connection(cut_itself)


async def is_closed(store: PostgresStore) -> bool:
    return all(db.is_closed() for db in store._pool._idle)


async def test_what_the_database_cannot_take_is_a_fault_and_not_said_to_be_worth_another_try(
    open_store: OpenStore,
) -> None:
    store = await open_store()
    with pytest.raises(DataError):
        await store.list_jobs(JobFilter(sink="a\0"), 10)
    assert await store.list_jobs(JobFilter(sink="a"), 10) == [], "the connection is as good as before"


# Start


async def test_a_database_of_a_newer_recado_is_refused_and_left_as_it_is(
    open_store: OpenStore, behind: Behind, postgres_database: str
) -> None:
    await open_store()
    await behind.db.execute("UPDATE schema_version SET number = 1000")

    with pytest.raises(DatabaseUnusable, match=r"made by a newer Recado \(schema 1000, this one knows \d+\)"):
        await PostgresStore.open(postgres_database, POSTGRES_LIMITS)
    assert await behind.db.fetchval("SELECT number FROM schema_version") == 1000


async def test_a_schema_of_something_else_is_refused(behind: Behind, postgres_database: str) -> None:
    await behind.db.execute("CREATE SCHEMA recado CREATE TABLE things (id integer)")

    with pytest.raises(DatabaseUnusable, match="a schema `recado` that is not Recado's"):
        await PostgresStore.open(postgres_database, POSTGRES_LIMITS)


async def test_a_schema_of_no_version_is_refused(open_store: OpenStore, behind: Behind, postgres_database: str) -> None:
    await open_store()
    await behind.db.execute("DELETE FROM schema_version")

    with pytest.raises(DatabaseUnusable, match=r"of no known version: its table recado\.schema_version is empty"):
        await PostgresStore.open(postgres_database, POSTGRES_LIMITS)


async def test_migrations_are_numbered_from_1_on_without_a_gap() -> None:
    assert [number for number, _ in database.migrations()] == list(range(1, len(database.migrations()) + 1))


@pytest.mark.parametrize(
    ("part", "wrong", "said"),
    [
        ("password", "wrong-password", "the server does not let the user in: password authentication failed"),
        ("username", "stranger", "the server does not let the user in: password authentication failed"),
        ("path", "/nowhere", 'database "nowhere" does not exist: make it with `createdb`'),
        ("port", "1", "the server cannot be reached: "),
        ("hostname", "no-such-host.invalid", "the server cannot be reached: "),
        ("query", "sslmode=sometimes", "`sslmode` parameter must be one of: "),
    ],
)
async def test_what_is_wrong_with_a_server_is_one_line_without_a_password(
    postgres: Postgres, part: str, wrong: str, said: str
) -> None:
    parts = urlsplit(postgres.url("postgres"))
    url = {
        **{name: str(getattr(parts, name)) for name in ("username", "password", "hostname", "port", "path", "query")},
        part: wrong,
    }
    asked = "postgresql://{username}:{password}@{hostname}:{port}{path}?{query}".format(**url)

    with pytest.raises(DatabaseUnusable) as refusal:
        await PostgresStore.open(asked, POSTGRES_LIMITS)

    text = str(refusal.value)
    assert said in text
    assert text.count("\n") == 0
    assert url["password"] not in text


async def test_a_user_who_may_not_make_the_schema_is_told_what_it_needs(postgres: Postgres) -> None:
    name = "owned_by_another"
    postgres.execute(f"CREATE DATABASE {name}")
    try:
        with pytest.raises(DatabaseUnusable, match="must own the database, or be granted CREATE on it"):
            await PostgresStore.open(postgres.url(name), POSTGRES_LIMITS)
    finally:
        postgres.drop_database(name)


async def test_a_commit_is_durable_whatever_the_database_has_as_its_default(
    open_store: OpenStore, behind: Behind, postgres_database: str
) -> None:
    name = urlsplit(postgres_database).path[1:]
    await behind.db.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    store = await open_store()
    assert store._writes._db is not None
    assert await store._writes._db.fetchval("SHOW synchronous_commit") == "on"
