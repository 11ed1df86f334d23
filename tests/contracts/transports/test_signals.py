"""Signals on the transports that have them: typing, read, delivered and presence, to those they are for alone."""

from __future__ import annotations

import pytest

from tests.contracts.transports import EVERY, WITH_RECEIPTS, WITH_SIGNALS
from tests.contracts.transports.contract import Arrival, JsonObject, Reader
from tests.contracts.transports.stage import FOLLOWS, Stage, before_a_marker, next_event, next_signal

with_signals = pytest.mark.parametrize("transport", WITH_SIGNALS)


def typing(stage: Stage, conversation: str, user: str) -> JsonObject:
    stage.server.api(user).call("POST", f"/conversations/{conversation}/typing").expect(204)
    return {"type": "typing", "from": user, "for_ms": 6_000}


def read(stage: Stage, conversation: str, user: str, seq: int) -> JsonObject:
    stage.server.api(user).call("PUT", f"/conversations/{conversation}/read", {"seq": seq}).expect(200)
    return {"type": "read", "from": user, "seq": seq}


def up_to_typing(reader: Reader) -> list[Arrival]:
    arrivals = [reader.next()]
    while arrivals[-1].content.get("type") != "typing":
        arrivals.append(reader.next())
    return arrivals


@with_signals
@pytest.mark.parametrize("follows", FOLLOWS)
def test_typing_and_read_reach_the_members(stage: Stage, transport: str, follows: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following_either(follows, transport, bruno, conversation)
    assert typing(stage, conversation, ana) == next_signal(reader, "typing")
    stage.say(conversation, bruno, "Chegou!")
    assert next_event(reader)["body"] == "Chegou!"
    assert read(stage, conversation, ana, 1) == next_signal(reader, "read")


@with_signals
def test_presence_tells_who_comes_and_who_goes(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    stage.conversation(ana, bruno)
    reader = stage.following_all(transport, ana)
    other = stage.following_all(transport, bruno)
    assert next_signal(reader, "presence") == {"type": "presence", "from": bruno, "online": True}
    other.drop()
    gone = next_signal(reader, "presence")
    assert (gone["from"], gone["online"]) == (bruno, False)


@pytest.mark.parametrize("transport", WITH_RECEIPTS)
@pytest.mark.parametrize("told", WITH_SIGNALS)
def test_what_one_acknowledges_is_delivered_to_the_sender_and_not_told_to_others(
    stage: Stage, transport: str, told: str
) -> None:
    ana, bruno, carla = stage.users("ana", "bruno", "carla")
    conversation = stage.conversation(ana, bruno, carla)
    sender = stage.following_all(told, ana)
    third = stage.following_all("sse", carla)  # which acknowledges nothing
    reader = stage.following(transport, bruno, conversation)
    stage.say(conversation, ana, "Chegou!")
    assert next_event(reader)["seq"] == 1
    assert next_signal(sender, "delivered") == {"type": "delivered", "from": bruno, "seq": 1}
    typing(stage, conversation, ana)
    assert "delivered" not in {arrival.content.get("type") for arrival in up_to_typing(third)}


def test_no_signal_reaches_a_stranger_or_a_removed_member(stage: Stage, transport: str) -> None:
    ana, bruno, removed, stranger = stage.users("ana", "bruno", "carla", "stranger")
    conversation = stage.conversation(ana, bruno, removed)
    outside = {user: stage.following_all(transport, user) for user in (removed, stranger)}
    stage.server.host_api.remove_member(conversation, removed)
    assert next_event(outside[removed])["type"] == "member_removed"
    sender = stage.following_all("websocket", ana)
    member = stage.following_all("websocket", bruno)
    stage.say(conversation, ana, "Chegou!")
    assert next_event(member)["body"] == "Chegou!"
    next_signal(sender, "delivered")
    read(stage, conversation, bruno, 2)
    typing(stage, conversation, bruno)
    up_to_typing(sender)
    for user, reader in outside.items():
        assert before_a_marker(stage, reader, user) == []


@pytest.mark.parametrize("transport", sorted(set(EVERY) - set(WITH_SIGNALS)))
def test_a_transport_without_signals_brings_the_events(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following_all(transport, bruno)
    typing(stage, conversation, ana)
    stage.say(conversation, ana, "Chegou!")
    assert reader.next().content["body"] == "Chegou!"
