"""Messages, the log, read cursors and typing over HTTP."""

import json

import httpx
import pytest

from tests.http.conftest import World, refused

ORDER = "/v1/conversations/order-4711"


async def send(world: World, user: str, *bodies: str) -> None:
    for body in bodies:
        answer = await world.user(user)("POST", f"{ORDER}/messages", {"body": body})
        assert answer.status_code == 201, answer.text


async def test_a_member_sends_a_message_and_gets_its_event(order: World) -> None:
    answer = await order.user("ana")("POST", f"{ORDER}/messages", {"id": "k3x9", "body": "Chegou!"})
    assert answer.status_code == 201
    event = answer.json()
    assert event.pop("at") > 0
    assert event == {"seq": 1, "from": "ana", "id": "k3x9", "body": "Chegou!"}


async def test_the_members_are_told_of_a_message_once_it_is_committed(order: World) -> None:
    await send(order, "ana", "Oi")
    (told,) = order.broker.committed
    assert (told.conversation, told.event.body, sorted(told.recipients)) == ("order-4711", "Oi", ["ana", "bruno"])


async def test_sending_twice_is_sending_once(order: World) -> None:
    first = await order.user("ana")("POST", f"{ORDER}/messages", {"id": "k3x9", "body": "Oi"})
    again = await order.user("ana")("POST", f"{ORDER}/messages", {"id": "k3x9", "body": "Oi, changed"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert len(order.broker.committed) == 1


async def test_the_server_makes_an_id_for_a_message_without_one(order: World) -> None:
    await send(order, "ana", "one", "two")
    events = (await order.user("ana")("GET", f"{ORDER}/events")).json()["events"]
    assert len({event["id"] for event in events}) == 2


async def test_the_host_sends_as_a_member_but_not_as_itself(order: World) -> None:
    answer = await order.host_as("bruno")("POST", f"{ORDER}/messages", {"body": "Order received"})
    assert (answer.status_code, answer.json()["from"]) == (201, "bruno")
    refused(await order.host_as("carla")("POST", f"{ORDER}/messages", {"body": "x"}), 404, "not_found")
    refused(await order.host("POST", f"{ORDER}/messages", {"body": "x"}), 400, "invalid")


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({}, 400, "invalid"),
        ({"body": ""}, 400, "invalid"),
        ({"body": " \n\t "}, 400, "invalid"),
        ({"body": None}, 400, "invalid"),
        ({"body": "a\x00b"}, 400, "invalid"),
        ({"body": "x", "id": ""}, 400, "invalid"),
        ({"body": "x", "id": "a b"}, 400, "invalid"),
        ({"body": "x", "id": "x" * 65}, 400, "invalid"),
        ({"body": "x", "id": 7}, 400, "invalid"),
        ({"body": "x", "from": "bruno"}, 400, "invalid"),
        ({"body": "é" * 501}, 413, "too_large"),
    ],
)
async def test_a_message_that_breaks_a_rule_is_refused_and_not_stored(
    order: World, asked: dict[str, object], status: int, code: str
) -> None:
    refused(await order.user("ana")("POST", f"{ORDER}/messages", asked), status, code)
    assert (await order.host("GET", ORDER)).json()["last_seq"] == 0
    assert order.broker.committed == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"body":"x"} more',
        b'{"body":"\xff"}',
        b'{"body":"\\ud800"}',
        b"\xef\xbb\xbf" + b'{"body":"x"}',
        b'{"body":"x","x":' + b"[" * 3_000,
        b'{"body":"x","id":' + b"9" * 3_000 + b"}",
    ],
)
async def test_a_body_that_is_not_the_json_asked_for_is_refused(order: World, content: bytes) -> None:
    refused(await order.user("ana")("POST", f"{ORDER}/messages", content=content), 400, "invalid")
    assert (await order.host("GET", ORDER)).json()["last_seq"] == 0


async def test_metadata_that_is_not_utf_8_or_too_deep_is_refused(world: World) -> None:
    deep = b'{"a":' * 600 + b"1" + b"}" * 600
    for metadata in (b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"a":1e999}', deep):
        content = b'{"members":[],"metadata":' + metadata + b"}"
        answer = await world.host("PUT", ORDER, content=content)
        assert answer.json()["error"]["code"] in ("invalid", "too_large"), answer.text
    refused(await world.host("GET", ORDER), 404, "not_found")


async def test_a_stranger_can_neither_send_nor_read_nor_signal(order: World) -> None:
    carla = order.user("carla")
    refused(await carla("POST", f"{ORDER}/messages", {"body": "x"}), 404, "not_found")
    refused(await carla("GET", f"{ORDER}/events"), 404, "not_found")
    refused(await carla("PUT", f"{ORDER}/read", {"seq": 0}), 404, "not_found")
    refused(await carla("POST", f"{ORDER}/typing"), 404, "not_found")
    assert (order.broker.committed, order.broker.signals) == ([], [])


async def seqs(answer: httpx.Response) -> tuple[list[int], int]:
    assert answer.status_code == 200, answer.text
    page = answer.json()
    return [event["seq"] for event in page["events"]], page["last_seq"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ({"limit": "3"}, [10, 11, 12]),
        ({"before": "5", "limit": "3"}, [2, 3, 4]),
        ({"after": "0", "limit": "3"}, [1, 2, 3]),
        ({"after": "10"}, [11, 12]),
        ({"after": "12"}, []),
        ({"after": "9000"}, []),
        ({"before": "1"}, []),
        ({"before": "0"}, []),
        ({"after": "3", "before": "6"}, [4, 5]),
        ({"after": "3", "before": "9", "limit": "2"}, [4, 5]),
        ({"after": "6", "before": "6"}, []),
    ],
)
async def test_the_log_is_read_in_pages(order: World, query: dict[str, str], expected: list[int]) -> None:
    await send(order, "ana", *(f"message {number}" for number in range(12)))
    answer = await order.user("bruno")("GET", f"{ORDER}/events", params=query)
    assert await seqs(answer) == (expected, 12)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=21",
        "limit=-1",
        "limit=1.0",
        "limit=",
        "limit=ten",
        "limit=%D9%A3",
        "limit=99999999999999999999",
        "after=-1",
        "after=9007199254740992",
        "after=null",
        "before=01",
        "after=1&after=2",
        "wait=10",
        "Limit=1",
        "&".join("after=1" for _ in range(50)),
    ],
)
async def test_a_query_that_means_nothing_is_refused(order: World, query: str) -> None:
    refused(await order.user("ana")("GET", f"{ORDER}/events?{query}"), 400, "invalid")


async def test_unread_counts_others_messages_until_they_are_read(order: World) -> None:
    await send(order, "ana", "one", "two", "three")
    await send(order, "bruno", "mine")
    bruno = order.user("bruno")
    assert (await bruno("GET", ORDER)).json()["unread_count"] == 3
    answer = await bruno("PUT", f"{ORDER}/read", {"seq": 2})
    assert (answer.status_code, answer.json()) == (200, {"read_up_to": 2, "unread_count": 1})
    seen = (await bruno("GET", ORDER)).json()
    assert (seen["read_up_to"], seen["unread_count"]) == (2, 1)


async def test_a_read_cursor_never_goes_back(order: World) -> None:
    await send(order, "ana", "one", "two")
    bruno = order.user("bruno")
    await bruno("PUT", f"{ORDER}/read", {"seq": 2})
    assert (await bruno("PUT", f"{ORDER}/read", {"seq": 1})).json() == {"read_up_to": 2, "unread_count": 0}
    assert len(order.broker.signals) == 1


@pytest.mark.parametrize("seq", [-1, 2, 2**53, 2**70, "1", 1.0, True, None])
async def test_a_read_cursor_that_is_no_seq_of_the_log_is_refused(order: World, seq: object) -> None:
    await send(order, "ana", "one")
    refused(await order.user("bruno")("PUT", f"{ORDER}/read", {"seq": seq}), 400, "invalid")
    assert order.broker.signals == []


async def test_reading_is_signalled_to_the_members(order: World) -> None:
    await send(order, "ana", "one")
    await order.user("bruno")("PUT", f"{ORDER}/read", {"seq": 1})
    (conversation, recipients, payload) = order.broker.signals[0]
    assert (conversation, sorted(recipients)) == ("order-4711", ["ana", "bruno"])
    assert json.loads(payload) == {"type": "read", "from": "bruno", "seq": 1}


async def test_typing_is_signalled_and_not_stored(order: World) -> None:
    answer = await order.user("ana")("POST", f"{ORDER}/typing")
    assert (answer.status_code, answer.content) == (204, b"")
    typing = b'{"type":"typing","from":"ana","for_ms":6000}'
    assert order.broker.signals == [("order-4711", frozenset({"ana", "bruno"}), typing)]
    assert (await order.host("GET", ORDER)).json()["last_seq"] == 0
