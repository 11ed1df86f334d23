"""Appends each event to a file of JSON lines, which is on disk before the job is settled.

Several processes may have the same file: each writes under its lock (flock). A last line without its end is what a
crash left of a write that was never confirmed: it is cut off, and comes again whole. A file that was moved away is let
go of, and another one begun.
"""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recado.adapters.sinks.capture import captured
from recado.adapters.sinks.limits import SinkLimits
from recado.grouping import Grouping
from recado.ports import JobEvent, TryLater, Unusable

_MODE = 0o600  # it has what people wrote
_BEGINNING = b'{"conversation":"'
_CHUNK = 64 * 1024


class NotOurs(OSError):
    """The file has something else in it."""


class CaptureFile:
    """A `recado.ports.SinkHandler`. Make it with `open`."""

    def __init__(self, path: Path, limits: SinkLimits) -> None:
        self._path = path
        self._file = -1
        self._lines = Grouping(self._write, limits.capture_batch_max)
        # Of its own: the loop's threads may all wait for names that a webhook's DNS does not resolve.
        self._thread = ThreadPoolExecutor(1, "recado-capture")

    @classmethod
    def open(cls, path: Path, limits: SinkLimits) -> "CaptureFile":
        """Raises Unusable if the file cannot be written, or is none of capture's."""
        capture = cls(path, limits)
        try:
            capture._append(b"")
        except OSError as error:
            capture._let_go()
            raise Unusable(f"capture_file {path} cannot be used: {error.strerror or error}") from None
        return capture

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        await self._lines.put(captured(conversation, entry.event))

    async def close(self) -> None:
        await self._lines.close()
        self._thread.shutdown()
        self._let_go()

    async def _write(self, lines: Sequence[bytes]) -> None:
        try:
            data = b"".join(line + b"\n" for line in lines)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._append, data)
        except OSError as error:
            raise TryLater(f"capture_file cannot be written: {error.strerror or error}") from None

    def _append(self, lines: bytes) -> None:
        """Have the lines on disk, all or none. Raises OSError."""
        self._lock()
        try:
            end = self._mended()
            try:
                _write_all(self._file, lines)
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, end)
                raise
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> None:
        """The file that the path leads to now, which may be another one than the last time."""
        while True:
            if self._file < 0:
                self._open()
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if _is_at(self._path, self._file):
                return
            self._let_go()

    def _open(self) -> None:
        is_new = not self._path.exists()
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        if is_new:
            _fsync_folder(self._path.parent)

    def _let_go(self) -> None:
        if self._file >= 0:
            os.close(self._file)  # the lock goes with it
            self._file = -1

    def _mended(self) -> int:
        """Cut off a last line without its end; returns how long the file is then."""
        size = os.fstat(self._file).st_size
        if size == 0 or os.pread(self._file, 1, size - 1) == b"\n":
            return size
        end = _end_of_last_line(self._file, size)
        torn = os.pread(self._file, len(_BEGINNING), end)
        if not _BEGINNING.startswith(torn.rstrip(b"\0")):  # some file systems fill up with zeros
            raise NotOurs(0, "its last line has no end, and is none of capture's")
        os.ftruncate(self._file, end)
        return end


def _end_of_last_line(file: int, size: int) -> int:
    """Where the last line that has its end ends; 0 if none has."""
    first = size
    while first > 0:
        first = max(0, first - _CHUNK)
        found = os.pread(file, _CHUNK, first).rfind(b"\n")
        if found >= 0:
            return first + found + 1
    return 0


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
