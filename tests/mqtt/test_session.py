"""A session's flows, with no socket and no clock: packet ids, answers in order, QoS 2, the seam of log and live."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from recado.mqtt.reason_codes import ProtocolError, ReasonCode
from recado.mqtt.session import PACKET_IDS, RELEASED, LogCursor, Session

TOPIC = "c/order"


def new_session(receive_maximum: int = 10) -> Session:
    return Session("ana", "phone", receive_maximum)


# Packet ids


def test_packet_ids_run_from_1_to_65535_and_start_again() -> None:
    session = new_session()
    taken = []
    for _ in range(PACKET_IDS + 2):
        taken.append(session.sending("x", 1))
        assert session.acknowledged(taken[-1]) == "x"
    assert taken == [*range(1, PACKET_IDS + 1), 1, 2]


def test_a_packet_id_that_is_not_acknowledged_is_not_used_again() -> None:
    session = new_session()
    held = [session.sending("held", qos) for qos in (1, 2, 2)]
    session.released(held[2])
    for _ in range(PACKET_IDS + 10):
        packet_id = session.sending("x", 1)
        assert packet_id not in held
        session.acknowledged(packet_id)


@given(st.integers(1, 5), st.lists(st.integers(-1, 5), max_size=60))
def test_no_two_deliveries_in_flight_have_the_same_id_and_there_are_never_too_many(
    receive_maximum: int, steps: list[int]
) -> None:
    session = new_session(receive_maximum)
    session._last_packet_id = PACKET_IDS - 3
    inflight: list[int] = []
    for step in steps:
        if step < 0 or step >= len(inflight):
            assert session.window() == receive_maximum - len(inflight)
            assert session.has_window() == (len(inflight) < receive_maximum)
            if session.has_window():
                packet_id = session.sending("x", 1)
                assert packet_id not in inflight
                assert 1 <= packet_id <= PACKET_IDS
                inflight.append(packet_id)
        else:
            assert session.acknowledged(inflight.pop(step)) == "x"


def test_an_acknowledgement_of_nothing_makes_no_room() -> None:
    session = new_session(2)
    session.sending("x", 1)
    assert [session.acknowledged(77) for _ in range(2)] == [None, None]
    assert session.completed(77) is None
    assert session.refused(77) is None
    assert not session.released(77)
    assert session.window() == 1


def test_room_is_freed_after_an_eighth_of_the_window_was_acknowledged_or_nothing_is_in_flight() -> None:
    session = new_session(16)
    ids = [session.sending("x", 1) for _ in range(5)]
    freed = []
    for packet_id in ids:
        session.acknowledged(packet_id)
        freed.append(session.has_freed_room())
    assert freed == [False, True, False, True, True], "every second one, and the last"


# QoS 2 out


def test_a_qos_2_publish_takes_its_place_until_pubcomp() -> None:
    session = new_session(1)
    packet_id = session.sending("x", 2)
    assert session.released(packet_id)
    assert session.released(packet_id), "PUBREC may come twice"
    assert not session.has_window()
    assert session.completed(packet_id) == "x"
    assert session.has_window()
    assert session.completed(packet_id) is None


def test_a_qos_2_publish_that_was_refused_is_over() -> None:
    session = new_session(1)
    packet_id = session.sending("x", 2)
    assert session.refused(packet_id) == "x"
    assert session.has_window()
    assert session.exactly_once == {}


def test_an_answer_of_the_other_flow_is_a_protocol_error_and_changes_nothing() -> None:
    session = new_session()
    once, twice = session.sending("x", 1), session.sending("y", 2)
    for wrong in (session.released, session.refused):
        with pytest.raises(ProtocolError):
            wrong(once)
    with pytest.raises(ProtocolError):
        session.acknowledged(twice)
    assert session.inflight == {once: "x", twice: "y"}
    assert session.exactly_once == {twice: False}


def test_pubcomp_before_pubrec_is_a_protocol_error() -> None:
    session = new_session()
    packet_id = session.sending("x", 2)
    with pytest.raises(ProtocolError):
        session.completed(packet_id)


# Answers


@given(st.permutations(range(8)))
def test_publishes_are_answered_in_the_order_they_came_however_they_end(order: list[int]) -> None:
    session = new_session()
    packet_ids = [50, 3, 65_535, 1, 20, 7, 8, 2]
    for packet_id in packet_ids:
        session.expect(packet_id)

    answered: list[int] = []
    settled: set[int] = set()
    for index in order:
        code = ReasonCode.NOT_AUTHORIZED if index % 2 else ReasonCode.SUCCESS
        due = session.settle(packet_ids[index], 1 + index % 2, code, f"text {index}")
        settled.add(index)
        answered += [packet_id for packet_id, *_ in due]
        first_open = min(set(range(8)) - settled, default=8)
        assert answered == packet_ids[:first_open]
        for packet_id, *told in due:
            position = packet_ids.index(packet_id)
            expected_code = ReasonCode.NOT_AUTHORIZED if position % 2 else ReasonCode.SUCCESS
            assert told == [1 + position % 2, expected_code, f"text {position}"]
    assert not session.incoming


def test_a_packet_id_may_be_used_again_once_it_was_acknowledged() -> None:
    session = new_session()
    for _ in range(3):
        session.expect(1)
        assert session.settle(1, 1, ReasonCode.SUCCESS) == [(1, 1, ReasonCode.SUCCESS, "")]


# Resuming


def test_a_session_without_a_connection_holds_no_flows() -> None:
    session = new_session()
    session.released(session.sending("x", 2))
    session.sending("y", 1)
    session.expect(5)
    session.received[6] = None
    session.start_after(TOPIC, 3)
    session.let_go()
    assert session.window() == 10
    assert [session.exactly_once, session.incoming, session.received, session.cursors] == [{}, {}, {}, {}]


def test_a_session_takes_its_flows_up_again_and_uses_none_of_their_packet_ids() -> None:
    session = new_session()
    session.resume([(2, "x", 1), (3, RELEASED, 2), (1, "y", 2)], [7, 8])
    assert list(session.inflight) == [2, 3, 1], "in the order of sending"
    assert session.sending("z", 1) == 4
    assert set(session.received) == {7, 8}
    assert session.acknowledged(2) == "x"
    assert session.completed(3) is RELEASED
    with pytest.raises(ProtocolError):
        session.completed(1)
    assert session.released(1)
    assert session.completed(1) == "y"


# Logs


def test_a_session_that_never_fell_behind_gets_everything_live_and_keeps_no_cursor() -> None:
    session = new_session()
    assert all(session.admits(TOPIC, position) for position in range(1, 5))
    assert session.cursors == {}


def test_a_session_that_caught_up_keeps_no_cursor_once_it_gets_the_next_one_live() -> None:
    session = new_session()
    session.fall_behind(TOPIC, 3)
    session.cursors[TOPIC].sent = 4
    session.caught_up(TOPIC)
    assert not session.cursors[TOPIC].behind
    assert not session.admits(TOPIC, 4), "it was read from the log before it was published"
    assert session.admits(TOPIC, 5)
    assert session.cursors == {}


def test_a_topic_that_was_read_waits_for_the_others() -> None:
    session = new_session()
    for topic in ("c/1", "c/2", "c/3"):
        session.start_after(topic, 0)
    read = []
    for _ in range(6):
        behind = session.next_behind()
        assert behind is not None
        read.append(behind[0])
        session.read_later(behind[0])
    assert read == ["c/1", "c/2", "c/3"] * 2


def test_one_topic_that_is_behind_holds_no_other_back() -> None:
    session = new_session()
    session.fall_behind("c/slow", 3)
    assert session.admits("c/quick", 1)
    assert not session.admits("c/slow", 4)


class LogReading(RuleBasedStateMachine):
    """A session, a log that grows, and a reader of pages that are old by the time they come.

    What the shell does is simulated: it writes while there is room, and reads a page after `cursor.sent`. What is
    committed can be read before it is published live.
    """

    def __init__(self) -> None:
        super().__init__()
        self.session = new_session()
        self.log = 0
        self.published = 0
        self.room = True
        self.sent: list[int] = []
        self.first: int | None = 1
        self.page: tuple[LogCursor, list[int], int] | None = None

    @rule()
    def commit(self) -> None:
        self.log += 1

    @precondition(lambda self: self.published < self.log)
    @rule()
    def publish(self) -> None:
        self.published += 1
        if not self.session.admits(TOPIC, self.published):
            return
        if self.room:
            self.sent.append(self.published)
        else:
            self.session.fall_behind(TOPIC, self.published)

    @rule()
    def fill_up(self) -> None:
        self.room = False

    @rule()
    def make_room(self) -> None:
        self.room = True

    @precondition(lambda self: not self.sent and not self.session.cursors and self.page is None)
    @rule(back=st.integers(-3, 5))
    def resume(self, back: int) -> None:
        """`back` below 0: after a position that the log has not reached, which is as good as its end."""
        self.first = None if back < 0 else max(0, self.log - back) + 1
        self.session.start_after(TOPIC, max(0, self.log - back))

    @precondition(lambda self: self.page is None and self.session.next_behind() is not None)
    @rule(limit=st.integers(1, 3))
    def ask_for_a_page(self, limit: int) -> None:
        behind = self.session.next_behind()
        assert behind is not None
        cursor = behind[1]
        self.page = cursor, list(range(cursor.sent + 1, self.log + 1))[:limit], self.log

    @precondition(lambda self: self.page is not None)
    @rule()
    def send_the_page(self) -> None:
        assert self.page is not None
        (cursor, positions, last_position), self.page = self.page, None
        if self.session.cursors.get(TOPIC) is not cursor:
            return
        for position in positions:
            if not self.room:
                return
            self.sent.append(position)
            cursor.sent = position
        if not positions:
            cursor.sent = last_position
        if cursor.sent >= last_position:
            self.session.caught_up(TOPIC)

    @invariant()
    def nothing_is_sent_twice_or_out_of_order(self) -> None:
        if self.sent:
            assert self.first is None or self.sent[0] == self.first
            assert self.sent == list(range(self.sent[0], self.sent[0] + len(self.sent)))

    def teardown(self) -> None:
        self.room = True
        while self.page is not None or self.session.next_behind() is not None:
            if self.page is None:
                self.ask_for_a_page(limit=2)
            self.send_the_page()
        self.commit()
        while self.published < self.log:
            self.publish()
        assert self.sent[-1] == self.log, "it went on live"
        self.nothing_is_sent_twice_or_out_of_order()


def test_any_order_of_live_and_log_has_no_gap_and_no_double() -> None:
    run_state_machine_as_test(LogReading, settings=settings(max_examples=200, stateful_step_count=30, deadline=None))
