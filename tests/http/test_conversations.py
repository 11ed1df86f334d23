"""Conversations and their members over HTTP."""

import pytest

from tests.http.conftest import World, refused

ORDER = "/v1/conversations/order-4711"


async def test_the_host_creates_a_conversation_under_an_id_of_its_own(world: World) -> None:
    asked = {"members": ["ana", "bruno"], "subject": "Order 4711", "metadata": {"total": "19,90 €", "items": [1, 2]}}
    answer = await world.host("PUT", ORDER, asked)
    assert answer.status_code == 201
    made = answer.json()
    assert made.pop("created_at") == made.pop("active_at") > 0
    assert made == {
        "id": "order-4711",
        "subject": "Order 4711",
        "metadata": {"total": "19,90 €", "items": [1, 2]},
        "members": ["ana", "bruno"],
        "last_seq": 0,
        "last_event": None,
        "read_up_to": 0,
        "unread_count": 0,
        "online": [],
    }


async def test_creating_it_again_changes_nothing_and_answers_200(order: World) -> None:
    answer = await order.host("PUT", ORDER, {"members": ["bruno"]})
    assert answer.status_code == 200
    assert (answer.json()["members"], answer.json()["last_seq"]) == (["ana", "bruno"], 0)


async def test_a_new_subject_and_metadata_are_one_event_of_the_host(order: World) -> None:
    asked = {"members": [], "subject": "Order 4711, sent", "metadata": {"state": "sent"}}
    answer = await order.host("PUT", ORDER, asked)
    assert answer.status_code == 200
    event = answer.json()["last_event"]
    assert event.pop("at") > 0
    assert event == {
        "seq": 1,
        "from": None,
        "type": "conversation_changed",
        "subject": "Order 4711, sent",
        "metadata": {"state": "sent"},
    }
    page = await order.user("ana")("GET", f"{ORDER}/events")
    assert [event["type"] for event in page.json()["events"]] == ["conversation_changed"]


async def test_naming_someone_who_is_no_member_of_an_existing_conversation_is_a_conflict(order: World) -> None:
    answer = await order.host("PUT", ORDER, {"members": ["ana", "carla"], "subject": "changed"})
    refused(answer, 409, "conflict")
    assert (await order.host("GET", ORDER)).json()["subject"] is None


async def test_the_server_makes_an_id_if_the_host_has_none(world: World) -> None:
    answer = await world.host("POST", "/v1/conversations", {"members": ["ana"]})
    assert answer.status_code == 201
    made = answer.json()["id"]
    assert (await world.user("ana")("GET", f"/v1/conversations/{made}")).status_code == 200


async def test_a_user_may_not_create_a_conversation(world: World) -> None:
    refused(await world.user("ana")("PUT", ORDER, {"members": ["ana"]}), 403, "forbidden")
    refused(await world.user("ana")("POST", "/v1/conversations", {"members": ["ana"]}), 403, "forbidden")
    refused(await world.host("GET", ORDER), 404, "not_found")


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({}, 400, "invalid"),
        ({"members": "ana"}, 400, "invalid"),
        ({"members": ["not an id"]}, 400, "invalid"),
        ({"members": ["ana\n"]}, 400, "invalid"),
        ({"members": [""]}, 400, "invalid"),
        ({"members": ["ana"], "owner": "ana"}, 400, "invalid"),
        ({"members": ["ana"], "subject": 4711}, 400, "invalid"),
        ({"members": ["ana"], "subject": "a\x00b"}, 400, "invalid"),
        ({"members": ["ana"], "metadata": []}, 400, "invalid"),
        ({"members": ["ana"], "metadata": "{}"}, 400, "invalid"),
        ({"members": [f"user-{number}" for number in range(6)]}, 413, "too_large"),
        ({"members": ["ana"], "subject": "é" * 51}, 413, "too_large"),
        ({"members": ["ana"], "metadata": {"note": "x" * 500}}, 413, "too_large"),
    ],
)
async def test_a_conversation_that_breaks_a_rule_is_refused_and_not_made(
    world: World, asked: dict[str, object], status: int, code: str
) -> None:
    refused(await world.host("PUT", ORDER, asked), status, code)
    refused(await world.host("GET", ORDER), 404, "not_found")


async def test_members_see_a_conversation_and_strangers_see_nothing(order: World) -> None:
    assert (await order.user("bruno")("GET", ORDER)).json()["id"] == "order-4711"
    stranger = refused(await order.user("carla")("GET", ORDER), 404, "not_found")
    unknown = refused(await order.user("carla")("GET", "/v1/conversations/order-4712"), 404, "not_found")
    assert stranger.replace("4711", "4712") == unknown


async def test_the_host_as_a_user_sees_what_that_user_sees(order: World) -> None:
    refused(await order.host_as("carla")("GET", ORDER), 404, "not_found")
    assert (await order.host_as("ana")("GET", ORDER)).status_code == 200
    assert (await order.host("GET", ORDER)).status_code == 200


async def test_my_conversations_come_newest_activity_first_in_pages(world: World) -> None:
    for number in range(5):
        assert (await world.host("PUT", f"/v1/conversations/c{number}", {"members": ["ana"]})).status_code == 201
    ana = world.user("ana")
    await ana("POST", "/v1/conversations/c1/messages", {"body": "first to the top"})
    listed: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await ana("GET", "/v1/conversations", params=query)).json()
        listed += [conversation["id"] for conversation in page["conversations"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert listed[0] == "c1"
    assert sorted(listed) == ["c0", "c1", "c2", "c3", "c4"]


async def test_the_list_holds_only_my_own_conversations(order: World) -> None:
    page = await order.user("carla")("GET", "/v1/conversations")
    assert page.json() == {"conversations": [], "next_cursor": None}
    page = await order.host_as("bruno")("GET", "/v1/conversations")
    assert [conversation["id"] for conversation in page.json()["conversations"]] == ["order-4711"]


async def test_the_host_lists_conversations_only_as_a_user(order: World) -> None:
    assert "Recado-User" in refused(await order.host("GET", "/v1/conversations"), 400, "invalid")


@pytest.mark.parametrize("cursor", ["", "x", "1.", "1.2.3", "-1.2", "99999999999999999999.1", "1.99999999999999999999"])
async def test_a_cursor_that_the_server_did_not_make_is_refused(order: World, cursor: str) -> None:
    refused(await order.user("ana")("GET", "/v1/conversations", params={"cursor": cursor}), 400, "invalid")


async def test_the_host_adds_a_member_and_adding_again_changes_nothing(order: World) -> None:
    first = await order.host_as("bruno")("PUT", f"{ORDER}/members/carla")
    assert (first.status_code, first.json()["members"]) == (201, ["ana", "bruno", "carla"])
    event = first.json()["last_event"]
    assert (event["type"], event["user"], event["from"], event["seq"]) == ("member_added", "carla", "bruno", 1)
    again = await order.host("PUT", f"{ORDER}/members/carla")
    assert (again.status_code, again.json()["last_seq"]) == (200, 1)


async def test_the_host_removes_a_member_who_then_sees_nothing(order: World) -> None:
    answer = await order.host("DELETE", f"{ORDER}/members/bruno")
    assert (answer.status_code, answer.json()["members"]) == (200, ["ana"])
    assert answer.json()["last_event"]["type"] == "member_removed"
    refused(await order.user("bruno")("GET", f"{ORDER}/events"), 404, "not_found")
    refused(await order.user("bruno")("POST", f"{ORDER}/messages", {"body": "still here"}), 404, "not_found")
    again = await order.host("DELETE", f"{ORDER}/members/bruno")
    assert (again.status_code, again.json()["last_seq"]) == (200, 1)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_members_are_the_hosts_to_change(order: World, method: str) -> None:
    refused(await order.user("ana")(method, f"{ORDER}/members/bruno"), 403, "forbidden")
    refused(await order.host(method, "/v1/conversations/nowhere/members/bruno"), 404, "not_found")
    refused(await order.host(method, f"{ORDER}/members/no%20id"), 400, "invalid")
    assert (await order.host("GET", ORDER)).json()["members"] == ["ana", "bruno"]


async def test_one_member_too_many_is_refused(order: World) -> None:
    for user in ("carla", "davi", "eva"):
        assert (await order.host("PUT", f"{ORDER}/members/{user}")).status_code == 201
    refused(await order.host("PUT", f"{ORDER}/members/fabio"), 413, "too_large")
