"""How much one user may signal, and which signals need not be passed on. The clocks are steady, and tell seconds."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from recado.chat.event import Committed


class SignalRates:
    """`limited` counts the signals that came when the user's second was used up."""

    def __init__(self, rate_max: int, clock: Callable[[], float]) -> None:
        self._rate_max = rate_max
        self._clock = clock
        self._second = 0
        self._counts: dict[str, int] = {}
        self.limited = 0

    def take(self, user: str) -> bool:
        """Count a signal; False if it is more than the user may send within this second."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._counts.clear()
        count = self._counts[user] = self._counts.get(user, 0) + 1
        if count <= self._rate_max:
            return True
        self.limited += 1
        return False


class TypingRenewals:
    """Who was last shown as typing, and when: a renewal soon after says nothing new. `coalesced` counts those."""

    def __init__(self, interval_s: float, entries_max: int, clock: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._entries_max = entries_max
        self._clock = clock
        self._shown_at: OrderedDict[tuple[str, str], float] = OrderedDict()  # by (conversation, user), oldest first
        self.coalesced = 0

    def is_news(self, conversation: str, user: str) -> bool:
        """Whether the members need to hear of it; if so, it is remembered as told."""
        key = (conversation, user)
        now_s = self._clock()
        shown_at = self._shown_at.get(key)
        if shown_at is not None and now_s - shown_at < self._interval_s:
            self.coalesced += 1
            return False
        self._shown_at[key] = now_s
        self._shown_at.move_to_end(key)
        if len(self._shown_at) > self._entries_max:
            self._shown_at.popitem(last=False)
        return True

    def apply(self, committed: Sequence[Committed]) -> None:
        """A message ends its sender's typing: what follows it is news again."""
        if self._shown_at:
            for entry in committed:
                if entry.event.type is None and entry.event.sender is not None:
                    self._shown_at.pop((entry.conversation, entry.event.sender), None)
