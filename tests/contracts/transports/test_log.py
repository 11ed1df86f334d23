"""A conversation is a log on every transport: in order, no gap and no double, whenever and wherever one reads on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pytest

from tests.contracts.transports import EVERY, WITH_A_CURSOR
from tests.contracts.transports.stage import FOLLOWS, Stage, events, next_event, seqs, up_to


def test_who_sends_at_the_same_time_is_seen_in_the_order_of_the_log(stage: Stage, transport: str) -> None:
    senders, each = stage.users("ana", "carla", "dora", "eva"), 20
    (bruno,) = stage.users("bruno")
    conversation = stage.conversation(bruno, *senders)
    by_name = stage.following(transport, bruno, conversation)
    of_all = stage.following_all(transport, bruno)

    def send(user: str) -> None:
        sender = stage.sender(transport, user)
        for number in range(each):
            sender.send(conversation, f"{number}", f"m{number}")

    with ThreadPoolExecutor(len(senders)) as pool:
        list(pool.map(send, senders))
    log = stage.log(conversation)
    assert seqs(log) == list(range(1, len(senders) * each + 1))
    assert events(by_name, len(log)) == log
    assert events(of_all, len(log)) == log
    for user in senders:
        assert [event["body"] for event in log if event["from"] == user] == [f"{number}" for number in range(each)]


def test_from_replay_to_live_there_is_no_gap_and_no_double_while_others_send(
    either_stage: Stage, transport: str
) -> None:
    stage = either_stage
    ana, bruno = stage.users("ana", "bruno")
    for after in (0, 1, 2, 5, 10, 20, 40, 60):
        conversation = stage.conversation(ana, bruno)  # a new one: the server knows nothing of its log
        with stage.talking(transport, conversation, ana) as talk:
            talk.wait_for(after + 2)
            readers = [stage.following(transport, bruno, conversation, after)]
            talk.wait_for(2)
            readers.append(stage.following(transport, bruno, conversation, after))
            talk.wait_for(2)
        last_seq = stage.log(conversation)[-1]["seq"]
        for reader in readers:
            assert up_to(reader, last_seq) == list(range(after + 1, last_seq + 1))


def test_everything_comes_from_now_on_with_no_gap_while_others_send(either_stage: Stage, transport: str) -> None:
    stage = either_stage
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    readers = []
    with stage.talking(transport, conversation, ana) as talk:
        for _ in range(4):
            talk.wait_for(10)
            readers.append(stage.following_all(transport, bruno))
        talk.wait_for(10)
    last_seq = stage.log(conversation)[-1]["seq"]
    for reader in readers:
        came = up_to(reader, last_seq)
        assert came == list(range(came[0], last_seq + 1))


@pytest.mark.parametrize("transport", WITH_A_CURSOR)
def test_everything_past_a_cursor_comes_once_while_others_send(either_stage: Stage, transport: str) -> None:
    stage = either_stage
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    cursor = stage.server.api(bruno).call("GET", "/events").body["cursor"]
    readers = []
    with stage.talking(transport, conversation, ana) as talk:
        for _ in range(10):
            talk.wait_for(8)
            readers.append(stage.following_all(transport, bruno, cursor))
        talk.wait_for(8)
    last_seq = stage.log(conversation)[-1]["seq"]
    for reader in readers:
        assert up_to(reader, last_seq) == list(range(1, last_seq + 1))


@pytest.mark.parametrize("follows", FOLLOWS)
def test_who_loses_the_connection_again_and_again_misses_nothing(
    either_stage: Stage, transport: str, follows: str
) -> None:
    stage = either_stage
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following_either(follows, transport, bruno, conversation)
    came: list[int] = []
    with stage.talking(transport, conversation, ana) as talk:
        for count in (1, 10, 3, 25, 7, 2, 15, 4, 1, 12, 5, 8):
            came += seqs(events(reader, count))
            talk.wait_for(3)  # some that are on their way when the connection is lost
            reader.drop()
            talk.wait_for(3)
            reader.resume()
    last_seq = stage.log(conversation)[-1]["seq"]
    came += up_to(reader, last_seq)
    assert came == list(range(1, last_seq + 1))


def test_a_killed_server_goes_on_where_each_reader_was(stage_of_the_killed: Stage, transport: str) -> None:
    stage = stage_of_the_killed
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    by_name = stage.following(transport, bruno, conversation)
    of_all = stage.following_all(transport, bruno)
    for number in range(10):
        stage.sender(transport, ana).send(conversation, f"{number}", f"m{number}")
    came = [seqs(events(by_name, 4)), seqs(events(of_all, 4))]
    stage.server.kill()
    for reader in (by_name, of_all):
        reader.drop()
    stage.server.start()
    stage.sender(transport, ana).send(conversation, "9", "m9")
    stage.say(conversation, ana, "after the restart")
    for reader, before in zip((by_name, of_all), came, strict=True):
        reader.resume()
        assert before + up_to(reader, 11) == list(range(1, 12))
    assert [event["body"] for event in stage.log(conversation)] == [*map(str, range(10)), "after the restart"]


@pytest.mark.parametrize(("first", "then"), list(permutations(EVERY, 2)))
def test_a_reader_may_go_on_over_another_transport(stage: Stage, first: str, then: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    one = stage.following(first, bruno, conversation)
    stage.say(conversation, ana, "1", "2", "3", "4")
    came = events(one, 2)
    one.drop()
    other = stage.following(then, bruno, conversation, came[-1]["seq"])
    stage.say(conversation, ana, "5")
    came += events(other, 3)
    assert came == stage.log(conversation)


@pytest.mark.parametrize(("first", "then"), list(permutations(WITH_A_CURSOR, 2)))
def test_a_cursor_is_good_for_every_transport_that_has_one(stage: Stage, first: str, then: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    one, two = (stage.conversation(ana, bruno) for _ in range(2))
    cursor = stage.server.api(bruno).call("GET", "/events").body["cursor"]
    for number in range(3):
        stage.say(one, ana, f"one {number}")
        stage.say(two, ana, f"two {number}")
    said = [f"{which} {number}" for number in range(3) for which in ("one", "two")]
    reader = stage.following_all(first, bruno, cursor)
    assert [event["body"] for event in events(reader, 6)] == said
    assert [event["body"] for event in events(stage.following_all(then, bruno, cursor), 6)] == said


def test_a_seq_past_the_end_goes_on_with_what_comes(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    stage.say(conversation, ana, "1")
    reader = stage.following(transport, bruno, conversation, 1_000)
    stage.say(conversation, ana, "2")
    assert next_event(reader)["seq"] == 2


def test_edits_and_deletions_are_events(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following(transport, bruno, conversation)
    stage.say(conversation, ana, "Chegou!", "to be forgotten")
    messages = f"/conversations/{conversation}/messages"
    edited = stage.server.api(ana).call("PATCH", f"{messages}/1", {"body": "Chegou ontem!"}).expect(200)
    deleted = stage.server.api(ana).call("DELETE", f"{messages}/2").expect(200)
    assert (edited["type"], edited["target"], edited["body"]) == ("edited", 1, "Chegou ontem!")
    assert (deleted["type"], deleted["target"]) == ("deleted", 2)
    assert events(reader, 4)[2:] == [edited, deleted]
    late = stage.following(transport, bruno, conversation, 0)
    came = events(late, 4)
    assert came == stage.log(conversation)
    assert came[0]["body"] == "Chegou ontem!"
    assert "body" not in came[1]
