"""Server-sent events, of one conversation and of all."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from tests.http.conftest import FEED_LIMITS, World, bearer
from tests.http.streams import TIMEOUT_S, Block, Stream, streaming

ORDER = "/v1/conversations/order-4711"
EVENTS = f"{ORDER}/events"


async def send(world: World, body: str, user: str = "ana", path: str = ORDER) -> None:
    answer = await world.user(user)("POST", f"{path}/messages", {"body": body})
    assert answer.status_code == 201, answer.text


def opened(
    world: World, path: str = EVENTS, user: str = "bruno", **headers: str
) -> AbstractAsyncContextManager[Stream]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return streaming(world.app, path, {**bearer(world.token(user)), **named})


def bodies(blocks: list[Block]) -> list[object]:
    return [(block.data or {}).get("event", block.data)["body"] for block in blocks]  # type: ignore[index]


async def test_a_stream_begins_with_where_it_is_and_has_what_comes_then(order: World) -> None:
    await send(order, "old")
    async with opened(order) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert await stream.next() == Block(id="1", retry=2_000)
        await send(order, "Chegou!")
        (block,) = await stream.events(1)
        assert (block.kind, block.id) == ("message", "2")
        assert block.data == (await order.host("GET", f"{EVENTS}?after=1")).json()["events"][0]


@pytest.mark.parametrize(("query", "headers"), [("?after=2", {}), ("", {"last_event_id": "2"})])
async def test_a_stream_goes_on_where_one_was(order: World, query: str, headers: dict[str, str]) -> None:
    for number in range(1, 8):
        await send(order, f"{number}")
    async with opened(order, EVENTS + query, **headers) as stream:
        assert (await stream.next()).id == "2"
        await send(order, "8")
        blocks = await stream.events(6)
        assert bodies(blocks) == ["3", "4", "5", "6", "7", "8"]
        assert [block.id for block in blocks] == ["3", "4", "5", "6", "7", "8"]


async def test_the_id_of_any_event_of_all_conversations_is_where_to_go_on_from(order: World) -> None:
    await order.host("PUT", "/v1/conversations/other", {"members": ["ana", "bruno"]})
    async with opened(order, "/v1/events") as stream:
        begin = (await stream.next()).id
        assert begin is not None
        for number in range(9):
            await send(order, f"{number}", path=ORDER if number % 3 else "/v1/conversations/other")
        blocks = await stream.events(9)
    assert bodies(blocks) == [f"{number}" for number in range(9)]
    for index, block in enumerate([Block(id=begin), *blocks]):
        async with opened(order, "/v1/events", last_event_id=block.id or "") as stream:
            assert await stream.next() == Block(id=block.id, retry=2_000)
            assert bodies(await stream.events(9 - index)) == [f"{number}" for number in range(index, 9)]


@pytest.mark.parametrize("path", [EVENTS, "/v1/events"])
async def test_resuming_while_others_send_has_every_event_once(order: World, path: str) -> None:
    async with opened(order, path) as stream:
        last_id = (await stream.next()).id
    sending = asyncio.gather(*(send(order, f"{number}") for number in range(90)))
    seen: list[int] = []
    while len(seen) < 90:
        async with opened(order, path, last_event_id=last_id or "") as stream:
            await stream.next()
            for block in await stream.events(min(7, 90 - len(seen))):
                data = block.data or {}
                seen.append(data.get("event", data)["seq"])
                last_id = block.id
    await sending
    assert seen == list(range(1, 91))


async def test_signals_come_as_such_and_have_no_id(order: World) -> None:
    async with opened(order) as one, opened(order, "/v1/events") as everything:
        await one.next()
        await everything.next()
        assert (await order.user("ana")("POST", f"{ORDER}/typing")).status_code == 204
        typing = {"type": "typing", "from": "ana", "for_ms": 6_000}
        assert await one.next_event() == Block("signal", None, typing)
        assert await everything.next_event() == Block("signal", None, {"conversation": "order-4711", "signal": typing})


async def test_a_quiet_stream_is_sent_a_comment(order: World) -> None:
    async with opened(order) as stream:
        await stream.next()
        assert (await stream.next()).kind == "comment"


async def test_a_stream_ends_with_its_token_and_says_so(order: World) -> None:
    token, _ = order.access.mint("bruno", 1)
    async with streaming(order.app, EVENTS, bearer(token)) as stream:
        await stream.next()
        end = await stream.next_event()
        assert (end.kind, (end.data or {})["code"]) == ("end", "unauthenticated")
        assert stream.is_over


async def test_a_removal_ends_what_is_heard_at_once(order: World) -> None:
    async with opened(order) as stream, opened(order, "/v1/events") as everything:
        await stream.next()
        await everything.next()
        await send(order, "before")
        await order.host("DELETE", f"{ORDER}/members/bruno")
        await send(order, "secret")
        await order.user("ana")("POST", f"{ORDER}/typing")
        for each in (stream, everything):
            blocks = await each.events(2)
            events = [(block.data or {}).get("event", block.data) for block in blocks]
            assert [event.get("type") for event in events if event] == [None, "member_removed"]
            assert (await each.next()).kind == "comment", "nothing but the keep-alive"


async def test_who_is_added_again_hears_from_then_on(order: World) -> None:
    async with opened(order, "/v1/events") as stream:
        await stream.next()
        await order.host("DELETE", f"{ORDER}/members/bruno")
        await send(order, "secret")
        await order.host("PUT", f"{ORDER}/members/bruno")
        await send(order, "welcome")
        events = [(block.data or {})["event"] for block in await stream.events(3)]
        assert [event.get("type") for event in events] == ["member_removed", "member_added", None]


async def test_a_client_that_does_not_read_costs_no_memory_and_misses_nothing(order: World) -> None:
    async with opened(order, "/v1/events") as stuck, opened(order, "/v1/events") as prompt:
        await stuck.next()
        await prompt.next()
        stuck.may_send.clear()
        for number in range(60):
            await send(order, f"{number}")
        assert bodies(await prompt.events(60)) == [f"{number}" for number in range(60)]
        await order.user("ana")("POST", f"{ORDER}/typing")
        assert (await prompt.next_event()).kind == "signal"
        assert order.feed.signals_dropped == 1
        assert stuck.sent.empty()
        stuck.may_send.set()
        assert bodies(await stuck.events(60)) == [f"{number}" for number in range(60)]


async def test_nothing_but_the_removal_reaches_a_removed_member_who_did_not_read(order: World) -> None:
    async with opened(order) as stuck:
        await stuck.next()
        stuck.may_send.clear()
        for number in range(10):
            await send(order, f"{number}")
        await order.host("DELETE", f"{ORDER}/members/bruno")
        stuck.may_send.set()
        seen = []
        while (block := await stuck.next()).kind != "comment":
            seen.append((block.data or {}).get("type", (block.data or {}).get("body")))
        assert seen[-1] == "member_removed"
        assert len(seen) <= 1 + FEED_LIMITS.stream_page, "only what was being sent already"


async def test_the_users_sessions_end_with_it(order: World) -> None:
    async with opened(order) as stream, opened(order, user="ana") as other:
        await stream.next()
        await other.next()
        await order.host("DELETE", "/v1/users/bruno/sessions")
        end = await stream.next_event()
        assert (end.kind, (end.data or {})["code"], stream.is_over) == ("end", "forbidden", True)
        await send(order, "still there")
        assert bodies(await other.events(1)) == ["still there"]


@pytest.mark.parametrize("is_sending", [True, False])
async def test_a_client_that_does_not_read_is_cut_when_its_stream_ends(order: World, is_sending: bool) -> None:
    async with opened(order) as stuck:
        await stuck.next()
        stuck.may_send.clear()
        if is_sending:
            await send(order, "not taken")
        await order.host("DELETE", "/v1/users/bruno/sessions")
        await asyncio.wait_for(stuck.may_send.wait(), TIMEOUT_S)
        assert (stuck.is_cut, stuck.sent.empty()) == (True, True)


async def test_a_stopping_server_says_so(order: World) -> None:
    async with opened(order) as stream:
        await stream.next()
        order.feed.close()
        end = await stream.next_event()
        assert (end.kind, (end.data or {})["code"], stream.is_over) == ("end", "unavailable", True)


async def test_whoever_has_a_stream_open_is_there(order: World) -> None:
    async with opened(order) as stream:
        await stream.next()
        assert (await order.host("GET", ORDER)).json()["online"] == ["bruno"]
        for leave in stream.gone:
            leave()
    assert order.feed.counts["sse"] == 0


@pytest.mark.parametrize(
    ("path", "user", "headers", "status"),
    [
        (EVENTS, "carla", {}, 404),
        ("/v1/conversations/none/events", "ana", {}, 404),
        (EVENTS, "bruno", {"last_event_id": "x"}, 400),
        (f"{EVENTS}?wait=1", "bruno", {}, 400),
        (f"{EVENTS}?limit=1", "bruno", {}, 400),
        ("/v1/events", "bruno", {"last_event_id": "99999999"}, 400),
        ("/v1/events?cursor=x", "bruno", {}, 400),
    ],
)
async def test_a_stream_that_cannot_begin_is_refused_like_any_call(
    order: World, path: str, user: str, headers: dict[str, str], status: int
) -> None:
    async with opened(order, path, user, **headers) as stream:
        assert (stream.status, stream.headers["content-type"]) == (status, "application/json")
    assert order.feed.counts["sse"] == 0


async def test_streams_have_a_limit_for_each_user_and_one_for_all(order: World) -> None:
    async with opened(order), opened(order), opened(order):
        async with opened(order) as one_too_many:
            assert one_too_many.status == 429
            assert int(one_too_many.headers["retry-after"]) > 0
        async with (
            opened(order, user="ana"),
            opened(order, user="ana"),
            opened(order, "/v1/events", user="carla") as one_too_many,
        ):
            assert one_too_many.status == 503
    async with opened(order) as stream:
        assert stream.status == 200
