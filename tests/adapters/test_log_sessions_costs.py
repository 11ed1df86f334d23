"""What many topic filters at once cost in the sessions' storage: how many statements run, and not their time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from recado.adapters.broker.log_sessions.statements import SQL
from recado.broker.storage import DeleteSubscription, SaveSession, SaveSubscription
from recado.mqtt.packets import SubscriptionRequest
from tests.adapters.test_log_sessions import Shelf

FILTERS = 1_000
BRUNO, OTHER = 7, 8
_NAMES = {sql: name for name, sql in SQL.items()}


class Traced(Shelf):
    """Tells how often each named statement ran in the thread that writes."""

    async def traced(self, *changes: Any) -> Counter[str]:
        ran: Counter[str] = Counter()

        def count(cursor: apsw.Cursor, sql: str, values: apsw.Bindings | None) -> bool:
            if sql in _NAMES:
                ran[_NAMES[sql]] += 1
            return True

        await self._trace(count)
        assert await self.write(*changes)
        await self._trace(None)
        return ran

    async def _trace(self, tracer: apsw.ExecTracer | None) -> None:
        traced: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def trace(db: apsw.Connection) -> None:
            db.exec_trace = tracer

        self.store.run(trace, lambda _, error: traced.set_result(None))
        await traced


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Traced]:
    shelf = Traced(tmp_path)
    for conversation in ("x", "y"):
        await shelf.create(conversation, "ana", "bruno")
        await shelf.send(conversation, 2)
    assert await shelf.write(*(SaveSession(key, "bruno", f"{key}", 60, None, None) for key in (BRUNO, OTHER)))
    yield shelf
    await shelf.store.close()


def subscriptions(*topic_filters: str, key: int = BRUNO) -> list[SaveSubscription]:
    return [SaveSubscription(key, SubscriptionRequest(each, 1), 0) for each in topic_filters]


async def test_a_thousand_filters_in_one_packet_are_a_few_statements_each_and_one_look_at_what_was_there(
    shelf: Traced,
) -> None:
    """What was there was looked at for each of them: it held up everybody's commits for a second."""
    names = [f"c/room-{n}" for n in range(FILTERS)]
    assert await shelf.traced(*subscriptions(*names)) == {
        "acknowledging_filters": 1,
        "start_in_one": FILTERS,
        "save_subscription": FILTERS,
    }
    again = await shelf.traced(*subscriptions(*names))
    assert again == {"acknowledging_filters": 1, "save_subscription": FILTERS}
    assert await shelf.traced(*(DeleteSubscription(BRUNO, name) for name in names)) == {
        "acknowledging_filters": 1,
        "forget_one": FILTERS,
        "delete_subscription": FILTERS,
    }


async def test_several_wildcards_in_one_packet_look_through_the_users_logs_once(shelf: Traced) -> None:
    names = ["c/x", "#", "+/#", "+/+", "+/+/#", "c/#", "c/+", "c/+/#"]
    ran = await shelf.traced(*subscriptions(*names))
    assert (ran["start_in_all"], ran["start_in_one"], ran["acknowledging_filters"]) == (1, 1, 1)
    ran = await shelf.traced(*(DeleteSubscription(BRUNO, name) for name in names))
    assert (ran["forget_all"], ran["forget_one"], ran["acknowledging_filters"]) == (1, 0, 1)


async def test_each_session_of_a_transaction_is_looked_at_once_and_by_itself(shelf: Traced) -> None:
    ran = await shelf.traced(*subscriptions("c/x", "c/y"), *subscriptions("c/x", "c/y", key=OTHER))
    assert (ran["start_in_one"], ran["acknowledging_filters"]) == (4, 2)


async def test_what_one_packet_asks_for_and_takes_back_counts_for_what_comes_after_it_in_it(shelf: Traced) -> None:
    asked = [*subscriptions("c/+", "c/x"), DeleteSubscription(BRUNO, "c/+"), *subscriptions("c/y")]
    assert await shelf.traced(*asked) == {
        "acknowledging_filters": 1,
        "start_in_all": 1,
        "forget_all": 1,
        "start_in_one": 1,
        "save_subscription": 3,
        "delete_subscription": 1,
    }
    await shelf.send("x")
    await shelf.send("y")
    assert await shelf.behind() == {"c/x": (2, 3), "c/y": (2, 3)}
