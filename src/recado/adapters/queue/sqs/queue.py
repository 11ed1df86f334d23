"""The worker's side: messages come, each names a job, and the worker looks at that job's lane (sink, conversation).

Of a lane there is one message in hand at most, however many come: one look finds every job. It is hidden from the other
workers while this one is at it, and deleted when there is nothing left to do; what this worker does not come to do
appears again by itself. The worker bounds how many lanes are in hand: it hands back those that it has no room for. A
message that is no job of ours is left alone, for the queue's own redrive.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from prometheus_client import Counter

from recado.adapters.queue.sqs.client import HIDDEN_S_MAX, Received, SqsAway, SqsClient, batches
from recado.adapters.queue.sqs.limits import SqsLimits
from recado.chat.ids import is_valid_id
from recado.ports import Job, LaneKey

_BACKOFF_S = 0.1
_log = logging.getLogger(__name__)
_RECEIVED = Counter("recado_sqs_messages_received", "Messages that SQS delivered to this worker.")
_FOREIGN = Counter("recado_sqs_messages_foreign", "Those among them that are no job of ours, and were left alone.")
_DELETED = Counter("recado_sqs_messages_deleted", "Messages deleted, because there was nothing left to do.")


@dataclass(slots=True)
class _Held:
    """The lane's message. `again`: another one came since the worker began to look, so it has to look again."""

    message: Received
    again: bool = False


class SqsQueue:
    """A `recado.ports.Queue`. Make it inside the running event loop; it receives from then on."""

    def __init__(self, client: SqsClient, sinks: Collection[str], limits: SqsLimits) -> None:
        self._client = client
        self._sinks = frozenset(sinks)
        self._limits = limits
        self._held: dict[LaneKey, _Held] = {}
        self._ready: dict[LaneKey, None] = {}  # those of them that the worker is to look at, in order
        self._is_ready = asyncio.Event()
        self._deletions: list[str] = []
        self._hidings: dict[str, int] = {}  # receipts, and for how many seconds from now
        self._has_word = asyncio.Event()
        receivers = [self._for_ever(self._receive) for _ in range(limits.queue_receivers)]
        self._tasks = [asyncio.ensure_future(each) for each in (*receivers, self._for_ever(self._tell_when_needed))]

    async def next(self) -> Sequence[LaneKey]:
        while not self._ready:
            self._is_ready.clear()
            await self._is_ready.wait()
        lanes = list(self._ready)
        self._ready.clear()
        return lanes

    def done(self, lane: LaneKey, due_in_ms: int | None) -> None:
        held = self._held.get(lane)
        if held is None:
            return
        if held.again and due_in_ms is None:
            held.again = False
            self._make_ready(lane)
            return
        del self._held[lane]
        if due_in_ms is None:
            self._delete(held.message.receipt)
        else:
            self._hide(held.message.receipt, -(-due_in_ms // 1000))

    def busy(self, lane: LaneKey) -> None:
        held = self._held.get(lane)
        if held is not None:
            self._hide(held.message.receipt, self._limits.queue_visibility_s)

    async def close(self) -> None:
        """Tell SQS what was done, and let others have at once what was not."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for held in self._held.values():
            self._hide(held.message.receipt, 0)
        self._held.clear()
        with suppress(SqsAway):  # it will see by itself
            await self._tell()

    async def _for_ever(self, turn: Callable[[], Awaitable[None]]) -> None:
        """A queue that gives up would be a silent one: whatever a turn fails of, there is a next one."""
        backoff_s = _BACKOFF_S
        while True:
            try:
                await turn()
            except SqsAway:  # the client says so by itself
                pass
            except Exception as error:  # its text may quote a message
                if backoff_s == _BACKOFF_S:  # it is said once
                    _log.error("the queue of jobs fails: %s; it is tried again", type(error).__name__)
            else:
                backoff_s = _BACKOFF_S
                continue
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311  to spread the workers
            backoff_s = min(backoff_s * 2, self._limits.queue_backoff_ms_max / 1000)

    async def _receive(self) -> None:
        messages = await self._client.receive(self._limits.queue_visibility_s)
        _RECEIVED.inc(len(messages))
        for message in messages:
            self._take(message)

    def _take(self, message: Received) -> None:
        lane = self._lane_of(message.body)
        if lane is None:
            _FOREIGN.inc()
            return
        held = self._held.get(lane)
        if held is None:
            self._held[lane] = _Held(message)
            self._make_ready(lane)
            return
        held.again = held.again or lane not in self._ready
        if held.message.id != message.id:  # else it is the same one, which was hidden for too short a time
            self._delete(held.message.receipt)
        held.message = message

    def _lane_of(self, body: str) -> LaneKey | None:
        try:
            job = msgspec.json.decode(body, type=Job)
        except ValueError:  # it is no JSON, no job, or not even text
            return None
        return job.lane if job.sink in self._sinks and is_valid_id(job.conversation) else None

    def _make_ready(self, lane: LaneKey) -> None:
        self._ready[lane] = None
        self._is_ready.set()

    def _delete(self, receipt: str) -> None:
        self._hidings.pop(receipt, None)
        self._deletions.append(receipt)
        self._has_word.set()

    def _hide(self, receipt: str, seconds: int) -> None:
        self._hidings[receipt] = max(0, min(seconds, HIDDEN_S_MAX))
        self._has_word.set()

    async def _tell_when_needed(self) -> None:
        await self._has_word.wait()
        self._has_word.clear()
        await self._tell()

    async def _tell(self) -> None:
        """What fails is not made up for: the message appears again, and costs its worker one look. Raises SqsAway."""
        deletions, self._deletions = self._deletions, []
        hidings, self._hidings = list(self._hidings.items()), {}
        outcomes = await asyncio.gather(
            *(self._delete_together(batch) for batch in batches(deletions)),
            *(self._client.hide(batch) for batch in batches(hidings)),
            return_exceptions=True,  # each request has ended then, and the client may be closed
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _delete_together(self, receipts: Sequence[str]) -> None:
        await self._client.delete(receipts)
        _DELETED.inc(len(receipts))
