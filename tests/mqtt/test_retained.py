"""Retained messages: found by filter as a scan of them all would find them, at a cost that what matches explains."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from recado.mqtt.retained import RetainedMessages
from recado.mqtt.topics import matches
from tests.mqtt.routing import steps

LEVEL = st.sampled_from(["", "a", "b", "$x"])
NAMES = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.tuples(
    st.lists(LEVEL | st.just("+"), max_size=4), st.sampled_from([[], ["#"]])
).map(lambda parts: "/".join(parts[0] + parts[1])).filter(bool)  # fmt: skip


def retained(*topic_names: str) -> RetainedMessages[str]:
    messages: RetainedMessages[str] = RetainedMessages()
    for topic_name in topic_names:
        messages.set(topic_name, topic_name)
    return messages


def test_there_is_one_for_each_topic_and_the_newest_counts() -> None:
    """MQTT5-3.3.1-5, MQTT311-3.3.1-5."""
    messages: RetainedMessages[int] = RetainedMessages()
    assert messages.set("a/b", 1) is None
    assert messages.set("a/b", 2) == 1
    assert messages.set("a", 3) is None
    assert (len(messages), messages.get("a/b"), messages.get("a"), messages.get("b")) == (2, 2, 3, None)
    assert sorted(messages.matching("a/#")) == [2, 3]


def test_removing_tells_what_was_there_and_leaves_the_others() -> None:
    messages = retained("a", "a/b", "a/b/c")
    assert messages.remove("a/b") == "a/b"
    assert messages.remove("a/b") is None
    assert messages.remove("a/b/c/d") is None
    assert list(messages.matching("#")) == ["a", "a/b/c"]
    assert (messages.get("a/b"), len(messages)) == (None, 2)


def test_levels_that_nothing_needs_any_more_are_let_go() -> None:
    messages = retained("a/b/c/d", "a/b")
    messages.remove("a/b/c/d")
    assert not messages.root.children["a"].children["b"].children
    messages.remove("a/b")
    assert not messages.root.children


@pytest.mark.parametrize(
    ("topic_filter", "topic_names"),
    [
        ("#", ["a", "a/b", "a/b/c", "/", "b"]),
        ("+", ["a", "b"]),
        ("+/#", ["a", "a/b", "a/b/c", "/", "b"]),
        ("a/#", ["a", "a/b", "a/b/c"]),
        ("a/+", ["a/b"]),
        ("a/b/#", ["a/b", "a/b/c"]),
        ("+/+", ["a/b", "/"]),
        ("$SYS/#", ["$SYS", "$SYS/x"]),
        ("$SYS/+", ["$SYS/x"]),
        ("a", ["a"]),
        ("$SYS/x", ["$SYS/x"]),
        ("nothing", []),
        ("nothing/#", []),
    ],
)
def test_a_filter_finds_its_topics(topic_filter: str, topic_names: list[str]) -> None:
    """MQTT5-4.7.1-1, MQTT5-4.7.2-1, MQTT311-4.7.2-1."""
    messages = retained("a", "a/b", "a/b/c", "/", "b", "$SYS", "$SYS/x")
    assert sorted(messages.matching(topic_filter)) == sorted(topic_names)


@given(st.lists(NAMES, unique=True), FILTERS)
def test_a_filter_finds_what_a_scan_finds(topic_names: list[str], topic_filter: str) -> None:
    found = list(retained(*topic_names).matching(topic_filter))
    assert sorted(found) == sorted(name for name in topic_names if matches(topic_filter, name))


class Retaining(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.messages: RetainedMessages[int] = RetainedMessages()
        self.model: dict[str, int] = {}

    @rule(topic_name=NAMES, value=st.integers())
    def set(self, topic_name: str, value: int) -> None:
        assert self.messages.set(topic_name, value) == self.model.get(topic_name)
        self.model[topic_name] = value

    @rule(topic_name=NAMES)
    def remove(self, topic_name: str) -> None:
        assert self.messages.remove(topic_name) == self.model.pop(topic_name, None)

    @rule(topic_filter=FILTERS)
    def find(self, topic_filter: str) -> None:
        expected = [value for topic_name, value in self.model.items() if matches(topic_filter, topic_name)]
        assert sorted(self.messages.matching(topic_filter)) == sorted(expected)

    @rule(topic_filter=FILTERS)
    def clear(self, topic_filter: str) -> None:
        """Remove what a filter finds, as a caller that collected it first."""
        for topic_name in [name for name in self.model if matches(topic_filter, name)]:
            self.remove(topic_name)
        assert list(self.messages.matching(topic_filter)) == []

    @invariant()
    def nothing_else_is_kept(self) -> None:
        assert len(self.messages) == len(self.model)
        assert {name: self.messages.get(name) for name in self.model} == self.model
        assert sorted(name for name in self.messages.root.children) == sorted({n.split("/")[0] for n in self.model})


def test_any_order_of_setting_and_removing_finds_what_a_scan_finds() -> None:
    run_state_machine_as_test(Retaining, settings=settings(max_examples=100, stateful_step_count=20, deadline=None))


def test_a_topic_of_slashes_is_found_and_removed_in_linear_time() -> None:
    """Bug class: recursion on tens of thousands of `/`."""
    slashes = "/" * 60_000
    messages = retained(slashes)
    for topic_filter in ("#", "/#", "+" + "/+" * 60_000, "/" * 59_990 + "#", slashes):
        assert steps(lambda topic_filter=topic_filter: list(messages.matching(topic_filter))) < 25 * 60_000  # type: ignore[misc]
        assert list(messages.matching(topic_filter)) == [slashes]
    messages.remove(slashes)
    assert not messages.root.children


def test_an_exact_filter_looks_at_no_other_topic_and_a_wildcard_only_where_it_may_match() -> None:
    messages = retained(*(f"device/{number}/{what}" for number in range(3_000) for what in ("state", "config")))
    assert steps(lambda: list(messages.matching("device/7/state"))) < 20
    assert steps(lambda: list(messages.matching("device/7/+"))) < 200
    assert steps(lambda: list(messages.matching("other/#"))) < 200
    assert len(list(messages.matching("device/+/state"))) == 3_000
    assert steps(lambda: list(messages.matching("device/+/+/+/+/#"))) < 20 * 9_000


def test_the_first_match_comes_without_looking_for_the_others() -> None:
    messages = retained(*(f"device/{number}/state" for number in range(3_000)))
    assert steps(lambda: next(messages.matching("#"))) < 200
