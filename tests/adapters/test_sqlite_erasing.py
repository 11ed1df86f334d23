"""What is erased is gone from the SQLite store's files: its bytes are in none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import apsw
import pytest

from recado.adapters.store.sqlite import SqliteStore
from recado.adapters.store.sqlite.statements import SQL
from recado.adapters.store.sqlite.truncation import Truncation
from recado.adapters.store.sqlite.writer import Writer
from recado.chat.errors import Unavailable
from recado.ports import Store
from tests.adapters.conftest import OpenStore
from tests.adapters.disk import Disk
from tests.contracts.stores import (
    SQLITE_LIMITS,
    change,
    create,
    message,
    send,
    whole_log,
)

PROMPT = replace(SQLITE_LIMITS, wal_truncate_interval_ms=10)
SECRET = "what nobody should find again"
TIMEOUT_S = 10.0


def files_with(path: Path, text: str) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if text.encode() in each.read_bytes())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not is_so():  # noqa: ASYNC110  # nothing tells when a file was written
            await asyncio.sleep(0.005)


async def edit(store: Store) -> None:
    await change(store, 1, "another body")


async def delete(store: Store) -> None:
    await change(store, 1, None)


async def erase_conversation(store: Store) -> None:
    await store.erase_conversation("c", 9_000)


async def erase_user(store: Store) -> None:
    await store.erase_user("ana", 9_000)


async def erase_older(store: Store) -> None:
    await store.erase_older(9_000)


@pytest.mark.parametrize("erase", [edit, delete, erase_conversation, erase_user, erase_older])
@pytest.mark.parametrize("copies", [1, 200], ids=["short", "long"])
async def test_the_bytes_of_an_erased_body_are_soon_in_none_of_the_files(
    path: Path, open_store: OpenStore, erase: Callable[[Store], object], copies: int
) -> None:
    store = open_store(PROMPT)
    await create(store, "ana", "bruno")
    await create(store, "bruno", conversation="other")
    await send(store, "ana", "k1", SECRET * copies)
    await send(store, "bruno", "k1", "stays", conversation="other", at=9_999)
    assert files_with(path, SECRET) != []

    await erase(store)  # type: ignore[misc]

    await until(lambda: files_with(path, SECRET) == [])
    assert files_with(path, "stays") != []
    await store.close()
    assert files_with(path, SECRET) == []


async def test_of_what_is_erased_no_row_is_left_but_the_conversations_id(open_store: OpenStore) -> None:
    store = open_store(PROMPT)
    await create(store, "ana", "bruno")
    await create(store, "ana", "bruno", conversation="other")
    many = SQLITE_LIMITS.erase_rows_max * 4
    await asyncio.gather(*(store.append_message(message("ana", str(n))) for n in range(many)))
    await asyncio.gather(*(store.append_message(message("ana", str(n), conversation="other")) for n in range(many)))

    await store.erase_conversation("c", 9_000)
    await store.erase_user("ana", 9_000)

    left = {table: store._db.execute(f"SELECT * FROM {table}").fetchall() for table in ("erasures", "members")}
    assert left["erasures"] == []
    assert [row[1:3] for row in left["members"]] == [(2, "bruno")]
    assert store._db.execute("SELECT count(*) FROM events WHERE conversation = 1").fetchall() == [(0,)]
    tombstone = store._db.execute("SELECT id, subject, metadata, erased_at FROM conversations").fetchall()[0]
    assert tombstone == ("c", None, "{}", 9_000)


async def test_what_sessions_kept_of_an_erased_conversation_goes_in_chunks_as_its_log_does(
    open_store: OpenStore,
) -> None:
    store = open_store(PROMPT)
    await create(store, "ana", "bruno")
    await store.erase_conversation("c", 9_000)
    chunk = SQLITE_LIMITS.erase_rows_max
    for session in range(1, chunk * 2 + 2):
        store._db.execute(
            "INSERT INTO sessions (key, user, client_id, expiry_interval) VALUES (?, 'ana', '', 1)", (session,)
        )
        store._db.execute("INSERT INTO cursors (session, conversation, seq) VALUES (?, 1, 1)", (session,))
        store._db.execute("INSERT INTO own_events VALUES (?, 1, 1)", (session,))
        store._db.execute("INSERT INTO own_events VALUES (?, 1, 2)", (session,))
    of_the_log = "SELECT (SELECT count(*) FROM cursors) + (SELECT count(*) FROM own_events)"
    left: list[int] = [chunk * 6 + 3]

    def clear(writer: Writer) -> bool:
        may_be_more = writer.clear_log(1, chunk)
        ((rows,),) = writer.db.execute(of_the_log).fetchall()
        left.append(cast(int, rows))
        return may_be_more

    while await store._write(clear):
        pass
    assert left == [*range(chunk * 6 + 3, 0, -chunk), 0, 0]


async def test_the_log_is_emptied_also_after_a_failure_that_nobody_thought_of(
    path: Path, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(PROMPT)
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", SECRET)
    truncate, failures = store._truncation.truncate, [MemoryError(), RuntimeError("no thread is left")]
    monkeypatch.setattr(store._truncation, "truncate", lambda: _raise(failures.pop()) if failures else truncate())

    await delete(store)

    await until(lambda: files_with(path, SECRET) == [])
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def _raise(error: Exception) -> bool:
    raise error


async def test_readers_that_are_in_the_way_delay_it_and_no_more(path: Path, open_store: OpenStore) -> None:
    store = open_store(PROMPT)
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", SECRET)
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()

    await delete(store)
    truncation = Truncation(path, 0.01)
    assert not truncation.truncate()
    assert files_with(path, SECRET) != []
    assert (await send(store, "ana", "k2", "writers go on")).created
    reader.execute("COMMIT")
    reader.close()

    await until(lambda: files_with(path, SECRET) == [])
    await truncation.close()


async def test_what_a_crash_left_in_the_write_ahead_log_goes_at_the_next_start(
    path: Path, open_store: OpenStore, tmp_path: Path
) -> None:
    store = open_store(PROMPT)
    await create(store, "ana", "bruno")
    await send(store, "ana", "k1", SECRET)
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()  # is in the way until the crash
    await delete(store)
    copy = tmp_path / "crashed"
    copy.mkdir()
    for name in ("recado.db", "recado.db-wal"):
        (copy / name).write_bytes(path.with_name(name).read_bytes())
    reader.close()
    assert SECRET.encode() in (copy / "recado.db-wal").read_bytes()

    again = SqliteStore.open(copy / "recado.db", PROMPT)
    try:
        assert files_with(copy / "recado.db", SECRET) == []
        assert [event.type for event in await whole_log(again)][-1] == "deleted"
    finally:
        await again.close()


async def test_a_chunk_that_fails_on_a_full_disk_is_made_up_for(disk: Disk, open_store: OpenStore) -> None:
    store = open_store(PROMPT)
    await create(store, "ana", "bruno")
    await asyncio.gather(*(store.append_message(message("ana", str(n))) for n in range(20)))

    def fail(committed: object) -> None:
        disk.sync_error = apsw.FullError("full")

    store.on_committed = fail
    with pytest.raises(Unavailable):
        await store.erase_user("ana", 9_000)
    store.on_committed = lambda committed: None
    disk.sync_error = None
    assert any(event.body for event in await whole_log(store))

    await store.finish_erasures(9_500)

    log = await whole_log(store)
    assert {event.body for event in log} == {None}
    assert [event.type for event in log[20:]] == ["member_removed", "user_erased"]


async def test_retention_looks_at_one_event_of_each_conversation(open_store: OpenStore) -> None:
    store = open_store()
    await create(store, "ana")
    plan = store._db.execute("EXPLAIN QUERY PLAN " + SQL["overdue"], (1, 0, 10_000)).fetchall()
    assert [step[3] for step in plan] == [
        "SEARCH c USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        "SEARCH e USING PRIMARY KEY (conversation=? AND seq=?)",
    ]
