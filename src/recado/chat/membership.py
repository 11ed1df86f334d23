"""Who is a member, remembered in a bounded cache that can never grant after a removal has committed.

The cache follows the commits (`apply`), which reach it before anyone is told of them. A read of the store that was
under way while that conversation's membership changed is thrown away, so an old answer cannot overwrite a newer one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from recado.chat.errors import ChatError
from recado.chat.event import CONVERSATION_ERASED, MEMBER_ADDED, MEMBER_REMOVED, Committed
from recado.ports import Conversations, Membership

_OF_MEMBERSHIP = frozenset({MEMBER_ADDED, MEMBER_REMOVED, CONVERSATION_ERASED})


class MembershipCache:
    def __init__(self, store: Conversations, entries_max: int) -> None:
        self._store = store
        self._entries_max = entries_max
        self._members: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._reads: dict[str, asyncio.Future[Membership]] = {}
        self.version = 0
        """Grows with every change of any membership."""

    async def members(self, conversation: str) -> frozenset[str]:
        """The members now. Raises NotFound or Unavailable."""
        while (members := self._members.get(conversation)) is None:
            await self._read(conversation)
        self._members.move_to_end(conversation)
        return members

    async def without_removed(self, conversation: str, users: frozenset[str], version: int) -> frozenset[str]:
        """Of users who were members when the store was asked, those whom no removal has taken out since. `version` is
        from before it was asked: if nothing has changed anywhere, the store need not be asked again for a conversation
        that is not remembered. If the store cannot say, nobody: this is for hints."""
        members = self._members.get(conversation)
        if members is None:
            if version == self.version:
                return users
            try:
                members = await self.members(conversation)
            except ChatError:
                return frozenset()
        return users & members

    async def _read(self, conversation: str) -> None:
        """Read the store, one read for all who ask meanwhile."""
        read = self._reads.get(conversation)
        if read is None:
            read = self._reads[conversation] = asyncio.ensure_future(self._store.membership(conversation))
            read.add_done_callback(partial(self._take, conversation))
        if read.done():
            self._take(conversation, read)  # its callback has not had its turn yet, and gets none if nobody waits
        await asyncio.shield(read)

    def _take(self, conversation: str, read: asyncio.Future[Membership]) -> None:
        """The read has ended, whoever still waits for it."""
        is_current = self._reads.get(conversation) is read
        if is_current:
            del self._reads[conversation]
        has_failed = read.cancelled() or read.exception() is not None
        if is_current and not has_failed:
            self._remember(conversation, read.result().members)

    def apply(self, committed: Sequence[Committed]) -> None:
        for entry in committed:
            if entry.event.type in _OF_MEMBERSHIP:
                self.version += 1
                self._reads.pop(entry.conversation, None)
                self._remember(entry.conversation, entry.members_after())

    def _remember(self, conversation: str, members: frozenset[str]) -> None:
        self._members[conversation] = members
        self._members.move_to_end(conversation)
        if len(self._members) > self._entries_max:
            self._members.popitem(last=False)
