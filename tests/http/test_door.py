"""What holds for every call: paths, methods, sizes, failures, CORS and the operators' calls."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive

from recado.chat.errors import NotFound, RateLimited, Unavailable
from recado.http import create_app
from tests.http.conftest import API_KEY, SETTINGS, World, bearer, refused

ORDER = "/v1/conversations/order-4711"


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v2/conversations",
        "/v1/conversations/",
        f"{ORDER}/",
        f"{ORDER}/messages/1/body",
        "/v1/conversations/a%2Fb",
        "/v1/event",
        "/v1/users/ana/sessions/1",
        "/v1/users",
        "/..%2f..%2fetc/passwd",
        "//v1/session",
        "/index.html",
    ],
)
async def test_a_path_that_is_no_call_is_not_found(order: World, path: str) -> None:
    refused(await order.host("GET", path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", ORDER, "GET, PUT, DELETE, HEAD"),
        ("GET", f"{ORDER}/messages", "POST"),
        ("PATCH", "/v1/conversations", "GET, POST, HEAD"),
        ("OPTIONS", "/v1/session", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("BREW", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_refused_with_the_right_ones(
    order: World, method: str, path: str, allowed: str
) -> None:
    answer = await order.host(method, path)
    refused(answer, 405, "invalid")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_path_of_the_websocket_tells_who_asks_for_no_upgrade(order: World, method: str) -> None:
    answer = await order.user("ana")(method, "/v1/ws")
    refused(answer, 426, "invalid")
    assert answer.headers["upgrade"] == "websocket"


@pytest.mark.parametrize("conversation", ["a%20b", "x" * 65, "caf%C3%A9", "a%00", "a.b", "%FF", "*", "%2B"])
async def test_an_id_in_a_path_must_be_an_id(world: World, conversation: str) -> None:
    path = f"/v1/conversations/{conversation}"
    ana = world.user("ana")
    refused(await ana("GET", path), 400, "invalid")
    refused(await ana("POST", f"{path}/messages", {"body": "x"}), 400, "invalid")
    refused(await ana("GET", f"{path}/events"), 400, "invalid")
    refused(await ana("PUT", f"{path}/read", {"seq": 0}), 400, "invalid")
    refused(await ana("POST", f"{path}/typing"), 400, "invalid")
    refused(await world.host("PUT", path, {"members": []}), 400, "invalid")


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonx", "multipart/form-data", ""])
async def test_a_body_that_is_declared_not_to_be_json_is_refused(order: World, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = await order.user("ana")("POST", f"{ORDER}/messages", content=b'{"body":"x"}', headers=headers)
    refused(answer, 415, "invalid")


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "Application/JSON; charset=utf-8", "application/x-www-form-urlencoded"],
)
async def test_a_body_is_json_without_saying_so(order: World, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await order.user("ana")("POST", f"{ORDER}/messages", content=b'{"body":"x"}', headers=headers)
    assert answer.status_code == 201


async def test_a_body_over_the_limit_is_refused_before_it_is_read(order: World) -> None:
    async def receive() -> Message:
        raise AssertionError("the body was read")

    headers = [(b"content-length", b"4001"), (b"authorization", f"Bearer {order.token('ana')}".encode())]
    assert await answer_status(order.app, "POST", f"{ORDER}/messages", headers, receive) == 413


async def answer_status(
    app: ASGIApp, method: str, path: str, headers: list[tuple[bytes, bytes]], receive: Receive
) -> int | None:
    """The status of the answer to a bare ASGI request, None if there was no answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return sent[0]["status"] if sent else None


async def test_a_streamed_body_is_refused_as_soon_as_it_is_over_the_limit(order: World) -> None:
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1_000
            yield b" " * 1_000

    answer = await order.user("ana")("POST", f"{ORDER}/messages", content=chunks())
    refused(answer, 413, "too_large")
    assert answer.headers["connection"] == "close"
    assert taken <= 6_000


async def test_a_body_may_come_in_pieces(order: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in (b'{"body":', b'"Ol\xc3', b'\xa1"', b"", b"}"):
            yield piece

    answer = await order.user("ana")("POST", f"{ORDER}/messages", content=chunks())
    assert (answer.status_code, answer.json()["body"]) == (201, "Olá")


async def test_a_client_that_leaves_while_it_sends_gets_no_answer_and_stores_nothing(order: World) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"body":', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    headers = [(b"authorization", f"Bearer {order.token('ana')}".encode())]
    assert await answer_status(order.app, "POST", f"{ORDER}/messages", headers, receive) is None
    assert (await order.host("GET", ORDER)).json()["last_seq"] == 0


async def test_an_unexpected_failure_is_a_500_that_tells_nothing_and_the_server_goes_on(
    order: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_store: object, message: object) -> None:
        raise KeyError(message)

    with monkeypatch.context() as patch:
        patch.setattr(type(order.chat.store), "append_message", broken)
        answer = await order.user("ana")("POST", f"{ORDER}/messages", {"body": "a private word"})
    refused(answer, 500, "internal")
    logged = capsys.readouterr()
    assert "KeyError" in logged.out + logged.err
    for secret in ("a private word", order.token("ana"), API_KEY):
        assert secret not in answer.text + logged.out + logged.err
    assert (await order.user("ana")("POST", f"{ORDER}/messages", {"body": "again"})).status_code == 201


async def test_a_store_that_is_away_is_unavailable_and_not_ready(order: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_store: object, *_: object) -> None:
        raise Unavailable("the store is away")

    monkeypatch.setattr(type(order.chat.store), "append_message", away)
    monkeypatch.setattr(type(order.chat.store), "ping", away)
    refused(await order.user("ana")("POST", f"{ORDER}/messages", {"body": "x"}), 503, "unavailable")
    refused(await order.nobody("GET", "/readyz"), 503, "unavailable")
    assert (await order.nobody("GET", "/healthz")).status_code == 200


async def test_a_caller_that_is_too_fast_learns_when_to_come_back(
    order: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_fast(_store: object, _message: object) -> None:
        raise RateLimited("too many messages", 7)

    monkeypatch.setattr(type(order.chat.store), "append_message", too_fast)
    answer = await order.user("ana")("POST", f"{ORDER}/messages", {"body": "x"})
    refused(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == "7"


async def test_the_server_says_that_it_is_alive_and_ready(world: World) -> None:
    assert (await world.nobody("GET", "/healthz")).json() == {"status": "ok"}
    assert (await world.nobody("GET", "/readyz")).json() == {"status": "ready"}
    assert (await world.nobody("HEAD", "/readyz")).status_code == 200


def from_here(world: World, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(world.app, client=("127.0.0.1", 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers)


async def test_metrics_count_requests_by_route_and_hold_no_id_and_no_token(order: World) -> None:
    labels = {"route": "/v1/conversations/{conversation}/messages", "method": "POST", "status": "201"}
    before = REGISTRY.get_sample_value("recado_http_requests_total", labels) or 0
    await order.user("ana")("POST", f"{ORDER}/messages", {"body": "x"})
    await order.user("carla")("GET", f"{ORDER}/events")
    await order.host("GET", "/a/path/of/someones/choice")
    assert REGISTRY.get_sample_value("recado_http_requests_total", labels) == before + 1
    text = (await from_here(order).get("/metrics")).text
    assert 'recado_http_refusals_total{code="not_found"}' in text
    for private in ("order-4711", "someones", "carla", API_KEY, order.token("ana")):
        assert private not in text


async def test_metrics_are_for_this_machine_and_for_the_host(world: World) -> None:
    refused(await world.nobody("GET", "/metrics"), 401, "unauthenticated")
    refused(await world.user("ana")("GET", "/metrics"), 403, "forbidden")
    assert (await world.host("GET", "/metrics")).headers["content-type"].startswith("text/plain")
    assert (await from_here(world).get("/metrics")).status_code == 200


async def test_metrics_are_not_shown_to_the_world_through_a_proxy_on_this_machine(world: World) -> None:
    for header in (
        *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP"),
        *("CF-Connecting-IP", "True-Client-IP", "Origin"),
    ):
        forwarded = from_here(world, **{header: "198.51.100.9"})
        refused(await forwarded.get("/metrics"), 401, "unauthenticated")
    behind = world.with_settings(public_url="https://chat.example")
    refused(await from_here(behind).get("/metrics"), 401, "unauthenticated")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "198.51.100.9:8000", "[2001:db8::1]:80", "x@["]
)
async def test_metrics_are_not_shown_to_a_page_whose_name_was_given_this_machines_address(
    world: World, host: str
) -> None:
    refused(await from_here(world, Host=host).get("/metrics"), 401, "unauthenticated")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.2:9884", "[::1]", "[::1]:8000"])
async def test_metrics_are_shown_to_whoever_asks_this_machine_by_its_own_names(world: World, host: str) -> None:
    assert (await from_here(world, Host=host).get("/metrics")).status_code == 200


async def test_pages_of_allowed_origins_may_call(world: World) -> None:
    door = world.with_settings(allowed_origins=("https://shop.example",))
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "PUT"}
    preflight = await door.nobody("OPTIONS", ORDER, headers=asked | {"Access-Control-Request-Headers": "authorization"})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-credentials" not in preflight.headers
    answer = await door.nobody("GET", ORDER, headers=asked)
    assert refused(answer, 401, "unauthenticated")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


async def test_pages_of_other_origins_may_not_call(world: World) -> None:
    for door in (world, world.with_settings(allowed_origins=("https://shop.example",))):
        for origin in ("https://evil.example", "https://shop.example.evil.example", "null"):
            answer = await door.nobody("GET", "/healthz", headers={"Origin": origin})
            assert "access-control-allow-origin" not in answer.headers


async def test_further_routes_are_served_and_their_refusals_look_alike(world: World) -> None:
    async def demo(request: Request) -> Response:
        match request.query_params.get("case"):
            case "chat":
                raise NotFound("no such code")
            case "http":
                raise HTTPException(403, "no")
            case "bug":
                raise RuntimeError("secret")
        return JSONResponse({"demo": True})

    routes = [Route("/demo", demo, methods=["POST"])]
    app = create_app(world.chat, world.feed, world.access, SETTINGS, extra_routes=routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://chat.test") as client:
        assert (await client.post("/demo")).json() == {"demo": True}
        refused(await client.post("/demo?case=chat"), 404, "not_found")
        refused(await client.post("/demo?case=http"), 403, "forbidden")
        refused(await client.get("/demo"), 405, "invalid")
        assert "secret" not in refused(await client.post("/demo?case=bug"), 500, "internal")
        assert (await client.get("/healthz", headers=bearer("x"))).status_code == 200


async def test_many_callers_at_once_each_get_their_own_answer(order: World) -> None:
    ana, bruno = order.user("ana"), order.user("bruno")
    calls = [
        caller("POST", f"{ORDER}/messages", {"id": f"m{number}", "body": f"{name} {number}"})
        for number in range(25)
        for name, caller in (("ana", ana), ("bruno", bruno))
    ]
    answers = [answer.json() for answer in await asyncio.gather(*calls)]
    assert sorted(answer["seq"] for answer in answers) == list(range(1, 51))
    assert all(answer["body"].split() == [answer["from"], answer["id"][1:]] for answer in answers)
