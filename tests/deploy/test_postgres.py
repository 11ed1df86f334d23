"""The PostgreSQL server that the tests and the production demo run."""

from __future__ import annotations

import subprocess

import pytest

from deploy.services.child_process import ServiceFailed
from deploy.services.postgres import Postgres


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_server_comes_back_with_its_data_on_the_same_port(own_postgres: Postgres, ending: str) -> None:
    url = own_postgres.url("recado")
    own_postgres.execute("CREATE TABLE kept AS SELECT 7 AS number", "recado")

    getattr(own_postgres, ending)()
    with pytest.raises(ServiceFailed):
        own_postgres.execute("SELECT 1")
    own_postgres.start()

    assert own_postgres.url("recado") == url
    assert own_postgres.execute("SELECT number FROM kept", "recado") == "7"


def test_nobody_gets_in_without_the_password(postgres: Postgres) -> None:
    url = postgres.url("postgres")
    password = url.split(":")[2].split("@")[0]

    refused = subprocess.run(
        ["psql", "--no-password", url.replace(password, "wrong"), "--command=SELECT 1"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode != 0
    assert "password authentication failed" in refused.stderr


def test_recados_role_owns_its_databases_and_is_no_superuser(postgres: Postgres, postgres_database: str) -> None:
    name = postgres_database.rpartition("/")[2]

    owner = postgres.execute(f"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{name}'")

    assert owner == "recado"
    assert postgres.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'recado'") == "f"
