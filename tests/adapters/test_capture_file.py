"""The capture file on a real disk: what is settled is in it, whatever happened to the file."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recado.adapters.sinks.capture_file import CaptureFile
from recado.app.limits import DEFAULT
from recado.chat.event import Event
from recado.ports import JobEvent, TryLater, Unusable

LIMITS = DEFAULT.sinks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def entry(seq: int, body: str = "Chegou!") -> JobEvent:
    return JobEvent(Event(seq, "ana", 1_790_000_000_123, id=f"m{seq}", body=body), frozenset({"ana"}))


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes()
    assert text.endswith(b"\n"), "the last line has no end"
    return [json.loads(line) for line in text.splitlines()]


def size_of(path: Path) -> int:
    return path.stat().st_size


def mode_of(path: Path) -> int:
    return path.stat().st_mode


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def move(path: Path, to: Path) -> None:
    path.rename(to)


def seqs(path: Path) -> list[int]:
    return [line["event"]["seq"] for line in lines(path)]


async def test_each_event_is_a_line_with_its_conversation_once_it_is_settled(path: Path) -> None:
    capture = CaptureFile.open(path, LIMITS)
    await capture.deliver("order-1", entry(1, 'linha\n"um"\u2028'))
    event = {"seq": 1, "from": "ana", "at": 1_790_000_000_123, "id": "m1", "body": 'linha\n"um"\u2028'}
    assert lines(path) == [{"conversation": "order-1", "event": event}]
    await capture.close()


async def test_many_at_once_are_all_there_in_each_ones_order(path: Path) -> None:
    capture = CaptureFile.open(path, LIMITS)

    async def lane(conversation: str) -> None:
        for seq in range(1, 21):
            await capture.deliver(conversation, entry(seq))

    await asyncio.gather(*(lane(f"c{number}") for number in range(50)))
    await capture.close()
    found = lines(path)
    assert len(found) == 1000
    for number in range(50):
        assert [each["event"]["seq"] for each in found if each["conversation"] == f"c{number}"] == list(range(1, 21))


async def test_what_comes_while_the_disk_is_written_to_goes_along_with_one_fsync(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = CaptureFile.open(path, LIMITS)
    synced: list[int] = []
    fsync = os.fsync

    def counting(file: int) -> None:
        synced.append(file)
        fsync(file)

    monkeypatch.setattr(os, "fsync", counting)
    await asyncio.gather(*(capture.deliver(f"c{number}", entry(1)) for number in range(500)))
    await capture.close()
    assert len(lines(path)) == 500
    assert 1 <= len(synced) <= 2


async def test_a_file_that_was_moved_away_is_let_go_of_and_another_one_is_begun(path: Path) -> None:
    capture = CaptureFile.open(path, LIMITS)
    await capture.deliver("c", entry(1))
    move(path, path.with_suffix(".1"))
    await capture.deliver("c", entry(2))
    move(path, path.with_suffix(".2"))
    await capture.deliver("c", entry(3))
    await capture.close()
    assert [seqs(path.with_suffix(each)) for each in (".1", ".2")] == [[1], [2]]
    assert seqs(path) == [3]


@pytest.mark.parametrize(
    "torn",
    [b"{", b'{"conversation":"c","event":{"seq":2,"from":"an', b'{"conversation":"c"' + b"x" * 200_000, b"\0" * 5_000],
)
async def test_a_last_line_that_a_crash_tore_off_is_taken_away(path: Path, torn: bytes) -> None:
    capture = CaptureFile.open(path, LIMITS)
    await capture.deliver("c", entry(1))
    with path.open("ab") as file:
        file.write(torn)
    await capture.deliver("c", entry(2))
    assert seqs(path) == [1, 2]
    await capture.close()
    with path.open("ab") as file:
        file.write(torn)
    again = CaptureFile.open(path, LIMITS)
    await again.deliver("c", entry(3))
    await again.close()
    assert seqs(path) == [1, 2, 3]


async def test_a_file_with_nothing_but_a_torn_line_is_begun_anew(path: Path) -> None:
    put(path, b'{"conversation":"c","ev')
    capture = CaptureFile.open(path, LIMITS)
    await capture.deliver("c", entry(1))
    await capture.close()
    assert seqs(path) == [1]


def test_somebody_elses_file_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"my diary, which has no end of line")
    with pytest.raises(Unusable, match="none of capture's"):
        CaptureFile.open(path, LIMITS)
    assert path.read_bytes() == b"my diary, which has no end of line"


def test_a_folder_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"capture_file .*/nowhere/events\.jsonl cannot be used: No such file"):
        CaptureFile.open(tmp_path / "nowhere" / "events.jsonl", LIMITS)


async def test_only_its_owner_reads_what_people_wrote(path: Path) -> None:
    await CaptureFile.open(path, LIMITS).close()
    assert mode_of(path) & 0o077 == 0


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a full disk: a write past it writes what there is room for, and the next one fails."""
    usually = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usually[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usually)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_write_that_fails_leaves_nothing_and_goes_well_when_there_is_room_again(path: Path) -> None:
    capture = CaptureFile.open(path, LIMITS)
    await capture.deliver("c", entry(1))
    size = size_of(path)
    with files_of_at_most(size + 10):
        for _ in range(2):
            with pytest.raises(TryLater, match="capture_file cannot be written"):
                await capture.deliver("c", entry(2))
    assert size_of(path) == size
    await capture.deliver("c", entry(2))
    await capture.close()
    assert seqs(path) == [1, 2]


async def test_two_processes_may_have_one_file(path: Path) -> None:
    """Each has a descriptor of its own, and so a lock of its own, as two processes have."""
    captures = [CaptureFile.open(path, LIMITS) for _ in range(2)]

    async def write(capture: CaptureFile, conversation: str) -> None:
        for seq in range(1, 51):
            await capture.deliver(conversation, entry(seq, "x" * 5_000))

    await asyncio.gather(*(write(capture, f"c{index}") for index, capture in enumerate(captures)))
    for capture in captures:
        await capture.close()
    found = lines(path)
    for index in range(2):
        assert [each["event"]["seq"] for each in found if each["conversation"] == f"c{index}"] == list(range(1, 51))
