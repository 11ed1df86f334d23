"""What the SQLite storage of sessions promises beyond the contract: durability, limits, and whose file it is."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from recado.adapters.broker.sqlite import SqliteStorage, SqliteStorageLimits
from recado.adapters.store.sqlite import DatabaseInUse, DatabaseUnusable, SqliteStore, files
from recado.broker.publication import Publication
from recado.broker.storage import Acknowledged, EndSession, Enqueue, Released, Retain, StorageFailed
from tests.adapters.disk import TIMEOUT_S, Disk
from tests.contracts.storages import STORAGE_LIMITS, brief, enqueue, entry, publication, session, written
from tests.contracts.stores import SQLITE_LIMITS

REPOSITORY = Path(__file__).parents[2]
HOLD_A_DATABASE = """
import asyncio, sys
from pathlib import Path
from recado.adapters.broker.sqlite import SqliteStorage
from tests.contracts.storages import STORAGE_LIMITS, session, written

async def main():
    storage = SqliteStorage.open(Path(sys.argv[1]), STORAGE_LIMITS)
    assert await written(storage, session(1))
    print("held", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""
OpenStorage = Callable[..., SqliteStorage]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
async def open_storage(path: Path) -> AsyncIterator[OpenStorage]:
    """Open the storage at `path`; it is closed after the test."""
    opened: list[SqliteStorage] = []

    def open_storage(limits: SqliteStorageLimits = STORAGE_LIMITS) -> SqliteStorage:
        opened.append(SqliteStorage.open(path, limits))
        return opened[-1]

    yield open_storage
    for storage in opened:
        await storage.close()


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the storage open."""
    arguments = [sys.executable, "-c", HOLD_A_DATABASE, str(path)]
    process = subprocess.Popen(arguments, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def no_database(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)


def content(path: Path) -> bytes:
    return path.read_bytes()


def rows(path: Path) -> dict[str, int]:
    """How many rows the tables of messages have."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]  # type: ignore[misc]
            for table in ("messages", "queued", "inflight")
        }
    finally:
        db.close()


# Durability


async def test_what_is_kept_was_synced_to_disk_before_that_is_told(disk: Disk, open_storage: OpenStorage) -> None:
    storage = open_storage()
    assert storage._db.pragma("journal_mode") == "wal"
    assert storage._db.pragma("synchronous") == 2, "FULL"
    assert await written(storage, session(1))

    for position in range(1, 6):
        before = disk.syncs
        assert await written(storage, enqueue(position, entry(1)))
        assert disk.syncs > before
    before = disk.syncs
    await storage.claim(1, [1], 1)
    assert disk.syncs > before, "a claim is durable when it returns"


async def test_nothing_is_told_before_it_is_on_disk_and_what_comes_meanwhile_shares_the_next_commit(
    disk: Disk, open_storage: OpenStorage
) -> None:
    storage = open_storage()
    assert await written(storage, session(1))
    before = disk.syncs

    with disk.held() as reached:
        first = written(storage, enqueue(1, entry(1, 1)))
        assert await asyncio.to_thread(reached.wait, TIMEOUT_S)
        others = [written(storage, enqueue(n, entry(1, n))) for n in range(2, 99)]
        resumed = asyncio.ensure_future(storage.resume(1))
        await asyncio.sleep(0)
        assert not first.done()
        assert not resumed.done()
        assert not any(each.done() for each in others)
    assert await first
    assert all(await asyncio.gather(*others))
    assert len((await resumed).inflight) == 98

    assert disk.syncs == before + 2, "one for the first, one for all that came meanwhile"


async def test_a_message_is_on_disk_as_long_as_a_session_needs_it_and_no_longer(
    path: Path, open_storage: OpenStorage
) -> None:
    storage = open_storage()
    assert await written(storage, *(session(key) for key in range(1, 6)))
    assert await written(storage, enqueue(1, entry(1, 5), entry(2, 5), entry(3), entry(4), entry(5)))

    async def after(change: object) -> dict[str, int]:
        assert await written(storage, change)  # type: ignore[arg-type]
        return rows(path)

    assert rows(path) == {"messages": 1, "queued": 3, "inflight": 2}
    assert await after(Acknowledged(1, 5)) == {"messages": 1, "queued": 3, "inflight": 1}
    assert await after(Released(2, 5)) == {"messages": 1, "queued": 3, "inflight": 1}
    assert await after(EndSession(3)) == {"messages": 1, "queued": 2, "inflight": 1}
    await storage.claim(4, [1], 1)
    assert rows(path) == {"messages": 1, "queued": 1, "inflight": 2}
    assert await after(EndSession(5)) == {"messages": 1, "queued": 0, "inflight": 2}
    assert await after(Released(4, 1)) == {"messages": 0, "queued": 0, "inflight": 2}
    assert await after(Acknowledged(4, 1)) == {"messages": 0, "queued": 0, "inflight": 1}

    assert await written(storage, session(5))
    kept = [written(storage, enqueue(n, entry(5), entry(1, 7))) for n in (10, 11)]
    kept += [written(storage, enqueue(n, entry(1, 7), entry(1, 7))) for n in (12, 13)]
    assert await asyncio.gather(*kept, written(storage, EndSession(5))) == [True] * 5
    assert await after(Acknowledged(1, 7)) == {"messages": 0, "queued": 0, "inflight": 1}, "each freed the former"

    assert await written(storage, enqueue(2, entry(4), expires_at_ms=1))
    await storage.claim(4, [1], 2)
    assert await written(storage, enqueue(3, entry(3)))
    assert rows(path) == {"messages": 0, "queued": 0, "inflight": 1}, "it expired; and nobody was there for the third"


# A disk that fails


@pytest.mark.parametrize("error", [apsw.FullError("full"), apsw.IOError("broken")], ids=["full", "broken"])
@pytest.mark.parametrize("moment", ["sync_error", "write_error"])
async def test_a_disk_that_fails_fails_the_whole_batch_and_nothing_of_it_stays(
    disk: Disk, open_storage: OpenStorage, error: Exception, moment: str
) -> None:
    storage = open_storage()
    assert await written(storage, session(1), session(2), enqueue(1, entry(1)))

    setattr(disk, moment, error)
    kept = [written(storage, enqueue(n, entry(1), entry(2, n))) for n in range(2, 8)]
    kept.append(written(storage, EndSession(2), session(3)))
    with pytest.raises(StorageFailed):
        await storage.claim(1, [1], 1)
    setattr(disk, moment, None)

    assert await asyncio.gather(*kept) == [False] * 7
    assert await written(storage, enqueue(8, entry(1), entry(2, 2), entry(3)))
    await storage.close()
    storage = open_storage()
    stored = await storage.load()
    assert [(each.saved.key, each.queued) for each in stored.sessions] == [(1, 2), (2, 0)]
    assert brief((await storage.resume(2)).inflight) == [(2, "m8")]
    assert brief((await storage.claim(1, [1, 2, 3], 1)).deliveries) == [(1, "m1"), (2, "m8")]


def test_a_full_disk_loses_nothing_that_was_kept_and_works_again_afterwards(path: Path) -> None:
    script = [sys.executable, "-m", "tests.adapters.full_disk_sessions", str(path)]
    ran = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(ran.stdout)

    db = apsw.Connection(str(path))
    queues = [
        [position for (position,) in db.execute("SELECT position FROM queued WHERE session = ? ORDER BY place", (key,))]
        for key in (1, 2)
    ]
    messages = [position for (position,) in db.execute("SELECT position FROM messages ORDER BY position")]
    db.close()
    assert said["lost"], "the disk was full at some time"
    assert not said["lost_after"]
    assert queues == [said["kept"], said["kept"]]
    assert messages == said["kept"]


# Limits


async def test_one_more_transaction_than_may_wait_is_refused_but_not_inside_write(
    disk: Disk, open_storage: OpenStorage
) -> None:
    storage = open_storage(replace(STORAGE_LIMITS, pending_transactions_max=4))
    assert await written(storage, session(1))

    with disk.held():
        accepted = [written(storage, session(key)) for key in range(2, 6)]
        refused = [written(storage, session(key)) for key in (6, 7)]
        assert not any(each.done() for each in refused)
        with pytest.raises(StorageFailed, match="too busy"):
            await storage.resume(1)
        assert [await each for each in refused] == [False, False]
    assert await asyncio.gather(*accepted) == [True] * 4

    assert await written(storage, session(8)), "there is room again"
    assert [each.saved.key for each in (await storage.load()).sessions] == [1, 2, 3, 4, 5, 8]


async def test_a_message_weighs_as_much_as_the_sessions_that_it_is_for(disk: Disk, open_storage: OpenStorage) -> None:
    storage = open_storage(replace(STORAGE_LIMITS, pending_transactions_max=8))
    assert await written(storage, *(session(key) for key in range(1, 7)))

    with disk.held():
        everyone = [entry(key) for key in range(1, 7)]
        accepted = [written(storage, enqueue(n, *everyone)) for n in (1, 2)]
        refused = written(storage, enqueue(3, entry(1)))
        acknowledged = written(storage, Acknowledged(1, 1), Released(1, 2))
        assert not await refused
    assert await asyncio.gather(*accepted, acknowledged) == [True] * 3
    assert await written(storage, enqueue(4, entry(1))), "there is room again"


async def test_a_commit_takes_no_more_rows_than_it_may_and_one_message(disk: Disk, open_storage: OpenStorage) -> None:
    storage = open_storage(replace(STORAGE_LIMITS, batch_transactions_max=10))
    assert await written(storage, *(session(key) for key in range(1, 7)))
    before = disk.syncs

    with disk.held() as reached:
        first = written(storage, enqueue(1, entry(1)))
        assert await asyncio.to_thread(reached.wait, TIMEOUT_S)
        others = [written(storage, enqueue(n, *(entry(key) for key in range(1, 7)))) for n in range(2, 12)]
    assert all(await asyncio.gather(first, *others))

    assert disk.syncs == before + 1 + 5, "two messages of six rows in each"


async def test_the_end_does_not_wait_for_reads_in_line(disk: Disk, open_storage: OpenStorage) -> None:
    storage = open_storage()
    assert await written(storage, session(1), enqueue(1, entry(1)))

    with disk.held() as reached:
        kept = [written(storage, session(2))]
        assert await asyncio.to_thread(reached.wait, TIMEOUT_S)
        reads = [asyncio.ensure_future(storage.resume(1)), asyncio.ensure_future(storage.claim(1, [1], 1))]
        await asyncio.sleep(0)  # they are in line
        kept.append(written(storage, session(3)))
        closing = asyncio.ensure_future(storage.close())
        await asyncio.sleep(0)
    await closing

    for read in reads:
        with pytest.raises(StorageFailed, match="closed"):
            await read
    assert await asyncio.gather(*kept) == [True, True]
    stored = await open_storage().load()
    assert [(each.saved.key, each.queued) for each in stored.sessions] == [(1, 1), (2, 0), (3, 0)]


async def test_acknowledgements_get_in_where_others_are_refused_up_to_as_many_again(
    disk: Disk, open_storage: OpenStorage, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(replace(STORAGE_LIMITS, pending_transactions_max=4))
    assert await written(storage, session(1), *(enqueue(n, entry(1, n)) for n in range(1, 9)))

    with disk.held():
        for key in range(2, 6):
            written(storage, session(key))
        for n in range(1, 7):
            storage.write([Acknowledged(1, n)])
    await storage.close()

    assert brief((await open_storage().resume(1)).inflight) == [(n, f"m{n}") for n in (5, 6, 7, 8)]
    assert len([record for record in caplog.records if "acknowledgements" in record.message]) == 1, "said once"


async def test_the_payloads_that_wait_are_bounded_too(disk: Disk, open_storage: OpenStorage) -> None:
    storage = open_storage(replace(STORAGE_LIMITS, pending_payload_bytes_max=1_000))
    assert await written(storage, session(1))
    big = Publication("a", b"x" * 500, 1)

    with disk.held():
        accepted = [written(storage, Enqueue(1, big, [entry(1)])), written(storage, Retain(big))]
        refused = written(storage, enqueue(2, entry(1)))
        storage.write([Acknowledged(1, 1)])
        assert not await refused
    assert await asyncio.gather(*accepted) == [True, True]

    assert await written(storage, enqueue(3, entry(1)))
    assert (await storage.claim(1, [1, 2, 3], 1)).removed_bytes == big.size + publication("m3").size


async def test_a_commit_takes_no_more_transactions_than_it_may(disk: Disk, open_storage: OpenStorage) -> None:
    storage = open_storage(replace(STORAGE_LIMITS, batch_transactions_max=10))
    assert await written(storage, session(1))
    before = disk.syncs

    with disk.held() as reached:
        first = written(storage, enqueue(1, entry(1)))
        assert await asyncio.to_thread(reached.wait, TIMEOUT_S)
        others = [written(storage, enqueue(n, entry(1))) for n in range(2, 47)]
    assert all(await asyncio.gather(first, *others))

    assert disk.syncs == before + 1 + 5


async def test_a_message_for_many_thousand_sessions_is_one_transaction(path: Path, open_storage: OpenStorage) -> None:
    storage = open_storage()
    assert await written(storage, *(session(key) for key in range(1, 6_002)))

    kept = written(storage, enqueue(1, *(entry(key, key % 2) for key in range(1, 6_002))), enqueue(2, entry(1)))

    assert await kept
    assert rows(path) == {"messages": 2, "queued": 3_001, "inflight": 3_001}


# Whose file it is


async def test_a_second_process_is_refused_until_the_first_is_killed(
    open_storage: OpenStorage, holder: subprocess.Popen[str]
) -> None:
    for _ in range(2):
        with pytest.raises(DatabaseInUse, match=rf"sessions\.db is in use .* \(pid {holder.pid}\)"):
            open_storage()

    holder.kill()
    holder.communicate()

    assert [each.saved for each in (await open_storage().load()).sessions] == [session(1)]


async def test_the_file_is_free_and_whole_once_the_storage_is_closed(path: Path, open_storage: OpenStorage) -> None:
    storage = open_storage()
    assert await written(storage, session(1))
    await storage.close()

    assert sorted(entry.name for entry in path.parent.iterdir()) == ["sessions.db", "sessions.db.lock"]
    assert len((await open_storage().load()).sessions) == 1


async def test_what_passes_through_is_readable_for_its_owner_alone(path: Path, open_storage: OpenStorage) -> None:
    assert await written(open_storage(), session(1))
    for name in ("sessions.db", "sessions.db-wal", "sessions.db-shm"):
        assert stat.S_IMODE(path.with_name(name).stat().st_mode) == 0o600, name


async def test_a_database_of_conversations_is_refused_and_not_touched(path: Path, open_storage: OpenStorage) -> None:
    await SqliteStore.open(path, SQLITE_LIMITS).close()
    before = content(path)

    for _ in range(2):
        with pytest.raises(DatabaseUnusable, match=r"sessions\.db is the database of `recado serve`, not of `recado b"):
            open_storage()

    assert content(path) == before


async def test_the_conversations_refuse_a_database_of_sessions_and_do_not_touch_it(
    path: Path, open_storage: OpenStorage
) -> None:
    await open_storage().close()
    before = content(path)

    for _ in range(2):
        with pytest.raises(
            DatabaseUnusable, match=r"sessions\.db is the database of `recado broker`, not of `recado s"
        ):
            SqliteStore.open(path, SQLITE_LIMITS)

    assert content(path) == before
    assert await written(open_storage(), session(1))


@pytest.mark.parametrize("application_id", [0, 77])
async def test_a_database_of_another_program_is_refused(
    path: Path, open_storage: OpenStorage, application_id: int
) -> None:
    db = apsw.Connection(str(path))
    db.execute(f"CREATE TABLE theirs (n INTEGER); PRAGMA application_id = {application_id}")
    db.close()
    before = content(path)

    with pytest.raises(DatabaseUnusable, match=r"is the database of another program, .* use another one"):
        open_storage()

    assert content(path) == before


async def test_a_file_of_a_newer_recado_is_refused_and_not_touched(path: Path, open_storage: OpenStorage) -> None:
    await open_storage().close()
    db = apsw.Connection(str(path))
    db.pragma("user_version", 99)

    for _ in range(2):
        with pytest.raises(DatabaseUnusable, match=r"newer Recado \(schema 99"):
            open_storage()

    assert db.pragma("user_version") == 99
    db.close()


@pytest.mark.usefixtures("no_database")
async def test_what_is_no_database_is_named_and_stays_free(open_storage: OpenStorage) -> None:
    for _ in range(2):
        with pytest.raises(DatabaseUnusable, match=r"cannot use .*sessions\.db"):
            open_storage()


async def test_two_storages_in_memory_know_nothing_of_each_other() -> None:
    one, two = SqliteStorage.open(None, STORAGE_LIMITS), SqliteStorage.open(None, STORAGE_LIMITS)
    assert await written(one, session(1), Retain(publication("x")))
    assert (await two.load()).sessions == []
    await one.close()
    await two.close()


def test_migrating_from_any_version_ends_in_the_same_schema() -> None:
    known = files.migrations(files.SESSIONS)
    assert [number for number, _ in known] == list(range(1, len(known) + 1))
    fresh = apsw.Connection(":memory:")
    files.migrate(fresh, files.SESSIONS)

    for version in range(len(known) + 1):
        db = apsw.Connection(":memory:")
        for number, sql in known[:version]:
            db.execute(sql)
            db.pragma("user_version", number)
        files.migrate(db, files.SESSIONS)
        listed = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        assert list(db.execute(listed)) == list(fresh.execute(listed))
        assert db.pragma("user_version") == len(known)
