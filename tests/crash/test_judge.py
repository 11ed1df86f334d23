"""The judge finds each kind of fault in a history made by hand, and nothing in one that keeps every promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.crash.history import (
    Connection,
    Conversation,
    Event,
    History,
    Publish,
    Receiver,
    Sight,
    Trespass,
)
from tests.crash.judge import FAULTS, judge

ANA_SAYS = Publish("c1", "ana", "hello", "m1", "http", 1, 1_000, acknowledged=True, answered_ms=1_010, seq=1)
BRUNO_SAYS = Publish("c1", "bruno", "good day", "m2", "mqtt5", 2, 2_000, acknowledged=True, answered_ms=2_010)
ANA_ASKS = Publish("c1", "ana", "coming?", "m3", "mqtt3", 1, 3_000, acknowledged=True, answered_ms=3_010)


def message(seq: int, sender: str, message_id: str, body: str) -> Event:
    return {"seq": seq, "from": sender, "at": seq * 1_000, "id": message_id, "body": body}


def change(seq: int, kind: str, user: str) -> Event:
    return {"seq": seq, "from": None, "at": seq * 1_000, "type": kind, "user": user}


LOG = [message(1, "ana", "m1", "hello"), message(2, "bruno", "m2", "good day"), message(3, "ana", "m3", "coming?")]
CAME_AND_WENT = [
    LOG[0],
    change(2, "member_added", "carla"),
    message(3, "bruno", "m2", "good day"),
    change(4, "member_removed", "carla"),
    message(5, "ana", "m3", "coming?"),
]
CAME_BACK = [*CAME_AND_WENT, change(6, "member_added", "carla"), message(7, "ana", "m4", "again")]
ANA_AGAIN = Publish("c1", "ana", "again", "m4", "http", 1, 7_000)


def sights(log: list[Event], *seqs: int, connection: int = 0, qos: int = 1, late_ms: int = 0) -> list[Sight]:
    return [Sight("c1", seq, log[seq - 1], connection, seq * 1_000 + late_ms, qos) for seq in seqs]


def receiver(user: str, seen: list[Sight], connections: int = 1, **kind: Any) -> Receiver:
    """Its connections begin at 0 ms, 10,000 ms ..., each but the first with its session."""
    opened = [Connection(number * 10_000, number > 0) for number in range(connections)]
    return Receiver(f"{user}-1", user, kind.pop("qos", 1), connections=opened, sights=seen, **kind)


def history(
    log: list[Event],
    *receivers: Receiver,
    publishes: tuple[Publish, ...] = (ANA_SAYS, BRUNO_SAYS, ANA_ASKS),
    removals: tuple[tuple[str, int], ...] = (),
) -> History:
    conversation = Conversation("c1", frozenset({"ana", "bruno"}), log, list(removals))
    return History([conversation], list(publishes), list(receivers))


def faults(what: History) -> dict[str, int]:
    """The kinds of faults that were found, and how many of each."""
    verdict = judge(what)
    found = {kind: verdict.figures[kind] for kind in FAULTS if verdict.figures[kind]}
    assert sum(found.values()) == len(verdict.faults)
    return found


def test_a_history_that_keeps_every_promise_has_no_fault_and_is_counted() -> None:
    everything = sights(LOG, 1, 2, 3)
    kept = receiver("bruno", everything, kept=True)
    verdict = judge(history(LOG, kept, receiver("ana", sights(LOG, 2, 3))))

    assert verdict.faults == []
    assert {name: n for name, n in verdict.figures.items() if n} == {
        "sent": 3,
        "acknowledged": 3,
        "events": 3,
        "delivered": 5,
    }


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_acknowledged_message_that_is_not_in_the_log_is_found(lost: int) -> None:
    log = [replaced_seq(event, at) for at, event in enumerate((e for e in LOG if e["seq"] != lost), 1)]
    says_nothing_of_seq = (replace(ANA_SAYS, seq=None), BRUNO_SAYS, ANA_ASKS)
    assert faults(history(log, publishes=says_nothing_of_seq)) == {"acknowledged_missing": 1}


def replaced_seq(event: Event, seq: int) -> Event:
    return {**event, "seq": seq}


def test_a_message_that_was_never_acknowledged_may_be_lost() -> None:
    assert faults(history(LOG[:2], publishes=(ANA_SAYS, BRUNO_SAYS, replace(ANA_ASKS, acknowledged=False)))) == {}


@pytest.mark.parametrize(
    "again",
    [message(4, "ana", "m3", "coming? (again)"), message(4, "ana", "m9", "coming?")],
    ids=["the same id", "one QoS 2 publish without an id"],
)
def test_a_message_that_is_twice_in_the_log_is_found(again: Event) -> None:
    without_id = replace(ANA_ASKS, id=None)
    edited = Publish("c1", "ana", "coming? (again)", "m3", "http", 1, 4_000)
    assert faults(history([*LOG, again], publishes=(ANA_SAYS, BRUNO_SAYS, without_id, edited))) == {"twice_in_log": 1}


@pytest.mark.parametrize("seqs", [(1, 3, 4), (1, 2, 2), (2, 3, 4)])
def test_a_gap_in_a_log_is_found(seqs: tuple[int, ...]) -> None:
    log = [replaced_seq(event, seq) for event, seq in zip(LOG, seqs, strict=True)]
    assert "log_gaps" in faults(history(log))


def test_a_message_that_nobody_sent_or_that_reads_otherwise_than_it_was_sent_is_found() -> None:
    assert faults(history([*LOG, message(4, "ana", "m4", "never said")])) == {"log_wrong": 1}
    assert faults(history([*LOG[:2], message(3, "bruno", "m3", "coming?")])) == {"log_wrong": 1}


def test_a_message_of_one_who_was_no_member_then_is_found() -> None:
    said_after = replace(ANA_AGAIN, sender="carla")
    log = [*CAME_AND_WENT, message(6, "carla", "m4", "again")]
    assert faults(history(log, publishes=(ANA_SAYS, BRUNO_SAYS, ANA_ASKS, said_after))) == {"log_wrong": 1}


def test_an_answer_that_names_another_seq_than_the_log_is_found() -> None:
    assert faults(history(LOG, publishes=(replace(ANA_SAYS, seq=2), BRUNO_SAYS, ANA_ASKS))) == {"log_wrong": 1}


def test_an_event_that_was_delivered_and_is_not_in_the_log_or_reads_otherwise_there_is_found() -> None:
    other = {**LOG[1], "body": "good night"}
    beyond = message(4, "ana", "m4", "never committed")
    assert faults(history(LOG, receiver("ana", [Sight("c1", 2, other, 0, 2_000, 1)]))) == {"log_wrong": 1}
    assert faults(history(LOG, receiver("ana", [Sight("c1", 4, beyond, 0, 4_000, 1)]))) == {"log_wrong": 1}


@pytest.mark.parametrize("promise", ["kept", "resumes"])
@pytest.mark.parametrize("seen", [(1, 2), (1, 3), (2, 3), ()])
def test_an_event_that_a_kept_or_resuming_receiver_never_got_is_found(promise: str, seen: tuple[int, ...]) -> None:
    reader = receiver("bruno", sights(LOG, *seen), **{promise: True})
    assert faults(history(LOG, reader)) == {"missed": 1}


def test_nothing_is_missed_at_qos_0_or_where_no_one_subscribed() -> None:
    at_qos_0 = receiver("bruno", sights(LOG, 1, 3), kept=True, qos=0)
    elsewhere = receiver("ana", [], kept=True, conversations=frozenset({"c2"}))
    assert faults(history(LOG, at_qos_0, elsewhere)) == {}


def test_a_live_receiver_may_miss_what_came_between_its_connections_and_nothing_within_one() -> None:
    between = receiver("ana", [*sights(LOG, 1), *sights(LOG, 3, connection=1)], 2)
    within = receiver("ana", sights(LOG, 1, 3))
    assert faults(history(LOG, between)) == {}
    assert faults(history(LOG, within)) == {"missed": 1}


def test_a_member_misses_what_was_said_from_its_own_adding_on_and_nothing_before_it() -> None:
    log = CAME_AND_WENT[:3]
    publishes = (ANA_SAYS, BRUNO_SAYS)
    assert faults(history(log, receiver("carla", sights(log, 2, 3), kept=True), publishes=publishes)) == {}
    assert faults(history(log, receiver("carla", sights(log, 3), kept=True), publishes=publishes)) == {"missed": 1}


def test_a_removal_may_come_before_what_was_on_its_way_but_leaves_no_hole() -> None:
    log = [*CAME_AND_WENT[:3], message(4, "ana", "m3", "coming?"), change(5, "member_removed", "carla")]
    for seen in ((), (2,), (2, 3), (2, 3, 4), (2, 3, 5)):
        assert faults(history(log, receiver("carla", sights(log, *seen), kept=True))) == {}, seen
    for promise in (True, False):
        reader = receiver("carla", sights(log, 2, 4), kept=promise)
        assert faults(history(log, reader)) == {"missed": 1}
    assert faults(history(log, receiver("carla", sights(log, 2, 5)))) == {}


def test_a_kept_session_that_was_gone_is_found() -> None:
    there = receiver("bruno", sights(LOG, 1, 2, 3), 2, kept=True)
    there.connections[1] = Connection(10_000, session_present=False)
    assert faults(history(LOG, there)) == {"sessions_lost": 1}
    there.kept = False
    assert faults(history(LOG, there)) == {}


def test_an_event_again_on_the_next_connection_is_a_fault_at_qos_2_and_counted_at_qos_1() -> None:
    again = [*sights(LOG, 1, 2), *sights(LOG, 2, 3, connection=1)]
    at_qos_1 = history(LOG, receiver("bruno", again, 2, kept=True))
    assert faults(at_qos_1) == {}
    assert judge(at_qos_1).figures["repeated_qos1"] == 1
    assert faults(history(LOG, receiver("bruno", again, 2, kept=True, qos=2))) == {"duplicates_qos2": 1}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_event_twice_on_one_connection_is_found_at_every_qos(qos: int) -> None:
    assert faults(history(LOG, receiver("bruno", sights(LOG, 1, 2, 2, 3), qos=qos))) == {"duplicates_in_connection": 1}


def test_an_event_twice_at_a_client_that_deduplicates_is_found_on_any_connection() -> None:
    again = [*sights(LOG, 1, 2), *sights(LOG, 2, 3, connection=1)]
    reader = receiver("bruno", again, 2, resumes=True, deduplicates=True)
    assert faults(history(LOG, reader)) == {"duplicates_client": 1}


def test_an_event_that_comes_first_after_a_later_one_is_found_and_a_repeated_one_is_not() -> None:
    broken = [*sights(LOG, 1, 3), *sights(LOG, 2, connection=1)]
    repeated = [*sights(LOG, 1, 2, 3), *sights(LOG, 2, 3, connection=1)]
    assert faults(history(LOG, receiver("bruno", broken, 2, kept=True))) == {"order_breaks": 1}
    assert faults(history(LOG, receiver("bruno", repeated, 2, kept=True))) == {}


def test_anything_at_a_stranger_is_a_leak() -> None:
    signal = Sight("c1", 0, {"type": "typing", "from": "ana"}, 0, 1_000, 0)
    assert faults(history(LOG, receiver("mala", sights(LOG, 1)))) == {"leaks": 1}
    assert faults(history(LOG, receiver("mala", [signal]))) == {"leaks": 1}
    elsewhere = Sight("$SYS/uptime", 0, {}, 0, 1_000, 0)
    assert faults(history(LOG, receiver("mala", [elsewhere]))) == {"leaks": 1}


@pytest.mark.parametrize("promise", ["kept", "resumes", "deduplicates"])
def test_what_was_said_after_a_removal_is_a_leak_to_the_removed(promise: str) -> None:
    reader = receiver("carla", sights(CAME_AND_WENT, 2, 3, 4, 5), **{promise: True})
    assert faults(history(CAME_AND_WENT, reader)) == {"leaks": 1}


def test_what_was_said_before_the_first_adding_is_a_leak_to_a_session_and_history_to_who_resumes() -> None:
    said_before = [*sights(CAME_AND_WENT, 1, late_ms=2_000), *sights(CAME_AND_WENT, 2, 3, 4)]
    assert faults(history(CAME_AND_WENT, receiver("carla", said_before, kept=True))) == {"leaks": 1}
    assert faults(history(CAME_AND_WENT, receiver("carla", said_before, resumes=True))) == {}


def test_who_is_a_member_again_may_read_what_was_said_meanwhile_but_only_then() -> None:
    publishes = (ANA_SAYS, BRUNO_SAYS, ANA_ASKS, ANA_AGAIN)
    meanwhile = [*sights(CAME_BACK, 2, 3, 4), *sights(CAME_BACK, 5, late_ms=2_000), *sights(CAME_BACK, 6, 7)]
    too_soon = sights(CAME_BACK, 2, 3, 4, 5, 6, 7)
    assert faults(history(CAME_BACK, receiver("carla", meanwhile, resumes=True), publishes=publishes)) == {}
    assert faults(history(CAME_BACK, receiver("carla", too_soon, resumes=True), publishes=publishes)) == {"leaks": 1}
    assert faults(history(CAME_BACK, receiver("carla", meanwhile, kept=True), publishes=publishes)) == {"leaks": 1}


def test_nothing_comes_on_a_connection_that_was_opened_after_the_removal_not_even_what_was_in_flight() -> None:
    in_flight = [*sights(CAME_AND_WENT, 2, 3), *sights(CAME_AND_WENT, 3, connection=1, late_ms=8_000)]
    reader = receiver("carla", in_flight, 2, kept=True)
    assert faults(history(CAME_AND_WENT, reader, removals=(("carla", 9_999),))) == {"leaks": 1}
    assert faults(history(CAME_AND_WENT, reader, removals=(("carla", 10_001),))) == {}
    reader.sights[-1] = reader.sights[-1]._replace(seq=2, event=CAME_AND_WENT[1], was_there=True)
    assert faults(history(CAME_AND_WENT, reader, removals=(("carla", 9_999),))) == {}, "the client had it before"


def test_a_refusal_that_did_not_come_is_a_leak() -> None:
    what = history(LOG)
    what.trespasses.append(Trespass("mala", "c1", "its publish was acknowledged"))
    assert faults(what) == {"leaks": 1}


def test_only_3_1_1_may_lose_what_a_removed_member_sends_again_on_its_next_connection() -> None:
    """It knows no refusal: docs/mqtt.md names this exception."""
    dropped = replace(ANA_AGAIN, sender="carla", door="mqtt3", sent_ms=4_500, answered_ms=5_500, acknowledged=True)
    dropped = replace(dropped, connection=1, answered_connection=2)

    def with_it(publish: Publish) -> dict[str, int]:
        return faults(history(CAME_AND_WENT, publishes=(ANA_SAYS, BRUNO_SAYS, ANA_ASKS, publish)))

    assert with_it(dropped) == {}
    assert with_it(replace(dropped, sent_ms=1_000, answered_ms=1_500)) == {}, "before it was a member"
    assert with_it(replace(dropped, sender="mala")) == {}, "a stranger"
    assert with_it(replace(dropped, door="mqtt5")) == {"acknowledged_missing": 1}
    assert with_it(replace(dropped, answered_connection=1)) == {"acknowledged_missing": 1}
    assert with_it(replace(dropped, sent_ms=2_500, answered_ms=3_500)) == {"acknowledged_missing": 1}, "a member"


def test_a_fault_shows_the_log_and_what_the_receiver_saw_around_it() -> None:
    (fault,) = judge(history(LOG, receiver("bruno", sights(LOG, 1, 3), kept=True))).faults
    assert fault.kind == "missed"
    assert "bruno-1" in fault.text
    assert "never saw 2 of 1 to 3" in fault.text
    assert [line for line in fault.trace if line.startswith("log 2 ")]
    assert [line for line in fault.trace if line.startswith("saw 1 ")]
