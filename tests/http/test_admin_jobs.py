"""What operators ask of the jobs behind the commit: who may, what is shown, and what is retried and dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from recado.ports import Sink, Wanted
from tests.http.conftest import World, open_world, refused

CALLS = [
    ("GET", "/admin/jobs", None),
    ("GET", "/admin/jobs/stats", None),
    ("POST", "/admin/jobs/retry", {"all": True}),
    ("POST", "/admin/jobs/drop", {"all": True}),
]


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[World]:
    """A world with two sinks, and three messages in order-4711 that nothing was done about; the webhook has given up
    the first one and is at the second."""
    world = await open_world(tmp_path / "busy.db", [Sink("webhook"), Sink("push")])
    await world.host("PUT", "/v1/conversations/order-4711", {"members": ["ana", "bruno"]})
    for n in range(3):
        await world.user("ana")("POST", "/v1/conversations/order-4711/messages", {"id": f"m{n}", "body": "Chegou!"})
    store = world.chat.store
    first, _ = await store.claim_jobs(Wanted(["webhook"], world.chat.now_ms(), 60_000, 1, 2))
    await store.put_off_job(first, None, "it answered 400")
    yield world
    await store.close()


async def jobs(world: World, query: str = "") -> list[tuple[str, int, str]]:
    answer = await world.host("GET", f"/admin/jobs{query}")
    assert answer.status_code == 200, answer.text
    return [(job["sink"], job["seq"], job["state"]) for job in answer.json()["jobs"]]


async def changed(world: World, what: str, body: dict[str, Any]) -> int:
    answer = await world.host("POST", f"/admin/jobs/{what}", body)
    assert answer.status_code == 200, answer.text
    count: int = answer.json()["count"]
    return count


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
async def test_jobs_are_the_hosts_alone(busy: World, method: str, path: str, body: Any) -> None:
    refused(await busy.nobody(method, path, body), 401, "unauthenticated")
    refused(await busy.user("ana")(method, path, body), 403, "forbidden")
    assert len(await jobs(busy)) == 6


async def test_a_job_is_shown_with_its_attempts_and_its_error_and_without_a_body(busy: World) -> None:
    answer = await busy.host("GET", "/admin/jobs?state=dead")

    (job,) = answer.json()["jobs"]
    assert "Chegou!" not in answer.text
    assert (job["sink"], job["conversation"], job["seq"], job["attempt"]) == ("webhook", "order-4711", 1, 1)
    assert job["error"] == "it answered 400"


async def test_jobs_are_filtered_and_limited(busy: World) -> None:
    assert await jobs(busy, "?sink=webhook") == [
        ("webhook", 1, "dead"),
        ("webhook", 2, "claimed"),
        ("webhook", 3, "waiting"),
    ]
    assert await jobs(busy, "?seq=3&state=waiting") == [("push", 3, "waiting"), ("webhook", 3, "waiting")]
    assert await jobs(busy, "?conversation=another") == []
    assert len(await jobs(busy, "?limit=4")) == 4


async def test_jobs_are_counted_by_sink_and_state(busy: World) -> None:
    counts = (await busy.host("GET", "/admin/jobs/stats")).json()["counts"]

    assert [(each["sink"], each["state"], each["count"]) for each in counts] == [
        ("push", "waiting", 3),
        ("webhook", "claimed", 1),
        ("webhook", "dead", 1),
        ("webhook", "waiting", 1),
    ]
    assert all(0 < each["oldest_at"] <= busy.chat.now_ms() for each in counts)


async def test_dead_letters_are_retried(busy: World) -> None:
    assert await changed(busy, "retry", {"state": "dead"}) == 1

    assert await jobs(busy, "?sink=webhook&seq=1") == [("webhook", 1, "waiting")]


async def test_jobs_are_dropped_but_not_what_a_worker_is_at(busy: World) -> None:
    assert await changed(busy, "drop", {"sink": "webhook"}) == 2
    assert await changed(busy, "drop", {"all": True}) == 3

    assert await jobs(busy) == [("webhook", 2, "claimed")]


@pytest.mark.parametrize("what", ["retry", "drop"])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "name a sink, a state, a conversation or a seq, or else say all"),
        ({"all": True, "sink": "push"}, "one of the two, and not both"),
        ({"state": "claimed"}, "state is waiting or dead"),
        ({"state": "sleeping"}, "state is waiting, claimed, dead, not 'sleeping'"),
        ({"conversation": "order 4711"}, "conversation id"),
        ({"seq": -1}, "seq"),
        ({"sink": "a\x00"}, "sink is the name of a sink"),
    ],
)
async def test_what_is_meant_must_be_said_and_be_right(busy: World, what: str, body: Any, says: str) -> None:
    assert says in refused(await busy.host("POST", f"/admin/jobs/{what}", body), 400, "invalid")
    assert len(await jobs(busy)) == 6


@pytest.mark.parametrize(
    "query", ["?state=sleeping", "?seq=x", "?limit=0", "?conversation=order%204711", "?sink=%00", "?all=true"]
)
async def test_a_filter_that_means_nothing_is_refused(busy: World, query: str) -> None:
    refused(await busy.host("GET", f"/admin/jobs{query}"), 400, "invalid")


async def test_the_metrics_have_the_jobs_by_state_and_the_age_of_the_oldest(busy: World) -> None:
    text = (await busy.host("GET", "/metrics")).text

    assert 'recado_jobs_by_state{sink="webhook",state="dead"} 1.0' in text
    assert 'recado_jobs_by_state{sink="push",state="waiting"} 3.0' in text
    assert 'recado_jobs_oldest_seconds{sink="push",state="waiting"} 0.' in text
    await changed(busy, "drop", {"state": "dead"})
    text = (await busy.host("GET", "/metrics")).text
    assert 'recado_jobs_by_state{sink="webhook",state="dead"}' not in text
