"""GET /v1/session: how a client learns where to connect."""

import pytest

from tests.http.conftest import Caller, World, bearer, refused


async def test_a_user_learns_its_urls_credentials_and_topics(world: World) -> None:
    token, expires_at = world.access.mint("ana", 3_600)
    answer = await Caller(world.app, bearer(token))("GET", "/v1/session")
    assert answer.status_code == 200
    assert answer.json() == {
        "user": "ana",
        "expires_at": expires_at,
        "http_url": "http://chat.test:8000",
        "mqtt": {
            "ws_url": "ws://chat.test:8083/mqtt",
            "tcp_url": "mqtt://chat.test:1883",
            "username": "ana",
            "password": token,
            "topics": {
                "subscribe": ["c/+", "c/+/live"],
                "events": "c/{conversation}",
                "live": "c/{conversation}/live",
                "send": "c/{conversation}",
            },
        },
    }


@pytest.mark.parametrize(
    ("public_url", "http_url", "ws_url", "tcp_url"),
    [
        ("https://chat.example", "https://chat.example", "wss://chat.example/mqtt", "mqtt://chat.example:1883"),
        (
            "https://shop.example:8443/chat/",
            "https://shop.example:8443/chat",
            "wss://shop.example:8443/chat/mqtt",
            "mqtt://shop.example:1883",
        ),
        ("http://[::1]:80", "http://[::1]:80", "ws://[::1]:80/mqtt", "mqtt://[::1]:1883"),
    ],
)
async def test_a_public_url_decides_where_clients_connect(
    world: World, public_url: str, http_url: str, ws_url: str, tcp_url: str
) -> None:
    door = world.with_settings(public_url=public_url)
    session = (await door.user("ana")("GET", "/v1/session", headers={"Host": "elsewhere.example"})).json()
    assert (session["http_url"], session["mqtt"]["ws_url"], session["mqtt"]["tcp_url"]) == (http_url, ws_url, tcp_url)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "[::1]:8000", "localhost", "chat-1.example"])
async def test_without_a_public_url_the_address_is_the_one_the_client_used(world: World, host: str) -> None:
    session = (await world.user("ana")("GET", "/v1/session", headers={"Host": host})).json()
    assert session["http_url"] == f"http://{host}"
    name = host.removesuffix(":8000")
    assert session["mqtt"]["ws_url"] == f"ws://{name}:8083/mqtt"


@pytest.mark.parametrize(
    "host", ["", "evil.example/path", "user@evil.example", "a b", "a:b:c", "a:99999999", "[::1", "a?b", 'a"b', "a\\b"]
)
async def test_a_host_header_cannot_put_anything_else_into_the_urls(world: World, host: str) -> None:
    refused(await world.user("ana")("GET", "/v1/session", headers={"Host": host}), 400, "invalid")


async def test_a_listener_that_is_off_has_no_url(world: World) -> None:
    door = world.with_settings(mqtt_port=None, ws_port=None)
    session = (await door.user("ana")("GET", "/v1/session")).json()
    assert (session["mqtt"]["ws_url"], session["mqtt"]["tcp_url"]) == (None, None)


async def test_a_session_is_a_users_and_not_the_hosts(world: World) -> None:
    refused(await world.host("GET", "/v1/session"), 403, "forbidden")
    refused(await world.host_as("ana")("GET", "/v1/session"), 403, "forbidden")
    refused(await world.nobody("GET", "/v1/session"), 401, "unauthenticated")
