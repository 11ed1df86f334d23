"""A group that shares a subscription: whose turn it is, and what those who are away cost the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.mqtt.router import Router
from recado.mqtt.session import Session
from recado.mqtt.subscription import SharedGroup, Subscription
from tests.mqtt.routing import come_or_go, new_router, new_session, steps


def group_of(*sessions: Session, topic_filter: str = "$share/g/jobs") -> tuple[Router, SharedGroup]:
    router = new_router()
    for session in sessions:
        router.subscribe(Subscription(session, topic_filter, 1))
    (group,) = router.route("jobs").groups
    return router, group


def connected(client_id: str, key: int = 0) -> Session:
    session = new_session(client_id=client_id, key=key)
    session.connection = object()
    return session


def takers(group: SharedGroup, publications: int, ready: Iterable[Session]) -> list[str | None]:
    among = set(ready)
    taken = [group.next(lambda session: session in among) for _ in range(publications)]
    return [None if subscription is None else subscription.session.client_id for subscription in taken]


def test_a_group_takes_turns() -> None:
    a, b, c = (connected(name) for name in "abc")
    _, group = group_of(a, b, c)
    assert takers(group, 7, [a, b, c]) == ["a", "b", "c", "a", "b", "c", "a"]


def test_who_is_not_ready_misses_its_turn_and_no_more() -> None:
    a, b, c = (connected(name) for name in "abc")
    _, group = group_of(a, b, c)
    assert takers(group, 3, [a, c]) == ["a", "c", "a"]
    assert takers(group, 3, [a, b, c]) == ["b", "c", "a"]


def test_if_nobody_is_ready_a_kept_session_gets_it_before_one_that_is_not() -> None:
    a, b = connected("a"), connected("b")
    kept = [connected("k", 1), connected("l", 2)]
    _, group = group_of(a, kept[0], b, kept[1])
    assert takers(group, 4, []) == ["k", "l", "k", "l"]
    assert takers(group, 2, [b]) == ["b", "b"]

    _, group = group_of(a, b)
    assert takers(group, 3, []) == ["a", "b", "a"], "better in a queue in memory than nowhere"


def test_each_group_and_each_plain_subscription_gets_a_copy() -> None:
    """MQTT5-4.8.2-3: each with its own QoS."""
    router, session = new_router(), connected("phone")
    router.subscribe(Subscription(session, "jobs", 0))
    for qos, topic_filter in enumerate(("$share/g/jobs", "$share/h/jobs", "$share/g/+")):
        router.subscribe(Subscription(session, topic_filter, qos))
    route = router.route("jobs")
    assert [subscription.qos for subscription in route.subscriptions] == [0]
    copies = [group.next(lambda _: True) for group in route.groups]
    assert sorted(copy.qos for copy in copies if copy is not None) == [0, 1, 2]
    assert {(group.share_name, group.topic_filter) for group in route.groups} == {
        ("g", "jobs"), ("h", "jobs"), ("g", "+"),
    }  # fmt: skip


def test_a_group_with_a_wildcard_keeps_its_turn_over_all_topics_and_changes() -> None:
    router = new_router()
    for name in "abc":
        router.subscribe(Subscription(connected(name), "$share/g/jobs/+", 1))
    taken = []
    for number in range(6):
        (group,) = router.route(f"jobs/{number}").groups
        taken += takers(group, 1, group)
        router.subscribe(Subscription(connected("other"), f"x/{number}/+", 1))
    assert taken == ["a", "b", "c", "a", "b", "c"]


def test_members_that_may_not_receive_a_topic_are_passed_over_and_the_turn_goes_on() -> None:
    router = new_router()
    for name in "abcd":
        router.subscribe(Subscription(connected(name), "$share/g/jobs/+", 1))
    router.may_receive = lambda session, _: session.client_id in "ac"
    taken = []
    for _ in range(4):
        router.forget_routes()
        (group,) = router.route("jobs/1").groups
        taken += takers(group, 1, group)
    assert taken == ["a", "c", "a", "c"]
    assert takers(group, 2, []) == ["a", "c"], "also if nobody is ready"

    router.may_receive = lambda *_: False
    router.forget_routes()
    assert router.route("jobs/1").groups == []


@given(st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=30))
def test_a_group_always_finds_somebody_ready_if_there_is_one(moments: list[set[int]]) -> None:
    sessions = [connected(str(number), number % 2) for number in range(5)]
    _, group = group_of(*sessions)
    for ready in moments:
        chosen = group.next(lambda session, ready=ready: int(session.client_id) in ready)  # type: ignore[misc]
        assert chosen is not None
        assert int(chosen.session.client_id) in (ready or {1, 3})


@given(st.integers(1, 7), st.integers(1, 40))
def test_turns_are_fair(members: int, publications: int) -> None:
    _, group = group_of(*(connected(str(number)) for number in range(members)))
    counts = Counter(takers(group, publications, group))
    assert max(counts.values()) - min(counts.values()) <= (1 if len(counts) == members else 0)


# Those who come and go


def test_who_comes_is_the_last_in_turn_and_who_goes_leaves_it_to_the_others() -> None:
    a, b = connected("a", 1), connected("b", 2)
    late = new_session(client_id="c", key=3)
    router, group = group_of(a, b, late)
    assert takers(group, 3, group) == ["a", "b", "a"]
    come_or_go(router, late)
    assert takers(group, 3, group) == ["b", "a", "c"]
    come_or_go(router, a)
    assert takers(group, 3, group) == ["b", "c", "b"]
    assert {*group} == {a, b, late}


def test_if_nobody_is_ready_a_connected_session_that_is_kept_goes_before_those_that_are_away() -> None:
    away = [new_session(client_id=name, key=1) for name in "xy"]
    busy = connected("b", 2)
    router, group = group_of(*away, connected("a"), busy)
    assert takers(group, 2, []) == ["b", "b"]
    come_or_go(router, busy)
    assert takers(group, 3, []) == ["x", "y", "b"]


def test_who_may_not_receive_a_topic_is_passed_over_among_those_that_are_away_too() -> None:
    router, _ = group_of(*(new_session(client_id=name, key=1) for name in "abc"), topic_filter="$share/g/+")
    router.may_receive = lambda session, _: session.client_id in "ac"
    router.forget_routes()
    (group,) = router.route("jobs").groups
    assert takers(group, 3, []) == ["a", "c", "a"]


@pytest.mark.parametrize("is_ready", [True, False])
def test_those_that_are_away_cost_a_publication_nothing(is_ready: bool) -> None:
    """Bug class: groups of absent members, of which each publication asks all."""
    here = connected("here")
    _, group = group_of(here, *(new_session(client_id=str(number), key=1) for number in range(1_000)))
    assert len(group) == 1_001
    ready = [here] if is_ready else []
    assert steps(lambda: takers(group, 10, ready)) < 10 * 100


def test_to_come_and_go_costs_as_much_as_the_groups_that_one_is_in() -> None:
    router, session = new_router(), new_session(key=1)
    for number in range(1_000):
        router.subscribe(Subscription(session, f"topic/{number}", 0))
    router.subscribe(Subscription(session, "$share/g/jobs", 0))
    assert steps(lambda: come_or_go(router, session)) < 30
    assert steps(lambda: come_or_go(router, session)) < 30


def test_a_subscription_that_is_replaced_while_its_session_is_away_counts_when_it_is_back() -> None:
    session = connected("a", 1)
    router, group = group_of(session)
    come_or_go(router, session)
    router.subscribe(Subscription(session, "$share/g/jobs", 2))
    come_or_go(router, session)
    taken = group.next(lambda _: True)
    assert taken is session.subscriptions["$share/g/jobs"]
    assert len(group) == 1
