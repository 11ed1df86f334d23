"""A storage whose moments the test chooses: what is asked of it waits, then is done, or fails, or is lost in a crash.

`HeldStorage` holds back what goes to the storage behind it: a real one, or `MemoryStorage`, which is plain dicts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from recado.broker.publication import Publication
from recado.broker.storage import (
    Acknowledged,
    Change,
    Claimed,
    ClearRetained,
    DeleteSubscription,
    Delivery,
    EndSession,
    Enqueue,
    Entry,
    Expired,
    Forgotten,
    QueueStorage,
    Received,
    Released,
    Resumed,
    Retain,
    SaveSession,
    SaveSubscription,
    StorageFailed,
    Stored,
    StoredSession,
)
from recado.mqtt.packets import SubscriptionRequest

T = TypeVar("T")
Done = Callable[[bool], None]


@dataclass
class _Asked:
    """A write, or a read with its future."""

    changes: Sequence[Change] = ()
    done: Done | None = None
    read: Callable[[], Awaitable[Any]] | None = None
    future: asyncio.Future[Any] | None = None


class HeldStorage:
    """`waiting` is what was asked and not done yet, in order; `under_way` counts what the storage behind has."""

    def __init__(self, behind: QueueStorage) -> None:
        self.behind = behind
        self.waiting: deque[_Asked] = deque()
        self.under_way = 0
        self.is_dead = False
        self.on_failed: Callable[[Sequence[Change]], None] = lambda changes: None

    def write(self, changes: Sequence[Change], done: Done | None = None) -> None:
        if not self.is_dead:
            self.waiting.append(_Asked(tuple(changes), done))

    async def load(self) -> Stored:
        return await self.behind.load()

    async def resume(self, key: int) -> Resumed:
        return await self._read(partial(self.behind.resume, key))

    async def claim(self, key: int, packet_ids: Sequence[int], now_ms: int) -> Claimed:
        return await self._read(partial(self.behind.claim, key, tuple(packet_ids), now_ms))

    async def forget_expired(self, key: int, now_ms: int) -> Expired:
        return await self._read(partial(self.behind.forget_expired, key, now_ms))

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self.is_dead:
            self.waiting.append(_Asked(read=read, future=future))
        return await future

    async def close(self) -> None:
        while self.waiting:
            await self.go_on()

    # What the test chooses

    async def go_on(self, count: int = 1_000_000) -> None:
        """Let the storage do the first of what waits."""
        for _ in range(min(count, len(self.waiting))):
            asked = self.waiting.popleft()
            self.under_way += 1
            if asked.read is None:
                self.behind.write(asked.changes, partial(self._written, asked))
            else:
                self._reading = asyncio.ensure_future(self._run(asked, asked.read))
                await asyncio.sleep(0)  # so that it is asked before the next one

    def _written(self, asked: _Asked, is_stored: bool) -> None:
        self.under_way -= 1
        if not is_stored:
            self.on_failed(asked.changes)
        if asked.done is not None and not self.is_dead:
            asked.done(is_stored)

    async def _run(self, asked: _Asked, read: Callable[[], Awaitable[Any]]) -> None:
        future = asked.future
        assert future is not None
        try:
            result = await read()
        except StorageFailed as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)
        finally:
            self.under_way -= 1

    def fail(self, count: int) -> None:
        """The disk is full for the first of what waits."""
        for _ in range(min(count, len(self.waiting))):
            asked = self.waiting.popleft()
            if asked.future is not None:
                if not asked.future.done():
                    asked.future.set_exception(StorageFailed("the disk is full"))
                continue
            self.on_failed(asked.changes)
            if asked.done is not None:
                asked.done(False)

    def crash(self) -> None:
        """What waits is gone, and nobody is told."""
        self.is_dead = True
        self.waiting.clear()


@dataclass
class _Kept:
    saved: SaveSession
    subscriptions: dict[str, tuple[SubscriptionRequest, int]] = field(default_factory=dict)
    queue: list[tuple[Publication, Entry]] = field(default_factory=list)
    inflight: dict[int, Delivery] = field(default_factory=dict)
    received: set[int] = field(default_factory=set)


class MemoryStorage:
    """What the contract asks, as simply as can be, behind a HeldStorage: what is written is done and told at once."""

    def __init__(self) -> None:
        self.sessions: dict[int, _Kept] = {}
        self.retained: dict[str, Publication] = {}
        self.last_key = 0
        self.last_position = 0

    async def load(self) -> Stored:
        sessions = [
            StoredSession(
                each.saved,
                list(each.subscriptions.values()),
                len(each.queue),
                sum(publication.size for publication, _ in each.queue),
            )
            for each in self.sessions.values()
        ]
        return Stored(sessions, list(self.retained.values()), self.last_key, self.last_position)

    def write(self, changes: Sequence[Change], done: Done | None = None) -> None:
        is_kept = self._can_keep(changes)
        if is_kept:
            for change in changes:
                self._apply(change)
        if done is not None:
            done(is_kept)

    def _can_keep(self, changes: Sequence[Change]) -> bool:
        return all(change.key in self.sessions for change in changes if isinstance(change, SaveSubscription | Received))

    def _apply(self, change: Change) -> None:
        match change:
            case SaveSession():
                self.last_key = max(self.last_key, change.key)
                if change.key in self.sessions:
                    self.sessions[change.key].saved = change
                else:
                    self.sessions[change.key] = _Kept(change)
            case EndSession():
                self.sessions.pop(change.key, None)
            case Retain():
                self.retained[change.publication.topic_name] = change.publication
            case ClearRetained():
                self.retained.pop(change.topic_name, None)
            case Enqueue():
                assert change.position > self.last_position
                self.last_position = change.position
                for entry in change.entries:
                    self._enqueue(change.publication, entry)
            case _:
                there = self.sessions.get(change.key)
                if there is not None:
                    self._apply_to(there, change)

    def _enqueue(self, publication: Publication, entry: Entry) -> None:
        there = self.sessions.get(entry.key)
        if there is None:
            return
        if entry.packet_id:
            there.inflight.pop(entry.packet_id, None)
            delivery = Delivery(entry.packet_id, publication, entry.qos, entry.retain, entry.identifiers)
            there.inflight[entry.packet_id] = delivery
        else:
            there.queue.append((publication, entry))

    def _apply_to(self, there: _Kept, change: Change) -> None:
        match change:
            case SaveSubscription():
                there.subscriptions[change.subscription.topic_filter] = (change.subscription, change.identifier)
            case DeleteSubscription():
                there.subscriptions.pop(change.topic_filter, None)
            case Acknowledged():
                there.inflight.pop(change.packet_id, None)
            case Released():
                if change.packet_id in there.inflight:
                    released = there.inflight[change.packet_id]._replace(publication=None)
                    there.inflight[change.packet_id] = released
            case Received():
                there.received.add(change.packet_id)
            case Forgotten():
                there.received.discard(change.packet_id)

    async def resume(self, key: int) -> Resumed:
        there = self.sessions.get(key)
        return Resumed(list(there.inflight.values()), sorted(there.received)) if there is not None else Resumed([], [])

    async def forget_expired(self, key: int, now_ms: int) -> Expired:
        return Expired(0, 0, 0)  # nothing expires here

    async def claim(self, key: int, packet_ids: Sequence[int], now_ms: int) -> Claimed:
        there = self.sessions.get(key)
        if there is None:
            return Claimed([], 0, 0, False)
        for packet_id in packet_ids[: len(there.queue)]:
            there.inflight.pop(packet_id, None)
        taken = there.queue[: len(packet_ids)]
        del there.queue[: len(packet_ids)]
        deliveries = [
            Delivery(packet_id, publication, entry.qos, entry.retain, entry.identifiers)
            for packet_id, (publication, entry) in zip(packet_ids, taken, strict=False)
        ]
        there.inflight.update({each.packet_id: each for each in deliveries})
        removed_bytes = sum(publication.size for publication, _ in taken)
        return Claimed(deliveries, len(taken), removed_bytes, bool(there.queue))

    async def close(self) -> None:
        pass
