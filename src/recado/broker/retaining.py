"""The retained messages of all topics, within their bounds, and in step with the storage.

Memory is ahead of the storage by what is being written: a new subscriber gets what was published before it came. What
the storage then cannot keep is taken back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from recado.broker.hooks import Outcome
from recado.broker.publication import Publication
from recado.broker.storage import Change, ClearRetained, Retain
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.retained import RetainedMessages

if TYPE_CHECKING:
    from recado.broker.server import Server

SYS_PREFIX = "$SYS/"
_LEVEL_BYTES = 250  # what a level of a topic takes in the tree


class RetainedChange:
    """A topic's retained message was `former` and is `now`; None is no message. Pending until it is settled."""

    __slots__ = ("_retaining", "former", "now", "topic_name")

    def __init__(
        self, retaining: Retaining, topic_name: str, former: Publication | None, now: Publication | None
    ) -> None:
        self._retaining = retaining
        self.topic_name = topic_name
        self.former = former
        self.now = now

    def settle(self, is_stored: bool) -> None:
        self._retaining.settle(self, is_stored)


class Retaining:
    """`held_bytes` are those of what clients have retained; `$SYS` is the server's own and counts for nothing."""

    def __init__(self, server: Server) -> None:
        self.held_bytes = 0
        self._server = server
        self._messages: RetainedMessages[Publication] = RetainedMessages()
        self._pending: dict[str, list[RetainedChange]] = {}
        self._expired_forgotten_at = -1

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, topic_name: str) -> Publication | None:
        return self._messages.get(topic_name)

    def matching(self, topic_filter: str) -> Iterator[Publication]:
        return self._messages.matching(topic_filter)

    def load(self, publication: Publication) -> None:
        self._put(publication.topic_name, publication.as_retained())

    def tell(self, publication: Publication) -> None:
        """Retain what the server says about itself; it is never in the storage."""
        self._messages.set(publication.topic_name, publication)

    def retain(self, publication: Publication, changes: list[Change], pending: list[Any]) -> Outcome | None:
        """Make a publication its topic's retained message; an empty one removes it. Returns why not, if so."""
        topic_name = publication.topic_name
        if topic_name.startswith(SYS_PREFIX):
            return Outcome(ReasonCode.NOT_AUTHORIZED, "$SYS is the server's own")
        former = self._messages.get(topic_name)
        if not publication.payload:  # [MQTT5-3.3.1-6] [MQTT5-3.3.1-7] [MQTT311-3.3.1-10] [MQTT311-3.3.1-11]
            if former is not None:
                self._change(topic_name, former, None, changes, pending)
            return None
        if not self._has_room(former, publication):
            self._forget_expired(changes, pending)
            former = self._messages.get(topic_name)
            if not self._has_room(former, publication):
                return Outcome(ReasonCode.QUOTA_EXCEEDED, "the server retains as much as it may")
        self._change(
            topic_name, former, publication.as_retained(), changes, pending
        )  # [MQTT5-3.3.1-5] [MQTT311-3.3.1-5]
        return None

    def _has_room(self, former: Publication | None, publication: Publication) -> bool:
        limits = self._server.limits
        if self.held_bytes + held_bytes(publication) - held_bytes(former) > limits.retained_bytes_max:
            return False
        return former is not None or len(self) - len(self._server.sys_topics) < limits.retained_messages_max

    def _forget_expired(self, changes: list[Change], pending: list[Any]) -> None:
        tick = self._server.deadlines.tick
        if self._expired_forgotten_at == tick:
            return  # it looks at all of them: not for each publish of someone who goes on at the limit
        self._expired_forgotten_at = tick
        now_ms = time.time_ns() // 1_000_000
        for publication in [each for each in self._messages.matching("#") if each.has_expired(now_ms)]:
            self._change(publication.topic_name, publication, None, changes, pending)

    def _change(
        self,
        topic_name: str,
        former: Publication | None,
        now: Publication | None,
        changes: list[Change],
        pending: list[Any],
    ) -> None:
        self._put(topic_name, now)
        if self._server.storage is not None:
            changes.append(ClearRetained(topic_name) if now is None else Retain(now))
            change = RetainedChange(self, topic_name, former, now)
            self._pending.setdefault(topic_name, []).append(change)
            pending.append(change)

    def _put(self, topic_name: str, now: Publication | None) -> None:
        former = self._messages.remove(topic_name) if now is None else self._messages.set(topic_name, now)
        self.held_bytes += held_bytes(now) - held_bytes(former)

    def settle(self, change: RetainedChange, is_stored: bool) -> None:
        """The storage has the change, or it is taken back: also from under those that came on top of it."""
        topic_name = change.topic_name
        others = self._pending[topic_name]
        others.remove(change)
        if not others:
            del self._pending[topic_name]
        if is_stored:
            return
        for other in others:
            if other.former is change.now:
                other.former = change.former
        if self._messages.get(topic_name) is change.now:
            self._put(topic_name, change.former)


def held_bytes(publication: Publication | None) -> int:
    """About how many bytes of memory a retained message takes, with the levels of its topic; 0 for none."""
    return 0 if publication is None else publication.size + _LEVEL_BYTES * (publication.topic_name.count("/") + 1)
