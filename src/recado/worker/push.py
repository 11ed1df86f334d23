"""Notifies those recipients of a message who do not look at it, at the browsers that they have subscribed.

One job notifies several of them. Who has been notified is remembered until the job is done, so that a retry is for the
others alone; after a crash all are notified again, and the topic makes one notice of it.

Users name the services, so nobody waits long for another one's. A job waits `push_wait_s` for answers; calls go on
after that, and a later attempt finds what became of them. A subscription that fails keeps the newest message's job
alone, for `push_patience_s`: the newest notice is what it is to show, so an older message's job is done without it.
"""

import asyncio
import base64
import hashlib
import hmac
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec
import structlog

from recado.chat.errors import NotFound, Unavailable
from recado.chat.event import Event
from recado.ports import GiveUp, JobEvent, Push, PushGone, PushTarget, Store, TryLater
from recado.worker.lane import describe
from recado.worker.limits import PushLimits
from recado.worker.push_failures import PushFailures

log = structlog.get_logger("recado.worker")
_NOTICE_BYTES_MAX = 3_993  # what every push service takes: 4,096, less the encryption's own (RFC 8291, section 4)
_TOPIC_CHARACTERS_MAX = 32  # RFC 8030, section 5.4
_NEWER_LOOKED_AT = 100  # events after a message, among which a newer one is looked for


class Notice(msgspec.Struct, frozen=True):
    """What a browser gets: docs/push.md is the contract. `name` is the sender's display name, or its id; `at` is in ms
    since the epoch."""

    conversation: str
    subject: str | None
    seq: int
    sender: str | None = msgspec.field(name="from")
    name: str
    body: str
    at: int


class _Call(NamedTuple):
    """`over`: the endpoints of the same job that need no retry."""

    target: PushTarget
    notice: bytes
    topic: str
    over: set[str]

    @property
    def key(self) -> tuple[str, str]:
        return self.target.subscription.endpoint, self.topic


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
        self._over: OrderedDict[tuple[str, int], set[str]] = OrderedDict()  # by job: endpoints that need no retry
        self._failures = PushFailures(now_ms, limits)
        self._calls: dict[tuple[str, str], asyncio.Task[None]] = {}  # under way, by endpoint and topic
        self._next: dict[tuple[str, str], _Call] = {}  # the newest to be made when that one has ended
        self._calls_of: Counter[str] = Counter()  # of those, by user

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        """Raises TryLater if a notice may arrive later."""
        if entry.event.type is not None:
            return  # it has been deleted since
        targets = await self._targets(conversation, entry)
        if targets:
            try:
                notice = await self._notice(conversation, entry.event)
            except NotFound:
                return  # it has been erased since
            await self._notify_all(conversation, entry.event.seq, targets, notice)

    async def close(self) -> None:
        self._next.clear()
        calls = list(self._calls.values())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._push.close()

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

    async def _notify_all(self, conversation: str, seq: int, targets: list[PushTarget], notice: bytes) -> None:
        """Raises TryLater."""
        over = self._over.setdefault((conversation, seq), set())
        if len(self._over) > self._limits.push_jobs_remembered_max:
            self._over.popitem(last=False)
        topic = self._topic(conversation)
        left = [target for target in targets if target.subscription.endpoint not in over]
        calls = {self._begin(_Call(target, notice, topic, over)): target.user for target in left}
        await self._wait(calls)
        owed = [target for target in left if self._is_owed(target, over)]
        if owed and await self._is_newest(conversation, seq):
            raise TryLater(self._failures.why(owed[0].subscription.endpoint), sink_is_well=True)
        self._over.pop((conversation, seq), None)

    def _begin(self, call: _Call) -> asyncio.Task[None] | None:
        """None if it cannot be made now. No two at a time of one conversation: none may overtake another."""
        if call.key in self._calls:
            self._next[call.key] = call
            return None
        user, endpoint = call.target.user, call.target.subscription.endpoint
        has_its_share = self._calls_of[user] >= self._limits.push_user_calls_max
        if has_its_share or self._failures.rests(endpoint):
            return None
        self._calls_of[user] += 1
        task = self._calls[call.key] = asyncio.create_task(self._notify(call))
        task.add_done_callback(lambda _: self._note_end(call))
        return task

    def _note_end(self, call: _Call) -> None:
        del self._calls[call.key]
        user, endpoint = call.target.user, call.target.subscription.endpoint
        self._calls_of[user] -= 1
        if not self._calls_of[user]:
            del self._calls_of[user]
        following = self._next.pop(call.key, None)
        if following is not None and endpoint not in following.over:
            self._begin(following)

    async def _wait(self, users: dict[asyncio.Task[None] | None, str]) -> None:
        """Until the calls have ended, or have taken too long for the worker's place; then they go on without it."""
        calls = [call for call, user in users.items() if call is not None and not self._failures.is_in_trouble(user)]
        if calls:
            _, late = await asyncio.wait(calls, timeout=self._limits.push_wait_s)
            for call in late:
                self._failures.note_slow(users[call])

    async def _notify(self, call: _Call) -> None:
        """Whatever goes wrong is this one subscription's failure."""
        user, endpoint = call.target.user, call.target.subscription.endpoint
        try:
            await self._push.push(call.target.subscription, call.notice, call.topic)
        except PushGone:
            with suppress(Unavailable):  # the next message finds the same
                await self._store.delete_push_subscription(None, endpoint)
        except GiveUp as refusal:
            log.warning("push_refused", error=describe(refusal))
            self._failures.note_refusal(endpoint, describe(refusal))
        except Exception as error:
            if not isinstance(error, TryLater):
                log.warning("push_failed", error=describe(error))
            asked_s = (error.retry_after_s if isinstance(error, TryLater) else None) or 0
            self._failures.note_failure(user, endpoint, describe(error), asked_s)
            return
        else:
            self._failures.note_success(user, endpoint)
        call.over.add(endpoint)

    def _is_owed(self, target: PushTarget, over: set[str]) -> bool:
        endpoint = target.subscription.endpoint
        return endpoint not in over and self._failures.are_waited_for(target.user, endpoint)

    async def _is_newest(self, conversation: str, seq: int) -> bool:
        """Whether there is no newer message: its job notifies those who are still owed this one's notice."""
        try:
            page = await self._store.events(conversation, None, seq, None, _NEWER_LOOKED_AT)
        except NotFound:
            return False
        return all(event.type is not None for event in page.events)

    def _topic(self, conversation: str) -> str:
        digest = hmac.new(self._topic_key, conversation.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode()[:_TOPIC_CHARACTERS_MAX]


def _cut(body: str, bytes_max: int) -> str:
    encoded = body.encode()
    return body if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore") + "…"
