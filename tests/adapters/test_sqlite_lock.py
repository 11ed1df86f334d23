"""One server per database, by whatever name it is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recado.adapters.broker.sqlite import SqliteStorage
from recado.adapters.store.sqlite import DatabaseInUse, DatabaseUnusable, SqliteStore
from recado.app.limits import DEFAULT
from tests.adapters.conftest import OpenStore
from tests.contracts.stores import SQLITE_LIMITS, create, send, whole_log


@pytest.fixture
def link(tmp_path: Path, path: Path) -> Path:
    """Another name for the database, in another folder."""
    folder = tmp_path / "linked"
    folder.mkdir()
    link = folder / "other.db"
    link.symlink_to(path)
    return link


async def test_a_database_in_use_is_in_use_through_a_symbolic_link_too(open_store: OpenStore, link: Path) -> None:
    open_store()

    with pytest.raises(DatabaseInUse, match=f"pid {os.getpid()}"):
        SqliteStore.open(link, SQLITE_LIMITS)


async def test_a_database_opened_through_a_symbolic_link_is_in_use_by_its_own_name(
    open_store: OpenStore, link: Path
) -> None:
    store = SqliteStore.open(link, SQLITE_LIMITS)
    await create(store, "ana")
    await send(store, "ana", "1")

    with pytest.raises(DatabaseInUse, match=f"pid {os.getpid()}"):
        open_store()

    await store.close()
    assert [event.id for event in await whole_log(open_store())] == ["1"]


async def test_a_database_with_a_second_hard_link_is_refused_until_that_is_gone(
    open_store: OpenStore, path: Path
) -> None:
    await open_store().close()
    second = path.with_name("second.db")
    second.hardlink_to(path)

    for name in (path, second):
        with pytest.raises(DatabaseUnusable, match=r"has 2 names \(hard links\)"):
            SqliteStore.open(name, SQLITE_LIMITS)

    second.unlink()
    open_store()


async def test_the_sessions_of_the_stand_alone_server_are_locked_through_a_symbolic_link_too(
    link: Path, path: Path
) -> None:
    storage = SqliteStorage.open(path, DEFAULT.storage)

    with pytest.raises(DatabaseInUse, match=f"pid {os.getpid()}"):
        SqliteStorage.open(link, DEFAULT.storage)
    await storage.close()
