"""What ends a reader, and what is refused to it: with the documented code, and nothing is lost by it."""

from __future__ import annotations

import time

import pytest

from tests.contracts.transports import WITH_A_CURSOR
from tests.contracts.transports.contract import Refused
from tests.contracts.transports.stage import Stage, events, next_event

LATE_S_MAX = 2
"""On a busy machine; the server's own timers are late by half a second at most."""


def test_an_expired_token_ends_it_at_that_moment_and_a_new_one_goes_on(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    expires_at = int(time.time()) + 2
    by_name, of_all = (stage.reader(transport, bruno, expires_at - time.time() + 0.5) for _ in range(2))
    by_name.follow(conversation)
    of_all.follow_all()
    stage.say(conversation, ana, "1")
    for reader in (by_name, of_all):
        assert next_event(reader)["body"] == "1"
    for reader in (by_name, of_all):
        with pytest.raises(Refused, match="unauthenticated"):
            reader.next()
        assert expires_at <= time.time() < expires_at + LATE_S_MAX
        with pytest.raises(Refused, match="unauthenticated"):
            reader.resume()
        reader.drop()
    stage.say(conversation, ana, "2")
    for reader in (by_name, of_all):
        reader.token = stage.server.token(bruno)
        reader.resume()
        assert next_event(reader)["body"] == "2"


def test_the_end_of_a_users_sessions_ends_its_readers_and_nobody_elses(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following_all(transport, bruno)
    other = stage.following_all(transport, ana)
    stage.say(conversation, ana, "1")
    assert next_event(reader)["body"] == "1"
    stage.server.host_api.call("DELETE", f"/users/{bruno}/sessions").expect(204)
    with pytest.raises(Refused, match="forbidden"):
        reader.next()
    stage.say(conversation, ana, "2")
    assert [event["body"] for event in events(other, 2)] == ["1", "2"]


@pytest.mark.parametrize("transport", WITH_A_CURSOR)
@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "\u0661", "9007199254740991", "10000000000000000"])
def test_a_cursor_that_no_answer_had_is_refused(stage: Stage, transport: str, cursor: str) -> None:
    (bruno,) = stage.users("bruno")
    with pytest.raises(Refused, match="invalid"):
        stage.following_all(transport, bruno, cursor)


@pytest.mark.parametrize("wait", ["61", "-1", "1.5", "", "x"])
def test_a_wait_out_of_range_is_refused_with_the_range(stage: Stage, wait: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    bruno_api = stage.server.api(bruno)
    for answer in (
        bruno_api.call("GET", f"/conversations/{conversation}/events", after=0, wait=wait),
        bruno_api.call("GET", "/events", cursor=0, wait=wait),
    ):
        assert (answer.status, answer.body["error"]["code"]) == (400, "invalid")
        assert "wait" in answer.body["error"]["message"]
