"""A database on a PostgreSQL server: connections to it, and the schema `recado` in it, brought up to date.

No text here holds a password: an error names the server, the database and the user alone.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import asyncpg
from asyncpg import Connection, Record

from recado.adapters.store.postgres.limits import PostgresLimits
from recado.ports import Unusable

Db: TypeAlias = "Connection[Record]"
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What goes wrong with a server or a connection. InternalClientError: with one that was used again while it was ending,
before that was noticed."""
_MIGRATION_LOCK = 0x5243_4144
_STATEMENTS_CACHED = 200
_MARGIN_S = 2.0  # a server that says nothing by then is not going to
# A table that was empty when its statistics were made looks small for ever: no plan may rest on that. There is an index
# for everything that is looked for, and it is what these leave.
_PLANS = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

# What is acknowledged is on the disk, whatever the database or the role has as its default; `remote_apply` may stay.
_COMMITS_ARE_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)


class DatabaseUnusable(Unusable):
    """The database cannot be used; the text says why and what to do."""


class Database:
    """Where it is, and how long things may take. `url` is postgresql://user:password@host:port/name, with what
    PostgreSQL's own programs take after a ?, such as sslmode=verify-full."""

    def __init__(self, url: str, limits: PostgresLimits) -> None:
        self.name = _without_password(url)
        self._url = url
        self._limits = limits

    async def connect(self, *, for_migrations: bool = False) -> Db:
        """A migration may take as long as it needs. Raises one of FAILURES."""
        limits = self._limits
        statement_timeout_ms = 0 if for_migrations else limits.statement_timeout_ms
        settings = {
            "application_name": "recado",
            "search_path": "recado",
            "default_transaction_isolation": "read committed",
            "statement_timeout": str(statement_timeout_ms),
            "idle_in_transaction_session_timeout": str(limits.idle_transaction_timeout_ms),
            **_PLANS,
        }
        db: Db = await asyncpg.connect(
            self._url,
            timeout=limits.connect_timeout_ms / 1000,
            command_timeout=statement_timeout_ms / 1000 + _MARGIN_S if statement_timeout_ms else None,
            statement_cache_size=_STATEMENTS_CACHED,
            max_cached_statement_lifetime=0,
            server_settings=settings,
        )
        with kept_if_well(db):
            await db.execute(_COMMITS_ARE_DURABLE)
        return db

    async def prepare(self) -> None:
        """Bring the schema up to date; of several processes one does, and the others wait. Raises DatabaseUnusable."""
        with unusable(self):
            db = await self.connect(for_migrations=True)
            try:
                await db.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
                await migrate(db)
            finally:
                await db.close()


@contextmanager
def kept_if_well(db: Db) -> Iterator[None]:
    """A connection that is being made: it is cut if anything about it fails."""
    try:
        yield
    except BaseException:
        db.terminate()
        raise


def rows_changed(status: str) -> int:
    """By a statement, as the server's word on it says: "DELETE 3"."""
    return int(status.rpartition(" ")[2])


def columns(rows: Collection[Iterable[Any]], width: int) -> list[tuple[Any, ...]]:
    """What statements take: an array for each column, also of no rows."""
    return list(zip(*rows, strict=True)) if rows else [()] * width


@contextmanager
def unusable(database: Database) -> Iterator[None]:
    """What fails when a process starts, as DatabaseUnusable."""
    try:
        yield
    except FAILURES as error:
        raise DatabaseUnusable(f"cannot use {database.name} as a database: {_reason(error)}") from None
    except ValueError as error:  # of what follows the ? in the URL
        raise DatabaseUnusable(f"cannot use {database.name} as a database: {error}") from None


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of each numbered file in `migrations/`, in order."""
    folder = files(__package__).joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name.split("_")[0]), folder.joinpath(name).read_text("utf-8")) for name in names]


async def migrate(db: Db) -> None:
    """Run the migrations that the database has not had, each in a transaction with its number."""
    version = await _version(db)
    known = migrations()
    newest = known[-1][0]
    if version > newest:
        raise DatabaseUnusable(
            f"the database was made by a newer Recado (schema {version}, this one knows {newest}): upgrade Recado"
        )
    for number, sql in known:
        if number > version:
            async with db.transaction():
                if number == 1:
                    await db.execute("CREATE SCHEMA recado")
                    await db.execute("CREATE TABLE recado.schema_version (number integer NOT NULL)")
                    await db.execute("INSERT INTO recado.schema_version VALUES (0)")
                await db.execute(sql)
                await db.execute("UPDATE recado.schema_version SET number = $1", number)


async def _version(db: Db) -> int:
    """0 where there is nothing yet. Raises DatabaseUnusable for a schema of something else, or of no version."""
    if not await db.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = 'recado'"):
        return 0
    if not await db.fetchval("SELECT to_regclass('recado.schema_version') IS NOT NULL"):
        raise DatabaseUnusable(
            "the database has a schema `recado` that is not Recado's: use another database, or rename that schema"
        )
    version: int | None = await db.fetchval("SELECT number FROM recado.schema_version")
    if version is None:
        raise DatabaseUnusable("the database's schema is of no known version: its table recado.schema_version is empty")
    return version


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    return f"postgresql://{login.partition(':')[0]}{at}{hosts}{parts.path}"


def _reason(error: BaseException) -> str:
    """In one line, with what would be right."""
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return f"the server does not let the user in: {first_line(error)}"
        case asyncpg.InvalidCatalogNameError():
            return f"{first_line(error)}: make it with `createdb`"
        case asyncpg.InsufficientPrivilegeError():
            return f"{first_line(error)}: the user must own the database, or be granted CREATE on it"
        case asyncpg.PostgresError() | asyncpg.InterfaceError():
            return first_line(error)
        case TimeoutError():
            return "the server does not answer"
        case OSError():
            return f"the server cannot be reached: {error.strerror or first_line(error)}"
        case _:
            return type(error).__name__


def first_line(error: BaseException) -> str:
    """What went wrong. The lines after it may quote what people wrote."""
    return str(error).partition("\n")[0] or type(error).__name__
