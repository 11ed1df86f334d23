"""Every store adapter, one after the other; every storage adapter likewise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recado.broker.storage import QueueStorage
from recado.ports import Store
from tests.contracts import storages
from tests.contracts.storages import StorageShelf
from tests.contracts.stores import ADAPTERS, Shelf


@pytest.fixture(params=sorted(ADAPTERS))
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(ADAPTERS[request.param], tmp_path)
    yield shelf
    await shelf.close()


@pytest.fixture
async def store(shelf: Shelf) -> Store:
    return shelf.open()


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
