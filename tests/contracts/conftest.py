"""Every store adapter, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recado.ports import Store
from tests.contracts.stores import ADAPTERS, Shelf


@pytest.fixture(params=sorted(ADAPTERS))
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(ADAPTERS[request.param], tmp_path)
    yield shelf
    await shelf.close()


@pytest.fixture
async def store(shelf: Shelf) -> Store:
    return shelf.open()
