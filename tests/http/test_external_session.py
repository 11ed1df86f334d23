"""GET /v1/session and PUT .../delivered where MQTT clients connect to an external broker."""

from dataclasses import dataclass, field

import pytest

from recado.chat.errors import Unavailable
from recado.http import ClientBroker
from tests.http.conftest import Caller, World, bearer, refused


@dataclass
class Logins:
    asked: list[tuple[str, str]] = field(default_factory=list)
    is_away: bool = False

    async def login(self, user: str, token: str) -> tuple[str, str]:
        if self.is_away:
            raise Unavailable("the broker does not answer; try again")
        self.asked.append((user, token))
        return f"u/{user}", "the password there"


async def test_a_user_learns_where_that_broker_is_and_which_topics_are_its_own(world: World) -> None:
    logins = Logins()
    broker = ClientBroker(("wss://mqtt.example/mqtt",), ("mqtts://mqtt.example:8883",), logins)
    door = world.with_settings(public_url="https://chat.example", mqtt_port=None, ws_port=None, broker=broker)
    token, expires_at = world.access.mint("ana", 3_600)
    session = (await Caller(door.app, bearer(token))("GET", "/v1/session")).json()
    assert session == {
        "user": "ana",
        "expires_at": expires_at,
        "http_url": "https://chat.example",
        "mqtt": {
            "ws_url": "wss://mqtt.example/mqtt",
            "tcp_url": "mqtts://mqtt.example:8883",
            "username": "u/ana",
            "password": "the password there",
            "topics": {
                "subscribe": ["u/ana/#"],
                "events": "u/ana/c/{conversation}",
                "live": "u/ana/c/{conversation}/live",
                "send": None,
            },
        },
    }
    assert logins.asked == [("ana", token)]


async def test_a_client_that_comes_again_is_sent_to_the_next_node(world: World) -> None:
    nodes = ("wss://a.example/mqtt", "wss://b.example/mqtt", "wss://c.example/mqtt")
    door = world.with_settings(broker=ClientBroker(nodes, (), Logins()))
    sessions = [(await door.user("ana")("GET", "/v1/session")).json()["mqtt"] for _ in range(4)]
    assert [mqtt["ws_url"] for mqtt in sessions] == [*nodes, nodes[0]]
    assert {mqtt["tcp_url"] for mqtt in sessions} == {None}


async def test_a_broker_that_does_not_answer_is_unavailable(world: World) -> None:
    door = world.with_settings(broker=ClientBroker((), (), Logins(is_away=True)))
    refused(await door.user("ana")("GET", "/v1/session"), 503, "unavailable")


async def test_a_reported_cursor_is_kept_and_told_to_the_sender(order: World) -> None:
    await order.user("ana")("POST", "/v1/conversations/order-4711/messages", json={"body": "Oi!"})
    answer = await order.user("bruno")("PUT", "/v1/conversations/order-4711/delivered", json={"seq": 1})
    assert (answer.status_code, answer.content) == (204, b"")
    await order.chat.receipts.close()
    told = ("order-4711", frozenset({"ana"}), b'{"type":"delivered","from":"bruno","seq":1}')
    assert order.broker.signals == [told]


@pytest.mark.parametrize(
    ("user", "conversation", "body", "status", "code"),
    [
        ("eve", "order-4711", {"seq": 1}, 404, "not_found"),
        ("ana", "unknown", {"seq": 1}, 404, "not_found"),
        ("ana", "order-4711", {"seq": -1}, 400, "invalid"),
        ("ana", "order-4711", {}, 400, "invalid"),
        ("ana", "order-4711", {"seq": 1, "more": 1}, 400, "invalid"),
    ],
)
async def test_a_report_of_what_is_not_ones_own_or_no_seq_is_refused(
    order: World, user: str, conversation: str, body: dict[str, int], status: int, code: str
) -> None:
    answer = await order.user(user)("PUT", f"/v1/conversations/{conversation}/delivered", json=body)
    refused(answer, status, code)
