"""A process whose files may not grow past a size, as on a full disk, that queues messages until one fails and goes on.

Prints, as JSON, the positions that were kept and those that were not. Run as
`python -m tests.adapters.full_disk_sessions DATABASE`.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from recado.adapters.broker.sqlite import SqliteStorage
from recado.broker.publication import Publication
from recado.broker.storage import Enqueue
from tests.contracts.storages import STORAGE_LIMITS, entry, session, written

PAYLOAD = b"x" * 4_000
FILE_BYTES_MAX = 300_000
MESSAGES = 200


async def enqueue_all(storage: SqliteStorage, positions: range) -> tuple[list[int], list[int]]:
    kept: list[int] = []
    lost: list[int] = []
    for some in (positions[n : n + 20] for n in range(0, len(positions), 20)):
        transactions = (Enqueue(position, Publication("a", PAYLOAD, 1), [entry(1), entry(2)]) for position in some)
        answers = await asyncio.gather(*(written(storage, each) for each in transactions))
        for position, answer in zip(some, answers, strict=True):
            (kept if answer else lost).append(position)
    return kept, lost


async def main(path: Path) -> None:
    storage = SqliteStorage.open(path, STORAGE_LIMITS)
    assert await written(storage, session(1), session(2))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, hard))
    full = await enqueue_all(storage, range(1, MESSAGES + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    after = await enqueue_all(storage, range(MESSAGES + 1, MESSAGES + 21))
    await storage.close()
    print(json.dumps({"kept": full[0] + after[0], "lost": full[1], "lost_after": after[1]}))


asyncio.run(main(Path(sys.argv[1])))
