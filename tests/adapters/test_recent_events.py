"""The newest events in memory: what is there is what the log has, and there is never more than its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.adapters.broker.recent_events import RecentEvents
from recado.broker.hooks import LogPage
from recado.chat.event import CONVERSATION_ERASED, DELETED, EDITED, MEMBER_ADDED, USER_ERASED, Event, encode_event


def add(recent: RecentEvents, conversation: str, seq: int, kind: str | None = None) -> tuple[int, bytes]:
    event = Event(seq=seq, sender="ana", at=1, type=kind, body="x" * 50)
    payload = encode_event(event)
    recent.add(conversation, event, payload)
    return seq, payload


def test_a_page_is_what_comes_after_a_position_and_where_the_log_ends() -> None:
    recent = RecentEvents(entries_max=3, bytes_max=100_000)
    _, two, three, four = [add(recent, "c", seq) for seq in (1, 2, 3, 4)]
    assert recent.page("c", 1, 10) == LogPage([two, three, four], 4)
    assert recent.page("c", 1, 2) == LogPage([two, three], 4)
    assert recent.page("c", 4, 10) == LogPage([], 4)
    assert recent.page("c", 9, 10) == LogPage([], 4)
    assert recent.page("c", 0, 10) is None, "the first event is not there any more"
    assert recent.page("another", 0, 10) is None


@pytest.mark.parametrize("kind", [EDITED, DELETED, USER_ERASED])
def test_what_may_read_otherwise_now_is_read_from_the_store(kind: str) -> None:
    recent = RecentEvents(10, 100_000)
    for seq in (1, 2):
        add(recent, "c", seq)
    changed = add(recent, "c", 3, kind)
    assert recent.page("c", 1, 10) is None
    assert recent.page("c", 2, 10) == LogPage([changed], 3)


def test_an_addition_changes_nothing_that_was_there_and_an_erased_conversation_is_gone() -> None:
    recent = RecentEvents(10, 100_000)
    first, added = add(recent, "c", 1), add(recent, "c", 2, MEMBER_ADDED)
    assert recent.page("c", 0, 10) == LogPage([first, added], 2)
    add(recent, "c", 3, CONVERSATION_ERASED)
    assert recent.page("c", 0, 10) is None


def test_after_a_hole_only_what_follows_it_is_there() -> None:
    recent = RecentEvents(10, 100_000)
    for seq in (1, 2):
        add(recent, "c", seq)
    fourth = add(recent, "c", 4)
    assert recent.page("c", 1, 10) is None
    assert recent.page("c", 3, 10) == LogPage([fourth], 4)


def test_nothing_is_left_after_clearing() -> None:
    recent = RecentEvents(10, 100_000)
    add(recent, "c", 1)
    recent.clear()
    assert recent.page("c", 0, 10) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, None, None, EDITED, MEMBER_ADDED]))))
def test_in_any_order_it_has_the_end_of_each_log_within_its_bounds(appended: list[tuple[str, str | None]]) -> None:
    recent = RecentEvents(entries_max=4, bytes_max=4_000)
    logs: dict[str, list[tuple[int, bytes]]] = {}
    for conversation, kind in appended:
        log = logs.setdefault(conversation, [])
        log.append(add(recent, conversation, len(log) + 1, kind))
        page = recent.page(conversation, len(log) - 1, 10)
        assert page == LogPage(log[-1:], len(log)), "the newest is always there"
        held = 0
        for name, whole in logs.items():
            pages = [page for after in range(len(whole)) if (page := recent.page(name, after, 10))]
            longest = max((page.entries for page in pages), key=len, default=[])
            assert whole[len(whole) - len(longest) :] == longest
            assert len(longest) <= 4
            held += (1_000 if longest else 0) + sum(len(payload) + 100 for _, payload in longest)
        assert held <= 4_000
