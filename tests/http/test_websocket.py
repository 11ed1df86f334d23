"""The WebSocket at /v1/ws: signing in, following, resuming, what it may say, and how it ends."""

import asyncio
from typing import Any

import jwt
import pytest
from starlette.types import Message

from tests.http.conftest import API_KEY, FEED_LIMITS, SECRET, SETTINGS, World, bearer
from tests.http.streams import TIMEOUT_S, OpenSocket, connected, scope_of

ORDER = "/v1/conversations/order-4711"


async def send(world: World, body: str, user: str = "ana", path: str = ORDER) -> None:
    answer = await world.user(user)("POST", f"{path}/messages", {"body": body})
    assert answer.status_code == 201, answer.text


async def signed_in(world: World, client: OpenSocket, user: str = "bruno") -> OpenSocket:
    await client.sign_in(world.token(user))
    return client


def bodies(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["event"]["body"] for frame in frames]


async def test_events_come_as_the_log_has_them_with_their_conversation(order: World) -> None:
    async with connected(order.app) as client:
        await signed_in(order, client)
        assert await client.subscribe({"order-4711": None}) == {
            "type": "subscribed",
            "conversations": {"order-4711": 0},
        }
        await send(order, "Chegou!")
        (event,) = (await order.host("GET", f"{ORDER}/events")).json()["events"]
        assert await client.get() == {"type": "event", "conversation": "order-4711", "event": event}


async def test_each_conversation_goes_on_after_its_own_seq(order: World) -> None:
    await order.host("PUT", "/v1/conversations/other", {"members": ["ana", "bruno"]})
    for number in range(1, 10):
        await send(order, f"{number}")
        await send(order, f"other {number}", path="/v1/conversations/other")
    async with connected(order.app) as client:
        await signed_in(order, client)
        client.put({"type": "subscribe", "conversations": {"order-4711": 7, "other": 0}})
        frames = [frame for frame in await client.many(12) if frame["type"] == "event"]
        seqs: dict[str, list[int]] = {"order-4711": [], "other": []}
        for frame in frames:
            seqs[frame["conversation"]].append(frame["event"]["seq"])
        assert seqs == {"order-4711": [8, 9], "other": list(range(1, 10))}


async def test_a_subscription_to_nothing_more_is_answered_so_that_a_page_can_tell_whether_it_lives(
    order: World,
) -> None:
    async with connected(order.app) as client:
        await signed_in(order, client)
        await client.subscribe("*")
        assert await client.subscribe({}) == {"type": "subscribed", "conversations": {}}


async def test_everything_with_a_cursor_goes_on_after_it(order: World) -> None:
    await order.host("PUT", "/v1/conversations/other", {"members": ["ana", "bruno"]})
    async with connected(order.app) as client:
        await signed_in(order, client)
        begins_at = (await client.subscribe("*"))["cursor"]
        for number in range(9):
            await send(order, f"{number}", path=ORDER if number % 2 else "/v1/conversations/other")
        frames = await client.many(9)
        assert bodies(frames) == [f"{number}" for number in range(9)]
    for index, cursor in enumerate([begins_at, *(frame["cursor"] for frame in frames)]):
        async with connected(order.app) as client:
            await signed_in(order, client)
            client.put({"type": "subscribe", "conversations": "*", "cursor": cursor})
            later = [frame for frame in await client.many(10 - index) if frame["type"] == "event"]
            assert bodies(later) == [f"{number}" for number in range(index, 9)]


async def test_resuming_while_others_send_has_every_event_once(order: World) -> None:
    sending = asyncio.gather(*(send(order, f"{number}") for number in range(90)))
    seqs: list[int] = []
    while len(seqs) < 90:
        async with connected(order.app) as client:
            await signed_in(order, client)
            client.put({"type": "subscribe", "conversations": {"order-4711": seqs[-1] if seqs else 0}})
            for _ in range(min(9, 90 - len(seqs))):
                while (frame := await client.get())["type"] != "event":
                    pass
                seqs.append(frame["event"]["seq"])
    await sending
    assert seqs == list(range(1, 91))


async def test_signals_come_down_and_go_up(order: World) -> None:
    async with connected(order.app) as ana, connected(order.app) as bruno:
        await signed_in(order, ana, "ana")
        await signed_in(order, bruno)
        await ana.subscribe("*")
        await bruno.subscribe({"order-4711": 0})
        bruno.put({"type": "typing", "conversation": "order-4711"})
        typing = {"type": "typing", "from": "bruno", "for_ms": 6_000}
        assert await ana.get() == {"type": "signal", "conversation": "order-4711", "signal": typing}
        assert (await bruno.get())["signal"] == typing
        await send(order, "one")
        assert [(await each.get())["type"] for each in (ana, bruno)] == ["event", "event"]
        bruno.put({"type": "ack", "conversation": "order-4711", "seq": 1})
        assert (await ana.get())["signal"] == {"type": "delivered", "from": "bruno", "seq": 1}
        bruno.put({"type": "read", "conversation": "order-4711", "seq": 1})
        assert (await ana.get())["signal"] == {"type": "read", "from": "bruno", "seq": 1}
    receipts = (await order.host("GET", f"{ORDER}/events")).json()["receipts"]
    assert receipts[1] == {"user": "bruno", "delivered_up_to": 1, "read_up_to": 1}


async def test_what_one_frame_may_not_do_is_told_and_ends_nothing(order: World) -> None:
    async with connected(order.app) as client:
        await signed_in(order, client)
        for frame, code in (
            ({"type": "subscribe", "conversations": {"none": 0}}, "not_found"),
            ({"type": "typing", "conversation": "none"}, "not_found"),
            ({"type": "read", "conversation": "order-4711", "seq": 9}, "invalid"),
        ):
            client.put(frame)
            told = await client.get()
            assert (told["type"], told["code"]) == ("error", code)
            if frame["type"] == "subscribe":
                assert await client.get() == {"type": "subscribed", "conversations": {}}
        for _ in range(25):
            client.put({"type": "typing", "conversation": "order-4711"})
        codes = {(await client.get())["code"] for _ in range(3)}
        assert codes == {"rate_limited"}


@pytest.mark.parametrize(
    "frame",
    [
        "not json",
        "[]",
        '{"type":"nothing"}',
        b"binary",
        '{"type":"subscribe"}',
        '{"type":"subscribe","conversations":"all"}',
        '{"type":"subscribe","conversations":{"a/b":0}}',
        '{"type":"subscribe","conversations":{"order-4711":-1}}',
        '{"type":"subscribe","conversations":"*","cursor":"x"}',
        '{"type":"subscribe","conversations":"*","cursor":"99999999"}',
        '{"type":"subscribe","conversations":{"a":0,"b":0,"c":0,"d":0}}',
        '{"type":"ack","conversation":"order-4711"}',
        '{"type":"message","conversation":"order-4711","body":"x"}',
    ],
)
async def test_a_frame_that_breaks_a_rule_ends_it_with_4400(order: World, frame: str | bytes) -> None:
    async with connected(order.app) as client:
        await signed_in(order, client)
        client.put(frame)
        assert await client.close_code() == 4400


@pytest.mark.parametrize(
    "first",
    [
        {"type": "auth", "token": "forged"},
        {"type": "auth", "token": ""},
        {"type": "subscribe", "conversations": "*"},
        {"type": "ack", "conversation": "order-4711", "seq": 1},
    ],
)
async def test_nothing_is_answered_before_a_good_token(order: World, first: dict[str, Any]) -> None:
    async with connected(order.app) as client:
        client.put(first)
        assert await client.close_code() == 4401
    assert order.feed.counts["ws"] == 0


async def test_an_acknowledgement_is_of_a_conversations_id(order: World) -> None:
    async with connected(order.app) as client:
        await signed_in(order, client)
        await client.subscribe("*")
        client.put({"type": "ack", "conversation": "a/b", "seq": 1})
        told = await client.get()
        assert (told["type"], told["code"], told["conversation"]) == ("error", "invalid", "a/b")


async def test_a_token_that_never_expires_is_as_good_as_any(order: World) -> None:
    token = jwt.encode({"sub": "bruno", "exp": 1e308}, SECRET, algorithm="HS256")
    async with connected(order.app) as client:
        await client.sign_in(token)
        await client.subscribe("*")
    assert order.feed.counts["ws"] == 0


async def test_whoever_says_nothing_is_closed(order: World) -> None:
    async with connected(order.app) as client:
        await asyncio.sleep(SETTINGS.ws_auth_s)
        assert await client.close_code() == 4401


async def test_the_host_signs_nobody_in(order: World) -> None:
    async with connected(order.app) as client:
        client.put({"type": "auth", "token": API_KEY})
        assert await client.close_code() == 4403


async def test_it_ends_with_its_token(order: World) -> None:
    async with connected(order.app) as client:
        await client.sign_in(order.access.mint("bruno", 1)[0])
        await client.subscribe("*")
        assert await client.close_code() == 4401


async def test_a_newer_token_lets_it_go_on(order: World) -> None:
    async with connected(order.app) as client, connected(order.app) as other:
        await client.sign_in(order.access.mint("bruno", 1)[0])
        await other.sign_in(order.access.mint("bruno", 1)[0])
        client.put({"type": "auth", "token": order.token("bruno")})
        await client.subscribe("*")
        assert await other.close_code() == 4401
        await send(order, "still here")
        assert bodies([await client.get()]) == ["still here"]
        client.put({"type": "auth", "token": order.token("ana")})
        assert await client.close_code() == 4403


async def test_a_removal_is_the_last_event(order: World) -> None:
    async with connected(order.app) as named, connected(order.app) as everything:
        await signed_in(order, named)
        await signed_in(order, everything)
        await named.subscribe({"order-4711": None})
        await everything.subscribe("*")
        await send(order, "before")
        await order.host("DELETE", f"{ORDER}/members/bruno")
        await send(order, "secret")
        await order.user("ana")("POST", f"{ORDER}/typing")
        await order.host("PUT", f"{ORDER}/members/bruno")
        for client in (named, everything):
            events = [frame["event"] for frame in await client.many(3)]
            assert [event.get("type") for event in events] == [None, "member_removed", "member_added"]


async def test_an_erased_conversation_says_so_last(order: World) -> None:
    async with connected(order.app) as client:
        await signed_in(order, client)
        await client.subscribe({"order-4711": 0})
        await order.host("DELETE", ORDER)
        assert (await client.get())["event"]["type"] == "conversation_erased"


async def test_a_client_that_does_not_read_misses_nothing_and_holds_up_nobody(order: World) -> None:
    async with connected(order.app) as stuck, connected(order.app) as prompt:
        for client in (stuck, prompt):
            await signed_in(order, client)
            await client.subscribe({"order-4711": None})
        stuck.may_send.clear()
        for number in range(60):
            await send(order, f"{number}")
        assert bodies(await prompt.many(60)) == [f"{number}" for number in range(60)]
        assert stuck.sent.empty()
        stuck.may_send.set()
        assert bodies(await stuck.many(60)) == [f"{number}" for number in range(60)]


async def test_nothing_but_the_removal_reaches_a_removed_member_who_did_not_read(order: World) -> None:
    async with connected(order.app) as stuck:
        await signed_in(order, stuck)
        await stuck.subscribe({"order-4711": None})
        stuck.may_send.clear()
        for number in range(10):
            await send(order, f"{number}")
        await order.host("DELETE", f"{ORDER}/members/bruno")
        stuck.may_send.set()
        seen = [(await stuck.get())["event"] for _ in range(2)]
        assert [event.get("type") for event in seen] == [None, "member_removed"], "the first was being sent"


async def test_the_users_sessions_end_with_4403_and_others_go_on(order: World) -> None:
    async with connected(order.app) as client, connected(order.app) as other:
        await signed_in(order, client)
        await signed_in(order, other, "ana")
        await other.subscribe("*")
        await order.host("DELETE", "/v1/users/bruno/sessions")
        assert await client.close_code() == 4403
        await send(order, "still there")
        assert bodies([await other.get()]) == ["still there"]


@pytest.mark.parametrize("is_sending", [True, False])
async def test_a_client_that_does_not_read_is_cut_when_it_must_end(order: World, is_sending: bool) -> None:
    async with connected(order.app) as stuck:
        await signed_in(order, stuck)
        await stuck.subscribe("*")
        stuck.may_send.clear()
        if is_sending:
            await send(order, "not taken")
        await order.host("DELETE", "/v1/users/bruno/sessions")
        await asyncio.wait_for(stuck.may_send.wait(), TIMEOUT_S)
        assert (stuck.is_cut, stuck.sent.empty()) == (True, True)


async def test_a_stopping_server_closes_with_1001(order: World) -> None:
    async with connected(order.app) as client:
        await signed_in(order, client)
        order.feed.close()
        assert await client.close_code() == 1001


async def test_the_others_are_told_who_has_come(order: World) -> None:
    async with connected(order.app) as ana, connected(order.app) as bruno:
        await signed_in(order, ana, "ana")
        await ana.subscribe("*")
        await signed_in(order, bruno)
        assert (await ana.next_frame())["signal"] == {"type": "presence", "from": "bruno", "online": True}


async def test_whoever_is_connected_is_there_until_it_goes(order: World) -> None:
    async with connected(order.app) as client:
        assert (await order.host("GET", ORDER)).json()["online"] == []
        await signed_in(order, client)
        assert (await order.host("GET", ORDER)).json()["online"] == ["bruno"]
    assert order.feed.counts["ws"] == 0


async def test_a_user_may_have_so_many_open(order: World) -> None:
    async with connected(order.app) as one, connected(order.app) as two, connected(order.app) as three:
        for client in (one, two, three):
            await signed_in(order, client)
        async with connected(order.app) as one_too_many:
            one_too_many.put({"type": "auth", "token": order.token("bruno")})
            assert await one_too_many.close_code() == 4429
        async with connected(order.app) as four, connected(order.app) as five, connected(order.app) as six:
            await signed_in(order, four, "ana")
            await signed_in(order, five, "ana")
            six.put({"type": "auth", "token": order.token("ana")})
            assert await six.close_code() == 1013
    assert FEED_LIMITS.streams_max == 5


@pytest.mark.parametrize(
    ("origin", "settings", "is_let_in"),
    [
        (None, {}, True),
        ("http://chat.test", {}, True),
        ("https://chat.test:9000", {}, True),
        ("https://evil.example", {}, False),
        ("null", {}, False),
        ("http://[", {}, False),
        ("https://shop.example", {"allowed_origins": ("https://shop.example",)}, True),
        ("https://evil.example", {"allowed_origins": ("https://shop.example",)}, False),
        ("https://evil.example", {"allowed_origins": ("*",)}, True),
        ("https://chat.example", {"public_url": "https://chat.example"}, True),
    ],
)
async def test_a_page_of_another_origin_is_let_in_if_it_was_named(
    order: World, origin: str | None, settings: dict[str, Any], is_let_in: bool
) -> None:
    world = order.with_settings(**settings)
    received: asyncio.Queue[Message] = asyncio.Queue()
    sent: asyncio.Queue[Message] = asyncio.Queue()
    received.put_nowait({"type": "websocket.connect"})
    received.put_nowait({"type": "websocket.disconnect", "code": 1006})
    headers = {} if origin is None else {"origin": origin}
    await world.app(scope_of("websocket", "/v1/ws", headers), received.get, sent.put)
    assert (await sent.get())["type"] == ("websocket.accept" if is_let_in else "websocket.close")


async def test_a_token_in_the_address_or_a_header_signs_nobody_in(order: World) -> None:
    async with connected(order.app, bearer(order.token("bruno"))) as client:
        client.put({"type": "subscribe", "conversations": "*"})
        assert await client.close_code() == 4401
