"""What the server does now and then: retention, and erasures that were interrupted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest

from recado.adapters.broker.brokers import Brokers
from recado.adapters.broker.embedded import EmbeddedBroker
from recado.adapters.store.sqlite import SqliteStore
from recado.adapters.store.sqlite.writer import Writer
from recado.app.config import Settings, SettingsError
from recado.app.limits import DEFAULT
from recado.app.sweeping import sweep, sweeping
from recado.app.wiring import running
from recado.chat.errors import Unavailable
from recado.ports import Store
from tests.contracts.stores import create, send, whole_log

DAY_MS = 24 * 3600 * 1000
TIMEOUT_S = 10.0
T = TypeVar("T")


async def fill(path: Path) -> None:
    """A message of two days ago and one of now."""
    store = SqliteStore.open(path, DEFAULT.store)
    now = time.time_ns() // 1_000_000
    await create(store, "ana", "bruno")
    await send(store, "ana", "old", at=now - 2 * DAY_MS)
    await send(store, "ana", "new", at=now)
    await store.close()


async def until_bodies(store: Store, *bodies: str | None) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while [event.body for event in await whole_log(store)] != list(bodies):  # noqa: ASYNC110  # nobody is told
            await asyncio.sleep(0.01)


def settings(path: Path, retention_days: int | None) -> Settings:
    return Settings(
        secret="a secret of the tests that is long enough for HS256",
        database=f"sqlite:///{path}",
        http_port=0,
        mqtt_port=0,
        ws_port=0,
        pages=False,
        retention_days=retention_days,
    )


async def test_a_server_erases_what_is_past_its_retention_and_keeps_the_rest(tmp_path: Path) -> None:
    await fill(tmp_path / "recado.db")
    async with running(settings(tmp_path / "recado.db", 1)) as node:
        await until_bodies(node.chat.store, None, "hi")


async def test_without_retention_everything_is_kept(tmp_path: Path) -> None:
    await fill(tmp_path / "recado.db")
    store = SqliteStore.open(tmp_path / "recado.db", DEFAULT.store)
    begun = 0
    third = asyncio.Event()

    def now_ms() -> int:
        nonlocal begun
        begun += 1
        if begun == 3:
            third.set()
        return 2**52

    async with sweeping(store, now_ms, None, 0.001), asyncio.timeout(TIMEOUT_S):
        await third.wait()
    assert [event.body for event in await whole_log(store)] == ["hi", "hi"]
    await store.close()


async def test_it_sweeps_again_and_again_as_time_goes_on_also_after_a_failure(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "recado.db", DEFAULT.store)
    await create(store, "ana")
    await send(store, "ana", "1", at=DAY_MS)
    await send(store, "ana", "2", at=2 * DAY_MS)
    now = DAY_MS
    failures = 2

    def now_ms() -> int:
        nonlocal failures
        if failures:
            failures -= 1
            raise Unavailable("away") if failures else RuntimeError
        return now

    async with sweeping(store, now_ms, 1, 0.001):
        now = 2 * DAY_MS + 1
        await until_bodies(store, None, "hi")
        now = 3 * DAY_MS + 1
        await until_bodies(store, None, None)
    await store.close()


async def test_events_that_read_otherwise_are_not_sent_from_memory_also_if_the_sweep_fails_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings(tmp_path / "recado.db", None)) as node:
        store = cast(SqliteStore, node.chat.store)
        (broker, _) = cast(Brokers, node.chat.broker)._brokers
        for conversation in ("c", "other"):
            await create(store, "ana", conversation=conversation)
            await send(store, "ana", "old", conversation=conversation, at=DAY_MS)
        recent = cast(EmbeddedBroker, broker).recent
        assert recent("c", 0, 10) is not None
        write, written = store._erasing._write, 0

        def fail_second(run: Callable[[Writer], T], weight: int = 1) -> Awaitable[T]:
            nonlocal written
            written += 1
            if written > 1:
                raise Unavailable("the disk is full")
            return write(run, weight)

        monkeypatch.setattr(store._erasing, "_write", fail_second)
        with pytest.raises(Unavailable):
            await sweep(store, 3 * DAY_MS, 1)
        assert [event.body for event in await whole_log(store)] == [None]
        assert recent("c", 0, 10) is None


async def test_what_a_stop_interrupted_is_finished_at_the_next_start(tmp_path: Path) -> None:
    await fill(tmp_path / "recado.db")
    store = SqliteStore.open(tmp_path / "recado.db", DEFAULT.store)
    begun = store._write(lambda writer: writer.begin_user_erasures("ana", [1], 5_000))
    await begun
    await store.close()

    async with running(settings(tmp_path / "recado.db", None)) as node:
        await until_bodies(node.chat.store, None, None, None, None)
        assert [event.type for event in await whole_log(node.chat.store)][2:] == ["member_removed", "user_erased"]


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_a_retention_that_makes_no_sense_is_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(SettingsError, match="retention_days is 1 to 36500"):
        settings(tmp_path / "recado.db", days).check()
