"""The store in one SQLite file: WAL, synchronous=FULL, one writer thread with group commit, a few reading threads."""

from recado.adapters.store.sqlite.files import DatabaseInUse, DatabaseUnusable, backup
from recado.adapters.store.sqlite.limits import SqliteLimits
from recado.adapters.store.sqlite.store import SqliteStore

__all__ = ["DatabaseInUse", "DatabaseUnusable", "SqliteLimits", "SqliteStore", "backup"]
