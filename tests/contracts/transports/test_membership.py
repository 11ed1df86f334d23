"""Membership is the routing: what a removed member, a new one and a stranger get, and that nobody is disconnected.

That nothing came is shown by what comes next: a marker, which is a message of another conversation of the reader's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.contracts.transports import TRANSPORTS
from tests.contracts.transports.contract import Reader, Refused
from tests.contracts.transports.stage import Stage, before_a_marker, events, next_event, seqs

WAITING = 400
"""Of 16 kB each: more than the buffers of the server and the kernel hold on their way to a reader."""


def until_removed(reader: Reader) -> list[int]:
    """The seqs up to the removal; up to a refusal for who polls one conversation, and was not held at that moment."""
    came = [next_event(reader)]
    with suppress(Refused):
        while came[-1].get("type") != "member_removed":
            came.append(next_event(reader))
    return seqs(came)


def refusal(reader: Reader, conversation: str, after: int | None) -> str:
    with pytest.raises(Refused) as refused:
        reader.follow(conversation, after)
    return refused.value.code


def test_the_removal_is_the_last_that_the_removed_one_gets(stage: Stage, transport: str) -> None:
    ana, bruno, carla = stage.users("ana", "bruno", "carla")
    conversation = stage.conversation(ana, bruno, carla)
    by_name = stage.following(transport, bruno, conversation)
    of_all = stage.following_all(transport, bruno)
    another = stage.following_all(transport, carla)
    with stage.talking(transport, conversation, ana) as talk:
        talk.wait_for(10)
        stage.server.host_api.remove_member(conversation, bruno)
        talk.wait_for(10)
    stage.server.api(ana).call("POST", f"/conversations/{conversation}/typing").expect(204)
    log = stage.log(conversation)
    (removal,) = [event["seq"] for event in log if event.get("type") == "member_removed"]
    for reader in (by_name, of_all):
        came = [seq for seq in until_removed(reader) if seq != removal]
        assert came == list(range(1, len(came) + 1)), "of what was said just before, the first part may be all"
        assert len(came) < removal
    assert before_a_marker(stage, of_all, bruno, ana) == [], "and it is still connected"
    assert by_name.rest() == []
    assert events(another, len(log)) == log, "for the others all goes on"


def test_a_removed_member_gets_nothing_by_resuming_and_nothing_from_the_history(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    by_name = stage.following(transport, bruno, conversation)
    of_all = stage.following_all(transport, bruno)
    stage.say(conversation, ana, "1", "2")
    for reader in (by_name, of_all):
        assert seqs(events(reader, 2)) == [1, 2]
        reader.drop()
    stage.say(conversation, ana, "missed")
    stage.server.host_api.remove_member(conversation, bruno)
    stage.say(conversation, ana, "secret")
    with pytest.raises(Refused, match="not_found"):
        by_name.resume()
    of_all.resume()
    came = [
        each.content["seq"] for each in before_a_marker(stage, of_all, bruno, ana) if each.conversation == conversation
    ]
    removal = [4] if TRANSPORTS[transport].has_cursor else []
    assert came == removal, "and not what was missed before it"
    for after in (None, 0, 2):
        assert refusal(stage.reader(transport, bruno), conversation, after) == "not_found"
    assert stage.server.api(bruno).call("GET", f"/conversations/{conversation}/events").status == 404


def test_who_has_caught_up_gets_the_removal(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following_all(transport, bruno)
    stage.say(conversation, ana, "1")
    assert next_event(reader)["body"] == "1"
    stage.server.host_api.remove_member(conversation, bruno)
    stage.say(conversation, ana, "secret")
    removal = next_event(reader)
    assert (removal["seq"], removal["type"], removal["user"]) == (2, "member_removed", bruno)
    assert before_a_marker(stage, reader, bruno, ana) == []


def test_what_waited_for_a_removed_member_who_did_not_read_is_gone(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    readers = [stage.following(transport, bruno, conversation), stage.following_all(transport, bruno)]
    stage.say(conversation, ana, *["x" * 16_000] * WAITING)
    stage.server.host_api.remove_member(conversation, bruno)
    stage.say(conversation, ana, "secret")
    for reader in readers:
        came = [seq for seq in until_removed(reader) if seq != WAITING + 1]
        assert came == list(range(1, len(came) + 1))
        assert len(came) < WAITING, "what was not on its way yet"
    assert before_a_marker(stage, readers[1], bruno, ana) == []
    assert readers[0].rest() == []


def test_who_is_added_gets_everything_from_the_addition_on_and_may_read_all_before_it(
    stage: Stage, transport: str
) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana)
    reader = stage.following_all(transport, bruno)
    stage.say(conversation, ana, "before")
    assert refusal(stage.reader(transport, bruno), conversation, None) == "not_found"
    stage.server.host_api.add_member(conversation, bruno)
    stage.say(conversation, ana, "after")
    log = stage.log(conversation)
    assert [event.get("type") for event in log] == [None, "member_added", None]
    assert events(reader, 2) == log[1:]
    assert events(stage.following(transport, bruno, conversation, 0), 3) == log


def test_who_is_added_again_starts_at_the_new_membership(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following_all(transport, bruno)
    stage.say(conversation, ana, "1")
    came = events(reader, 1)
    for _ in range(2):
        stage.server.host_api.remove_member(conversation, bruno)
        came += events(reader, 1)
        stage.say(conversation, ana, "not for bruno")
        stage.server.host_api.add_member(conversation, bruno)
        stage.say(conversation, ana, "for bruno again")
        came += events(reader, 2)
    assert seqs(came) == [1, 2, 4, 5, 6, 8, 9]
    assert came == [each for each in stage.log(conversation) if each.get("body") != "not for bruno"]


def test_membership_that_changes_while_others_send_is_followed_to_the_event(
    either_stage: Stage, transport: str
) -> None:
    stage = either_stage
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following_all(transport, bruno)

    def read_all() -> list[int]:
        came = [next_event(reader)]
        while came[-1].get("body") != "the end":
            came.append(next_event(reader))
        return seqs(came)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_all)
        with stage.talking(transport, conversation, ana) as talk:
            for _ in range(10):
                talk.wait_for(3)
                stage.server.host_api.remove_member(conversation, bruno)
                talk.wait_for(1)
                stage.server.host_api.add_member(conversation, bruno)
        stage.say(conversation, ana, "the end")
        came = reading.result()
    log = stage.log(conversation)
    ends = [event["seq"] for event in log if event.get("type") == "member_removed"]
    begins = [1, *(event["seq"] for event in log if event.get("type") == "member_added")]
    expected: list[int] = []
    for begin, end in zip(begins, ends, strict=False):
        seen = [seq for seq in came if begin <= seq < end]
        expected += range(begin, begin + len(seen))  # of what was said just before the end, the first part may be all
        expected += [end] if end in came else []
    assert came == [*expected, *range(begins[-1], len(log) + 1)]


def test_an_erased_conversation_says_so_last_and_is_unknown_then(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following_all(transport, bruno)
    stage.say(conversation, ana, "1")
    assert next_event(reader)["seq"] == 1
    stage.server.host_api.call("DELETE", f"/conversations/{conversation}").expect(204)
    assert next_event(reader)["type"] == "conversation_erased"
    assert before_a_marker(stage, reader, bruno, ana) == []
    for after in (None, 0):
        assert refusal(stage.reader(transport, bruno), conversation, after) == "not_found"


def test_a_stranger_gets_nothing_and_can_send_nothing(stage: Stage, transport: str) -> None:
    ana, bruno, stranger = stage.users("ana", "bruno", "stranger")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following_all(transport, stranger)
    member = stage.following_all(transport, bruno)
    stage.say(conversation, ana, "for bruno", "and for him alone")
    with pytest.raises(Refused, match="not_found"):
        stage.sender(transport, stranger).send(conversation, "hello", "m1")
    for name in (conversation, "there-is-none"):
        for after in (None, 0, 1):
            assert refusal(stage.reader(transport, stranger), name, after) == "not_found"
    assert seqs(events(member, 2)) == [1, 2]
    assert before_a_marker(stage, reader, stranger) == []
    assert len(stage.log(conversation)) == 2
