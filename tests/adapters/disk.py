"""A disk under SQLite that a test can hold, fill and break: an SQLite VFS over the system's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

TIMEOUT_S = 20


class Disk(apsw.VFS):
    """Counts what is synced to the write-ahead log, in which a commit is made durable."""

    def __init__(self, name: str) -> None:
        self.syncs = 0
        self.sync_error: Exception | None = None
        self.next_sync_error: Exception | None = None
        """Of one sync only: the one after it succeeds."""
        self.write_error: Exception | None = None
        self._running = threading.Event()
        self._running.set()
        self._reached = threading.Event()
        super().__init__(name, "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    @contextmanager
    def held(self) -> Iterator[threading.Event]:
        """No sync ends inside the block. The event says that one has begun."""
        self._reached.clear()
        self._running.clear()
        try:
            yield self._reached
        finally:
            self._running.set()

    def on_sync(self) -> None:
        self.syncs += 1
        self._reached.set()
        assert self._running.wait(TIMEOUT_S)
        once, self.next_sync_error = self.next_sync_error, None
        if error := once or self.sync_error:
            raise error

    def on_write(self) -> None:
        if self.write_error is not None:
            raise self.write_error


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk if path is not None and path.endswith("-wal") else None
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:
        if self._disk is not None:
            self._disk.on_sync()
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._disk is not None:
            self._disk.on_write()
        super().xWrite(data, offset)
