"""The conversations on a real store, with a broker that only remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.chat.actions import Chat
from recado.chat.event import Committed
from recado.chat.membership import MembershipCache
from recado.chat.stages import Stages

LIMITS = replace(DEFAULT.chat, members_max=4, page_max=20, page_default=5, receipt_members_max=3)
NOW = 1_790_000_000_000


@dataclass
class RecordingBroker:
    """What would have gone to the members' connections."""

    committed: list[Committed] = field(default_factory=list)
    signals: list[tuple[str, frozenset[str], bytes]] = field(default_factory=list)
    disconnected: list[str] = field(default_factory=list)

    def publish(self, committed: Sequence[Committed]) -> None:
        self.committed.extend(committed)

    def signal(self, conversation: str, recipients: frozenset[str], payload: bytes) -> None:
        self.signals.append((conversation, recipients, payload))

    async def disconnect(self, user: str) -> None:
        self.disconnected.append(user)


@pytest.fixture
def broker() -> RecordingBroker:
    return RecordingBroker()


@pytest.fixture
async def chat(tmp_path: Path, broker: RecordingBroker) -> AsyncIterator[Chat]:
    store = SqliteStore.open(tmp_path / "recado.db", DEFAULT.store)
    members = MembershipCache(store, LIMITS.member_cache_entries_max)

    def on_committed(committed: Sequence[Committed]) -> None:
        members.apply(committed)
        broker.publish(committed)
        made.apply(committed)

    made = Chat(store, broker, members, LIMITS, now_ms=lambda: NOW, stages=Stages(lambda: NOW))
    store.on_committed = on_committed
    yield made
    await made.close()
    await store.close()
