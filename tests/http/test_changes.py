"""Edits, deletions and erasure over HTTP: what is answered, to whom, and what the log says afterwards."""

from typing import Any

import pytest

from tests.http.conftest import LIMITS, Caller, World, refused

ORDER = "/v1/conversations/order-4711"
FIRST = f"{ORDER}/messages/1"
HOUR_MS = 3_600_000


@pytest.fixture
async def sent(order: World) -> World:
    """A world in which ana has said the first thing in order-4711."""
    answer = await order.user("ana")("POST", f"{ORDER}/messages", {"id": "k3x9", "body": "Chegou!"})
    assert answer.status_code == 201, answer.text
    return order


async def log(world: World, caller: Caller | None = None) -> list[dict[str, Any]]:
    """The events without their times."""
    events = (await (caller or world.host)("GET", f"{ORDER}/events")).json()["events"]
    return [{name: value for name, value in event.items() if name not in ("at", "edited_at")} for event in events]


def later(world: World, by_ms: int) -> None:
    """Let the server's clock be so much ahead."""
    now_ms = world.chat.now_ms
    world.chat.now_ms = lambda: now_ms() + by_ms


# Edits


async def test_a_sender_edits_its_message_and_every_member_hears_of_it(sent: World) -> None:
    answer = await sent.user("ana")("PATCH", FIRST, {"body": "Chegou ontem!"})

    assert answer.status_code == 200
    event = answer.json()
    assert event.pop("at") > 0
    assert event == {"seq": 2, "from": "ana", "type": "edited", "target": 1, "body": "Chegou ontem!"}
    assert await log(sent) == [{"seq": 1, "from": "ana", "id": "k3x9", "body": "Chegou ontem!"}, event]
    told = sent.broker.committed[-1]
    assert (told.event.body, sorted(told.recipients)) == ("Chegou ontem!", ["ana", "bruno"])


async def test_events_are_the_same_bytes_with_their_fields_in_order(sent: World) -> None:
    sent.chat.now_ms = lambda: 1_790_000_000_000
    edited = await sent.user("ana")("PATCH", FIRST, {"body": "x"})
    deleted = await sent.user("ana")("DELETE", FIRST)

    assert edited.content == b'{"seq":2,"from":"ana","at":1790000000000,"type":"edited","body":"x","target":1}'
    assert deleted.content == b'{"seq":3,"from":"ana","at":1790000000000,"type":"deleted","target":1}'


async def test_an_edited_message_says_when(sent: World) -> None:
    edit = (await sent.user("ana")("PATCH", FIRST, {"body": "x"})).json()
    (message, _) = (await sent.host("GET", f"{ORDER}/events")).json()["events"]
    assert message["edited_at"] == edit["at"]
    assert list(message) == ["seq", "from", "at", "id", "body", "edited_at"]


async def test_the_same_body_again_is_no_new_event(sent: World) -> None:
    for body, seqs in (("Chegou!", [1]), ("new", [1, 2]), ("new", [1, 2])):
        answer = await sent.user("ana")("PATCH", FIRST, {"body": body})
        assert (answer.status_code, answer.json()["body"]) == (200, body)
        assert [event["seq"] for event in await log(sent)] == seqs
    assert answer.json()["id"] == "k3x9", "the message's own entry"


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({}, 400, "invalid"),
        ({"body": " \n"}, 400, "invalid"),
        ({"body": None}, 400, "invalid"),
        ({"body": "a\u0000b"}, 400, "invalid"),
        ({"body": "x", "id": "k3x9"}, 400, "invalid"),
        ({"body": "x" * (LIMITS.body_bytes_max + 1)}, 413, "too_large"),
    ],
)
async def test_a_body_that_could_not_be_sent_is_no_edit(sent: World, asked: Any, status: int, code: str) -> None:
    refused(await sent.user("ana")("PATCH", FIRST, asked), status, code)
    assert len(await log(sent)) == 1


# Deletions


async def test_a_deleted_message_leaves_its_entry_and_nothing_of_its_body(sent: World) -> None:
    await sent.user("ana")("PATCH", FIRST, {"body": "secret"})
    answer = await sent.user("ana")("DELETE", FIRST)

    assert answer.status_code == 200
    event = answer.json()
    assert event.pop("at") > 0
    assert event == {"seq": 3, "from": "ana", "type": "deleted", "target": 1}
    assert await log(sent) == [
        {"seq": 1, "from": "ana", "id": "k3x9", "type": "deleted"},
        {"seq": 2, "from": "ana", "type": "edited", "target": 1},
        event,
    ]


async def test_deleting_again_answers_the_entry_as_it_is(sent: World) -> None:
    await sent.user("ana")("DELETE", FIRST)
    again = await sent.user("ana")("DELETE", FIRST)

    assert (again.status_code, again.json()["seq"], again.json()["type"]) == (200, 1, "deleted")
    assert len(await log(sent)) == 2


async def test_a_retried_send_does_not_bring_a_deleted_message_back(sent: World) -> None:
    await sent.user("ana")("DELETE", FIRST)
    again = await sent.user("ana")("POST", f"{ORDER}/messages", {"id": "k3x9", "body": "Chegou!"})

    assert (again.status_code, again.json()["seq"], again.json()["type"]) == (200, 1, "deleted")
    assert "body" not in again.json()
    assert len(await log(sent)) == 2


# Who may


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"body": "new"}), ("DELETE", None)])
async def test_only_the_sender_changes_a_message_and_only_for_a_while(sent: World, method: str, body: Any) -> None:
    refused(await sent.user("bruno")(method, FIRST, body), 403, "forbidden")
    refused(await sent.host_as("bruno")(method, FIRST, body), 403, "forbidden")
    refused(await sent.user("carla")(method, FIRST, body), 404, "not_found")
    refused(await sent.host_as("carla")(method, FIRST, body), 404, "not_found")
    refused(await sent.nobody(method, FIRST, body), 401, "unauthenticated")
    later(sent, LIMITS.message_change_window_s * 1000 + HOUR_MS)
    refused(await sent.user("ana")(method, FIRST, body), 403, "forbidden")
    refused(await sent.host_as("ana")(method, FIRST, body), 403, "forbidden")
    assert len(await log(sent)) == 1


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"body": "new"}), ("DELETE", None)])
async def test_a_message_can_be_changed_until_its_window_ends(sent: World, method: str, body: Any) -> None:
    later(sent, LIMITS.message_change_window_s * 1000 - HOUR_MS)
    assert (await sent.user("ana")(method, FIRST, body)).status_code == 200


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"body": "new"}), ("DELETE", None)])
async def test_the_host_as_itself_changes_any_message_at_any_time(sent: World, method: str, body: Any) -> None:
    later(sent, 30 * LIMITS.message_change_window_s * 1000)
    answer = await sent.host(method, FIRST, body)
    assert (answer.status_code, answer.json()["from"], answer.json()["target"]) == (200, None, 1)


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"body": "new"}), ("DELETE", None)])
async def test_what_is_no_message_cannot_be_changed(sent: World, method: str, body: Any) -> None:
    await sent.host("PUT", ORDER, {"members": [], "subject": "Order 4711"})
    await sent.user("ana")("PATCH", FIRST, {"body": "edited"})
    ana = sent.user("ana")
    for seq, status, code in (
        (0, 404, "not_found"),
        (2, 409, "conflict"),
        (3, 409, "conflict"),
        (4, 404, "not_found"),
        (2**53, 400, "invalid"),
        ("01", 400, "invalid"),
        ("k3x9", 400, "invalid"),
    ):
        refused(await ana(method, f"{ORDER}/messages/{seq}", body), status, code)
    refused(await ana(method, "/v1/conversations/unknown/messages/1", body), 404, "not_found")
    assert len(await log(sent)) == 3


async def test_a_deleted_message_takes_no_other_body(sent: World) -> None:
    await sent.user("ana")("DELETE", FIRST)
    for caller in (sent.user("ana"), sent.host):
        refused(await caller("PATCH", FIRST, {"body": "again"}), 409, "conflict")


# Erasing a conversation


async def test_an_erased_conversation_is_unknown_and_its_id_is_never_used_again(sent: World) -> None:
    for _ in range(2):
        answer = await sent.host("DELETE", ORDER)
        assert (answer.status_code, answer.content) == (204, b"")

    for caller in (sent.user("ana"), sent.host):
        refused(await caller("GET", ORDER), 404, "not_found")
        refused(await caller("GET", f"{ORDER}/events"), 404, "not_found")
    refused(await sent.user("ana")("POST", f"{ORDER}/messages", {"body": "late"}), 404, "not_found")
    assert (await sent.user("ana")("GET", "/v1/conversations")).json()["conversations"] == []
    assert "never used again" in refused(await sent.host("PUT", ORDER, {"members": ["ana"]}), 409, "conflict")
    told = sent.broker.committed[1:]
    assert [(entry.event.type, entry.event.sender, sorted(entry.recipients)) for entry in told] == [
        ("conversation_erased", None, ["ana", "bruno"])
    ]


async def test_who_was_a_member_of_an_erased_conversation_is_none_any_more(sent: World) -> None:
    await sent.user("ana")("POST", f"{ORDER}/typing")
    await sent.host("DELETE", ORDER)
    refused(await sent.user("ana")("POST", f"{ORDER}/typing"), 404, "not_found")
    assert len(sent.broker.signals) == 1


async def test_only_the_host_erases(sent: World) -> None:
    for path in (ORDER, "/v1/users/ana", "/v1/users/ana/sessions"):
        refused(await sent.user("ana")("DELETE", path), 403, "forbidden")
        refused(await sent.nobody("DELETE", path), 401, "unauthenticated")
    refused(await sent.host("DELETE", "/v1/conversations/unknown"), 404, "not_found")
    refused(await sent.host("DELETE", "/v1/users/not%20an%20id"), 400, "invalid")
    refused(await sent.host("DELETE", "/v1/users/not%20an%20id/sessions"), 400, "invalid")
    assert (len(await log(sent)), sent.broker.disconnected) == (1, [])


# Erasing a person


async def test_an_erased_users_messages_are_deleted_entries_and_its_connections_end(sent: World) -> None:
    await sent.user("bruno")("POST", f"{ORDER}/messages", {"id": "b", "body": "Obrigado"})

    answer = await sent.host("DELETE", "/v1/users/ana")

    assert (answer.status_code, answer.content) == (204, b"")
    assert await log(sent) == [
        {"seq": 1, "from": "ana", "id": "k3x9", "type": "deleted"},
        {"seq": 2, "from": "bruno", "id": "b", "body": "Obrigado"},
        {"seq": 3, "from": None, "type": "member_removed", "user": "ana"},
        {"seq": 4, "from": None, "type": "user_erased", "user": "ana"},
    ]
    assert sent.broker.disconnected == ["ana", "ana"], "before and after, as it may have connected meanwhile"
    refused(await sent.user("ana")("GET", ORDER), 404, "not_found")
    assert (await sent.host("DELETE", "/v1/users/ana")).status_code == 204
    assert len(await log(sent)) == 4


async def test_a_users_sessions_end_and_nothing_else(sent: World) -> None:
    for _ in range(2):
        answer = await sent.host("DELETE", "/v1/users/ana/sessions")
        assert (answer.status_code, answer.content) == (204, b"")
    assert sent.broker.disconnected == ["ana", "ana"]
    assert len(await log(sent, sent.user("ana"))) == 1


# Receipts and who is there


async def test_a_page_of_events_says_how_far_each_member_is(sent: World) -> None:
    await sent.user("bruno")("PUT", f"{ORDER}/read", {"seq": 1})
    answer = await sent.user("ana")("GET", f"{ORDER}/events?limit=1")
    assert list(answer.json()) == ["events", "last_seq", "receipts"]
    assert answer.json()["receipts"] == [
        {"user": "ana", "delivered_up_to": 0, "read_up_to": 0},
        {"user": "bruno", "delivered_up_to": 1, "read_up_to": 1},
    ]


async def test_a_view_says_who_is_there_now(sent: World) -> None:
    sent.chat.presence.connected("bruno")
    for answer in (await sent.user("ana")("GET", ORDER), await sent.host("PUT", f"{ORDER}/members/bruno")):
        assert answer.json()["online"] == ["bruno"]
    (view,) = (await sent.user("ana")("GET", "/v1/conversations")).json()["conversations"]
    assert view["online"] == ["bruno"]


async def test_of_a_conversation_of_many_neither_is_said(sent: World) -> None:
    for user in ("carla", "davi"):
        view = await sent.host("PUT", f"{ORDER}/members/{user}")
    assert len(view.json()["members"]) == LIMITS.receipt_members_max + 1
    assert "online" not in view.json()
    assert "online" not in (await sent.user("ana")("GET", ORDER)).json()
    assert list((await sent.user("ana")("GET", f"{ORDER}/events")).json()) == ["events", "last_seq"]


async def test_pages_of_other_origins_may_edit(world: World) -> None:
    elsewhere = world.with_settings(allowed_origins=("https://shop.example",))
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "PATCH"}
    answer = await elsewhere.nobody("OPTIONS", FIRST, headers=asked)
    assert answer.status_code == 200
    assert "PATCH" in answer.headers["access-control-allow-methods"]
