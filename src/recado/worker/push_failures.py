"""Which subscriptions fail, and whose: what messages still wait for, and what is left alone.

A user's subscriptions are its own doing, so patience is with the user, too: who names a new endpoint in place of one
that failed gains nothing by it.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from recado.worker.limits import PushLimits


class _Failing(NamedTuple):
    """A subscription that fails: why, until when messages wait for it, and until when it is left alone; in ms since the
    epoch."""

    why: str
    waited_for_until: int
    rests_until: int


class _Trouble(NamedTuple):
    """Of a user's subscriptions some fail since then, and one did at last then; in ms since the epoch."""

    since: int
    last: int


class PushFailures:
    """Of this process; those of longest ago are forgotten."""

    def __init__(self, now_ms: Callable[[], int], limits: PushLimits) -> None:
        self._now_ms = now_ms
        self._limits = limits
        self._patience_ms = limits.push_patience_s * 1000
        self._subscriptions: OrderedDict[str, _Failing] = OrderedDict()
        self._users: OrderedDict[str, _Trouble] = OrderedDict()

    def __len__(self) -> int:
        return max(len(self._subscriptions), len(self._users))

    def is_in_trouble(self, user: str) -> bool:
        """Whether a subscription of the user has failed lately: then a worker's place does not wait for its answers."""
        trouble = self._users.get(user)
        return trouble is not None and self._now_ms() - trouble.last < self._patience_ms

    def rests(self, endpoint: str) -> bool:
        known = self._subscriptions.get(endpoint)
        return known is not None and self._now_ms() < known.rests_until

    def are_waited_for(self, user: str, endpoint: str) -> bool:
        """Whether a message waits until the user has been notified there."""
        now = self._now_ms()
        failing, trouble = self._subscriptions.get(endpoint), self._users.get(user)
        has_lost_patience = trouble is not None and now - trouble.since >= self._patience_ms
        return not has_lost_patience and (failing is None or now < failing.waited_for_until)

    def why(self, endpoint: str) -> str:
        known = self._subscriptions.get(endpoint)
        return "a push service has not answered yet" if known is None else known.why

    def note_slow(self, user: str) -> None:
        now = self._now_ms()
        known = self._users.get(user)
        self._users[user] = _Trouble(now if known is None else known.since, now)
        self._forget_oldest()

    def note_failure(self, user: str, endpoint: str, why: str, asked_s: float) -> None:
        """`asked_s`: so long the service wants to be left alone."""
        now, known = self._now_ms(), self._subscriptions.get(endpoint)
        waited_for_until = now + self._patience_ms if known is None else known.waited_for_until
        self.note_slow(user)
        is_waited_for = now < waited_for_until and self.are_waited_for(user, endpoint)
        rest_s = max(self._limits.push_rest_s, asked_s) if is_waited_for else self._limits.push_patience_s
        self._subscriptions[endpoint] = _Failing(why, waited_for_until, now + round(rest_s * 1000))
        self._forget_oldest()

    def note_refusal(self, endpoint: str, why: str) -> None:
        """Nothing waits for what a service will not take."""
        rests_until = self._now_ms() + self._limits.push_refused_rest_s * 1000
        self._subscriptions[endpoint] = _Failing(why, 0, rests_until)
        self._forget_oldest()

    def note_success(self, user: str, endpoint: str) -> None:
        """The user's trouble is over once nothing of it has failed for as long as it would be waited for."""
        self._subscriptions.pop(endpoint, None)
        if not self.is_in_trouble(user):
            self._users.pop(user, None)

    def _forget_oldest(self) -> None:
        for known in (self._subscriptions, self._users):
            if len(known) > self._limits.push_failing_max:
                known.popitem(last=False)
