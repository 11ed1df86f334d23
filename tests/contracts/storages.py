"""The adapters of the MQTT server's storage, each opened in a folder of the test's own, and the words to tell it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recado.adapters.broker.sqlite import SqliteStorage, SqliteStorageLimits
from recado.broker.publication import Publication
from recado.broker.storage import Change, Delivery, Enqueue, Entry, QueueStorage, SaveSession, Stored
from recado.mqtt.packets import Will
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties

STORAGE_LIMITS = SqliteStorageLimits(
    pending_transactions_max=2_000, pending_payload_bytes_max=1024 * 1024, batch_transactions_max=100
)
Plain = tuple[str, bytes, int, int | None, bool, dict[Any, Any], int]


def open_file(folder: Path) -> QueueStorage:
    return SqliteStorage.open(folder / "sessions.db", STORAGE_LIMITS)


def open_in_memory(folder: Path) -> QueueStorage:
    return SqliteStorage.open(None, STORAGE_LIMITS)


ADAPTERS: dict[str, Callable[[Path], QueueStorage]] = {"sqlite": open_file, "sqlite in memory": open_in_memory}
FORGETFUL = {open_in_memory}  # what is closed is gone


@dataclass
class StorageShelf:
    """Where one adapter keeps its data."""

    open_storage: Callable[[Path], QueueStorage]
    folder: Path
    opened: list[QueueStorage] = field(default_factory=list)

    def open(self) -> QueueStorage:
        self.opened.append(self.open_storage(self.folder))
        return self.opened[-1]

    async def restart(self) -> tuple[QueueStorage, Stored]:
        """The storage as a start of the server finds it; one that forgets stays open."""
        if self.open_storage in FORGETFUL:
            return self.opened[-1], await self.opened[-1].load()
        await self.close()
        storage = self.open()
        return storage, await storage.load()

    async def stored(self) -> Stored:
        return (await self.restart())[1]

    async def close(self) -> None:
        for storage in self.opened:
            await storage.close()
        self.opened.clear()


def written(storage: QueueStorage, *changes: Change) -> asyncio.Future[bool]:
    """Write one transaction; the future says whether it was kept."""
    future = asyncio.get_running_loop().create_future()
    storage.write(changes, future.set_result)
    return future


def session(
    key: int,
    user: str = "ana",
    client_id: str = "phone",
    expiry_interval: int = 3600,
    ended_at_ms: int | None = None,
    will: Will | None = None,
) -> SaveSession:
    return SaveSession(key, user, client_id, expiry_interval, ended_at_ms, will)


def publication(
    text: str,
    topic_name: str = "a/b",
    qos: int = 1,
    position: int | None = None,
    *,
    retain: bool = False,
    properties: Properties = EMPTY_PROPERTIES,
    expires_at_ms: int = 0,
) -> Publication:
    return Publication(
        topic_name, text.encode(), qos, position, retain=retain, properties=properties, expires_at_ms=expires_at_ms
    )


def entry(key: int, packet_id: int = 0, qos: int = 1, retain: bool = False, *identifiers: int) -> Entry:
    return Entry(key, packet_id, qos, retain, identifiers)


def enqueue(position: int, *entries: Entry, expires_at_ms: int = 0) -> Enqueue:
    """The message `m<position>`."""
    return Enqueue(position, publication(f"m{position}", expires_at_ms=expires_at_ms), entries)


def plain(published: Publication) -> Plain:
    return (
        published.topic_name,
        published.payload,
        published.qos,
        published.position,
        published.retain,
        dict(published.properties),
        published.expires_at_ms,
    )


def brief(deliveries: Sequence[Delivery]) -> list[tuple[int, str | None]]:
    """Packet ids with what is sent under them; None where only the packet id is left."""
    return [
        (each.packet_id, None if each.publication is None else each.publication.payload.decode()) for each in deliveries
    ]
