"""Who is a member, remembered in a bounded cache that can never grant after a removal has committed.

The cache follows the commits (`apply`), which reach it before anyone is told of them. A read of the store that was
under way while a membership changed is thrown away and made again, so an old answer cannot overwrite a newer one.
"""

from collections import OrderedDict
from collections.abc import Sequence

from recado.chat.event import MEMBER_ADDED, MEMBER_REMOVED, Committed
from recado.ports import Store


class MembershipCache:
    def __init__(self, store: Store, entries_max: int) -> None:
        self._store = store
        self._entries_max = entries_max
        self._members: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._changes = 0

    def known(self, conversation: str) -> frozenset[str] | None:
        """The members if they are in memory."""
        return self._members.get(conversation)

    async def members(self, conversation: str) -> frozenset[str]:
        """The members now. Raises NotFound or Unavailable."""
        while (members := self._members.get(conversation)) is None:
            changes = self._changes
            membership = await self._store.membership(conversation)
            if changes == self._changes:
                self._remember(conversation, membership.members)
        self._members.move_to_end(conversation)
        return members

    def apply(self, committed: Sequence[Committed]) -> None:
        for entry in committed:
            if entry.event.type == MEMBER_ADDED or entry.event.type == MEMBER_REMOVED:
                self._changes += 1
                self._remember(entry.conversation, entry.members_after())

    def forget(self, conversation: str) -> None:
        self._changes += 1
        self._members.pop(conversation, None)

    def _remember(self, conversation: str, members: frozenset[str]) -> None:
        self._members[conversation] = members
        if len(self._members) > self._entries_max:
            self._members.popitem(last=False)
