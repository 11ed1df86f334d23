"""Bad input on every door: the documented code, nothing stored, nothing delivered, and the server goes on.

That nothing was delivered is shown by what comes next: the following good message is the first thing that arrives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import jwt
import pytest

from tests.support.connection import Login, Transport, next_event
from tests.support.paho_python import PahoPython
from tests.support.server import SECRET, Server

LIMIT = 16 * 1024
MALFORMED, TOO_LARGE, NOT_ALLOWED = 0x99, 0x97, 0x87


@dataclass(frozen=True)
class Bad:
    what: str
    text: str
    status: int
    code: str
    reason: int
    conversation: str | None = None

    def __str__(self) -> str:
        return self.what.replace(" ", "-")


def message(body: object, message_id: str = "m1") -> str:
    return json.dumps({"id": message_id, "body": body})


BAD = [
    Bad("malformed JSON", '{"id": "m1", "body": ', 400, "invalid", MALFORMED),
    Bad("a body one byte over the limit", message("x" * (LIMIT + 1)), 413, "too_large", TOO_LARGE),
    Bad("a body over the limit in UTF-8 only", message("ç" * (LIMIT // 2 + 1)), 413, "too_large", TOO_LARGE),
    Bad("an empty body", message(""), 400, "invalid", MALFORMED),
    Bad("a blank body", message(" \n"), 400, "invalid", MALFORMED),
    Bad("a body that is no text", message(7), 400, "invalid", MALFORMED),
    Bad("no body", '{"id": "m1"}', 400, "invalid", MALFORMED),
    Bad("a bad message id", message("hello", "not/an id"), 400, "invalid", MALFORMED),
    Bad("an unknown conversation", message("hello"), 404, "not_found", NOT_ALLOWED, "no-such-one"),
    Bad("somebody else's conversation", message("hello"), 404, "not_found", NOT_ALLOWED, "of-others"),
]


@pytest.fixture(scope="module")
def of_others(shared_server: Server) -> None:
    shared_server.host_api.create_conversation(["carla"], "of-others")


@pytest.fixture
def conversation(shared_server: Server, of_others: None) -> str:
    return shared_server.host_api.create_conversation(["ana", "bruno"])


@pytest.fixture
def bruno(shared_server: Server, conversation: str) -> Iterator[PahoPython]:
    login = Login(shared_server.mqtt_port, shared_server.ws_url, "bruno", shared_server.token("bruno"))
    with closing(PahoPython(login)) as connection:
        assert connection.connect() == 0
        assert connection.subscribe(f"c/{conversation}") == 1
        yield connection


def post(server: Server, conversation: str, text: str, token: str) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    with closing(connection):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", f"/v1/conversations/{conversation}/messages", text.encode(), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def expect_nothing_but(bruno: PahoPython, server: Server, conversation: str) -> None:
    """The next message is the first event of the log, and the first that arrives."""
    sent = server.api("ana").send(conversation, "still here")
    assert sent["seq"] == 1
    assert next_event(bruno) == sent
    assert server.host_api.history(conversation) == [sent]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_http_refuses_what_is_wrong_and_goes_on(
    bad: Bad, shared_server: Server, conversation: str, bruno: PahoPython
) -> None:
    status, body = post(shared_server, bad.conversation or conversation, bad.text, shared_server.token("ana"))
    assert (status, body["error"]["code"]) == (bad.status, bad.code)
    assert body["error"]["message"]
    expect_nothing_but(bruno, shared_server, conversation)


@pytest.mark.parametrize("transport", ["tcp", "websocket"])
@pytest.mark.parametrize("bad", BAD, ids=str)
def test_mqtt_refuses_what_is_wrong_and_goes_on(
    bad: Bad, transport: Transport, shared_server: Server, conversation: str, bruno: PahoPython
) -> None:
    login = Login(shared_server.mqtt_port, shared_server.ws_url, "ana", shared_server.token("ana"))
    with closing(PahoPython(login, "5", transport)) as ana:
        assert ana.connect() == 0
        assert ana.publish(f"c/{bad.conversation or conversation}", bad.text) == bad.reason
        assert ana.disconnected.empty()
    expect_nothing_but(bruno, shared_server, conversation)


BAD_TOKENS = {
    "expired": jwt.encode({"sub": "ana", "exp": 1_000_000_000}, SECRET, algorithm="HS256"),
    "forged": jwt.encode({"sub": "ana", "exp": 4_000_000_000}, "x" * 40, algorithm="HS256"),
    "alg-none": jwt.encode({"sub": "ana", "exp": 4_000_000_000}, "", algorithm="none"),
    "no-token": "not-a-token",
}


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_a_token_that_is_not_good_opens_no_door(
    token: str, shared_server: Server, conversation: str, bruno: PahoPython
) -> None:
    status, body = post(shared_server, conversation, message("hello"), token)
    assert (status, body["error"]["code"]) == (401, "unauthenticated")
    with ExitStack() as stack:
        transports: tuple[Transport, ...] = ("tcp", "websocket")
        for transport in transports:
            login = Login(shared_server.mqtt_port, shared_server.ws_url, "ana", token)
            assert stack.enter_context(closing(PahoPython(login, "5", transport))).connect() == 0x86
    expect_nothing_but(bruno, shared_server, conversation)
