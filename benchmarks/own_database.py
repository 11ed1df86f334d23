"""The database of a benchmark's own server: a file of SQLite, or a PostgreSQL server that is there for it alone.

Both are durable: a commit has been synced to the disk of the folder they are in.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

import asyncpg

from deploy.services.postgres import Postgres
from recado.adapters.store.postgres.store import PostgresStore
from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.ports import Store

NAME = "benchmark"


class Database(Protocol):
    url: str

    async def open(self) -> Store:
        """As the server does, while that is not running."""

    def number(self, query: str) -> int:
        """What a query returns, as another process sees it."""

    def close(self) -> None: ...


class SqliteFile:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "recado.db"
        self.url = f"sqlite:///{self._path}"

    async def open(self) -> Store:
        return SqliteStore.open(self._path, DEFAULT.store)

    def number(self, query: str) -> int:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as db:
            return int(db.execute(query).fetchone()[0])

    def close(self) -> None:
        """The file goes with its folder."""


class PostgresServer:
    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)  # its account is not root's
        self._server = Postgres(folder / "postgres")
        self._server.start()
        self.url = self._server.create_database(NAME)
        self._runner = asyncio.Runner()
        self._db = self._runner.run(asyncpg.connect(self.url, server_settings={"search_path": "recado"}))

    async def open(self) -> Store:
        return await PostgresStore.open(self.url, DEFAULT.postgres)

    def number(self, query: str) -> int:
        return int(self._runner.run(self._db.fetchval(query)))

    def close(self) -> None:
        self._runner.run(self._db.close())
        self._runner.close()
        self._server.close()
