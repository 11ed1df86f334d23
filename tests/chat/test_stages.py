"""How the time to each stage is counted."""

from __future__ import annotations

from bisect import bisect_left

import pytest

from recado.chat.event import Committed, Event, encode_event
from recado.chat.stages import BOUNDS_MS, COMMIT, PUBLISH, Elapsed, Stages, accepted_at

EVERYBODY = frozenset({"ana", "bruno"})


def event(seq: int, at: int) -> Event:
    return Event(seq=seq, sender="ana", at=at, id="k3x9", body='","at":1,')


@pytest.mark.parametrize("elapsed_ms", [*range(300), 500, 501, 999, 60_000, 60_001, 10**9])
def test_a_time_is_counted_under_the_first_bound_that_it_does_not_pass(elapsed_ms: int) -> None:
    elapsed = Elapsed()
    elapsed.note(elapsed_ms, 3)
    (index,) = [index for index, count in enumerate(elapsed.counts) if count]
    assert index == bisect_left(BOUNDS_MS, elapsed_ms)
    assert (elapsed.counts[index], elapsed.sum_ms) == (3, 3 * elapsed_ms)


def test_a_clock_that_is_behind_makes_no_time_negative() -> None:
    elapsed = Elapsed()
    elapsed.note(-5)
    assert (elapsed.counts[0], elapsed.sum_ms) == (1, 0)


def test_what_another_process_has_committed_is_not_counted_as_committed_here() -> None:
    stages = Stages(lambda: 1_007)
    stages.commit(
        [Committed("order", event(1, 1_000), EVERYBODY), Committed("order", event(2, 900), EVERYBODY, elsewhere=True)]
    )
    assert (sum(stages.committed.counts), stages.committed.sum_ms) == (1, 7)


def test_each_connection_that_an_event_was_written_to_is_a_delivery() -> None:
    stages = Stages(lambda: 1_007)
    stages.publish([("order", event(1, 1_000), 3), ("order", event(2, 1_005), 0)])
    assert (sum(stages.published.counts), stages.published.sum_ms) == (2, 9)
    assert (sum(stages.delivered.counts), stages.delivered.sum_ms) == (3, 21)


def test_the_time_of_acceptance_is_found_in_the_beginning_of_an_event() -> None:
    longest = Event(seq=2**53 - 1, sender="a" * 64, at=1_790_000_000_123, id="k3x9", body='","at":1,')
    assert accepted_at(encode_event(longest)[:128]) == 1_790_000_000_123
    assert accepted_at(encode_event(Event(seq=1, sender=None, at=5, type="member_added"))) == 5
    assert accepted_at(b'{"seq":7}') is None
    assert accepted_at(b'{"seq":7,"from":"ana","at":17') is None


class Spans:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, int, int, int]] = []

    def follows(self, conversation: str, seq: int) -> bool:
        return seq % 2 == 0

    def span(self, name: str, conversation: str, seq: int, start_ms: int, end_ms: int, failed: bool = False) -> None:
        self.told.append((name, conversation, seq, start_ms, end_ms))


def test_of_the_events_that_are_followed_each_stage_is_told() -> None:
    spans = Spans()
    stages = Stages(lambda: 1_007, spans)
    followed, other = event(2, 1_000), event(3, 1_000)
    stages.commit([Committed("order", each, EVERYBODY) for each in (followed, other)])
    stages.publish([("order", followed, 1), ("order", other, 1)])
    stages.acknowledge("order", 3, 1_000)
    assert spans.told == [(COMMIT, "order", 2, 1_000, 1_007), (PUBLISH, "order", 2, 1_000, 1_007)]
