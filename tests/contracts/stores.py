"""The adapters of the Store port, each opened on a database of the test's own, and the words to tell the contract in.

A store adapter is added by one line in ADAPTERS. Its limits are small on purpose: what is kept in memory is evicted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from recado.adapters.store.postgres.store import PostgresStore
from recado.adapters.store.sqlite import SqliteStore
from recado.app.limits import DEFAULT
from recado.chat.conversation import ConversationView
from recado.chat.event import Committed, Event, encode_event
from recado.ports import Changed, MessageChange, NewConversation, NewMessage, Sent, Sink, Store

UNREAD_COUNT_MAX = 5
MEMBERS_MAX = 100
PAGE = 1_000_000
ERASE_ROWS_MAX = 3
SQLITE_LIMITS = replace(
    DEFAULT.store,
    pending_writes_max=2_000,
    batch_writes_max=100,
    pending_reads_max=2_000,
    reader_threads=2,
    write_cache_bytes_max=1024 * 1024,
    logs_in_memory_max=2,
    unread_count_max=UNREAD_COUNT_MAX,
    page_bytes_max=1024 * 1024,
    erase_rows_max=ERASE_ROWS_MAX,
)


POSTGRES_LIMITS = replace(
    DEFAULT.postgres,
    pending_writes_max=2_000,
    batch_writes_max=100,
    pending_reads_max=2_000,
    read_connections=2,
    logs_in_memory_max=2,
    unread_count_max=UNREAD_COUNT_MAX,
    page_bytes_max=1024 * 1024,
    erase_rows_max=ERASE_ROWS_MAX,
    follow_page=3,
)


async def open_sqlite(path: str, sinks: Sequence[Sink]) -> Store:
    return SqliteStore.open(Path(path), SQLITE_LIMITS, sinks)


async def open_postgres(url: str, sinks: Sequence[Sink]) -> Store:
    return await PostgresStore.open(url, POSTGRES_LIMITS, sinks)


Open = Callable[[str, Sequence[Sink]], Awaitable[Store]]
"""Opens the database at a path or a URL."""
NewDatabase = Callable[[], Awaitable[str]]
"""Makes an empty one."""
ADAPTERS: dict[str, Open] = {"sqlite": open_sqlite, "postgres": open_postgres}


@dataclass
class Shelf:
    """Where one adapter keeps its data. What was committed, over all openings, is in `committed`."""

    open_store: Open
    database: str
    committed: list[Committed] = field(default_factory=list)
    opened: list[Store] = field(default_factory=list)

    async def open(self, sinks: Sequence[Sink] = ()) -> Store:
        store = await self.open_store(self.database, sinks)
        store.on_committed = self._on_committed
        self.opened.append(store)
        return store

    async def reopen(self, sinks: Sequence[Sink] = ()) -> Store:
        await self.close()
        return await self.open(sinks)

    async def close(self) -> None:
        for store in self.opened:
            await store.close()
        self.opened.clear()

    def _on_committed(self, committed: Sequence[Committed]) -> None:
        self.committed.extend(committed)

    def committed_of(self, conversation: str) -> list[Event]:
        return [entry.event for entry in self.committed if entry.conversation == conversation]


def new_conversation(
    conversation: str,
    members: Iterable[str],
    subject: str | None = None,
    metadata: bytes | None = None,
    at: int = 1_000,
    creator: str | None = None,
) -> NewConversation:
    raw = None if metadata is None else msgspec.Raw(metadata)
    return NewConversation(conversation, list(members), subject, raw, creator, at)


def message(sender: str, message_id: str, body: str = "hi", conversation: str = "c", at: int = 2_000) -> NewMessage:
    return NewMessage(conversation, sender, message_id, body, at)


async def create(store: Store, *members: str, conversation: str = "c", at: int = 1_000) -> ConversationView:
    view, created = await store.put_conversation(new_conversation(conversation, members, at=at))
    assert created
    return view


async def send(
    store: Store, sender: str, message_id: str, body: str = "hi", conversation: str = "c", at: int = 2_000
) -> Sent:
    return await store.append_message(message(sender, message_id, body, conversation, at))


async def change(
    store: Store, seq: int, body: str | None, by: str | None = "ana", at: int = 7_000, changeable_since: int = 0
) -> Changed:
    """Give a message another body, or delete it with None."""
    return await store.change_message(MessageChange("c", seq, by, body, at, changeable_since))


async def log_json(store: Store, conversation: str = "c") -> list[str]:
    return [encode_event(event).decode() for event in await whole_log(store, conversation)]


async def whole_log(store: Store, conversation: str = "c") -> list[Event]:
    return (await store.events(conversation, None, 0, None, PAGE)).events


def seqs(events: Iterable[Event]) -> list[int]:
    return [event.seq for event in events]
