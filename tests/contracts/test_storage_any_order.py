"""The QueueStorage against a model that is plain lists: any order of changes and reads, with restarts in between."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from recado.broker.storage import (
    Acknowledged,
    Change,
    ClearRetained,
    DeleteSubscription,
    EndSession,
    Enqueue,
    Entry,
    Forgotten,
    QueueStorage,
    Received,
    Released,
    Retain,
    SaveSubscription,
)
from recado.mqtt.packets import SubscriptionRequest
from tests.contracts.storages import ADAPTERS, StorageShelf, brief, publication, session, written

T = TypeVar("T")
KEYS = st.integers(1, 2)
PACKET_IDS = st.integers(1, 3)
TOPICS = st.sampled_from(["a", "b/c", "d/#"])
NOW_MS = 100
EXPIRES = st.sampled_from([0, 0, NOW_MS, NOW_MS + 1])


@dataclass
class Expected:
    """One session as it should be."""

    expiry_interval: int
    subscriptions: dict[str, tuple[int, int]] = field(default_factory=dict)
    queue: list[tuple[str, int]] = field(default_factory=list)  # payload, expires_at_ms
    inflight: dict[int, str | None] = field(default_factory=dict)
    received: set[int] = field(default_factory=set)


class StorageMachine(RuleBasedStateMachine):
    open_storage: Callable[[Path], QueueStorage]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.shelf = StorageShelf(type(self).open_storage, Path(self.folder.name))
        self.storage = self.runner.run(self._opened())
        self.sessions: dict[int, Expected] = {}
        self.retained: dict[str, str] = {}
        self.last_key = self.position = 0
        self.asked: list[tuple[tuple[Change, ...], bool]] = []
        self.under_way: list[tuple[asyncio.Future[bool], bool]] = []

    async def _opened(self) -> QueueStorage:
        storage = self.shelf.open()
        await storage.load()
        return storage

    def write(self, *changes: Change, kept: bool = True) -> None:
        """With the next read: all that was asked for by then is written at once, so that it is committed together."""
        self.asked.append((changes, kept))

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        async def called() -> T:
            self.under_way += [(written(self.storage, *changes), kept) for changes, kept in self.asked]
            self.asked.clear()
            return await call()

        return self.runner.run(called())

    def settle(self) -> None:
        async def settled() -> None:
            for future, kept in self.under_way:
                assert await future == kept

        self.run(settled)
        self.under_way.clear()

    @rule(key=KEYS, expiry_interval=st.integers(1, 9))
    def save_session(self, key: int, expiry_interval: int) -> None:
        self.sessions.setdefault(key, Expected(expiry_interval)).expiry_interval = expiry_interval
        self.last_key = max(key, self.last_key)
        self.write(session(key, expiry_interval=expiry_interval))

    @rule(key=KEYS)
    def end_session(self, key: int) -> None:
        self.sessions.pop(key, None)
        self.write(EndSession(key))

    @rule(key=KEYS, topic_filter=TOPICS, qos=st.integers(0, 2), identifier=st.integers(0, 9))
    def subscribe(self, key: int, topic_filter: str, qos: int, identifier: int) -> None:
        there = self.sessions.get(key)
        if there is not None:
            there.subscriptions[topic_filter] = (qos, identifier)
        change = SaveSubscription(key, SubscriptionRequest(topic_filter, qos), identifier)
        self.write(change, kept=there is not None)

    @rule(key=KEYS, topic_filter=TOPICS)
    def unsubscribe(self, key: int, topic_filter: str) -> None:
        if (there := self.sessions.get(key)) is not None:
            there.subscriptions.pop(topic_filter, None)
        self.write(DeleteSubscription(key, topic_filter))

    @rule(
        entries=st.lists(st.tuples(KEYS, st.one_of(st.just(0), PACKET_IDS)), min_size=1, max_size=5),
        received=st.one_of(st.none(), st.tuples(KEYS, PACKET_IDS)),
        expires_at_ms=EXPIRES,
        broken=st.booleans(),
    )
    def enqueue(
        self, entries: list[tuple[int, int]], received: tuple[int, int] | None, expires_at_ms: int, broken: bool
    ) -> None:
        """`broken`: a change at the end of the transaction that cannot be done."""
        self.position += 1
        text = f"m{self.position}"
        published = publication(text, expires_at_ms=expires_at_ms)
        changes: list[Change] = [Enqueue(self.position, published, [Entry(*each, 1, False, ()) for each in entries])]
        changes += [Received(*received)] if received else []
        changes += [SaveSubscription(99, SubscriptionRequest("a"), 0)] if broken else []
        kept = not broken
        if kept:
            for key, packet_id in entries:
                self.take(key, packet_id, text, expires_at_ms)
            if received and received[0] in self.sessions:
                self.sessions[received[0]].received.add(received[1])
        if not kept or not any(key in self.sessions for key, _ in entries):
            self.position -= 1
        self.write(*changes, kept=kept)

    def take(self, key: int, packet_id: int, text: str, expires_at_ms: int) -> None:
        if (there := self.sessions.get(key)) is None:
            return
        if packet_id:
            there.inflight.pop(packet_id, None)  # the new one comes last
            there.inflight[packet_id] = text
        else:
            there.queue.append((text, expires_at_ms))

    @rule(key=KEYS, packet_id=PACKET_IDS)
    def acknowledge(self, key: int, packet_id: int) -> None:
        if (there := self.sessions.get(key)) is not None:
            there.inflight.pop(packet_id, None)
        self.write(Acknowledged(key, packet_id))

    @rule(key=KEYS, packet_id=PACKET_IDS)
    def release(self, key: int, packet_id: int) -> None:
        if (there := self.sessions.get(key)) is not None and packet_id in there.inflight:
            there.inflight[packet_id] = None
        self.write(Released(key, packet_id))

    @rule(key=KEYS, packet_id=PACKET_IDS)
    def forget(self, key: int, packet_id: int) -> None:
        if (there := self.sessions.get(key)) is not None:
            there.received.discard(packet_id)
        self.write(Forgotten(key, packet_id))

    @rule(topic_name=TOPICS, text=st.sampled_from(["x", "yy"]))
    def retain(self, topic_name: str, text: str) -> None:
        self.retained[topic_name] = text
        self.write(Retain(publication(text, topic_name)))

    @rule(topic_name=TOPICS)
    def clear_retained(self, topic_name: str) -> None:
        self.retained.pop(topic_name, None)
        self.write(ClearRetained(topic_name))

    @rule(key=KEYS, packet_ids=st.lists(PACKET_IDS, unique=True))
    def claim(self, key: int, packet_ids: list[int]) -> None:
        there = self.sessions.get(key, Expected(0))
        free = [packet_id for packet_id in packet_ids if packet_id not in there.inflight]
        removed: list[str] = []
        claimed: list[tuple[int, str | None]] = []
        while there.queue and len(claimed) < len(free):
            text, expires_at_ms = there.queue.pop(0)
            removed.append(text)
            if expires_at_ms == 0 or expires_at_ms > NOW_MS:
                claimed.append((free[len(claimed)], text))
        there.inflight.update(claimed)

        got = self.run(lambda: self.storage.claim(key, free, NOW_MS))

        assert (brief(got.deliveries), got.removed, got.rest) == (claimed, len(removed), bool(there.queue))
        assert got.removed_bytes == sum(publication(each).size for each in removed)

    @rule(key=KEYS)
    def forget_expired(self, key: int) -> None:
        there = self.sessions.get(key, Expected(0))
        expired = [each for each in there.queue if 0 < each[1] <= NOW_MS]
        there.queue = [each for each in there.queue if each not in expired]
        got = self.run(lambda: self.storage.forget_expired(key, NOW_MS))
        next_ms = min((expires_at_ms for _, expires_at_ms in there.queue if expires_at_ms), default=0)
        assert (got.removed, got.next_ms) == (len(expired), next_ms)

    @rule(key=KEYS)
    def resume(self, key: int) -> None:
        there = self.sessions.get(key, Expected(0))
        got = self.run(lambda: self.storage.resume(key))
        assert (brief(got.inflight), got.received) == (list(there.inflight.items()), sorted(there.received))

    @rule()
    def restart(self) -> None:
        self.settle()
        self.storage, stored = self.run(self.shelf.restart)
        assert (stored.last_key, stored.last_position) == (self.last_key, self.position)
        assert {each.topic_name: each.payload.decode() for each in stored.retained} == self.retained
        assert [each.saved.key for each in stored.sessions] == sorted(self.sessions)
        for found in stored.sessions:
            there = self.sessions[found.saved.key]
            assert found.saved.expiry_interval == there.expiry_interval
            granted = {asked.topic_filter: (asked.qos, identifier) for asked, identifier in found.subscriptions}
            assert granted == there.subscriptions
            size = sum(publication(text).size for text, _ in there.queue)
            assert (found.queued, found.queued_bytes) == (len(there.queue), size)

    def teardown(self) -> None:
        self.settle()
        self.restart()
        for key in self.sessions:
            self.resume(key)
        self.runner.run(self.shelf.close())
        self.runner.close()
        self.folder.cleanup()


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_any_order_of_changes_leaves_the_storage_as_a_model_of_lists_says(adapter: str) -> None:
    machine = type("Machine", (StorageMachine,), {"open_storage": staticmethod(ADAPTERS[adapter])})
    few = settings(max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=few)
