"""Long polling, of one conversation and of all."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest

from tests.http.conftest import FEED_LIMITS, World, bearer, refused

ORDER = "/v1/conversations/order-4711"
EVENTS = f"{ORDER}/events"


async def send(world: World, body: str, user: str = "ana", path: str = ORDER) -> int:
    answer = await world.user(user)("POST", f"{path}/messages", {"body": body})
    assert answer.status_code == 201, answer.text
    seq: int = answer.json()["seq"]
    return seq


async def held(world: World, call: Awaitable[httpx.Response], count: int = 1) -> "asyncio.Future[httpx.Response]":
    """The call, once the server holds it."""
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(5):
        while len(world.feed.wheel) < count and not task.done():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)
    assert not task.done(), task.result().text
    return task


def bodies(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [event.get("body") for event in answer.json()["events"]]


# One conversation


async def test_what_is_past_the_seq_is_answered_at_once(order: World) -> None:
    for body in ("one", "two", "three"):
        await send(order, body)
    answer = await order.user("bruno")("GET", f"{EVENTS}?after=1&wait=2")
    assert (bodies(answer), answer.json()["last_seq"]) == (["two", "three"], 3)
    assert bodies(await order.user("bruno")("GET", f"{EVENTS}?after=1&wait=2&limit=1")) == ["two"]
    assert bodies(await order.user("bruno")("GET", f"{EVENTS}?wait=2&limit=2")) == ["two", "three"]


async def test_a_request_is_held_until_something_comes(order: World) -> None:
    poll = await held(order, order.user("bruno")("GET", f"{EVENTS}?after=0&wait=2"))
    await send(order, "Chegou!")
    answer = await asyncio.wait_for(poll, 1)
    assert answer.json()["events"] == (await order.host("GET", EVENTS)).json()["events"]
    assert answer.json()["last_seq"] == 1


async def test_an_empty_log_is_waited_for_too(order: World) -> None:
    poll = await held(order, order.user("bruno")("GET", f"{EVENTS}?wait=2"))
    await send(order, "first")
    assert bodies(await asyncio.wait_for(poll, 1)) == ["first"]


@pytest.mark.parametrize(("wait", "least_s", "most_s"), [(0, 0.0, 0.5), (1, 1.0, 1.9)])
async def test_an_answer_of_nothing_comes_when_the_wait_is_over_and_has_no_body(
    order: World, wait: int, least_s: float, most_s: float
) -> None:
    seq = await send(order, "old")
    began = time.monotonic()
    answer = await order.user("bruno")("GET", f"{EVENTS}?after={seq}&wait={wait}")
    assert least_s <= time.monotonic() - began < most_s
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers
    assert order.feed.counts["poll"] == 0


async def test_a_seq_past_the_end_is_told_so_at_once(order: World) -> None:
    await send(order, "one")
    answer = await order.user("bruno")("GET", f"{EVENTS}?after=7&wait=2")
    assert (answer.status_code, answer.json()) == (200, {"events": [], "last_seq": 1})


@pytest.mark.parametrize("query", ["wait=3", "wait=-1", "wait=1.5", "wait=", "wait=1&before=3", "wait=1&limit=21"])
async def test_a_poll_that_breaks_a_rule_is_refused(order: World, query: str) -> None:
    refused(await order.user("bruno")("GET", f"{EVENTS}?{query}"), 400, "invalid")
    assert order.feed.counts["poll"] == 0


async def test_a_poll_is_for_members_and_for_the_host_as_one(order: World) -> None:
    refused(await order.user("carla")("GET", f"{EVENTS}?after=0&wait=1"), 404, "not_found")
    refused(await order.user("ana")("GET", "/v1/conversations/none/events?after=0&wait=1"), 404, "not_found")
    refused(await order.host("GET", f"{EVENTS}?after=0&wait=0"), 400, "invalid")
    await send(order, "one")
    assert bodies(await order.host_as("bruno")("GET", f"{EVENTS}?after=0&wait=0")) == ["one"]


async def test_a_removal_is_the_last_thing_that_a_held_request_hears(order: World) -> None:
    poll = await held(order, order.user("bruno")("GET", f"{EVENTS}?after=0&wait=2"))
    await order.host("DELETE", f"{ORDER}/members/bruno")
    answer = await asyncio.wait_for(poll, 1)
    (event,) = answer.json()["events"]
    assert (event["type"], event["user"], answer.json()["last_seq"]) == ("member_removed", "bruno", 1)
    refused(await order.user("bruno")("GET", f"{EVENTS}?after=1&wait=1"), 404, "not_found")


async def test_an_erased_conversation_ends_what_is_held(order: World) -> None:
    poll = await held(order, order.user("bruno")("GET", f"{EVENTS}?after=0&wait=2"))
    await order.host("DELETE", ORDER)
    assert (await asyncio.wait_for(poll, 1)).json()["events"][0]["type"] == "conversation_erased"


async def test_a_held_request_ends_with_its_token(order: World) -> None:
    token, _ = order.access.mint("bruno", 1)
    began = time.monotonic()
    caller = order.user("bruno")
    answer = await caller("GET", f"{EVENTS}?after=0&wait=2", headers=bearer(token))
    assert "expired" in refused(answer, 401, "unauthenticated")
    assert time.monotonic() - began < 1.9


async def test_a_held_request_is_cut_with_the_users_sessions(order: World) -> None:
    poll = await held(order, order.user("bruno")("GET", f"{EVENTS}?after=0&wait=2"))
    await order.host("DELETE", "/v1/users/bruno/sessions")
    refused(await asyncio.wait_for(poll, 1), 403, "forbidden")


async def test_a_stopping_server_answers_what_it_holds(order: World) -> None:
    poll = await held(order, order.user("bruno")("GET", f"{EVENTS}?after=0&wait=2"))
    order.feed.close()
    assert (await asyncio.wait_for(poll, 1)).status_code == 204
    refused(await order.user("bruno")("GET", f"{EVENTS}?after=0&wait=2"), 503, "unavailable")


async def test_a_user_may_have_so_many_requests_held_and_others_still_have_theirs(order: World) -> None:
    polls = [
        await held(order, order.user("bruno")("GET", f"{EVENTS}?after=0&wait=2"), number + 1)
        for number in range(FEED_LIMITS.held_polls_per_user_max)
    ]
    answer = await order.user("bruno")("GET", f"{EVENTS}?after=0&wait=2")
    refused(answer, 429, "rate_limited")
    assert int(answer.headers["retry-after"]) > 0
    polls.append(await held(order, order.user("ana")("GET", f"{EVENTS}?after=0&wait=2"), len(polls) + 1))
    await send(order, "for all")
    assert {tuple(bodies(answer)) for answer in await asyncio.gather(*polls)} == {("for all",)}
    assert order.feed.counts["poll"] == 0
    await order.user("bruno")("GET", f"{EVENTS}?after=1&wait=0")


async def test_whoever_polls_is_not_there(order: World) -> None:
    poll = await held(order, order.user("bruno")("GET", f"{EVENTS}?after=0&wait=2"))
    assert (await order.host("GET", ORDER)).json()["online"] == []
    poll.cancel()


async def test_signals_end_no_held_request(order: World) -> None:
    poll = await held(order, order.user("bruno")("GET", f"{EVENTS}?after=0&wait=1"))
    assert (await order.user("ana")("POST", f"{ORDER}/typing")).status_code == 204
    assert (await poll).status_code == 204


# All conversations


async def cursor_now(world: World, user: str = "bruno") -> str:
    answer = await world.user(user)("GET", "/v1/events")
    assert (answer.status_code, answer.json()["events"]) == (200, [])
    cursor: str = answer.json()["cursor"]
    return cursor


async def test_without_a_cursor_it_says_where_it_is_now(order: World) -> None:
    await send(order, "old")
    cursor = await cursor_now(order)
    assert len(cursor) <= 16
    assert (await order.user("bruno")("GET", f"/v1/events?cursor={cursor}")).status_code == 204
    await send(order, "new")
    answer = await order.user("bruno")("GET", f"/v1/events?cursor={cursor}")
    (entry,) = answer.json()["events"]
    assert (entry["conversation"], entry["event"]["body"]) == ("order-4711", "new")
    assert (await order.user("bruno")("GET", f"/v1/events?cursor={answer.json()['cursor']}")).status_code == 204


async def test_a_held_request_hears_of_any_of_the_users_conversations_and_of_no_other(order: World) -> None:
    await order.host("PUT", "/v1/conversations/other", {"members": ["ana", "bruno"]})
    await order.host("PUT", "/v1/conversations/foreign", {"members": ["ana", "carla"]})
    cursor = await cursor_now(order)
    poll = await held(order, order.user("bruno")("GET", f"/v1/events?cursor={cursor}&wait=2"))
    await send(order, "not for bruno", path="/v1/conversations/foreign")
    await send(order, "for bruno", path="/v1/conversations/other")
    answer = await asyncio.wait_for(poll, 1)
    assert [entry["event"]["body"] for entry in answer.json()["events"]] == ["for bruno"]
    assert answer.json()["events"][0]["conversation"] == "other"


async def test_a_conversation_that_one_is_added_to_begins_with_that(order: World) -> None:
    await send(order, "before carla")
    cursor = await cursor_now(order, "carla")
    poll = await held(order, order.user("carla")("GET", f"/v1/events?cursor={cursor}&wait=2"))
    await order.host("PUT", f"{ORDER}/members/carla")
    answer = await asyncio.wait_for(poll, 1)
    assert [entry["event"]["type"] for entry in answer.json()["events"]] == ["member_added"]


async def test_a_removal_is_the_last_event_held_or_not(order: World) -> None:
    cursor = await cursor_now(order)
    poll = await held(order, order.user("bruno")("GET", f"/v1/events?cursor={cursor}&wait=2"))
    await order.host("DELETE", f"{ORDER}/members/bruno")
    await send(order, "secret")
    live = await asyncio.wait_for(poll, 1)
    assert [entry["event"]["type"] for entry in live.json()["events"]] == ["member_removed"]
    assert (await order.user("bruno")("GET", f"/v1/events?cursor={live.json()['cursor']}")).status_code == 204
    later = await order.user("bruno")("GET", f"/v1/events?cursor={cursor}")
    assert [entry["event"]["type"] for entry in later.json()["events"]] == ["member_removed"]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "99999999", "1" * 17, "1.5"])
async def test_a_cursor_that_no_answer_had_is_refused(order: World, cursor: str) -> None:
    await send(order, "one")
    refused(await order.user("bruno")("GET", f"/v1/events?cursor={cursor}&wait=1"), 400, "invalid")


async def test_the_host_names_a_user(order: World) -> None:
    refused(await order.host("GET", "/v1/events"), 400, "invalid")
    assert (await order.host_as("bruno")("GET", "/v1/events")).status_code == 200


async def test_polling_again_and_again_for_nothing_reads_no_store(
    order: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(order, "one")
    cursor = await cursor_now(order)
    caller = order.user("bruno")
    for path in (f"{EVENTS}?after=1&wait=0", f"/v1/events?cursor={cursor}&wait=0"):
        assert (await caller("GET", path)).status_code == 204
    reads: list[object] = []
    monkeypatch.setattr(order.chat.store, "_read", reads.append)
    for path in (f"{EVENTS}?after=1&wait=0", f"/v1/events?cursor={cursor}&wait=0"):
        assert (await caller("GET", path)).status_code == 204
    assert reads == []
    monkeypatch.undo()
    await send(order, "two")
    assert bodies(await caller("GET", f"{EVENTS}?after=1&wait=0")) == ["two"]
    assert (await caller("GET", f"/v1/events?cursor={cursor}&wait=0")).status_code == 200


async def test_who_was_answered_and_polls_again_reads_no_store(order: World, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, path = order.user("bruno"), f"/v1/events?wait=2&cursor={await cursor_now(order)}"
    poll = await held(order, caller("GET", path))
    await send(order, "one")
    path = f"/v1/events?wait=0&cursor={(await poll).json()['cursor']}"
    with monkeypatch.context() as patch:
        patch.setattr(order.chat.store, "_read", None)
        assert (await caller("GET", path)).status_code == 204
    await send(order, "two")
    assert [entry["event"]["body"] for entry in (await caller("GET", path)).json()["events"]] == ["two"]


@pytest.mark.parametrize("wait", [0, 2])
async def test_a_poller_misses_nothing_and_gets_nothing_twice_while_others_send(order: World, wait: int) -> None:
    for name in ("a", "b"):
        await order.host("PUT", f"/v1/conversations/{name}", {"members": ["ana", "bruno"]})
    cursor = await cursor_now(order)
    paths = [ORDER, "/v1/conversations/a", "/v1/conversations/b"]

    async def sends() -> None:
        for number in range(60):
            await asyncio.gather(*(send(order, f"{number}", path=path) for path in paths[: 1 + number % 3]))

    async def polls_one() -> list[int]:
        seqs: list[int] = []
        while len(seqs) < 60:
            answer = await order.user("bruno")("GET", f"{EVENTS}?after={seqs[-1] if seqs else 0}&wait={wait}")
            seqs += [event["seq"] for event in answer.json()["events"]] if answer.status_code == 200 else []
            await asyncio.sleep(0)  # a call in memory may end without the loop's having had a turn
        return seqs

    async def polls_all() -> dict[str, list[int]]:
        seqs: dict[str, list[int]] = {"order-4711": [], "a": [], "b": []}
        at = cursor
        while sum(map(len, seqs.values())) < 120:
            answer = await order.user("bruno")("GET", f"/v1/events?cursor={at}&wait={wait}")
            if answer.status_code == 200:
                at = answer.json()["cursor"]
                for entry in answer.json()["events"]:
                    seqs[entry["conversation"]].append(entry["event"]["seq"])
            await asyncio.sleep(0)
        return seqs

    _, one, everything = await asyncio.wait_for(asyncio.gather(sends(), polls_one(), polls_all()), 60)
    assert one == list(range(1, 61))
    counts = {"order-4711": 60, "a": 40, "b": 20}
    assert everything == {name: list(range(1, count + 1)) for name, count in counts.items()}
