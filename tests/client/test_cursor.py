"""The place in a log, whatever the network and the server do to what comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recado.client.cursor import Cursor, Cursors, Verdict

END = 12


@given(st.data(), st.integers(0, END))
def test_what_is_taken_is_the_whole_log_after_the_start_once_and_in_order(data: st.DataObject, start: int) -> None:
    """The server sends on from where it was asked to; what it sends comes, is lost, or comes twice; connections end."""
    cursor = Cursor(start)
    taken: list[int] = []
    answers: list[int] = []
    position = 0
    for step in data.draw(st.lists(st.sampled_from(["come", "lose", "again", "answer", "reconnect"]), max_size=60)):
        if step == "come" and position < END:
            position += 1
            _deliver(cursor, position, taken)
        elif step == "lose" and position < END:
            position += 1
        elif step == "again" and position:
            _deliver(cursor, data.draw(st.integers(1, position)), taken)
        elif step == "reconnect":
            answers.clear()
            cursor.reconnected(is_session_present=data.draw(st.booleans()))
        elif step == "answer" and answers:
            position = answers.pop(0)
            cursor.answered()
        if cursor.is_wanted():
            assert cursor.seq is not None
            answers.append(cursor.seq)
            cursor.asked()
    _heal(cursor, taken)
    assert taken == list(range(start + 1, END + 1))


def _deliver(cursor: Cursor, seq: int, taken: list[int]) -> None:
    verdict = cursor.take(seq)
    if verdict is Verdict.NEW:
        taken.append(seq)
    assert verdict is Verdict.NEW or seq > cursor.seq or verdict is Verdict.TWICE  # type: ignore[operator]


def _heal(cursor: Cursor, taken: list[int]) -> None:
    """A connection on which nothing is lost."""
    cursor.reconnected(is_session_present=False)
    assert cursor.is_wanted()
    assert cursor.seq is not None
    replay_after = cursor.seq
    cursor.asked()
    cursor.answered()
    for seq in range(replay_after + 1, END + 1):
        _deliver(cursor, seq, taken)


def test_a_gap_in_live_events_is_asked_for_once() -> None:
    cursor = _live_at(7)
    assert cursor.take(9) is Verdict.GAP
    cursor.asked()
    assert cursor.take(10) is Verdict.LATER
    cursor.answered()
    assert [cursor.take(seq) for seq in (8, 9, 10)] == [Verdict.NEW] * 3


def test_an_event_that_a_replay_leaves_out_three_times_is_missing() -> None:
    cursor = _live_at(7)
    for _ in range(3):
        assert cursor.take(9) is Verdict.GAP
        _replays_nothing(cursor)
    assert cursor.take(9) is Verdict.MISSING


def test_what_was_asked_for_before_its_user_came_or_went_was_not_in_vain() -> None:
    """However often that happens: each time, the server may have replayed nothing."""
    cursor = _live_at(7)
    for seq in range(9, 30):
        cursor.membership_changed(seq)
        assert cursor.take(seq) is Verdict.GAP
        _replays_nothing(cursor)
    assert [cursor.take(seq) for seq in (8, 9)] == [Verdict.NEW] * 2


def test_a_change_of_membership_that_comes_again_and_again_hides_no_missing_event() -> None:
    cursor = _live_at(7)
    verdicts = []
    for _ in range(5):
        cursor.membership_changed(9)
        verdicts.append(cursor.take(9))
        if verdicts[-1] is Verdict.GAP:
            _replays_nothing(cursor)
    assert Verdict.MISSING in verdicts


def test_on_another_connection_the_answers_in_vain_are_counted_anew() -> None:
    cursor = _live_at(7)
    for _ in range(5):
        assert cursor.take(9) is Verdict.GAP
        _replays_nothing(cursor)
        assert cursor.take(9) is Verdict.GAP
        cursor.reconnected(is_session_present=False)
        _replays_nothing(cursor)
    assert cursor.take(8) is Verdict.NEW


def test_the_last_event_of_all_is_taken_after_a_gap_and_without_room() -> None:
    cursor = _live_at(7)
    assert cursor.take(9) is Verdict.GAP
    cursor.put_off(10)
    assert cursor.take(11, is_last=True) is Verdict.NEW
    assert cursor.take(11, is_last=True) is Verdict.TWICE


def test_the_answer_to_an_older_question_does_not_count() -> None:
    cursor = Cursor(7)
    cursor.asked()
    cursor.want()
    cursor.asked()
    cursor.answered()
    assert cursor.take(9) is Verdict.LATER
    cursor.answered()
    assert cursor.take(8) is Verdict.NEW


def test_without_room_nothing_is_taken_until_there_is() -> None:
    cursor = _live_at(7)
    cursor.put_off(8)
    assert cursor.take(8) is Verdict.LATER
    assert not cursor.is_wanted()
    assert cursor.make_room()
    assert cursor.is_wanted()
    assert cursor.seq == 7


def test_a_conversation_without_a_place_that_finds_no_room_starts_with_the_event_it_had_no_room_for() -> None:
    cursor = Cursor(None)
    cursor.put_off(30)
    assert cursor.make_room()
    assert cursor.seq == 29


def test_a_session_that_is_kept_goes_on_without_being_asked() -> None:
    cursor = _live_at(7)
    cursor.reconnected(is_session_present=True)
    assert not cursor.is_wanted()
    cursor.reconnected(is_session_present=False)
    assert cursor.is_wanted()


def test_the_quietest_conversation_is_forgotten_first() -> None:
    cursors = Cursors({"a": 1, "b": 2}, 2)
    cursors.of("a")
    cursors.of("c")
    assert dict(cursors.items()).keys() == {"a", "c"}


def _replays_nothing(cursor: Cursor) -> None:
    cursor.asked()
    cursor.answered()


def _live_at(seq: int) -> Cursor:
    cursor = Cursor(None)
    cursor.take(seq)
    return cursor
