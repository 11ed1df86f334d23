"""Who may call: tokens, the API key, Recado-User, and how tokens are made."""

import base64
import json
import time

import jwt
import pytest

from tests.http.conftest import API_KEY, SECRET, Caller, World, bearer, refused

ORDER = "/v1/conversations/order-4711"


def deep_token() -> str:
    """A token whose header is too deeply nested to be parsed."""
    return base64.urlsafe_b64encode(b"[" * 3_000).decode() + ".e30.e30"


def unsigned_token(user: str) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": user, "exp": int(time.time()) + 60})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def signed_token(secret: str = SECRET, **claims: object) -> str:
    return jwt.encode({"sub": "ana", "exp": int(time.time()) + 60} | claims, secret, "HS256")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {API_KEY}",
        API_KEY,
        "Bearer not-a-token",
        "Bearer caf\u00e9",
        f"Bearer {API_KEY}x",
        f"Bearer {unsigned_token('ana')}",
        f"Bearer {signed_token(exp=int(time.time()) - 1)}",
        f"Bearer {signed_token('another secret that is long enough for HS256')}",
        f"Bearer {signed_token(sub='not an id')}",
        f"Bearer {deep_token()}",
    ],
    ids=range(13),  # a token is another in each process
)
async def test_a_caller_without_a_good_credential_is_refused(order: World, authorization: str) -> None:
    caller = Caller(order.app, {})
    answer = await caller("GET", ORDER, headers=[(b"Authorization", authorization.encode())])
    refused(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_in_a_url_or_a_cookie_is_no_credential(order: World) -> None:
    token = order.token("ana")
    refused(await order.nobody("GET", ORDER, params={"token": token}), 401, "unauthenticated")
    refused(await order.nobody("GET", ORDER, headers={"Cookie": f"token={token}"}), 401, "unauthenticated")


async def test_a_refused_caller_cannot_make_the_server_read_its_body(order: World) -> None:
    answer = await order.nobody("POST", f"{ORDER}/messages", content=b"x" * 100_000)
    refused(answer, 401, "unauthenticated")


async def test_the_scheme_of_a_credential_may_be_in_any_case(order: World) -> None:
    caller = Caller(order.app, {"Authorization": f"bEARER {order.token('ana')}"})
    assert (await caller("GET", ORDER)).status_code == 200


async def test_a_user_may_not_act_as_another(order: World) -> None:
    ana = {**bearer(order.token("ana"))}
    answer = await Caller(order.app, {**ana, "Recado-User": "bruno"})("GET", ORDER)
    refused(answer, 403, "forbidden")
    answer = await Caller(order.app, {**ana, "Recado-User": "ana"})("GET", ORDER)
    assert answer.status_code == 200


@pytest.mark.parametrize("user", ["not an id", "", "ana/bruno", "x" * 65])
async def test_the_host_may_only_act_as_a_user_with_a_valid_id(order: World, user: str) -> None:
    refused(await order.host_as(user)("GET", ORDER), 400, "invalid")


@pytest.mark.parametrize("name", ["Authorization", "Recado-User", "Content-Type"])
async def test_a_header_that_decides_something_may_not_be_given_twice(order: World, name: str) -> None:
    value = f"Bearer {API_KEY}" if name == "Authorization" else "ana"
    headers = [("Authorization", f"Bearer {API_KEY}")] if name != "Authorization" else []
    caller = Caller(order.app, {})
    refused(await caller("GET", ORDER, headers=[*headers, (name, value), (name, value)]), 400, "invalid")


async def test_the_host_makes_a_token_that_lets_its_user_in(order: World) -> None:
    before = time.time_ns() // 1_000_000
    answer = await order.host("POST", "/v1/tokens", {"user": "ana", "ttl_s": 60})
    assert answer.status_code == 201
    made = answer.json()
    assert made["user"] == "ana"
    assert before + 58_000 <= made["expires_at"] <= before + 70_000
    assert (await Caller(order.app, bearer(made["token"]))("GET", ORDER)).status_code == 200


async def test_a_token_lasts_the_default_time_if_none_is_named(world: World) -> None:
    made = (await world.host("POST", "/v1/tokens", {"user": "ana"})).json()
    assert made["expires_at"] - time.time_ns() // 1_000_000 == pytest.approx(3_600_000, abs=10_000)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"user": "not an id"},
        {"user": None},
        {"user": "ana", "ttl_s": 0},
        {"user": "ana", "ttl_s": -5},
        {"user": "ana", "ttl_s": 86_401},
        {"user": "ana", "ttl_s": "60"},
        {"user": "ana", "scope": "all"},
    ],
)
async def test_a_token_that_breaks_a_rule_is_not_made(world: World, asked: dict[str, object]) -> None:
    refused(await world.host("POST", "/v1/tokens", asked), 400, "invalid")


async def test_a_user_may_not_make_tokens(world: World) -> None:
    refused(await world.user("ana")("POST", "/v1/tokens", {"user": "ana"}), 403, "forbidden")


async def test_answers_to_an_authenticated_caller_are_not_stored_by_caches(order: World) -> None:
    for answer in (
        await order.user("ana")("GET", ORDER),
        await order.user("ana")("POST", f"{ORDER}/typing"),
        await order.user("carla")("GET", ORDER),
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
