"""A database file: opened, locked against a second process, brought up to date, and copied while in use."""

import fcntl
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

import apsw

from recado.ports import Unusable

BUSY_TIMEOUT_MS = 5_000
_READ_CACHE_KIB = 8 * 1024
# Bounds the write-ahead log: from 32 MB on it is written to the database, which pauses the writer
# for some milliseconds. SQLite's default of 1,000 wrote the same pages again and again.
_CHECKPOINT_PAGES = 8_000


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database holds: its migrations lie in `package`, and `application_id` marks its files."""

    package: str
    application_id: int
    command: str
    """The command whose database it is, for who opens the wrong one."""


CONVERSATIONS = Schema(__package__, 0, "recado serve")
SESSIONS = Schema("recado.adapters.broker.sqlite", 0x5243_4201, "recado broker")


class DatabaseUnusable(Unusable):
    """The file cannot be used; the text says why and what to do."""


class DatabaseInUse(DatabaseUnusable):
    """Another process holds the file."""


def lock(path: Path) -> IO[str]:
    """Hold the database for this process until the returned file is closed. Raises DatabaseUnusable.

    The lock is a file beside the database, because SQLite's own locks on the database would be dropped when a second
    descriptor of it is closed. It is beside the file that `path` leads to by symbolic links, as SQLite's log is; a file
    with a second hard link is refused, as each of its names would have a lock and a log of its own.
    """
    target = Path(os.path.realpath(path))
    _check_one_name(target)
    lock_path = target.with_name(target.name + ".lock")
    try:
        held = lock_path.open("a+", encoding="ascii")
    except OSError as error:
        raise DatabaseUnusable(
            f"cannot open {lock_path}: {error.strerror}; is the folder there and writable?"
        ) from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.seek(0)
        holder = held.read().strip() or "unknown"
        held.close()
        raise DatabaseInUse(
            f"{path} is in use by another Recado process (pid {holder}): stop it, or use another database here"
        ) from None
    held.truncate(0)
    held.write(str(os.getpid()))
    held.flush()
    return held


def _check_one_name(path: Path) -> None:
    try:
        names = path.stat().st_nlink
    except OSError:
        return  # it is not there yet, or what opens it says what is wrong
    if names > 1:
        raise DatabaseUnusable(
            f"{path} has {names} names (hard links), and a log of its own under each: "
            f"remove the others (`find -samefile` tells them); for a second copy use `recado backup`"
        )


def open_writer(path: Path | None, schema: Schema, cache_bytes_max: int | None = None) -> apsw.Connection:
    """The one connection that writes, with the schema up to date; no path: in memory. The cache is SQLite's own unless
    it has a size. Raises DatabaseUnusable."""
    try:
        if path is not None:
            path.touch(mode=0o600)  # what people write to each other is for this account alone; -wal and -shm follow it
        db = apsw.Connection(":memory:" if path is None else str(path))
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        check(db, schema)
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "full")
        if cache_bytes_max is not None:
            db.pragma("cache_size", -(cache_bytes_max // 1024))
        db.pragma("wal_autocheckpoint", _CHECKPOINT_PAGES)
        db.pragma("foreign_keys", True)
        db.pragma("secure_delete", schema is CONVERSATIONS)  # what people take back is overwritten
        migrate(db, schema)
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)  # a crash may have left there what was deleted since
    except (apsw.Error, OSError) as error:
        raise DatabaseUnusable(f"cannot use {path} as a database: {error}") from error
    return db


def open_reader(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    db.pragma("cache_size", -_READ_CACHE_KIB)
    return db


def migrations(schema: Schema = CONVERSATIONS) -> list[tuple[int, str]]:
    """(number, SQL) of each numbered file in `migrations/`, in order."""
    folder = files(schema.package).joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name.split("_")[0]), folder.joinpath(name).read_text("utf-8")) for name in names]


def check(db: apsw.Connection, schema: Schema) -> None:
    """Raise DatabaseUnusable, and touch nothing, if this is a database of something else or of a newer Recado."""
    found, version = db.pragma("application_id"), db.pragma("user_version")
    if found != schema.application_id and not _is_empty(db):
        owners = {known.application_id: f"`{known.command}`" for known in (CONVERSATIONS, SESSIONS) if version}
        raise DatabaseUnusable(
            f"{db.filename} is the database of {owners.get(found, 'another program')}, "
            f"not of `{schema.command}`: use another one here"
        )
    newest = migrations(schema)[-1][0]
    if version > newest:
        raise DatabaseUnusable(
            f"the database was made by a newer Recado (schema {version}, this one knows {newest}): upgrade Recado"
        )


def _is_empty(db: apsw.Connection) -> bool:
    return not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()


def migrate(db: apsw.Connection, schema: Schema = CONVERSATIONS) -> None:
    """Run the migrations that the file has not had, each in a transaction with its number."""
    version = db.pragma("user_version")
    for number, sql in migrations(schema):
        if number > version:
            with db:
                db.execute(sql)
                db.execute(f"PRAGMA application_id = {schema.application_id}")
                db.execute(f"PRAGMA user_version = {number}")


def backup(source: Path, target: Path) -> int:
    """Copy a database that may be in use, as of one moment, and check the copy. Returns its size in bytes.

    The target appears only when it is whole. Raises DatabaseUnusable.
    """
    if not source.is_file():
        raise DatabaseUnusable(f"there is no database {source}")
    if target.exists():
        raise DatabaseUnusable(f"{target} exists; a backup does not overwrite")
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        partial.touch(mode=0o600)
        _copy(source, partial)
        with partial.open("rb") as copied:
            os.fsync(copied.fileno())
        partial.rename(target)
    except (apsw.Error, OSError) as error:
        raise DatabaseUnusable(f"cannot copy {source} to {target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return target.stat().st_size


def _copy(source: Path, target: Path) -> None:
    read = open_reader(source)
    written = apsw.Connection(str(target))
    try:
        with written.backup("main", read, "main") as copying:
            copying.step()  # all pages in one step: one read transaction, so one moment
        written.pragma("journal_mode", "delete")
        if (verdict := written.pragma("quick_check")) != "ok":
            raise DatabaseUnusable(f"the copy of {source} is damaged: {verdict}")
    finally:
        written.close()
        read.close()
