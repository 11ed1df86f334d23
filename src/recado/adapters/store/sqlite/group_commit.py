"""One thread that writes and commits in groups: what was asked for while the last commit ran shares the next one.

A write is a function of the writer, run inside its transaction, and a ticket by which its owner knows it. When a commit
is over, one call on the event loop settles its writes, in order: so nothing is told before it is on disk. A write that
raises a refusal has changed nothing and ends with it. A write that the database chokes on fails alone. A disk that is
full or broken fails its whole batch, and with it what was asked for before that was told: else the second of two writes
could be kept and the first not, and who tries the first again would have turned their order.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import apsw

_log = logging.getLogger(__name__)
_DISK_FAILURES = (apsw.FullError, apsw.IOError, apsw.BusyError)  # each write of a batch would meet the same

CommittedT = TypeVar("CommittedT", covariant=True)
TicketT = TypeVar("TicketT")


class Transaction(Protocol[CommittedT]):
    """What a writer offers besides the writes themselves."""

    def begin(self) -> None: ...
    def commit(self) -> CommittedT: ...
    def roll_back(self) -> None: ...


WriterT = TypeVar("WriterT", bound=Transaction[Any])
Outcome = tuple[TicketT, Any, Exception | None]


class Write(NamedTuple, Generic[WriterT, TicketT]):
    run: Callable[[WriterT], Any]
    ticket: TicketT
    weight: int
    disk_failures_told: int
    """When it was asked for."""


class GroupCommit(Generic[WriterT, TicketT]):
    """`settle` gets what `commit` returned, None if that failed, and (ticket, result, error) of each write. A batch is
    full once its writes weigh `batch_max` together. `name` is the file's, for the log."""

    def __init__(
        self,
        writer: WriterT,
        batch_max: int,
        settle: Callable[[Any, list[Outcome[TicketT]]], None],
        refusals: tuple[type[Exception], ...] = (),
        *,
        name: str,
    ) -> None:
        self._writer = writer
        self._batch_max = batch_max
        self._settle = settle
        self._refusals = refusals
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._disk_failure: Exception | None = None
        self._disk_failures = 0  # as the thread has met them
        self._disk_failures_told = 0  # as the loop knows them
        self._queue: queue.SimpleQueue[Write[WriterT, TicketT] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recado-write", daemon=True)
        self._thread.start()

    def put(self, run: Callable[[WriterT], Any], ticket: TicketT, weight: int = 1) -> None:
        self._queue.put(Write(run, ticket, weight, self._disk_failures_told))

    async def close(self) -> None:
        """Commit and settle what was put, then end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # the last settlement was scheduled before this

    def _run(self) -> None:
        while batch := self._next_batch():
            self._commit(batch)
            del batch  # what it wrote is not kept until something else is written

    def _next_batch(self) -> list[Write[WriterT, TicketT]]:
        """Wait for a write, then take what else is there. Empty at the end."""
        first = self._queue.get()
        if first is None:
            return []
        batch = [first]
        weight = first.weight
        try:
            while weight < self._batch_max:
                write = self._queue.get_nowait()
                if write is None:
                    self._queue.put(None)  # for the next call: what came before it is committed first
                    break
                batch.append(write)
                weight += write.weight
        except queue.Empty:
            pass
        return batch

    def _commit(self, batch: Sequence[Write[WriterT, TicketT]]) -> None:
        """Run the writes in one transaction. If that fails, nothing of it stays."""
        try:
            self._writer.begin()
            outcomes = [self._outcome(write) for write in batch]
            committed = self._writer.commit()
        except Exception as error:
            self._roll_back()
            is_of_the_disk = isinstance(error, _DISK_FAILURES)
            if len(batch) > 1 and not is_of_the_disk:
                self._commit_in_parts(batch)
                return
            _log.error("%s: the store could not commit: %s", self._name, error)
            if is_of_the_disk:
                self._disk_failures, self._disk_failure = self._disk_failures + 1, error
            committed, outcomes = None, [(write.ticket, None, error) for write in batch]
        self._loop.call_soon_threadsafe(self._tell, self._disk_failures, committed, outcomes)

    def _outcome(self, write: Write[WriterT, TicketT]) -> Outcome[TicketT]:
        if write.disk_failures_told < self._disk_failures:
            return write.ticket, None, self._disk_failure
        try:
            return write.ticket, write.run(self._writer), None
        except self._refusals as refusal:
            return write.ticket, None, refusal

    def _tell(self, disk_failures: int, committed: Any, outcomes: list[Outcome[TicketT]]) -> None:
        self._disk_failures_told = disk_failures
        self._settle(committed, outcomes)

    def _commit_in_parts(self, batch: Sequence[Write[WriterT, TicketT]]) -> None:
        """So that one write that the database chokes on fails no neighbour."""
        middle = len(batch) // 2
        self._commit(batch[:middle])
        self._commit(batch[middle:])

    def _roll_back(self) -> None:
        try:
            self._writer.roll_back()
        except apsw.Error as error:
            _log.error("%s: the store could not roll back: %s", self._name, error)
