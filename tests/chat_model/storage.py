"""A real store without threads: what it was asked waits until a rule says that it is done, fails, or is told.

A commit has two steps, as in the store: it is on disk, where every read sees it, and a while later the loop is told. So
does a read: it looks, and a while later the loop has what it saw. A crash may come in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import apsw

from recado.adapters.store.sqlite import SqliteStore
from recado.adapters.store.sqlite.limits import SqliteLimits
from recado.chat.event import Committed

ALL = 1_000_000


@dataclass
class _Read:
    run: Callable[[], Any]
    future: Future[Any]
    result: Any = None
    error: Exception | None = None


class HeldReads(Executor):
    """In the place of the reading threads."""

    def __init__(self) -> None:
        self.asked: deque[_Read] = deque()
        self.seen: deque[_Read] = deque()

    def submit(self, run: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.asked.append(_Read(lambda: run(*arguments, **named), future))
        return future

    def look(self, count: int = ALL) -> None:
        for _ in range(min(count, len(self.asked))):
            read = self.asked.popleft()
            try:
                read.result = read.run()
            except Exception as error:
                read.error = error
            self.seen.append(read)

    def tell(self, count: int = ALL) -> None:
        for _ in range(min(count, len(self.seen))):
            read = self.seen.popleft()
            if read.future.cancelled():
                continue
            if read.error is None:
                read.future.set_result(read.result)
            else:
                read.future.set_exception(read.error)


class HeldCommits:
    """In the place of the writing thread, of its queue, and of the loop that it tells; the writer and its transactions
    are the store's own.

    `on_committed` hears what is on disk now, `on_told` that the loop is about to be told it.
    """

    def __init__(self, store: SqliteStore, on_committed: Callable[[list[Committed]], None]) -> None:
        self.waiting: deque[Any] = deque()
        self.untold: deque[tuple[list[Committed], Callable[[], None]]] = deque()
        self.on_committed = on_committed
        self.on_told: Callable[[list[Committed]], None] = lambda committed: None
        self.is_dead = False
        self._real: Any = cast(Any, store)._writes
        self._real._queue.put(None)
        self._real._thread.join()
        self._real._queue = self._real._loop = self

    def put(self, write: Any) -> None:
        if not self.is_dead:
            self.waiting.append(write)

    def call_soon_threadsafe(self, tell: Any, disk_failures: int, committed: Any, outcomes: Any) -> None:
        """What the real one does at the end of each commit."""
        self.untold.append((committed or [], partial(tell, disk_failures, committed, outcomes)))
        self.on_committed(committed or [])

    def commit(self, count: int = ALL) -> None:
        """One transaction of the first of what waits."""
        batch = [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]
        if batch:
            self._real._commit(batch)

    def fail(self, count: int = ALL) -> None:
        """The disk is full for the first of what waits."""
        writer = self._real._writer

        def commit() -> None:
            raise apsw.FullError("the disk is full")

        writer.commit = commit
        try:
            self.commit(count)
        finally:
            del writer.commit

    def tell(self, count: int = ALL) -> None:
        for _ in range(min(count, len(self.untold))):
            committed, tell = self.untold.popleft()
            self.on_told(committed)
            tell()


class HeldStore:
    """The store, with what it was asked in the test's hands."""

    def __init__(self, path: Path, limits: SqliteLimits, on_committed: Callable[[list[Committed]], None]) -> None:
        self.store = SqliteStore.open(path, limits)
        self.commits = HeldCommits(self.store, on_committed)
        self.reads = HeldReads()
        inner: Any = self.store
        inner._reads.shutdown()
        inner._reads = self.reads
        inner._truncation._task = asyncio.get_running_loop().create_future()  # nobody empties the write-ahead log
        inner._truncation._task.set_result(None)
        self.db: apsw.Connection = inner._db
        self.db.pragma("synchronous", "off")  # the machine stays on

    @property
    def is_idle(self) -> bool:
        return not (self.commits.waiting or self.commits.untold or self.reads.asked or self.reads.seen)

    def go_on(self) -> None:
        """All that it was asked by now is done and told."""
        self.commits.commit()
        self.reads.look()
        self.commits.tell()
        self.reads.tell()

    def crash(self) -> None:
        """What is not on disk is gone, and nobody is told of what is."""
        self.commits.is_dead = True
        self.commits.waiting.clear()
        self.commits.untold.clear()
        self.reads.asked.clear()
        self.reads.seen.clear()
        inner: Any = self.store
        for db in inner._reader_connections:
            db.close()
        self.db.close()
        inner._lock.close()
