"""Fixtures that several kinds of tests share: real servers as processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.services.child_process import running
from deploy.services.mosquitto import Mosquitto
from deploy.services.postgres import Postgres
from deploy.services.sqs import CREDENTIALS, Sqs
from tests.support.mosquitto import RecadoAtMosquitto
from tests.support.rabbitmq import RecadoAtRabbitmq
from tests.support.server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, which it may kill and restart."""
    with running(Server.serve(tmp_path)) as server:
        yield server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it is and use conversation ids of their own; it must stop cleanly."""
    # Together the tests' people type and read faster than people do.
    with running(Server.serve(tmp_path_factory.mktemp("shared-server"), "--limit.signal_rate_max=10000")) as server:
        yield server
        server.stop()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="recado-postgres-") as folder:
        Path(folder).chmod(0o755)  # its account is not that of the tests, if they run as root
        with running(Postgres(Path(folder) / "cluster", durable=False)) as server:
            yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests that leave it running, each with a database of its own."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that the test may kill and restart, with a database `recado`."""
    with running_postgres() as server:
        server.create_database("recado")
        yield server


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"test_{uuid4().hex}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def at_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecadoAtRabbitmq]:
    """One RabbitMQ cluster, whole, with a server that all tests share who use users of their own."""
    with running(RecadoAtRabbitmq(tmp_path_factory.mktemp("rabbitmq"))) as both:
        yield both
        both.server.stop()


@pytest.fixture(scope="session")
def sqs_credentials() -> Iterator[None]:
    """In the environment, where AWS's own tools look for them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def sqs(sqs_credentials: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqs]:
    """One stand-in for SQS for all tests that leave it running, each with queues of its own."""
    with running(Sqs(tmp_path_factory.mktemp("sqs"))) as sqs:
        yield sqs


@pytest.fixture
def mortal_sqs(sqs_credentials: None, tmp_path: Path) -> Iterator[Sqs]:
    """One of the test's own, which it may kill and restart."""
    with running(Sqs(tmp_path / "sqs")) as sqs:
        yield sqs


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One Mosquitto for all tests that leave it running, and use users of their own."""
    with running(Mosquitto(tmp_path_factory.mktemp("mosquitto") / "broker")) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="session")
def at_mosquitto(tmp_path_factory: pytest.TempPathFactory, mosquitto: Mosquitto) -> Iterator[RecadoAtMosquitto]:
    """A server at that Mosquitto, which all tests share who use users of their own."""
    with running(RecadoAtMosquitto(tmp_path_factory.mktemp("at-mosquitto"), mosquitto=mosquitto)) as both:
        yield both
        both.server.stop()
