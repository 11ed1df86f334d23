"""Every store adapter, one after the other; every storage adapter likewise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from deploy.services.postgres import Postgres
from recado.broker.storage import QueueStorage
from recado.ports import Store
from tests.contracts import storages
from tests.contracts.storages import StorageShelf
from tests.contracts.stores import ADAPTERS, NewDatabase, Shelf


@pytest.fixture(params=sorted(ADAPTERS))
def adapter(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# The tables that others refer to come last.
CLEAR = """
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'recado'
        AND tablename NOT IN ('schema_version', 'log_end') ORDER BY tablename = 'conversations'
    LOOP EXECUTE format('DELETE FROM recado.%I', name); END LOOP;
    UPDATE recado.log_end SET position = 0;
END $$
"""


class PostgresDatabases:
    """Empty databases on one server. Each is used again by a later test: to make one takes longer than to clear it."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._free: list[str] = []
        self._used: list[str] = []

    async def new(self) -> str:
        """The URL of one."""
        if self._free:
            url = self._free.pop()
            db = await asyncpg.connect(url)
            await db.execute(CLEAR)
            await db.close()
        else:
            url = self._server.create_database(f"contract_{len(self._used)}")
        self._used.append(url)
        return url

    def done(self) -> None:
        """The test is over."""
        self._free += self._used
        self._used.clear()


@pytest.fixture(scope="session")
def postgres_databases(postgres: Postgres) -> PostgresDatabases:
    return PostgresDatabases(postgres)


@pytest.fixture
def new_database(adapter: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewDatabase]:
    """Makes an empty database for the adapter: its path or URL. A server is started only if one is needed."""
    if adapter == "sqlite":
        numbers = count()

        async def new_file() -> str:
            return str(tmp_path / f"recado-{next(numbers)}.db")

        yield new_file
    else:
        made = request.getfixturevalue("postgres_databases")
        yield made.new
        made.done()


@pytest.fixture
async def shelf(adapter: str, new_database: NewDatabase) -> AsyncIterator[Shelf]:
    shelf = Shelf(ADAPTERS[adapter], await new_database())
    yield shelf
    await shelf.close()


@pytest.fixture
async def store(shelf: Shelf) -> Store:
    return await shelf.open()


@pytest.fixture(params=sorted(storages.ADAPTERS))
async def storage_shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StorageShelf]:
    shelf = StorageShelf(storages.ADAPTERS[request.param], tmp_path)
    yield shelf
    await shelf.close()


@pytest.fixture
async def storage(storage_shelf: StorageShelf) -> QueueStorage:
    """Loaded, and without any session."""
    storage = storage_shelf.open()
    await storage.load()
    return storage
