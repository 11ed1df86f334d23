"""Calls those recipients of a message who do not look at it, at the browsers that they have subscribed.

One job calls several of them. Who has been called is remembered until the job is done, so that a retry calls the others
alone; after a crash all are called again, and the topic makes one notice of it.

A conversation's jobs wait for one another, so a subscription that fails holds up the conversation's calls, for
`push_patience_s` at most: from then on it is tried once in so long, and nothing waits for it. What fails or hangs is
left alone for a moment by all conversations, so it never takes up many of the worker's places for long.
"""

import asyncio
import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from recado.chat.errors import NotFound
from recado.chat.event import Event
from recado.ports import GiveUp, JobEvent, Push, PushGone, PushTarget, Store, TryLater

_NOTICE_BYTES_MAX = 3_993  # what every push service takes: 4,096, less the encryption's own (RFC 8291, section 4)
_TOPIC_CHARACTERS_MAX = 32  # RFC 8030, section 5.4


@dataclass(frozen=True, slots=True)
class PushLimits:
    push_body_bytes_max: int
    """A message's body in a notice, in bytes of UTF-8; what is longer is cut."""
    push_rest_s: int
    """From a call that failed to the next one to the same subscription, whatever the message."""
    push_patience_s: int
    """How long messages wait for a subscription whose service fails; then it is tried once in so long."""
    push_failing_max: int
    """Subscriptions that are known to fail."""
    push_jobs_remembered_max: int
    """Jobs that are to be retried and whose calls are remembered."""


class Notice(msgspec.Struct, frozen=True):
    """What a browser gets: docs/push.md is the contract. `name` is what the sender is called; `at` is in ms since the
    epoch."""

    conversation: str
    subject: str | None
    seq: int
    sender: str | None = msgspec.field(name="from")
    name: str
    body: str
    at: int


class _Failing(NamedTuple):
    """A subscription that fails since then, why, and until when it is left alone; in ms since the epoch."""

    since: int
    why: str
    rests_until: int


_Over = dict[str, GiveUp | None]  # a job's calls that need no retry, by endpoint


class PushHandler:
    """The sink `push` (messages only), a `recado.ports.SinkHandler`. `is_here` tells who is connected to this process;
    `topic_key` hides from push services which conversations there are."""

    def __init__(
        self,
        store: Store,
        push: Push,
        is_here: Callable[[str], bool],
        now_ms: Callable[[], int],
        topic_key: bytes,
        limits: PushLimits,
    ) -> None:
        self._store = store
        self._push = push
        self._is_here = is_here
        self._now_ms = now_ms
        self._topic_key = topic_key
        self._limits = limits
        self._over: OrderedDict[tuple[str, int], _Over] = OrderedDict()
        self._failing: OrderedDict[str, _Failing] = OrderedDict()

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        """Raises TryLater if a call may succeed later, GiveUp if one never will."""
        if entry.event.type is not None:
            return  # it has been deleted since
        targets = await self._targets(conversation, entry)
        if targets:
            try:
                notice = await self._notice(conversation, entry.event)
            except NotFound:
                return  # it has been erased since
            await self._call_all(conversation, entry.event.seq, targets, notice)

    async def close(self) -> None:
        pass

    async def _targets(self, conversation: str, entry: JobEvent) -> list[PushTarget]:
        recipients = sorted(entry.recipients - {entry.event.sender})
        if not recipients:
            return []
        targets = await self._store.push_targets(conversation, entry.event.seq, recipients)
        if not targets:
            return []
        pages = await self._store.pages(sorted({target.user for target in targets}), self._now_ms())
        return [target for target in targets if not self._looks(target.user, pages.get(target.user))]

    def _looks(self, user: str, has_visible_page: bool | None) -> bool:
        """Who says nothing of pages looks as long as it is connected."""
        return self._is_here(user) if has_visible_page is None else has_visible_page

    async def _notice(self, conversation: str, event: Event) -> bytes:
        view = await self._store.conversation(conversation, None)
        sender = event.sender or ""
        name = (await self._store.names([sender])).get(sender, sender)
        body = _cut(event.body or "", self._limits.push_body_bytes_max)
        while True:
            notice = Notice(conversation, view.subject, event.seq, event.sender, name, body, event.at)
            encoded = msgspec.json.encode(notice)
            if len(encoded) <= _NOTICE_BYTES_MAX or not body:
                return encoded
            body = body[: len(body) // 2]  # control characters take six bytes each in JSON

    async def _call_all(self, conversation: str, seq: int, targets: list[PushTarget], notice: bytes) -> None:
        over = self._over.setdefault((conversation, seq), {})
        if len(self._over) > self._limits.push_jobs_remembered_max:
            self._over.popitem(last=False)
        topic = self._topic(conversation)
        outcomes = await asyncio.gather(
            *(self._call(over, target, notice, topic) for target in targets), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        self._over.pop((conversation, seq), None)
        for refused in over.values():
            if refused is not None:
                raise refused

    async def _call(self, over: _Over, target: PushTarget, notice: bytes, topic: str) -> None:
        """Raises TryLater."""
        endpoint = target.subscription.endpoint
        if endpoint in over or self._rests(endpoint):
            return
        try:
            await self._push.push(target.subscription, notice, topic)
        except PushGone:
            await self._store.delete_push_subscription(None, endpoint)
        except GiveUp as refusal:
            over[endpoint] = refusal
            return
        except TryLater as failure:
            if self._note_failure(endpoint, failure):
                raise
            return
        self._failing.pop(endpoint, None)
        over[endpoint] = None

    def _rests(self, endpoint: str) -> bool:
        """Whether it has failed so lately, and for so long, that the message goes on without it. Raises TryLater if the
        message is to wait for it."""
        failing, now = self._failing.get(endpoint), self._now_ms()
        if failing is None or now >= failing.rests_until:
            return False
        if self._has_patience(failing.since):
            raise TryLater(failing.why, (failing.rests_until - now) / 1000)
        return True

    def _note_failure(self, endpoint: str, failure: TryLater) -> bool:
        """Whether the message is to wait for it."""
        now, known = self._now_ms(), self._failing.get(endpoint)
        since = now if known is None else known.since
        is_waited_for = self._has_patience(since)
        asked_s = failure.retry_after_s or 0
        rest_s = max(self._limits.push_rest_s, asked_s) if is_waited_for else self._limits.push_patience_s
        self._failing[endpoint] = _Failing(since, str(failure), now + round(rest_s * 1000))
        if len(self._failing) > self._limits.push_failing_max:
            self._failing.popitem(last=False)
        return is_waited_for

    def _has_patience(self, since: int) -> bool:
        return self._now_ms() - since < self._limits.push_patience_s * 1000

    def _topic(self, conversation: str) -> str:
        digest = hmac.new(self._topic_key, conversation.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode()[:_TOPIC_CHARACTERS_MAX]


def _cut(body: str, bytes_max: int) -> str:
    encoded = body.encode()
    return body if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore") + "…"
