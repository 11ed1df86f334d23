"""`backup` copies a live database whole, as of one moment, and never over anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from recado.adapters.store.sqlite import DatabaseUnusable, SqliteStore, backup
from tests.adapters.conftest import OpenStore
from tests.contracts.stores import SQLITE_LIMITS, create, message, send, seqs, whole_log

PAGE_BYTES = 4096


async def test_a_backup_during_writes_has_all_that_was_acknowledged_before_it_and_no_half(
    path: Path, open_store: OpenStore
) -> None:
    store = open_store()
    await create(store, "ana", "bruno")
    await create(store, "ana", conversation="other")
    await asyncio.gather(*(store.append_message(message("ana", f"early{n}", "x" * 500)) for n in range(1_000)))
    copy = path.with_name("copy.db")
    copied = asyncio.create_task(asyncio.to_thread(backup, path, copy))
    late = 0
    while not copied.done():
        await asyncio.gather(
            *(store.append_message(message("bruno", f"late{late + n}")) for n in range(10)),
            *(store.append_message(message("ana", f"late{late + n}", conversation="other")) for n in range(10)),
        )
        late += 10

    assert await copied == copy.stat().st_size
    assert late > 0
    restored = SqliteStore.open(copy, SQLITE_LIMITS)
    try:
        log = await whole_log(restored)
        assert [event.id for event in log[:1_000]] == [f"early{n}" for n in range(1_000)]
        assert log == (await store.events("c", None, 0, None, len(log))).events
        for conversation in ("c", "other"):
            page = await restored.events(conversation, None, 0, None, 1_000_000)
            assert seqs(page.events) == list(range(1, page.last_seq + 1))
        assert (await send(restored, "ana", "early7")).created is False
        assert (await send(restored, "ana", "new")).event.seq == len(log) + 1
    finally:
        await restored.close()


async def test_a_backup_is_one_file_and_leaves_nothing_beside_it(path: Path, open_store: OpenStore) -> None:
    await create(open_store(), "ana")
    folder = path.with_name("backups")
    folder.mkdir()

    backup(path, folder / "copy.db")

    assert [entry.name for entry in folder.iterdir()] == ["copy.db"]


async def test_a_backup_overwrites_nothing(path: Path, open_store: OpenStore) -> None:
    await create(open_store(), "ana")
    taken = path.with_name("taken")
    taken.write_text("a letter")

    with pytest.raises(DatabaseUnusable, match="taken exists; a backup does not overwrite"):
        backup(path, taken)

    assert taken.read_text() == "a letter"


def test_there_is_no_backup_of_what_is_not_there(path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match=r"no database .*recado\.db"):
        backup(path, path.with_name("copy.db"))
    assert not path.exists()


async def test_a_backup_to_a_missing_folder_says_so(path: Path, open_store: OpenStore) -> None:
    await create(open_store(), "ana")
    with pytest.raises(DatabaseUnusable, match="cannot copy"):
        backup(path, path.parent / "missing" / "copy.db")


def test_what_is_no_database_is_not_copied(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(DatabaseUnusable, match="cannot copy"):
        backup(path, path.with_name("copy.db"))
    assert [entry.name for entry in path.parent.iterdir()] == ["recado.db"]


def damage(path: Path, bytes_from: int, bytes_to: int) -> None:
    whole = path.read_bytes()
    assert len(whole) >= bytes_to
    path.write_bytes(whole[:bytes_from] + b"\xff" * (bytes_to - bytes_from) + whole[bytes_to:])


@pytest.mark.parametrize(
    ("bytes_from", "bytes_to"), [(6 * PAGE_BYTES, 20 * PAGE_BYTES), (35 * PAGE_BYTES + 8, 35 * PAGE_BYTES + 20)]
)
async def test_a_damaged_database_gives_no_backup_and_leaves_nothing_beside_it(
    path: Path, open_store: OpenStore, bytes_from: int, bytes_to: int
) -> None:
    store = open_store()
    await create(store, "ana")
    await asyncio.gather(*(store.append_message(message("ana", str(n), "x" * 500)) for n in range(200)))
    await store.close()
    damage(path, bytes_from, bytes_to)
    folder = path.with_name("backups")
    folder.mkdir()

    with pytest.raises(DatabaseUnusable):
        backup(path, folder / "copy.db")

    assert list(folder.iterdir()) == []
