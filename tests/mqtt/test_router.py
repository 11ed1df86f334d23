"""Who gets a publication: the router against a model that asks every session about every filter."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from recado.mqtt.packets import SubscriptionRequest
from recado.mqtt.router import Router
from recado.mqtt.session import Session
from recado.mqtt.topics import matches

TOPICS = ["c/a", "c/b", "c/a/live", "x"]
FILTERS = [*TOPICS, "c/+", "c/+/live", "c/#", "#", "+/a", "+"]
USERS = ["ana", "bruno", "carla"]


def subscribed(user: str, *topic_filters: str, qos: int = 1) -> tuple[Router, Session]:
    router = Router()
    session = Session(user, "phone", 10)
    for topic_filter in topic_filters:
        router.subscribe(session, SubscriptionRequest(topic_filter, qos))
    return router, session


def receivers(router: Router, topic_name: str, *audience: str) -> list[Session]:
    return [session for session, _ in router.matches(topic_name, frozenset(audience))]


@given(st.lists(st.sampled_from(FILTERS), min_size=1, unique=True), st.sampled_from(TOPICS))
def test_a_stranger_gets_nothing_whatever_it_subscribed_to(topic_filters: list[str], topic_name: str) -> None:
    router, _ = subscribed("mallory", *topic_filters)
    assert receivers(router, topic_name, "ana", "bruno") == []
    assert receivers(router, topic_name) == []


def test_overlapping_filters_give_one_copy_at_the_highest_qos() -> None:
    router, session = subscribed("ana", "#", qos=0)
    router.subscribe(session, SubscriptionRequest("c/a", 0))
    router.subscribe(session, SubscriptionRequest("c/+", 1))

    (found,) = router.matches("c/a", frozenset({"ana"}))

    assert (found[0], found[1].topic_filter, found[1].qos) == (session, "c/+", 1)


def test_subscribing_again_replaces_the_subscription() -> None:
    router, session = subscribed("ana", "c/a", "c/+", qos=1)
    for topic_filter in ("c/a", "c/+"):
        router.subscribe(session, SubscriptionRequest(topic_filter, 0, no_local=True))
    (found,) = router.matches("c/a", frozenset({"ana"}))
    assert (found[1].qos, found[1].no_local) == (0, True)


def test_a_user_that_joins_the_audience_needs_no_new_subscription() -> None:
    router, session = subscribed("ana", "c/+")
    assert receivers(router, "c/a", "bruno") == []
    assert receivers(router, "c/a", "bruno", "ana") == [session]


def test_a_session_that_ended_leaves_nothing_behind() -> None:
    router, session = subscribed("ana", "c/a", "c/+", "#")
    router.remove(session)
    assert receivers(router, "c/a", "ana") == []
    assert (session.subscriptions, session.wildcards) == ({}, {})
    assert (router._exact, router._wildcards) == ({}, {}), "no memory is kept"


def test_unsubscribing_tells_whether_there_was_something() -> None:
    router, session = subscribed("ana", "c/a", "c/+")
    assert router.unsubscribe(session, "c/a")
    assert not router.unsubscribe(session, "c/a")
    assert receivers(router, "c/a", "ana") == [session], "the wildcard is still there"
    assert router.unsubscribe(session, "c/+")
    assert not router.unsubscribe(session, "c/+")
    assert (router._exact, router._wildcards) == ({}, {})


class Routing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.router = Router()
        self.sessions = [Session(user, client_id, 10) for user in USERS for client_id in ("phone", "tab")]
        self.subscriptions: dict[tuple[int, str], int] = {}

    @rule(session=st.integers(0, 5), topic_filter=st.sampled_from(FILTERS), qos=st.integers(0, 1))
    def subscribe(self, session: int, topic_filter: str, qos: int) -> None:
        self.router.subscribe(self.sessions[session], SubscriptionRequest(topic_filter, qos))
        self.subscriptions[session, topic_filter] = qos

    @rule(session=st.integers(0, 5), topic_filter=st.sampled_from(FILTERS))
    def unsubscribe(self, session: int, topic_filter: str) -> None:
        was_there = self.subscriptions.pop((session, topic_filter), None) is not None
        assert self.router.unsubscribe(self.sessions[session], topic_filter) == was_there

    @rule(session=st.integers(0, 5))
    def end(self, session: int) -> None:
        self.router.remove(self.sessions[session])
        self.subscriptions = {key: qos for key, qos in self.subscriptions.items() if key[0] != session}

    def expected(self, topic_name: str, audience: frozenset[str]) -> dict[int, int]:
        best: dict[int, int] = {}
        for (session, topic_filter), qos in self.subscriptions.items():
            if self.sessions[session].user in audience and matches(topic_filter, topic_name):
                best[session] = max(qos, best.get(session, 0))
        return best

    @invariant()
    def everyone_gets_one_copy_and_nobody_else_does(self) -> None:
        for topic_name in TOPICS:
            for audience in (frozenset({"ana"}), frozenset({"ana", "bruno", "zoe"}), frozenset(USERS)):
                found = list(self.router.matches(topic_name, audience))
                got = {self.sessions.index(session): subscription.qos for session, subscription in found}
                assert len(found) == len(got), "more than one copy"
                assert got == self.expected(topic_name, audience)


def test_any_order_of_subscriptions_routes_as_a_model_says() -> None:
    run_state_machine_as_test(Routing, settings=settings(max_examples=100, stateful_step_count=20, deadline=None))
