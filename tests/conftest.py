"""Fixtures that several kinds of tests share: real servers as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, which it may kill and restart."""
    server = Server.serve(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it is and use conversation ids of their own; it must stop cleanly."""
    # Together the tests' people type and read faster than people do.
    server = Server.serve(tmp_path_factory.mktemp("shared-server"), "--limit.signal_rate_max=10000")
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.close()
