"""Names, muting, open pages and push subscriptions over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from recado.adapters.push.vapid import VapidKey, is_point
from recado.chat.push_subscription import PushTerms
from recado.chat.signal_rates import SignalRates
from recado.ports import PushSubscription, PushTarget
from tests.http.conftest import LIMITS, World, refused
from tests.support.push_service import Browser, encoded

ORDER = "/v1/conversations/order-4711"
SUBSCRIPTIONS = "/v1/push/subscriptions"
PUBLIC_KEY = VapidKey(VapidKey.make()).public


async def name(world: World, user: str, wanted: str | None) -> None:
    answer = await world.host("PUT", f"/v1/users/{user}", {"name": wanted})
    assert (answer.status_code, answer.json()) == (200, {"user": user, "name": wanted})


# Names


async def test_names_that_the_host_gives_are_in_the_conversations_of_who_has_them(order: World) -> None:
    await name(order, "ana", "Ana Souza")
    await name(order, "carla", "Carla")
    seen = (await order.user("bruno")("GET", ORDER)).json()
    assert seen["names"] == {"ana": "Ana Souza"}
    listed = (await order.user("bruno")("GET", "/v1/conversations")).json()["conversations"]
    assert [each["names"] for each in listed] == [{"ana": "Ana Souza"}]
    assert (await order.host("PUT", f"{ORDER}/members/carla")).json()["names"] == {"ana": "Ana Souza", "carla": "Carla"}
    await name(order, "ana", None)
    await name(order, "carla", None)
    assert "names" not in (await order.user("bruno")("GET", ORDER)).json()


async def test_only_the_host_says_what_people_are_called(order: World) -> None:
    for caller in (order.user("ana"), order.nobody):
        answer = await caller("PUT", "/v1/users/ana", {"name": "The Administrator"})
        assert answer.status_code in (401, 403)
    assert "names" not in (await order.user("bruno")("GET", ORDER)).json()


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ("", 400, "invalid"),
        ("  ", 400, "invalid"),
        ("two\nlines", 400, "invalid"),
        ("two\u2028lines", 400, "invalid"),
        ("a\x00b", 400, "invalid"),
        ("\u202eanA", 400, "invalid"),
        (4711, 400, "invalid"),
        ("é" * 65, 413, "too_large"),
    ],
)
async def test_a_name_that_would_show_as_something_else_is_refused(
    world: World, wanted: object, status: int, code: str
) -> None:
    refused(await world.host("PUT", "/v1/users/ana", {"name": wanted}), status, code)


async def test_a_name_may_be_of_any_script(world: World) -> None:
    for wanted in ("Ana", "Ação & Cia. 👩\u200d🔧", "עברית", "é" * 64):
        await name(world, "ana", wanted)


async def test_a_name_is_needed_in_the_body_of_a_user_with_a_valid_id(world: World) -> None:
    refused(await world.host("PUT", "/v1/users/ana", {}), 400, "invalid")
    refused(await world.host("PUT", "/v1/users/a%20b", {"name": "Ana"}), 400, "invalid")


# Muting


async def test_a_member_mutes_and_unmutes_a_conversation(order: World) -> None:
    ana = order.user("ana")
    for _ in range(2):
        assert (await ana("PUT", f"{ORDER}/mute")).status_code == 204
        assert (await ana("GET", ORDER)).json()["muted"] is True
    assert (await ana("GET", "/v1/conversations")).json()["conversations"][0]["muted"] is True
    assert "muted" not in (await order.user("bruno")("GET", ORDER)).json()
    for _ in range(2):
        assert (await ana("DELETE", f"{ORDER}/mute")).status_code == 204
        assert "muted" not in (await ana("GET", ORDER)).json()
    assert (await order.host_as("ana")("PUT", f"{ORDER}/mute")).status_code == 204
    assert (await ana("GET", ORDER)).json()["muted"] is True


async def test_who_is_no_member_and_the_host_as_itself_have_nothing_to_mute(order: World) -> None:
    refused(await order.user("carla")("PUT", f"{ORDER}/mute"), 404, "not_found")
    refused(await order.user("ana")("PUT", "/v1/conversations/other/mute"), 404, "not_found")
    assert "Recado-User" in refused(await order.host("PUT", f"{ORDER}/mute"), 400, "invalid")


# Pages


async def online(world: World) -> list[str]:
    found: list[str] = (await world.host("GET", ORDER)).json()["online"]
    return found


async def test_a_page_makes_its_user_online_as_long_as_it_is_open_on_the_screen_or_not(order: World) -> None:
    answer = await order.user("ana")("PUT", "/v1/presence", {"page": "p1", "visible": False})
    assert (answer.status_code, answer.json()) == (200, {"renew_s": LIMITS.presence_renew_s})
    assert (await order.host_as("bruno")("PUT", "/v1/presence", {"page": "p1", "visible": True})).status_code == 200
    assert await online(order) == ["ana", "bruno"]
    listed = (await order.user("ana")("GET", "/v1/conversations")).json()["conversations"]
    assert [each["online"] for each in listed] == [["ana", "bruno"]]
    now = order.chat.now_ms()
    assert await order.chat.store.pages(["ana", "bruno"], now) == {"ana": False, "bruno": True}
    assert await order.chat.store.pages(["ana"], now + LIMITS.presence_page_s * 1000) == {}


async def test_a_page_that_is_closed_is_gone_and_closing_it_again_changes_nothing(order: World) -> None:
    ana = order.user("ana")
    await ana("PUT", "/v1/presence", {"page": "p1", "visible": True})
    for _ in range(2):
        assert (await ana("DELETE", "/v1/presence/p1")).status_code == 204
    assert await order.chat.store.pages(["ana"], order.chat.now_ms()) == {}


async def test_a_user_closes_its_own_pages_alone(order: World) -> None:
    await order.user("ana")("PUT", "/v1/presence", {"page": "p1", "visible": True})
    assert (await order.user("bruno")("DELETE", "/v1/presence/p1")).status_code == 204
    assert await online(order) == ["ana"]


@pytest.mark.parametrize("body", [{}, {"page": "p1"}, {"page": "p 1", "visible": True}, {"page": "p1", "visible": 1}])
async def test_a_page_has_an_id_and_is_visible_or_not(order: World, body: dict[str, object]) -> None:
    refused(await order.user("ana")("PUT", "/v1/presence", body), 400, "invalid")
    assert await online(order) == []


async def test_pages_are_reported_no_faster_than_signals(order: World) -> None:
    """One user's haste is not another's."""
    order.chat.signal_rates = SignalRates(2, lambda: 0.0)
    ana = order.user("ana")
    assert (await ana("PUT", "/v1/presence", {"page": "p1", "visible": True})).status_code == 200
    assert (await ana("DELETE", "/v1/presence/p1")).status_code == 204
    for answer in (
        await ana("PUT", "/v1/presence", {"page": "p1", "visible": True}),
        await ana("DELETE", "/v1/presence/p1"),
    ):
        refused(answer, 429, "rate_limited")
        assert answer.headers["retry-after"] == "1"
    assert (await order.user("bruno")("PUT", "/v1/presence", {"page": "p1", "visible": True})).status_code == 200


# Push


@pytest.fixture
async def calling(order: World) -> World:
    """A server that calls people."""
    order.chat.push_terms = PushTerms(PUBLIC_KEY, is_point)
    return order


async def targets(world: World) -> list[PushTarget]:
    return await world.chat.store.push_targets("order-4711", 1, ["ana", "bruno"])


async def test_a_browser_is_told_the_key_of_a_server_that_calls_people(calling: World) -> None:
    answer = await calling.user("ana")("GET", "/v1/push")
    assert (answer.status_code, answer.json()) == (200, {"public_key": PUBLIC_KEY})
    refused(await calling.nobody("GET", "/v1/push"), 401, "unauthenticated")


async def test_a_server_without_a_key_calls_nobody_and_says_so(order: World) -> None:
    assert (await order.user("ana")("GET", "/v1/push")).json() == {"public_key": None}
    answer = await order.user("ana")("PUT", SUBSCRIPTIONS, Browser("https://push.example.com/1").subscription)
    assert "RECADO_PUSH_KEY" in refused(answer, 409, "conflict")


async def test_what_a_browser_says_of_its_subscription_is_taken_as_it_is(calling: World) -> None:
    browser = Browser("https://push.example.com/wpush/v2/k3x9?a=b%20c")
    answer = await calling.user("ana")("PUT", SUBSCRIPTIONS, browser.subscription)
    assert (answer.status_code, answer.json()) == (201, {"endpoint": browser.endpoint})
    assert (await calling.user("ana")("PUT", SUBSCRIPTIONS, browser.subscription)).status_code == 200
    keys = browser.subscription["keys"]
    assert await targets(calling) == [
        PushTarget("ana", PushSubscription(browser.endpoint, keys["p256dh"], keys["auth"]))
    ]


async def test_keys_are_kept_in_one_form_whatever_padding_they_come_with(calling: World) -> None:
    browser = Browser("https://push.example.com/1")
    given = browser.subscription
    given["keys"] = {"p256dh": given["keys"]["p256dh"] + "=", "auth": given["keys"]["auth"] + "=="}
    assert (await calling.user("ana")("PUT", SUBSCRIPTIONS, given)).status_code == 201
    (target,) = await targets(calling)
    assert (target.subscription.p256dh, target.subscription.auth) == (encoded(browser.point), encoded(browser.auth))


async def test_a_subscription_is_taken_back_by_its_user_alone(calling: World) -> None:
    browser = Browser("https://push.example.com/k3x9?a=b&c=d")
    await calling.user("ana")("PUT", SUBSCRIPTIONS, browser.subscription)
    query = {"params": {"endpoint": browser.endpoint}}
    assert (await calling.user("bruno")("DELETE", SUBSCRIPTIONS, **query)).status_code == 204
    assert len(await targets(calling)) == 1
    for _ in range(2):
        assert (await calling.user("ana")("DELETE", SUBSCRIPTIONS, **query)).status_code == 204
        assert await targets(calling) == []
    assert "endpoint" in refused(await calling.user("ana")("DELETE", SUBSCRIPTIONS), 400, "invalid")
    for wrong in ("a\x00b", "a b", "é", ""):
        query = {"params": {"endpoint": wrong}}
        assert "printable" in refused(await calling.user("ana")("DELETE", SUBSCRIPTIONS, **query), 400, "invalid")


def changed(**changes: Any) -> dict[str, Any]:
    """A good subscription with something else in it."""
    given = Browser("https://push.example.com/1").subscription
    keys = given["keys"] | {name: changes.pop(name) for name in ("p256dh", "auth") if name in changes}
    return given | {"keys": keys} | changes


POINT = Browser("").point
BAD = {
    "no TLS": changed(endpoint="http://push.example.com/1"),
    "another scheme": changed(endpoint="ftp://push.example.com/1"),
    "no URL": changed(endpoint="push.example.com"),
    "no host": changed(endpoint="https:///1"),
    "a user name": changed(endpoint="https://a:b@push.example.com/1"),
    "a fragment": changed(endpoint="https://push.example.com/1#a"),
    "a bad port": changed(endpoint="https://push.example.com:99999/1"),
    "white space": changed(endpoint="https://push.example.com/1 2"),
    "a line break": changed(endpoint="https://push.example.com/1\r\nX: y"),
    "not ASCII": changed(endpoint="https://push.exämple.com/1"),
    "no point": changed(p256dh=encoded(POINT[:-1])),
    "a compressed point": changed(p256dh=encoded(b"\x02" + POINT[1:33])),
    "a point that is not on the curve": changed(p256dh=encoded(POINT[:-1] + bytes([POINT[-1] ^ 1]))),
    "no base64url": changed(p256dh="+/" * 40),
    "an empty point": changed(p256dh=""),
    "a short secret": changed(auth=encoded(b"x" * 15)),
    "a long secret": changed(auth=encoded(b"x" * 17)),
    "keys missing": {"endpoint": "https://push.example.com/1"},
    "unknown fields": changed(user="bruno"),
}


NO_HOSTS = [
    "a..b",
    "...",
    ".example.com",
    f"{'a' * 64}.com",
    ".".join(["a" * 50] * 5),
    "-a.example.com",
    "a_b.example.com",
    "a%00b",
    "*",
    "a;b",
    "a`b`",
    "2130706433",
    "127.1",
    "0x7f000001",
    "127.0.0.256",
    "[::1%25eth0]",
    "[1::2::3]",
]
HOSTS = [
    "push.example.com",
    "localhost",
    f"{'a' * 63}.example",
    "xn--exmple-cua.com",
    "192.0.2.1",
    "[2001:db8::1]:8443",
]


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_an_endpoint_whose_host_can_be_none_is_refused(calling: World, host: str) -> None:
    answer = await calling.user("ana")("PUT", SUBSCRIPTIONS, changed(endpoint=f"https://{host}/x"))
    assert "push.example.com or an address" in refused(answer, 400, "invalid")


@pytest.mark.parametrize("host", HOSTS)
async def test_an_endpoint_is_at_a_name_or_an_address(calling: World, host: str) -> None:
    assert (await calling.user("ana")("PUT", SUBSCRIPTIONS, changed(endpoint=f"https://{host}/x"))).status_code == 201


async def test_who_names_too_many_endpoints_in_a_second_is_refused_and_nobody_else(calling: World) -> None:
    calling.chat.signal_rates = SignalRates(2, lambda: 0.0)
    answers = [await calling.user("ana")("PUT", SUBSCRIPTIONS, changed()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 200, 429]
    refused(answers[-1], 429, "rate_limited")
    others = changed(endpoint="https://push.example.com/2")
    assert (await calling.user("bruno")("PUT", SUBSCRIPTIONS, others)).status_code == 201


@pytest.mark.parametrize("what", BAD)
async def test_what_no_push_service_would_take_is_refused_at_once(calling: World, what: str) -> None:
    refused(await calling.user("ana")("PUT", SUBSCRIPTIONS, BAD[what]), 400, "invalid")
    assert await targets(calling) == []


async def test_an_endpoint_has_a_longest_length_and_a_user_a_largest_number(calling: World) -> None:
    ana = calling.user("ana")
    calling.chat.signal_rates = SignalRates(1_000, lambda: 0.0)
    longest = "https://push.example.com/".ljust(LIMITS.push_endpoint_bytes_max, "x")
    assert (await ana("PUT", SUBSCRIPTIONS, changed(endpoint=longest))).status_code == 201
    refused(await ana("PUT", SUBSCRIPTIONS, changed(endpoint=longest + "x")), 413, "too_large")
    for number in range(1, LIMITS.push_subscriptions_per_user_max):
        answer = await ana("PUT", SUBSCRIPTIONS, changed(endpoint=f"https://push.example.com/{number}"))
        assert answer.status_code == 201
    refused(await ana("PUT", SUBSCRIPTIONS, changed(endpoint="https://push.example.com/more")), 413, "too_large")


async def test_a_server_that_may_call_private_addresses_takes_endpoints_without_tls(calling: World) -> None:
    calling.chat.push_terms = PushTerms(PUBLIC_KEY, is_point, may_be_private=True)
    answer = await calling.user("ana")("PUT", SUBSCRIPTIONS, changed(endpoint="http://127.0.0.1:9000/1"))
    assert answer.status_code == 201


async def test_erasing_a_user_takes_its_name_and_its_subscriptions(calling: World) -> None:
    await name(calling, "ana", "Ana Souza")
    await calling.user("ana")("PUT", SUBSCRIPTIONS, changed())
    assert (await calling.host("DELETE", "/v1/users/ana")).status_code == 204
    assert (await calling.host("PUT", f"{ORDER}/members/ana")).status_code == 201
    assert "names" not in (await calling.host("GET", ORDER)).json()
    assert await targets(calling) == []
