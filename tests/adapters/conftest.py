"""SQLite stores of the test's own, on a disk that it commands."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from recado.adapters.store.sqlite import SqliteLimits, SqliteStore
from tests.adapters.disk import Disk
from tests.contracts.stores import SQLITE_LIMITS

OpenStore = Callable[..., SqliteStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recado.db"


@pytest.fixture
async def open_store(path: Path) -> AsyncIterator[OpenStore]:
    """Open the store at `path`; it is closed after the test."""
    opened: list[SqliteStore] = []

    def open_store(limits: SqliteLimits = SQLITE_LIMITS) -> SqliteStore:
        opened.append(SqliteStore.open(path, limits))
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Name it before `open_store`, so that the store opens its files there."""
    disk = Disk(f"disk-{uuid.uuid4().hex}")
    yield disk
    disk.unregister()
