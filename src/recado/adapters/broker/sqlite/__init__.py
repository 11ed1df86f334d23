"""The MQTT server's storage in one SQLite file: WAL, synchronous=FULL, one thread with group commit."""

from recado.adapters.broker.sqlite.limits import SqliteStorageLimits
from recado.adapters.broker.sqlite.storage import SqliteStorage

__all__ = ["SqliteStorage", "SqliteStorageLimits"]
