"""Who is a member, remembered as facts: who they were as of the event that changed it last. That never gets wrong."""

from collections import OrderedDict


class MemberCache:
    """By conversation's key. `members_seq` is of the last event that changed who is a member, 0 if none has."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._entries: OrderedDict[int, tuple[int, frozenset[str]]] = OrderedDict()

    def get(self, key: int, members_seq: int) -> frozenset[str] | None:
        """The members as of exactly that event; None if it is not remembered."""
        entry = self._entries.get(key)
        if entry is None or entry[0] != members_seq:
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: int, members_seq: int, members: frozenset[str]) -> None:
        """Only what is committed."""
        self._entries[key] = members_seq, members
        self._entries.move_to_end(key)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
