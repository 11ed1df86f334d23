"""Of all processes, the one that does what one is enough for: it has a lock of the database, on its own connection.

The server gives the lock to another process as soon as it sees that the connection has ended. Keepalives have it see
within half a minute that a machine is gone. Meanwhile two may think that they lead: what they do must bear that.
"""

from collections.abc import Awaitable, Callable

from recado.adapters.store.postgres.database import Db, kept_if_well

_LOCK = 0x5243_4144_4C45_4144
_KEEPALIVES = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"


class Leading:
    def __init__(self, connect: Callable[[], Awaitable[Db]]) -> None:
        self._connect = connect
        self._db: Db | None = None
        self._leads = False

    async def lead(self) -> bool:
        """Try to, or go on. Raises one of database.FAILURES."""
        if self._db is None or self._db.is_closed():
            self._leads = False
            db = await self._connect()
            with kept_if_well(db):
                await db.execute(_KEEPALIVES)
            self._db = db
        if not self._leads:
            self._leads = await self._db.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK)
        return self._leads

    async def close(self) -> None:
        if self._db is not None:
            self._db.terminate()
