"""What the SQLite store promises beyond the contract: durability, one process per file, migrations, limits, backups."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from recado.adapters.store.sqlite import DatabaseInUse, DatabaseUnusable, SqliteStore, backup, files
from recado.chat.errors import Unavailable
from recado.chat.event import Committed
from recado.ports import MessageChange, Sent
from tests.adapters.conftest import OpenStore
from tests.adapters.disk import TIMEOUT_S, Disk
from tests.contracts.stores import SQLITE_LIMITS, change, create, message, send, seqs, whole_log

REPOSITORY = Path(__file__).parents[2]
HOLD_A_DATABASE = """
import asyncio, sys
from pathlib import Path
from recado.adapters.store.sqlite import SqliteStore
from tests.contracts.stores import SQLITE_LIMITS, create, send

async def main():
    store = SqliteStore.open(Path(sys.argv[1]), SQLITE_LIMITS)
    await create(store, "ana")
    await send(store, "ana", "1")
    print("held", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


# Durability


async def test_the_file_is_written_ahead_and_fully_synchronous(path: Path, open_store: OpenStore) -> None:
    store = open_store()
    await create(store, "ana")

    assert store._db.pragma("journal_mode") == "wal"
    assert store._db.pragma("synchronous") == 2, "FULL"
    assert store._db.pragma("foreign_keys") == 1
    assert path.with_name("recado.db-wal").stat().st_size > 0


async def test_every_acknowledged_message_was_synced_to_disk_before(disk: Disk, open_store: OpenStore) -> None:
    store = open_store()
    await create(store, "ana")
    for n in range(10):
        before = disk.syncs
        await send(store, "ana", str(n))
        assert disk.syncs > before


async def test_messages_that_arrive_during_a_commit_share_the_next_one(disk: Disk, open_store: OpenStore) -> None:
    store = open_store()
    await create(store, "ana")
    before = disk.syncs

    with disk.held() as reached:
        first = asyncio.ensure_future(store.append_message(message("ana", "first")))
        assert await asyncio.to_thread(reached.wait, TIMEOUT_S)
        others = [store.append_message(message("ana", str(n))) for n in range(100)]
    await asyncio.gather(first, *others)

    assert disk.syncs == before + 2, "one for the first, one for the hundred that came meanwhile"


async def test_nothing_is_acknowledged_told_or_readable_before_it_is_on_disk(disk: Disk, open_store: OpenStore) -> None:
    store = open_store()
    await create(store, "ana")
    told: list[Committed] = []
    store.on_committed = told.extend

    with disk.held() as reached:
        sent = asyncio.ensure_future(store.append_message(message("ana", "1")))
        assert await asyncio.to_thread(reached.wait, TIMEOUT_S)
        assert await whole_log(store) == []
        assert (sent.done(), told) == (False, [])

    event = (await sent).event
    assert await whole_log(store) == [event] == [entry.event for entry in told]


async def test_a_write_waits_while_another_connection_holds_the_file(path: Path, open_store: OpenStore) -> None:
    store = open_store()
    await create(store, "ana")
    told: list[Committed] = []
    store.on_committed = told.extend
    other = apsw.Connection(str(path))

    other.execute("BEGIN IMMEDIATE")
    sent = asyncio.ensure_future(store.append_message(message("ana", "1")))
    assert await whole_log(store) == []
    assert (sent.done(), told) == (False, [])
    other.execute("ROLLBACK")

    assert (await sent).created
    assert len(told) == 1
    other.close()


# A store that cannot write


@pytest.mark.parametrize("error", [apsw.FullError("full"), apsw.IOError("broken")], ids=["full", "broken"])
@pytest.mark.parametrize("moment", ["sync_error", "write_error"])
async def test_a_disk_that_fails_makes_the_whole_batch_unavailable_and_nothing_of_it_stays(
    disk: Disk, path: Path, open_store: OpenStore, error: Exception, moment: str
) -> None:
    store = open_store()
    await create(store, "ana")
    await create(store, "ana", conversation="d")
    await send(store, "ana", "before")
    told: list[Committed] = []
    store.on_committed = told.extend

    setattr(disk, moment, error)
    asked = [store.append_message(message("ana", f"failed{n}", conversation="cd"[n % 2])) for n in range(10)]
    answers = await asyncio.gather(*asked, store.put_member("c", "bruno", None, 1, 10), return_exceptions=True)
    setattr(disk, moment, None)

    assert [type(answer) for answer in answers] == [Unavailable] * 11
    assert told == []
    assert (await store.conversation("c", None)).members == ["ana"]
    assert (await send(store, "ana", "failed4")).event.seq == 2, "trying again is right, and is no repetition"
    assert (await store.conversation("d", None)).last_seq == 0
    await store.close()
    store = open_store()
    assert [event.id for event in await whole_log(store)] == ["before", "failed4"]


async def test_what_was_asked_for_before_a_failure_of_the_disk_was_told_overtakes_nothing_that_failed(
    disk: Disk, open_store: OpenStore
) -> None:
    store = open_store()
    await create(store, "ana")
    disk.next_sync_error = apsw.IOError("broken for a moment")

    with disk.held() as reached:
        asked = [asyncio.ensure_future(store.append_message(message("ana", "first")))]
        assert await asyncio.to_thread(reached.wait, TIMEOUT_S)
        asked.append(asyncio.ensure_future(store.append_message(message("ana", "second"))))
        await asyncio.sleep(0)
    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    for message_id in ("first", "second"):
        assert (await send(store, "ana", message_id)).created
    assert [event.id for event in await whole_log(store)] == ["first", "second"]


def test_a_full_disk_loses_nothing_that_was_acknowledged_and_works_again_afterwards(path: Path) -> None:
    script = [sys.executable, "-m", "tests.adapters.full_disk", str(path)]
    ran = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(ran.stdout)

    db = apsw.Connection(str(path))
    stored = list(db.execute("SELECT seq, id FROM events ORDER BY seq"))
    db.close()
    assert said["refused"], "the disk was full at some time"
    assert not said["refused_after"]
    assert [seq for seq, _ in stored] == list(range(1, len(stored) + 1))
    assert [message_id for _, message_id in stored] == said["acknowledged"]


async def test_a_write_that_the_store_chokes_on_fails_alone(open_store: OpenStore) -> None:
    store = open_store()
    await create(store, "ana", "bruno")
    told: list[Committed] = []
    store.on_committed = told.extend
    poisoned = "\ud800"  # no UTF-8 has this; the conversations refuse it before it gets here

    asked = [message("ana", str(n), poisoned if n == 25 else "hi") for n in range(50)]
    answers = await asyncio.gather(*(store.append_message(each) for each in asked), return_exceptions=True)

    assert [n for n, answer in enumerate(answers) if not isinstance(answer, Sent)] == [25]
    assert isinstance(answers[25], Unavailable)
    log = await whole_log(store)
    assert seqs(log) == list(range(1, 50))
    assert [entry.event for entry in told] == log
    assert (await send(store, "bruno", "later")).event.seq == 50


async def test_a_file_that_another_process_keeps_locked_makes_a_batch_unavailable_in_one_busy_timeout(
    path: Path, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BUSY_TIMEOUT_MS", 100)
    store = open_store()
    await create(store, "ana")
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")

    started = time.monotonic()
    asked = [store.append_message(message("ana", str(n))) for n in range(30)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    waited_s = time.monotonic() - started
    other.execute("ROLLBACK")
    other.close()

    assert {type(answer) for answer in answers} == {Unavailable}
    assert waited_s < 1, f"30 writes waited {waited_s:.1f} s for one lock of 0.1 s"
    assert (await send(store, "ana", "again")).event.seq == 1


# Limits


async def test_one_more_write_than_may_wait_is_refused_and_the_others_are_not(
    disk: Disk, open_store: OpenStore
) -> None:
    store = open_store(replace(SQLITE_LIMITS, pending_writes_max=3))
    await create(store, "ana")

    with disk.held():
        accepted = [store.append_message(message("ana", str(n))) for n in range(3)]
        with pytest.raises(Unavailable):
            store.append_message(message("ana", "one too many"))
        with pytest.raises(Unavailable):
            await store.ping()
    await asyncio.gather(*accepted)

    assert (await send(store, "ana", "there is room again")).event.seq == 4


async def test_one_users_waiting_messages_leave_room_for_those_of_others(disk: Disk, open_store: OpenStore) -> None:
    store = open_store(replace(SQLITE_LIMITS, pending_sends_per_user_max=2))
    await create(store, "ana", "bruno")

    with disk.held():
        accepted = [store.append_message(message("ana", str(n))) for n in range(2)]
        with pytest.raises(Unavailable):
            store.append_message(message("ana", "one too many"))
        with pytest.raises(Unavailable):
            await store.change_message(MessageChange("c", 1, "ana", None, 1, 0))
        accepted.append(store.append_message(message("bruno", "0")))
    await asyncio.gather(*accepted)

    assert (await send(store, "ana", "there is room again")).event.seq == 4


async def test_the_changes_of_the_host_are_no_users_and_take_no_users_room(disk: Disk, open_store: OpenStore) -> None:
    store = open_store(replace(SQLITE_LIMITS, pending_sends_per_user_max=1))
    await create(store, "ana")
    await send(store, "ana", "0")

    with disk.held():
        changes = [asyncio.ensure_future(change(store, 1, f"by the host, {n}", None)) for n in range(3)]
        await asyncio.sleep(0)
    assert [changed.changed for changed in await asyncio.gather(*changes)] == [True] * 3


async def test_one_more_read_than_may_wait_is_refused_and_the_others_are_not(open_store: OpenStore) -> None:
    store = open_store(replace(SQLITE_LIMITS, pending_reads_max=3))
    await create(store, "ana")

    answers = await asyncio.gather(*(store.conversation("c", "ana") for _ in range(5)), return_exceptions=True)

    assert [isinstance(answer, Unavailable) for answer in answers] == [False, False, False, True, True]
    assert (await store.conversation("c", "ana")).id == "c"


async def test_a_commit_takes_no_more_writes_than_it_may(disk: Disk, open_store: OpenStore) -> None:
    store = open_store(replace(SQLITE_LIMITS, batch_writes_max=10))
    await create(store, "ana")
    batches: list[int] = []

    def on_committed(committed: Sequence[Committed]) -> None:
        batches.append(len(committed))

    store.on_committed = on_committed
    with disk.held():
        asked = [store.append_message(message("ana", str(n))) for n in range(45)]
    await asyncio.gather(*asked)

    assert sum(batches) == 45
    assert max(batches) == 10


# One process per file


@pytest.fixture
def holder(path: Path) -> subprocess.Popen[str]:
    """Another process that has the store open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_DATABASE, str(path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


async def test_a_second_process_is_refused_and_told_which_one_holds_the_file_until_that_is_killed(
    path: Path, open_store: OpenStore, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(DatabaseInUse, match=rf"recado\.db is in use .* \(pid {holder.pid}\)"):
        open_store()
    with pytest.raises(DatabaseInUse, match=rf"pid {holder.pid}\)"):
        open_store()

    holder.kill()
    holder.communicate()

    store = open_store()
    assert [event.id for event in await whole_log(store)] == ["1"], "what it had acknowledged is there"
    assert path.with_name("recado.db.lock").read_text() == str(os.getpid())


async def test_the_file_is_free_once_the_store_is_closed(open_store: OpenStore) -> None:
    store = open_store()
    with pytest.raises(DatabaseInUse, match=f"pid {os.getpid()}"):
        open_store()
    await create(store, "ana")
    await store.close()
    await store.close()

    assert (await open_store().conversation("c", "ana")).id == "c"


@pytest.fixture
def no_database(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)


@pytest.mark.usefixtures("no_database")
async def test_a_database_that_cannot_be_opened_is_named_and_stays_free(open_store: OpenStore) -> None:
    for _ in range(2):
        with pytest.raises(DatabaseUnusable, match=r"cannot use .*recado\.db"):
            open_store()


async def test_a_store_that_was_closed_leaves_one_whole_file(path: Path, open_store: OpenStore) -> None:
    store = open_store()
    await create(store, "ana")
    await send(store, "ana", "1")
    await store.close()

    assert sorted(entry.name for entry in path.parent.iterdir()) == ["recado.db", "recado.db.lock"]
    assert [event.id for event in await whole_log(open_store())] == ["1"]


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="is the folder there and writable"):
        SqliteStore.open(tmp_path / "missing" / "recado.db", SQLITE_LIMITS)


async def test_what_people_wrote_is_readable_for_its_owner_alone(path: Path, open_store: OpenStore) -> None:
    await create(open_store(), "ana")
    backup(path, path.with_name("copy.db"))
    for name in ("recado.db", "recado.db-wal", "recado.db-shm", "copy.db"):
        assert stat.S_IMODE(path.with_name(name).stat().st_mode) == 0o600, name


# Migrations


def schema(db: apsw.Connection) -> list[tuple[object, ...]]:
    return list(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"))


def test_migrating_from_any_version_ends_in_the_same_schema() -> None:
    known = files.migrations()
    assert [number for number, _ in known] == list(range(1, len(known) + 1))
    fresh = apsw.Connection(":memory:")
    files.migrate(fresh)

    for version in range(len(known) + 1):
        db = apsw.Connection(":memory:")
        for number, sql in known[:version]:
            db.execute(sql)
            db.pragma("user_version", number)
        files.migrate(db)
        assert schema(db) == schema(fresh)
        assert db.pragma("user_version") == len(known)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "CREATE TABLE half (done INTEGER); CREATE TABLE half (done INTEGER);"
    monkeypatch.setattr(files, "migrations", lambda schema: [(1, "CREATE TABLE whole (done INTEGER)"), (2, broken)])
    db = apsw.Connection(":memory:")

    with pytest.raises(apsw.SQLError):
        files.migrate(db)

    assert [name for _, name, _, _ in schema(db)] == ["whole"]
    assert db.pragma("user_version") == 1


async def test_a_file_of_a_newer_recado_is_refused_and_not_touched(path: Path, open_store: OpenStore) -> None:
    await open_store().close()
    db = apsw.Connection(str(path))
    db.pragma("user_version", 99)

    for _ in range(2):
        with pytest.raises(DatabaseUnusable, match=r"newer Recado \(schema 99"):
            open_store()

    assert db.pragma("user_version") == 99
    db.close()
