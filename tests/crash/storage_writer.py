"""A process that writes transactions to the storage of sessions until it is killed.

Transaction n puts the message n in flight to session 1, under packet id n, and in the queues of sessions 2 and 3; takes
packet id n as received from session 1; retains n; and acknowledges session 1's message n - 20. Prints `kept n` when
it was told so, and `claimed n` when session 3 has claimed the message n. Run as
`python -m tests.crash.storage_writer DATABASE`.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from recado.adapters.broker.sqlite import SqliteStorage
from recado.broker.storage import Acknowledged, Received, Retain
from tests.contracts.storages import STORAGE_LIMITS, brief, enqueue, entry, publication, session, written

IN_FLIGHT = 20
AT_A_TIME = 30
CLAIM_EVERY = 10


def say(what: str) -> None:
    print(what, flush=True)


def write(storage: SqliteStorage, n: int, kept: asyncio.Semaphore) -> None:
    def done(was_kept: bool) -> None:
        assert was_kept
        say(f"kept {n}")
        kept.release()

    message = enqueue(n, entry(1, n, 2), entry(2), entry(3))
    acknowledged = [Acknowledged(1, n - IN_FLIGHT)] if n > IN_FLIGHT else []
    storage.write([message, Received(1, n), Retain(publication(str(n))), *acknowledged], done)


async def main(path: Path) -> None:
    storage = SqliteStorage.open(path, STORAGE_LIMITS)
    stored = await storage.load()
    if not stored.sessions:
        assert await written(storage, session(1), session(2), session(3))
    n = stored.last_position
    room = asyncio.Semaphore(AT_A_TIME)
    claims: set[asyncio.Task[None]] = set()
    while True:
        await room.acquire()
        n += 1
        write(storage, n, room)
        if n % CLAIM_EVERY == 0:
            claim = asyncio.create_task(claim_one(storage, n))
            claims.add(claim)
            claim.add_done_callback(partial(set.discard, claims))


async def claim_one(storage: SqliteStorage, packet_id: int) -> None:
    claimed = await storage.claim(3, [packet_id], 1)
    ((_, text),) = brief(claimed.deliveries)
    assert text is not None
    say(f"claimed {text.removeprefix('m')}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
