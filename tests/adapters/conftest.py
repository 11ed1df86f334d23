"""Stores of the test's own: SQLite on a disk that it commands, and nodes on a PostgreSQL database."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recado.adapters.store.sqlite import SqliteLimits, SqliteStore
from tests.adapters.database_nodes import Node
from tests.adapters.disk import Disk
from tests.contracts.stores import SQLITE_LIMITS

OpenStore = Callable[..., SqliteStore]
OpenNode = Callable[..., Awaitable[Node]]


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


@pytest.fixture
async def open_node(postgres_database: str) -> AsyncIterator[OpenNode]:
    """Open one more store on the test's PostgreSQL database, as another process would; all are closed afterwards."""
    opened: list[Node] = []

    async def open_node(*arguments: Any, **options: Any) -> Node:
        opened.append(await Node.open(postgres_database, *arguments, **options))
        return opened[-1]

    yield open_node
    await asyncio.gather(*(node.store.close() for node in opened))
