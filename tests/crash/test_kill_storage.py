"""kill -9 while sessions are written: each transaction that was told to be kept is there whole, and none is in half."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from recado.adapters.broker.sqlite import SqliteStorage
from recado.broker.storage import Resumed, Stored
from tests.contracts.storages import STORAGE_LIMITS, brief
from tests.crash.storage_writer import IN_FLIGHT

REPOSITORY = Path(__file__).parents[2]
KEPT_BEFORE_KILL = (1, 45, 300, 1_000)


def write_and_kill(path: Path, kept: int) -> tuple[int, set[int]]:
    """Kill a writing process after so many transactions; returns the last one kept, and the messages claimed."""
    arguments = [sys.executable, "-m", "tests.crash.storage_writer", str(path)]
    process = subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said: list[str] = []
    try:
        while sum(line.startswith("kept") for line in said) < kept:
            line = process.stdout.readline()
            assert line, "the writer died of itself"
            said.append(line)
    finally:
        process.kill()
        said += process.communicate()[0].splitlines(keepends=True)
    numbers = [(line.split()[0], int(line.split()[1])) for line in said if line.endswith("\n")]
    return (
        max(n for what, n in numbers if what == "kept"),
        {n for what, n in numbers if what == "claimed"},
    )


async def found(path: Path) -> tuple[Stored, Resumed, Resumed]:
    """After a restart, with the flows of sessions 1 and 3."""
    storage = SqliteStorage.open(path, STORAGE_LIMITS)
    try:
        return await storage.load(), await storage.resume(1), await storage.resume(3)
    finally:
        await storage.close()


async def test_every_transaction_that_was_kept_survives_whole_and_no_other_in_part(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    claimed: set[int] = set()

    for count in KEPT_BEFORE_KILL:
        last_kept, newly_claimed = write_and_kill(path, count)
        claimed |= newly_claimed
        stored, first, third = await found(path)

        last = stored.last_position
        assert last >= last_kept
        assert stored.retained[0].payload == str(last).encode()
        assert first.received == list(range(1, last + 1))
        assert brief(first.inflight) == [(n, f"m{n}") for n in range(max(1, last - IN_FLIGHT + 1), last + 1)]
        assert [each.queued for each in stored.sessions] == [0, last, last - len(third.inflight)]
        inflight = [text for _, text in brief(third.inflight)]
        assert inflight == [f"m{n}" for n in range(1, len(inflight) + 1)], "what was claimed is out of the queue, once"
        assert {f"m{n}" for n in claimed} <= set(inflight)
    assert claimed
