"""A broker's storage in memory, for the fuzzer: as `recado.broker.storage` asks, but nothing survives the process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from recado.broker.publication import Publication
from recado.broker.storage import (
    Acknowledged,
    Change,
    Claimed,
    ClearRetained,
    Delivery,
    EndSession,
    Enqueue,
    Entry,
    Expired,
    Forgotten,
    Received,
    Released,
    Resumed,
    Retain,
    SaveSession,
    SaveSubscription,
    StorageFailed,
    Stored,
)


class Kept:
    """What there is of one session."""

    def __init__(self) -> None:
        self.queue: deque[tuple[Publication, Entry]] = deque()
        self.inflight: dict[int, Delivery] = {}
        self.received: dict[int, None] = {}
        self.topic_filters: set[str] = set()


class MemoryStorage:
    """`fails` makes every call fail, as a full disk does."""

    def __init__(self) -> None:
        self.sessions: dict[int, Kept] = {}
        self.retained: set[str] = set()
        self.fails = False

    async def load(self) -> Stored:
        return Stored([], [], 0, 0)

    def write(self, changes: Sequence[Change], done: Callable[[bool], None] | None = None) -> None:
        if not self.fails:
            for change in changes:
                self._apply(change)
        if done is not None:
            asyncio.get_running_loop().call_soon(done, not self.fails)

    def _apply(self, change: Change) -> None:
        match change:
            case SaveSession(key):
                self.sessions.setdefault(key, Kept())
            case EndSession(key):
                self.sessions.pop(key, None)
            case Retain(publication):
                self.retained.add(publication.topic_name)
            case ClearRetained(topic_name):
                self.retained.discard(topic_name)
            case Enqueue(_, publication, entries):
                for entry in entries:
                    self._enqueue(publication, entry)
            case _:
                if (kept := self.sessions.get(change.key)) is not None:
                    _change(kept, change)

    def _enqueue(self, publication: Publication, entry: Entry) -> None:
        kept = self.sessions.get(entry.key)
        if kept is not None and entry.packet_id:
            kept.inflight[entry.packet_id] = _delivery(entry.packet_id, publication, entry)
        elif kept is not None:
            kept.queue.append((publication, entry))

    async def resume(self, key: int) -> Resumed:
        kept = await self._read(key)
        return Resumed(list(kept.inflight.values()), list(kept.received))

    async def claim(self, key: int, packet_ids: Sequence[int], now_ms: int) -> Claimed:
        kept = await self._read(key)
        deliveries: list[Delivery] = []
        removed = removed_bytes = 0
        while kept.queue and len(deliveries) < len(packet_ids):
            publication, entry = kept.queue.popleft()
            removed += 1
            removed_bytes += publication.size
            if not publication.has_expired(now_ms):
                deliveries.append(_delivery(packet_ids[len(deliveries)], publication, entry))
        kept.inflight.update((each.packet_id, each) for each in deliveries)
        return Claimed(deliveries, removed, removed_bytes, bool(kept.queue))

    async def forget_expired(self, key: int, now_ms: int) -> Expired:
        kept = await self._read(key)
        expired = [publication for publication, _ in kept.queue if publication.has_expired(now_ms)]
        kept.queue = deque(each for each in kept.queue if not each[0].has_expired(now_ms))
        left = [publication.expires_at_ms for publication, _ in kept.queue if publication.expires_at_ms]
        return Expired(len(expired), sum(each.size for each in expired), min(left, default=0))

    async def _read(self, key: int) -> Kept:
        await asyncio.sleep(0)
        if self.fails:
            raise StorageFailed
        return self.sessions.get(key) or Kept()

    async def close(self) -> None:
        pass


def _change(kept: Kept, change: Change) -> None:
    match change:
        case Acknowledged(_, packet_id):
            kept.inflight.pop(packet_id, None)
        case Released(_, packet_id) if packet_id in kept.inflight:
            kept.inflight[packet_id] = Delivery(packet_id, None, 2, False, ())
        case Received(_, packet_id):
            kept.received[packet_id] = None
        case Forgotten(_, packet_id):
            kept.received.pop(packet_id, None)
        case SaveSubscription(_, subscription):
            kept.topic_filters.add(subscription.topic_filter)


def _delivery(packet_id: int, publication: Publication, entry: Entry) -> Delivery:
    return Delivery(packet_id, publication, entry.qos, entry.retain, entry.identifiers)
