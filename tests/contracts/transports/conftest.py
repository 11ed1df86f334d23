"""A server for the contract, one that may be killed, and each test's own stage on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from deploy.services.child_process import running
from tests.contracts.transports import EVERY
from tests.contracts.transports.event_stream import KEEPALIVE_S
from tests.contracts.transports.stage import Stage
from tests.support.server import Server

LIMITS = {
    "sse_keepalive_s": KEEPALIVE_S,
    "presence_grace_s": 1,
    "signal_rate_max": 10_000,
    "write_cache_bytes_max": 1024 * 1024,  # it fills as the log grows, and would hide what a reader costs
}


def new_server(factory: pytest.TempPathFactory, **limits: int) -> Server:
    options = (f"--limit.{name}={number}" for name, number in {**LIMITS, **limits}.items())
    return Server.serve(factory.mktemp("contract"), *options)


@pytest.fixture(scope="session")
def contract_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(new_server(tmp_path_factory)) as server:
        yield server
        server.stop()


@pytest.fixture(scope="session")
def killed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Whoever kills it starts it again."""
    with running(new_server(tmp_path_factory)) as server:
        yield server


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Everything is read from the store, so that memory says nothing of who reads what and when."""
    with running(new_server(tmp_path_factory, recent_bytes_max=1)) as server:
        yield server
        server.stop()


@pytest.fixture(params=EVERY)
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def stage(contract_server: Server) -> Iterator[Stage]:
    with ExitStack() as closer:
        yield Stage(contract_server, closer)


@pytest.fixture
def stage_of_the_killed(killed_server: Server) -> Iterator[Stage]:
    with ExitStack() as closer:
        yield Stage(killed_server, closer)


@pytest.fixture
def stage_of_the_store(store_server: Server) -> Iterator[Stage]:
    with ExitStack() as closer:
        yield Stage(store_server, closer)


@pytest.fixture(params=["stage", "stage_of_the_store"])
def either_stage(request: pytest.FixtureRequest) -> Stage:
    """For what may go wrong in the one way of reading and not in the other."""
    stage = request.getfixturevalue(request.param)
    assert isinstance(stage, Stage)
    return stage
