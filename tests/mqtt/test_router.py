"""Who gets a publication: the router against a model that asks every session about every filter."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from recado.mqtt.router import Route, Router
from recado.mqtt.session import Session
from recado.mqtt.subscription import Subscription
from recado.mqtt.topics import matches, split_share
from tests.mqtt.routing import come_or_go, new_router, new_session, steps

TOPICS = ["c/a", "c/b", "c/a/live", "x", "$SYS/a"]
FILTERS = [*TOPICS, "c/+", "c/+/live", "c/#", "c/a/#", "#", "+/a", "+", "$SYS/#"]
SHARED = ["$share/g/c/a", "$share/h/c/a", "$share/g/c/+", "$share/g/#", "$share/g/$SYS/+"]
USERS = ["ana", "bruno", "carla"]


def subscribed(user: str, *topic_filters: str, qos: int = 1) -> tuple[Router, Session]:
    router = new_router()
    session = new_session(user)
    for topic_filter in topic_filters:
        router.subscribe(Subscription(session, topic_filter, qos))
    return router, session


def receivers(router: Router, topic_name: str, *audience: str) -> list[Session]:
    return [session for session, _ in router.matches(topic_name, frozenset(audience))]


def routed(router: Router, topic_name: str) -> list[Session]:
    return [subscription.session for subscription in router.route(topic_name).subscriptions]


def assert_empty(router: Router) -> None:
    assert len(router) == 0
    assert (router._exact, router._wildcards_by_user, len(router._wildcards)) == ({}, {}, 0), "no memory is kept"
    assert router._own == {}, "no memory is kept"
    assert router._wildcards.root.children == {}, "no memory is kept"


# With an audience


@given(st.lists(st.sampled_from(FILTERS), min_size=1, unique=True), st.sampled_from(TOPICS))
def test_a_stranger_gets_nothing_whatever_it_subscribed_to(topic_filters: list[str], topic_name: str) -> None:
    router, _ = subscribed("mallory", *topic_filters)
    assert receivers(router, topic_name, "ana", "bruno") == []
    assert receivers(router, topic_name) == []


def test_overlapping_filters_give_one_copy_at_the_highest_qos() -> None:
    """MQTT5-3.3.4-2, MQTT311-3.3.5-1."""
    router, session = subscribed("ana", "#", qos=0)
    router.subscribe(Subscription(session, "c/a", 0))
    router.subscribe(Subscription(session, "c/+", 1))

    (found,) = router.matches("c/a", frozenset({"ana"}))

    assert (found[0], found[1].topic_filter, found[1].qos) == (session, "c/+", 1)
    assert router.route("c/a").subscriptions == [found[1]]
    assert router.granted(session, "c/a") is found[1]


def test_subscribing_again_replaces_the_subscription() -> None:
    """MQTT5-3.8.4-3, MQTT311-3.8.4-3."""
    router, session = subscribed("ana", "c/a", "c/+", qos=1)
    for topic_filter in ("c/a", "c/+"):
        assert not router.subscribe(Subscription(session, topic_filter, 0, no_local=True))
    (found,) = router.matches("c/a", frozenset({"ana"}))
    assert (found[1].qos, found[1].no_local) == (0, True)
    (subscription,) = router.route("c/a").subscriptions
    assert (subscription.qos, subscription.no_local) == (0, True)
    assert len(router) == 2


def test_a_user_that_joins_the_audience_needs_no_new_subscription() -> None:
    router, session = subscribed("ana", "c/+")
    assert receivers(router, "c/a", "bruno") == []
    assert receivers(router, "c/a", "bruno", "ana") == [session]


def test_a_shared_filter_has_no_part_where_there_is_an_audience() -> None:
    router, session = subscribed("ana", "$share/g/c/a", "$share/g/c/+")
    assert receivers(router, "c/a", "ana") == []
    assert router.granted(session, "c/a") is None
    assert router.granted(session, "$share/g/c/a") is None, "nor as the topic name that it looks like"


# Ending


def test_a_session_that_ended_leaves_nothing_behind() -> None:
    router, session = subscribed("ana", "c/a", "c/+", "#", "$share/g/c/a", "$share/g/c/+/x")
    router.remove(session)
    assert receivers(router, "c/a", "ana") == []
    assert session.subscriptions == {}
    assert_empty(router)


def test_a_session_that_ended_is_in_no_remembered_route() -> None:
    router, session = subscribed("ana", "c/a", "c/+", "$share/g/x")
    for topic_name in TOPICS:
        router.route(topic_name)
    router.remove(session)
    assert all(not route.subscriptions and not route.groups for route in router._routes.values())


def test_unsubscribing_tells_whether_there_was_something() -> None:
    """MQTT5-3.10.4-1: the filters are compared character by character."""
    router, session = subscribed("ana", "c/a", "c/+", "$share/g/c/a")
    assert router.unsubscribe(session, "c/a")
    assert not router.unsubscribe(session, "c/a")
    assert receivers(router, "c/a", "ana") == [session], "the wildcard is still there"
    assert router.unsubscribe(session, "c/+")
    assert not router.unsubscribe(session, "c/+")
    assert not router.unsubscribe(session, "$share/h/c/a")
    assert router.unsubscribe(session, "$share/g/c/a")
    assert_empty(router)


def test_a_sessions_wildcards_and_their_levels_are_counted_shared_ones_too() -> None:
    router, session = subscribed("ana", "c/a", "c/+", "#", "$share/g/x", "$share/g/x/+/y")
    router.subscribe(Subscription(session, "c/+", 0))
    assert (router.wildcards(session), router.wildcard_levels(session)) == (3, 2 + 1 + 5)
    router.unsubscribe(session, "#")
    router.unsubscribe(session, "c/a")
    assert (router.wildcards(session), router.wildcard_levels(session)) == (2, 7)
    router.unsubscribe(session, "$share/g/x/+/y")
    assert (router.wildcards(session), router.wildcard_levels(session)) == (1, 2)
    stranger = new_session()
    assert (router.wildcards(stranger), router.wildcard_levels(stranger)) == (0, 0)


# Overlapping filters


def test_a_single_match_is_the_subscription_itself() -> None:
    router, session = subscribed("ana")
    for topic_filter in ("c/a", "x/+"):
        router.subscribe(Subscription(session, topic_filter, 1, True, True, (7,)))
    assert router.route("c/a").subscriptions == [session.subscriptions["c/a"]]
    assert router.route("x/y").subscriptions == [session.subscriptions["x/+"]]


def test_overlapping_filters_send_all_their_identifiers() -> None:
    """MQTT5-3.3.4-4. The same identifier twice is sent twice."""
    router, session = subscribed("ana", "+/a")
    for topic_filter, identifier in (("c/a", 5), ("#", 3), ("c/b", 9), ("c/+", 5)):
        router.subscribe(Subscription(session, topic_filter, 0, identifiers=(identifier,)))
    (subscription,) = router.route("c/a").subscriptions
    assert subscription.identifiers == (3, 5, 5)
    assert (subscription.qos, subscription.plain, subscription.own()) == (1, False, subscription)


def test_retain_as_published_counts_if_one_of_the_filters_has_it() -> None:
    router, session = subscribed("ana", "c/a")
    router.subscribe(Subscription(session, "c/+", 0, retain_as_published=True))
    (subscription,) = router.route("c/a").subscriptions
    assert (subscription.retain_as_published, subscription.qos, subscription.plain) == (True, 1, False)


def test_what_the_session_published_itself_comes_only_under_the_filters_without_no_local() -> None:
    """MQTT5-3.8.3-3."""
    router, session = subscribed("ana")
    router.subscribe(Subscription(session, "c/a", 2, no_local=True, identifiers=(1,)))
    assert router.route("c/a").subscriptions[0].own() is None

    router.subscribe(Subscription(session, "c/+", 0, identifiers=(2,)))
    (subscription,) = router.route("c/a").subscriptions
    own = subscription.own()
    assert (subscription.qos, subscription.identifiers, subscription.no_local) == (2, (1, 2), False)
    assert own is not None
    assert (own.qos, own.identifiers) == (0, (2,))

    router.subscribe(Subscription(session, "c/+", 0, no_local=True))
    (subscription,) = router.route("c/a").subscriptions
    assert (subscription.no_local, subscription.own()) == (True, None)


def test_a_filter_with_no_local_beside_a_bare_one_is_not_plain() -> None:
    """Bug class: a short cut that sends a session its own publication at the QoS of its No Local filter."""
    router, session = subscribed("ana", "#", qos=0)
    router.subscribe(Subscription(session, "c/a", 2, no_local=True))
    (subscription,) = router.route("c/a").subscriptions
    assert not subscription.plain
    assert subscription.own() is session.subscriptions["#"]


# Remembered routes


def test_a_route_is_made_once() -> None:
    router, _ = subscribed("ana", "c/a", "c/+")
    assert router.route("c/a") is router.route("c/a")
    assert router.route("nobody/here") is router.route("nobody/here")


def test_an_exact_filter_changes_only_its_own_topics_route() -> None:
    router, session = subscribed("ana", "c/a", "c/+")
    first, other = router.route("c/a"), router.route("c/b")
    newcomer = new_session("bruno")
    router.subscribe(Subscription(newcomer, "c/a", 1))
    assert router.route("c/b") is other
    assert router.route("c/a") is not first
    assert routed(router, "c/a") == [session, newcomer]
    router.unsubscribe(newcomer, "c/a")
    assert router._targets == 1, "what c/b's route refers to"
    assert routed(router, "c/a") == [session]


def test_who_may_not_receive_is_left_out_until_the_permissions_change() -> None:
    router, ana = subscribed("ana", "c/a")
    bruno = new_session("bruno")
    router.subscribe(Subscription(bruno, "c/+", 1))
    allowed = {"ana"}
    asked = []

    def may_receive(session: Session, topic_name: str) -> bool:
        asked.append(topic_name)
        return session.user in allowed

    router.may_receive = may_receive
    assert routed(router, "c/a") == [ana]
    allowed.add("bruno")
    assert routed(router, "c/a") == [ana]
    assert asked == ["c/a"] * 2, "asked once for each session, when the route was made"
    router.forget_routes()
    assert set(routed(router, "c/a")) == {ana, bruno}


def test_at_most_so_many_topics_are_remembered() -> None:
    router = Router(routes_max=10, route_targets_max=1_000)
    for number in range(1_000):
        router.route(f"topic/{number}")
        assert len(router._routes) <= 10


def test_a_long_topic_is_not_remembered() -> None:
    """Bug class: a bound on how many are remembered, and none on how long they are."""
    router, session = subscribed("ana", "#")
    for topic_name in ("x" * 129, "x" * 65_535):
        assert routed(router, topic_name) == [session]
    assert router._routes == {}
    router.route("x" * 128)
    assert len(router._routes) == 1


def test_at_most_so_many_targets_are_remembered_also_inside_merged_ones_and_groups() -> None:
    router = Router(routes_max=1_000, route_targets_max=10)
    for number in range(3):
        session = new_session(client_id=str(number))
        router.subscribe(Subscription(session, "#", 1))
        router.subscribe(Subscription(session, "+/+", 1, identifiers=(1,)))
        router.subscribe(Subscription(session, "$share/g/a/#", 1))
    for number in range(20):
        assert router.route(f"b/{number}").targets == 6
        assert len(router._routes) == 1
    kept = router.route("b/0")
    assert router.route("a/b").targets == 9
    assert router.route("b/0") is not kept, "the cache had started afresh"
    router.subscribe(Subscription(new_session(), "a/b", 1))
    router.subscribe(Subscription(new_session(), "a/b", 1))
    assert router.route("a/b") is not router.route("a/b"), "too large to remember"
    assert len(router.route("a/b").subscriptions) == 5


# Hostile filters and topics


def test_filters_that_all_differ_late_cost_as_much_as_they_are_long_and_no_more() -> None:
    """Bug class: a wildcard matcher with exponential backtracking."""
    router = new_router()
    session = new_session()
    depth = 30
    for length in range(1, depth):
        router.subscribe(Subscription(session, "a/" * length + "+/" * (depth - length) + "never", 0))
        router.subscribe(Subscription(session, "+/" * length + "a/" * (depth - length) + "never", 0))
    assert steps(lambda: router.route("a/" * depth + "x")) < 20 * 2 * depth * depth
    assert routed(router, "a/" * depth + "x") == []


@pytest.mark.parametrize("topic_filter", ["a/+/+/#", "+/+", "#", "/" * 30 + "#", "+" + "/+" * 200])
def test_a_topic_of_slashes_costs_no_more_levels_than_the_filters_have(topic_filter: str) -> None:
    """Bug class: recursion on tens of thousands of `/`, or a walk through all of them."""
    router, _ = subscribed("ana", topic_filter, "a/" + topic_filter)
    assert steps(lambda: router.route("/" * 60_000)) < 20 * (topic_filter.count("/") + 5)
    assert len(routed(router, "/" * 60_000)) == matches(topic_filter, "/" * 60_000)


def test_a_filter_of_slashes_is_subscribed_matched_and_removed_in_linear_time() -> None:
    router, session = subscribed("ana", "/" * 60_000 + "#")
    assert routed(router, "/" * 60_000) == [session]
    assert steps(lambda: router._make_route("/" * 60_000)) < 20 * 60_000
    router.remove(session)
    assert_empty(router)


def test_thousands_of_wildcards_that_do_not_match_are_not_looked_at() -> None:
    router = new_router()
    for number in range(5_000):
        router.subscribe(Subscription(new_session(client_id=str(number)), f"device/{number}/+", 0))
    session = router.route("device/77/state").subscriptions[0].session
    assert session.client_id == "77"
    assert steps(lambda: router.route("device/78/state")) < 200
    assert steps(lambda: router.subscribe(Subscription(session, "device/9/#", 0))) < 200


# Everything at once


class Options(NamedTuple):
    qos: int
    no_local: bool
    retain_as_published: bool
    identifiers: tuple[int, ...]


OPTIONS = st.builds(
    Options, st.integers(0, 2), st.booleans(), st.booleans(), st.sampled_from([(), (), (1,), (2,), (300,)])
)


def merged(several: list[Options]) -> Options:
    return Options(
        max(each.qos for each in several),
        all(each.no_local for each in several),
        any(each.retain_as_published for each in several),
        tuple(sorted(identifier for each in several for identifier in each.identifiers)),
    )


def options_of(subscription: Subscription | None) -> Options | None:
    if subscription is None:
        return None
    plain = not (subscription.no_local or subscription.retain_as_published or subscription.identifiers)
    assert plain or not subscription.plain
    return Options(subscription.qos, subscription.no_local, subscription.retain_as_published, subscription.identifiers)


class Routing(RuleBasedStateMachine):
    """The model is a plain list of who subscribed to what; it is asked filter by filter."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router(routes_max=len(TOPICS), route_targets_max=12)
        self.router.may_receive = lambda session, topic_name: (session.user, topic_name) not in self.forbidden
        self.forbidden: set[tuple[str, str]] = set()
        self.sessions = [new_session(user, client_id) for user in USERS for client_id in ("phone", "tab")]
        self.subscriptions: dict[tuple[int, str], Options] = {}

    @rule(session=st.integers(0, 5), topic_filter=st.sampled_from(FILTERS + SHARED), options=OPTIONS)
    def subscribe(self, session: int, topic_filter: str, options: Options) -> None:
        is_new = self.router.subscribe(Subscription(self.sessions[session], topic_filter, *options))
        assert is_new == ((session, topic_filter) not in self.subscriptions)
        self.subscriptions[session, topic_filter] = options

    @rule(session=st.integers(0, 5), topic_filter=st.sampled_from(FILTERS + SHARED))
    def unsubscribe(self, session: int, topic_filter: str) -> None:
        was_there = self.subscriptions.pop((session, topic_filter), None) is not None
        assert self.router.unsubscribe(self.sessions[session], topic_filter) == was_there

    @rule(session=st.integers(0, 5))
    def end(self, session: int) -> None:
        self.router.remove(self.sessions[session])
        self.subscriptions = {key: options for key, options in self.subscriptions.items() if key[0] != session}

    @rule(session=st.integers(0, 5))
    def come_or_go(self, session: int) -> None:
        come_or_go(self.router, self.sessions[session])

    @rule(user=st.sampled_from(USERS), topic_name=st.sampled_from(TOPICS))
    def change_permission(self, user: str, topic_name: str) -> None:
        self.forbidden ^= {(user, topic_name)}
        self.router.forget_routes()

    @rule(topic_names=st.lists(st.sampled_from(TOPICS)))
    def publish(self, topic_names: list[str]) -> None:
        """So that some routes are remembered and some are not."""
        for topic_name in topic_names:
            assert self.router.route(topic_name) is self.router.route(topic_name)

    def matching(self, topic_name: str) -> dict[int, list[Options]]:
        found: dict[int, list[Options]] = {}
        for (session, topic_filter), options in self.subscriptions.items():
            share_name, shared_filter = split_share(topic_filter)
            if share_name is None and matches(shared_filter, topic_name):
                found.setdefault(session, []).append(options)
        return found

    def groups(self, topic_name: str) -> dict[tuple[str, str], dict[int, int]]:
        found: dict[tuple[str, str], dict[int, int]] = {}
        for (session, topic_filter), options in self.subscriptions.items():
            share_name, shared_filter = split_share(topic_filter)
            if share_name is not None and matches(shared_filter, topic_name) and self.may(session, topic_name):
                found.setdefault((share_name, shared_filter), {})[session] = options.qos
        return found

    def may(self, session: int, topic_name: str) -> bool:
        return (self.sessions[session].user, topic_name) not in self.forbidden

    def check_route(self, topic_name: str, route: Route) -> None:
        got = {self.sessions.index(each.session): each for each in route.subscriptions}
        assert len(got) == len(route.subscriptions), "more than one copy"
        expected = {
            session: several for session, several in self.matching(topic_name).items() if self.may(session, topic_name)
        }
        assert got.keys() == expected.keys()
        for session, several in expected.items():
            assert options_of(got[session]) == merged(several)
            own = [options for options in several if not options.no_local]
            assert options_of(got[session].own()) == (merged(own) if own else None)
            if any(options.no_local for options in several):
                assert not got[session].plain

    def check_groups(self, topic_name: str, route: Route) -> None:
        expected = self.groups(topic_name)
        assert {(group.share_name, group.topic_filter) for group in route.groups} == expected.keys()
        assert len(route.groups) == len(expected), "more than one copy"
        for group in route.groups:
            members = expected[group.share_name, group.topic_filter]
            present = {
                session: qos for session, qos in members.items() if self.sessions[session].connection is not None
            }
            in_turn = present or members  # who is away gets it only if nobody is there
            taken = [group.next(lambda _: True) for _ in in_turn]
            assert {self.sessions.index(each.session): each.qos for each in taken if each is not None} == in_turn

    @invariant()
    def a_route_is_what_the_subscriptions_and_the_permissions_say(self) -> None:
        for topic_name in TOPICS:
            for route in (self.router.route(topic_name), self.router._make_route(topic_name)):
                self.check_route(topic_name, route)
                self.check_groups(topic_name, route)

    @invariant()
    def an_audience_gets_one_copy_each_and_nobody_else_does(self) -> None:
        for topic_name in TOPICS:
            matching = self.matching(topic_name)
            for audience in (frozenset({"ana"}), frozenset({"ana", "bruno", "zoe"}), frozenset(USERS)):
                found = list(self.router.matches(topic_name, audience))
                got = {self.sessions.index(session): subscription for session, subscription in found}
                assert len(found) == len(got), "more than one copy"
                expected = {s: several for s, several in matching.items() if self.sessions[s].user in audience}
                assert {s: options_of(each) for s, each in got.items()} == {
                    s: merged(several) for s, several in expected.items()
                }
            for number, session in enumerate(self.sessions):
                granted = merged(matching[number]) if number in matching else None
                assert options_of(self.router.granted(session, topic_name)) == granted

    @invariant()
    def the_numbers_are_right(self) -> None:
        router = self.router
        assert len(router) == len(self.subscriptions) == sum(len(each.subscriptions) for each in self.sessions)
        for number, session in enumerate(self.sessions):
            wild = [each for owner, each in self.subscriptions if owner == number and ("+" in each or "#" in each)]
            assert router.wildcards(session) == len(wild)
            assert router.wildcard_levels(session) == sum(len(each.split("/")) for each in wild)
        assert len(router._routes) <= len(TOPICS)
        assert router._targets == sum(route.targets for route in router._routes.values()) <= 12
        if not self.subscriptions:
            assert_empty(router)


def test_any_order_of_subscriptions_routes_as_a_model_says() -> None:
    run_state_machine_as_test(Routing, settings=settings(max_examples=100, stateful_step_count=20, deadline=None))
