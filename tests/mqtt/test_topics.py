"""Topic names and filters: what is valid, what matches."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.mqtt.codec import ProtocolError
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.topics import (
    ShareFilter,
    TopicTree,
    has_wildcard,
    matches,
    split_share,
    validate_topic_filter,
    validate_topic_name,
)


@pytest.mark.parametrize("topic_name", ["a", "/", "//", "a b", "$SYS/x", "c/order-4711", "é/😀", "x" * 65_535])
def test_a_topic_name_may_be_any_text(topic_name: str) -> None:
    validate_topic_name(topic_name)
    assert validate_topic_filter(topic_name) == ShareFilter(None, topic_name)


@pytest.mark.parametrize("topic_name", ["", "a/+", "#", "a#", "a\0", "x" * 65_536, "é" * 32_768, "\ud800"])
def test_a_bad_topic_name_is_refused(topic_name: str) -> None:
    """MQTT5-4.7.3-1, MQTT5-4.7.3-2, MQTT5-4.7.3-3, MQTT5-4.7.0-1, MQTT5-3.3.2-2, MQTT311-4.7.3-1, MQTT311-4.7.3-2."""
    with pytest.raises(ProtocolError) as caught:
        validate_topic_name(topic_name)
    assert caught.value.reason_code is ReasonCode.TOPIC_NAME_INVALID


@pytest.mark.parametrize("topic_filter", ["#", "+", "a/#", "+/a/+", "/+", "+/", "a//#", "$SYS/#", "+/#", "$sharex/a"])
def test_a_wildcard_alone_in_its_level_is_a_filter(topic_filter: str) -> None:
    assert validate_topic_filter(topic_filter) == ShareFilter(None, topic_filter)


@pytest.mark.parametrize(
    "topic_filter", ["", "a#", "#/a", "a/#/b", "##", "a+", "+a", "a/b+/c", "++", "+#", "a\0", "x" * 65_536, "#/#"]
)
def test_a_bad_topic_filter_is_refused(topic_filter: str) -> None:
    """MQTT5-4.7.1-1, MQTT5-4.7.1-2, MQTT5-4.7.3-1, MQTT5-4.7.3-2, MQTT5-4.7.3-3, MQTT311-4.7.1-2, MQTT311-4.7.1-3."""
    with pytest.raises(ProtocolError) as caught:
        validate_topic_filter(topic_filter)
    assert caught.value.reason_code is ReasonCode.TOPIC_FILTER_INVALID


def test_the_caller_sets_the_limits() -> None:
    validate_topic_name("a/b/c", levels_max=3, bytes_max=5)
    validate_topic_filter("a/+/#", levels_max=3, bytes_max=5)
    for validate in (validate_topic_name, validate_topic_filter):
        for limits in ({"levels_max": 2}, {"bytes_max": 4}):
            with pytest.raises(ProtocolError):
                validate("a/b/c", **limits)
    with pytest.raises(ProtocolError):
        validate_topic_name("é", bytes_max=1)


@pytest.mark.parametrize(
    ("topic_filter", "parts"),
    [
        ("$share/g/c/+", ("g", "c/+")),
        ("$share/g/#", ("g", "#")),
        ("$share/g//", ("g", "/")),
        ("$share/g/$SYS/x", ("g", "$SYS/x")),
        ("c/+", (None, "c/+")),
    ],
)
def test_a_shared_filter_is_split(topic_filter: str, parts: tuple[str | None, str]) -> None:
    assert split_share(topic_filter) == validate_topic_filter(topic_filter) == parts


@pytest.mark.parametrize(
    "topic_filter",
    [
        *("$share", "$share/", "$share//", "$share//a", "$share///", "$share/g", "$share/g/", "$share/+", "$share/#"),
        *("$share/+/a", "$share/#/a", "$share/a+/b", "$share/a#/b"),
    ],
)
def test_a_shared_filter_without_a_good_name_and_filter_is_refused(topic_filter: str) -> None:
    """MQTT5-4.8.2-1, MQTT5-4.8.2-2. Bug class: `$share` slipping past a check."""
    with pytest.raises(ProtocolError) as caught:
        split_share(topic_filter)
    assert caught.value.reason_code is ReasonCode.TOPIC_FILTER_INVALID


@pytest.mark.parametrize("topic_filter", ["$share/g/a#", "$share/g/#/a", "$share/g/b+"])
def test_the_filter_inside_a_shared_one_is_checked_too(topic_filter: str) -> None:
    with pytest.raises(ProtocolError):
        validate_topic_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "topic_name"),
    [
        ("a/b", "a/b"),
        ("a/#", "a"),
        ("a/#", "a/"),
        ("a/#", "a/b/c"),
        ("#", "a"),
        ("#", "/"),
        ("#", "a/b/c"),
        ("+", "a"),
        ("+/+", "/a"),
        ("/+", "/a"),
        ("a/+", "a/"),
        ("a/+/c", "a//c"),
        ("+/#", "a"),
        ("a/+/#", "a/b"),
        ("$SYS/#", "$SYS/x"),
        ("$SYS/+", "$SYS/x"),
        ("a/+", "a/$b"),
        ("a/#", "a/$b"),
    ],
)
def test_a_filter_matches(topic_filter: str, topic_name: str) -> None:
    """MQTT5-4.7.1-1, MQTT5-4.7.1-2."""
    assert matches(topic_filter, topic_name)


@pytest.mark.parametrize(
    ("topic_filter", "topic_name"),
    [
        ("a/b", "a/B"),
        ("a/b", "/a/b"),
        ("a", "a/"),
        ("+", "/a"),
        ("a/+", "a"),
        ("a/+", "a/b/c"),
        ("a/+/#", "a"),
        ("a/#", "ab"),
        ("#", "$SYS/x"),
        ("+/x", "$SYS/x"),
        ("+/#", "$SYS"),
        ("$SYS/#", "SYS/x"),
        ("+/b", "a/c"),
    ],
)
def test_a_filter_does_not_match(topic_filter: str, topic_name: str) -> None:
    """MQTT5-4.7.2-1, MQTT311-4.7.2-1 ($ topics), MQTT5-4.7.3-4 (no normalisation)."""
    assert not matches(topic_filter, topic_name)


def test_names_are_compared_code_point_by_code_point() -> None:
    """MQTT5-4.7.3-4, MQTT311-4.7.3-4."""
    assert not matches("\u00e9", "e\u0301")


LEVEL = st.sampled_from(["", "a", "b", "$x"])
NAMES = st.lists(LEVEL, min_size=1, max_size=5).map("/".join).filter(bool)
FILTERS = st.tuples(
    st.lists(LEVEL | st.just("+"), max_size=5), st.sampled_from([[], ["#"]])
).map(lambda parts: "/".join(parts[0] + parts[1])).filter(bool)  # fmt: skip


def matches_by_definition(levels: list[str], name: list[str]) -> bool:
    if levels == ["#"]:
        return True
    if not levels or not name:
        return levels == name
    return levels[0] in ("+", name[0]) and matches_by_definition(levels[1:], name[1:])


@given(FILTERS, NAMES)
def test_matching_agrees_with_its_definition(topic_filter: str, topic_name: str) -> None:
    validate_topic_filter(topic_filter)
    hidden = topic_name.startswith("$") and topic_filter[0] in "+#"
    expected = matches_by_definition(topic_filter.split("/"), topic_name.split("/")) and not hidden
    assert matches(topic_filter, topic_name) == expected


@given(st.text())
def test_any_text_is_valid_or_refused(text: str) -> None:
    for validate in (validate_topic_name, validate_topic_filter):
        try:
            validate(text)
        except ProtocolError:
            continue
        assert text
        assert validate is validate_topic_filter or not has_wildcard(text)


def test_matching_deep_topics_is_linear() -> None:
    """Bug classes: a matcher with exponential backtracking, recursion on tens of thousands of `/`."""
    started = time.process_time()
    slashes = "/" * 65_000
    validate_topic_filter("+" + "/+" * 30_000 + "/#")
    assert matches("+" + "/+" * 30_000 + "/#", slashes)
    assert not matches("+/" * 32_000 + "x", "a/" * 32_000 + "y")
    assert matches("a/+/" * 16_000 + "#", "a/" * 32_000)
    assert time.process_time() - started < 1


def test_a_tree_shares_the_levels_of_its_topics_and_lets_go_of_them() -> None:
    tree: TopicTree[int] = TopicTree()
    for value, topic in enumerate(["a/+", "a/#", "a", "a/+/c"]):
        assert tree.set(topic, value) is None
    assert tree.root.children["a"].value == 2
    assert {name: level.value for name, level in tree.root.children["a"].children.items()} == {"+": 0, "#": 1}
    assert tree.set("a/+", 7) == 0
    assert (len(tree), tree.get("a/+"), tree.get("a/+/c"), tree.get("a/x")) == (4, 7, 3, None)

    assert (tree.remove("a/+"), tree.remove("a/+"), tree.get("a/+")) == (7, None, None)
    assert tree.root.children["a"].children["+"].children["c"].value == 3, "still on the way to another"
    for topic in ("a/+/c", "a", "a/#"):
        tree.remove(topic)
    assert (len(tree), tree.root.children) == (0, {})


def test_levels_without_children_do_not_share_them_with_each_other() -> None:
    """The empty dict that they share is never written to."""
    tree: TopicTree[int] = TopicTree()
    tree.set("a", 1)
    tree.set("b", 2)
    tree.set("a/x", 3)
    assert not tree.root.children["b"].children
    assert not TopicTree[int]().root.children
