"""The store that the settings name. A driver is imported only if it is needed."""

from collections.abc import Sequence

from recado.adapters.store.sqlite import SqliteStore
from recado.app.config import Settings
from recado.app.extras import needing
from recado.app.limits import Limits
from recado.ports import Sink, Store


async def open_store(settings: Settings, limits: Limits, sinks: Sequence[Sink]) -> Store:
    """Raises Unusable."""
    if not settings.is_postgres():
        return SqliteStore.open(settings.database_path(), limits.store, sinks)
    with needing("postgres", "database"):
        from recado.adapters.store.postgres.store import PostgresStore
    return await PostgresStore.open(settings.database, limits.postgres, sinks)
