"""Sending twice is sending once: over one transport, over two, from two tabs at once, and for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from threading import Barrier

import pytest

from tests.contracts.transports import SENDING, TRANSPORTS
from tests.contracts.transports.stage import Stage, events, next_event


def told(transport: str, seq: int) -> int | None:
    """What a sender of that transport is told of the message with that seq."""
    return seq if TRANSPORTS[transport].tells_seqs else None


def test_the_same_id_twice_is_one_message_and_acknowledged_twice(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following(transport, bruno, conversation)
    sender = stage.sender(transport, ana)
    first = sender.send(conversation, "Chegou!", "k3x9")
    again = sender.send(conversation, "Chegou de novo!", "k3x9")
    assert first == again == told(transport, 1)
    stage.sender(transport, bruno).send(conversation, "an id is its sender's", "k3x9")
    log = stage.log(conversation)
    assert [event["body"] for event in log] == ["Chegou!", "an id is its sender's"]
    assert events(reader, 2) == log


@pytest.mark.parametrize(("first", "then"), list(permutations(SENDING, 2)))
def test_the_same_id_over_two_transports_is_one_message(stage: Stage, first: str, then: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    one = stage.sender(first, ana).send(conversation, "Chegou!", "k3x9")
    other = stage.sender(then, ana).send(conversation, "Chegou!", "k3x9")
    assert (one, other) == (told(first, 1), told(then, 1))
    assert [event["id"] for event in stage.log(conversation)] == ["k3x9"]


def test_two_tabs_that_send_the_same_at_once_make_one_message(stage: Stage, transport: str) -> None:
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    reader = stage.following(transport, bruno, conversation)
    count, ready = 20, Barrier(2)

    def send_all(tab: str) -> list[int | None]:
        sender = stage.sender(transport, ana)
        answers = []
        for number in range(count):
            ready.wait(20)
            answers.append(sender.send(conversation, f"{tab} {number}", f"m{number}"))
        return answers

    with ThreadPoolExecutor(2) as tabs:
        left, right = tabs.map(send_all, ("left", "right"))
    assert left == right == [told(transport, number + 1) for number in range(count)], "both were told the same"
    log = stage.log(conversation)
    assert [event["id"] for event in log] == [f"m{number}" for number in range(count)]
    assert events(reader, count) == log


def test_an_id_is_remembered_by_a_server_that_was_killed(stage_of_the_killed: Stage, transport: str) -> None:
    stage = stage_of_the_killed
    ana, bruno = stage.users("ana", "bruno")
    conversation = stage.conversation(ana, bruno)
    first = stage.sender(transport, ana).send(conversation, "Chegou!", "k3x9")
    stage.server.kill()
    stage.server.start()
    again = stage.sender(transport, ana).send(conversation, "Chegou!", "k3x9")
    assert first == again == told(transport, 1)
    assert next_event(stage.following(transport, bruno, conversation, 0)) == stage.log(conversation)[0]
    assert len(stage.log(conversation)) == 1
