"""A process whose files may not grow past a size, as on a full disk, that sends messages until one fails and goes on.

Prints, as JSON, what was acknowledged and what was refused. Run as `python -m tests.adapters.full_disk DATABASE`.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from recado.adapters.store.sqlite import SqliteStore
from recado.chat.errors import Unavailable
from tests.contracts.stores import SQLITE_LIMITS, create, message

BODY = "x" * 4_000
FILE_BYTES_MAX = 300_000
MESSAGES = 200


async def send_all(store: SqliteStore, prefix: str, count: int) -> tuple[list[str], list[str]]:
    ids = [f"{prefix}{n}" for n in range(count)]
    acknowledged: list[str] = []
    refused: list[str] = []
    for some in (ids[n : n + 20] for n in range(0, count, 20)):
        answers = await asyncio.gather(
            *(store.append_message(message("ana", each, BODY)) for each in some), return_exceptions=True
        )
        for message_id, answer in zip(some, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, Unavailable):
                raise answer
            (refused if isinstance(answer, Unavailable) else acknowledged).append(message_id)
    return acknowledged, refused


async def main(path: Path) -> None:
    store = SqliteStore.open(path, SQLITE_LIMITS)
    await create(store, "ana")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, hard))
    full = await send_all(store, "full", MESSAGES)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    after = await send_all(store, "after", 20)
    await store.close()
    print(json.dumps({"acknowledged": full[0] + after[0], "refused": full[1], "refused_after": after[1]}))


asyncio.run(main(Path(sys.argv[1])))
