"""The newest events of the conversations, as they are sent: who is a little behind is served without the store.

Of each conversation it has the last ones without a gap. What changes an earlier event makes it forget the conversation:
the store alone knows how that reads now.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from recado.broker.hooks import LogPage
from recado.chat.event import CONVERSATION_CHANGED, CONVERSATION_ERASED, MEMBER_ADDED, MEMBER_REMOVED, Event

_ENTRY_BYTES = 100  # what an entry takes beside its payload
_LOG_BYTES = 1_000  # and what a conversation takes that has any
_CHANGE_NOTHING = (None, MEMBER_ADDED, MEMBER_REMOVED, CONVERSATION_CHANGED)  # that was there before


class RecentEvents:
    """At most `entries_max` of one conversation, and `bytes_max` of all; the conversation that was quiet for longest
    makes room."""

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._logs: OrderedDict[str, deque[tuple[int, bytes]]] = OrderedDict()

    def add(self, conversation: str, event: Event, payload: bytes) -> None:
        """The next event of a conversation, and its payload as it is sent."""
        if event.type not in _CHANGE_NOTHING:
            self._forget(conversation)
            if event.type == CONVERSATION_ERASED:
                return
        log = self._logs.get(conversation)
        if log and event.seq != log[-1][0] + 1:  # somebody failed to hand out the one before
            self._forget(conversation)
            log = None
        if log is None:
            log = self._logs[conversation] = deque()
            self._bytes += _LOG_BYTES
        else:
            self._logs.move_to_end(conversation)
        log.append((event.seq, payload))
        self._bytes += len(payload) + _ENTRY_BYTES
        if len(log) > self._entries_max:
            self._bytes -= len(log.popleft()[1]) + _ENTRY_BYTES
        while self._bytes > self._bytes_max:
            self._forget(next(iter(self._logs)))

    def page(self, conversation: str, after: int, limit: int) -> LogPage | None:
        """The entries past `after`; None if the store must be asked."""
        log = self._logs.get(conversation)
        if log is None or after < log[0][0] - 1:
            return None
        first = after + 1 - log[0][0]
        entries = [log[index] for index in range(first, min(first + limit, len(log)))]
        return LogPage(entries, log[-1][0])

    def clear(self) -> None:
        """Some events do not read as they did, and nobody says which."""
        self._logs.clear()
        self._bytes = 0

    def _forget(self, conversation: str) -> None:
        log = self._logs.pop(conversation, None)
        if log is not None:
            self._bytes -= _LOG_BYTES + sum(len(payload) + _ENTRY_BYTES for _, payload in log)
