"""How far each member is: `delivered` by the transport's own proof, `read` by the client's word; both are cursors.

Clients acknowledge far more often than anybody wants to know. Delivered cursors gather in memory, one for each member,
and go to the store a few times a second, one call at a time; the first after a quiet while goes at once. A cursor that
is lost with the process comes back with the next acknowledgement. Read cursors are written when they come, except that
one member has one write under way: who comes meanwhile shares the next.
"""

import asyncio
import logging

from recado.chat.errors import Unavailable
from recado.chat.event import delivered_signal, is_sent_by, read_signal
from recado.chat.membership import MembershipCache
from recado.chat.policy import ChatLimits
from recado.ports import Broker, Conversations, Delivered, DeliveredMark, ReadMark

_log = logging.getLogger(__name__)
_Key = tuple[str, str]  # conversation, user
_Cursor = tuple[_Key, int]


class Receipts:
    """Delivered cursors. `coalesced` and `dropped` count acknowledgements, `stored` the cursors that were written."""

    def __init__(self, store: Conversations, broker: Broker, members: MembershipCache, limits: ChatLimits) -> None:
        self._store = store
        self._broker = broker
        self._members = members
        self._limits = limits
        self._pending: dict[_Key, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._is_failing = False
        self._is_closed = False
        self.coalesced = 0
        self.stored = 0
        self.dropped = 0

    def delivered(self, user: str, conversation: str, seq: int, entry: bytes) -> None:
        """A client of `user` has `entry`, the event `seq` as it was sent to it.

        It is called for every acknowledgement, and is mostly two look-ups: 16,000 a second cost half a hundredth of a
        core.
        """
        key = (conversation, user)
        known = self._pending.get(key)
        if known is None:
            self._begin(key, seq, entry)
        else:
            self.coalesced += 1
            if seq > known:
                self._pending[key] = seq

    def _begin(self, key: _Key, seq: int, entry: bytes) -> None:
        if self._is_closed or is_sent_by(entry, seq, key[1]):
            return  # that somebody has its own message is no news, and would use up the turn of the others
        limit = self._limits.receipts_pending_max
        if len(self._pending) >= limit:
            self.dropped += 1
            return
        self._pending[key] = seq
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif len(self._pending) >= limit and not self._is_failing:
            self._wake.set()

    async def close(self) -> None:
        """Write what is pending; what comes after is not taken."""
        self._is_closed = True
        if self._task is not None:
            self._wake.set()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        """Write until nothing has come for a whole interval."""
        try:
            while self._pending:
                self._is_failing = not await self._flush()
                if not self._is_closed:
                    await self._rest()
                elif self._is_failing:
                    break
        finally:
            self._task = None

    async def _rest(self) -> None:
        self._wake.clear()
        timer = asyncio.get_running_loop().call_later(self._limits.receipts_interval_ms / 1000, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    async def _flush(self) -> bool:
        """Write what is pending; False if the store could not take all of it, and the rest is pending again."""
        cursors, self._pending = list(self._pending.items()), {}
        step = self._limits.receipts_batch_max
        for start in range(0, len(cursors), step):
            marks = [DeliveredMark(*key, seq) for key, seq in cursors[start : start + step]]
            version = self._members.version
            try:
                moved = await self._store.mark_delivered(marks, self._limits.receipt_members_max)
            except Exception as error:
                if not isinstance(error, Unavailable):
                    _log.exception("delivered cursors could not be written")
                self._put_back(cursors[start:])
                return False
            self.stored += len(marks)
            try:
                await self._tell(moved, version)
            except Exception:  # a hint: the cursors are on disk
                _log.exception("delivered cursors could not be told")
        return True

    def _put_back(self, cursors: list[_Cursor]) -> None:
        pending = self._pending
        for key, seq in cursors:
            if key in pending or len(pending) < self._limits.receipts_pending_max:
                pending[key] = max(seq, pending.get(key, 0))
            else:
                self.dropped += 1

    async def _tell(self, moved: list[Delivered], version: int) -> None:
        for each in moved:
            others = each.senders - {each.user}
            senders = await self._members.without_removed(each.conversation, others, version)
            if senders:
                self._broker.signal(each.conversation, senders, delivered_signal(each.user, each.seq))


class ReadMarks:
    """Read cursors: one write at a time for each member, the highest of those who wait being next."""

    def __init__(self, store: Conversations, broker: Broker, members: MembershipCache, limits: ChatLimits) -> None:
        self._store = store
        self._broker = broker
        self._members = members
        self._receipt_members_max = limits.receipt_members_max
        self._wanted: dict[_Key, dict[int, asyncio.Future[ReadMark]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def mark(self, conversation: str, user: str, seq: int) -> ReadMark:
        """Move the cursor to `seq` at least, and tell the members. Raises as `Conversations.mark_read`."""
        key = (conversation, user)
        wanted = self._wanted.get(key)
        loop = asyncio.get_running_loop()
        if wanted is None:
            wanted = self._wanted[key] = {}
            task = loop.create_task(self._write(key, wanted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        future = wanted.get(seq)
        if future is None:
            future = wanted[seq] = loop.create_future()
            future.add_done_callback(_retrieve)
        return await asyncio.shield(future)

    async def _write(self, key: _Key, wanted: dict[int, asyncio.Future[ReadMark]]) -> None:
        while wanted:
            highest = max(wanted)
            version = self._members.version
            try:
                mark = await self._store.mark_read(*key, highest)
            except Exception as error:
                wanted.pop(highest).set_exception(error)
                continue
            for seq in [seq for seq in wanted if seq <= mark.read_up_to]:
                wanted.pop(seq).set_result(mark)
            await self._tell(key, mark, version)
        del self._wanted[key]

    async def _tell(self, key: _Key, mark: ReadMark, version: int) -> None:
        conversation, user = key
        if mark.moved and len(mark.members) <= self._receipt_members_max:
            members = await self._members.without_removed(conversation, mark.members, version)
            self._broker.signal(conversation, members, read_signal(user, mark.read_up_to))


def _retrieve(future: asyncio.Future[ReadMark]) -> None:
    """Who asked may be gone: then nobody needs to hear of the failure, the event loop's log neither."""
    if not future.cancelled():
        future.exception()
