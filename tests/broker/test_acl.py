"""The access control file: what it grants, what it never grants whatever a user is called, and how filters relate."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recado.broker import acl
from recado.broker.acl import ANONYMOUS, AclError, Permissions, covers, intersection, parse_acl
from recado.mqtt.topics import matches

EXAMPLE = """
# Everybody, with and without a user name
everyone
topic read news/#
pattern readwrite home/%u/#

anonymous
topic write hello

user ana
topic readwrite sensors/+/temperature
topic deny sensors/vault/#
pattern write clients/%c/state

user back office
topic readwrite #
"""


def who(text: str, user: str = "ana", client_id: str = "phone") -> Permissions:
    return parse_acl(text).permissions(user, client_id)


# What a file grants


def test_nothing_is_allowed_that_no_line_allows() -> None:
    ana = who(EXAMPLE)
    assert not ana.may_read("other")
    assert not ana.may_write("other")
    assert not ana.may_read_some("other/#")
    assert not who("").may_read("news")


def test_reading_and_writing_are_granted_apart() -> None:
    ana = who(EXAMPLE)
    assert (ana.may_read("news/today"), ana.may_write("news/today")) == (True, False)
    assert (ana.may_read("clients/phone/state"), ana.may_write("clients/phone/state")) == (False, True)
    assert (ana.may_read("sensors/a/temperature"), ana.may_write("sensors/a/temperature")) == (True, True)


def test_a_deny_wins_wherever_it_stands() -> None:
    ana = who(EXAMPLE)
    assert not ana.may_read("sensors/vault/temperature")
    assert not ana.may_write("sensors/vault/temperature")
    for text in (
        "user ana\ntopic deny a/b\neveryone\ntopic readwrite a/#",
        "everyone\ntopic deny a/b\nuser ana\ntopic readwrite a/b",
    ):
        assert who(text).may_read("a/c") == ("a/#" in text)
        assert not who(text).may_read("a/b")
        assert not who(text).may_write("a/b")


def test_a_section_is_for_whom_it_names_and_everyones_is_for_all() -> None:
    anonymous, bruno, office = (who(EXAMPLE, user) for user in (ANONYMOUS, "bruno", "back office"))
    assert [each.may_write("hello") for each in (anonymous, bruno)] == [True, False]
    assert [each.may_read("news") for each in (anonymous, bruno)] == [True, True]
    assert not bruno.may_read("sensors/a/temperature")
    assert office.may_write("anything/at/all")


def test_a_section_may_come_twice() -> None:
    ana = who("user ana\ntopic read a\nuser bruno\ntopic read b\nuser ana\ntopic read c")
    assert [ana.may_read(each) for each in "abc"] == [True, False, True]


def test_a_write_that_was_asked_for_before_is_answered_the_same_however_many_were_asked_for() -> None:
    ana = who("user ana\ntopic write a/#\ntopic deny a/7")
    for _ in range(2):
        for n in range(100):
            assert ana.may_write(f"a/{n}") == (n != 7)
            assert not ana.may_write(f"b/{n}")


# $ topics


def test_sys_may_be_read_by_everybody_until_a_line_names_it() -> None:
    assert who(EXAMPLE, ANONYMOUS).may_read("$SYS/broker/uptime")
    assert who(EXAMPLE, ANONYMOUS).may_read_some("$SYS/#")
    assert not who(EXAMPLE).may_write("$SYS/broker/uptime")
    admin = "user admin\ntopic read $SYS/#"
    assert who(admin, "admin").may_read("$SYS/broker/uptime")
    assert not who(admin, "ana").may_read("$SYS/broker/uptime")
    assert not who(admin, "ana").may_read_some("$SYS/broker/uptime")
    assert not who("everyone\ntopic deny $SYS/#").may_read("$SYS/broker/uptime")


def test_no_wildcard_at_the_start_reaches_a_dollar_topic() -> None:
    office = who(EXAMPLE + "\nuser admin\ntopic read $SYS/#", "back office")
    assert not office.may_read("$SYS/broker/uptime")
    assert not office.may_write("$other/x")
    assert not office.may_read_some("$other/x")
    assert who("user ana\ntopic readwrite $other/#").may_write("$other/x")


# Patterns


def test_a_pattern_is_for_each_user_and_client_id_their_own() -> None:
    acl = parse_acl(EXAMPLE)
    assert acl.permissions("ana", "phone").may_read("home/ana/x")
    assert not acl.permissions("ana", "phone").may_read("home/bruno/x")
    assert not acl.permissions("ana", "phone").may_write("clients/tablet/state")
    assert acl.permissions("ana", "tablet").may_write("clients/tablet/state")


def test_a_pattern_may_have_more_in_a_level_than_the_name() -> None:
    ana = who("everyone\npattern write log/from-%u-at-%c/+")
    assert ana.may_write("log/from-ana-at-phone/x")
    assert not ana.may_write("log/from-ana-at-x/x")


@pytest.mark.parametrize("name", ["+", "#", "a/b", "/", "a+", "#a", "x/#", ""])
@pytest.mark.parametrize("pattern", ["home/%u/#", "%u/#", "home/x-%u", "%u"])
def test_a_name_that_reaches_beyond_its_level_is_allowed_nothing(name: str, pattern: str) -> None:
    for text, permissions in (
        (pattern, who(f"everyone\npattern readwrite {pattern}", user=name)),
        (pattern, who(f"everyone\npattern readwrite {pattern.replace('%u', '%c')}", client_id=name)),
    ):
        for topic_name in (text.replace("%u", name), "home/bruno/x", "bruno/x", "home/x-b", "bruno", "home/a/b", "a/b"):
            assert not permissions.may_read(topic_name)
            assert not permissions.may_write(topic_name)
        assert not permissions.may_read_some("#")


def test_a_name_is_not_filled_in_a_second_time() -> None:
    assert who("everyone\npattern read home/%u/x", user="%c", client_id="bruno").may_read("home/%c/x")
    assert not who("everyone\npattern read home/%u/x", user="%c", client_id="bruno").may_read("home/bruno/x")


def test_nobody_gets_at_dollar_topics_by_their_name() -> None:
    permissions = who("everyone\npattern readwrite %u/#\ntopic deny $SYS/never", user="$SYS")
    assert not permissions.may_read("$SYS/broker/uptime")
    assert not permissions.may_read_some("$SYS/#")
    assert not permissions.may_write("$SYS/x")


@pytest.mark.parametrize("name", ["+", "a/b", "#"])
def test_nobody_gets_around_a_deny_by_their_name(name: str) -> None:
    permissions = who("everyone\ntopic readwrite #\npattern deny locks/%c/#", client_id=name)
    assert not permissions.may_write(f"locks/{name}/x")
    assert not permissions.may_write("locks/bruno/x")
    assert permissions.may_write("other/x")


NAMES = st.text(st.sampled_from("ab+#/%uc$"), max_size=5)
TOPICS = st.lists(st.sampled_from(["", "a", "b", "ab", "own", "$SYS", "x"]), min_size=1, max_size=4).map("/".join)


@given(user=NAMES, client_id=NAMES, topic_name=TOPICS.filter(bool))
def test_a_pattern_never_grants_outside_the_users_own_level(user: str, client_id: str, topic_name: str) -> None:
    permissions = who("everyone\npattern readwrite own/%u/#\npattern readwrite %c/x", user, client_id)
    levels = topic_name.split("/")
    is_own = levels[0] == "own" and levels[1:2] == [user] and user != ""
    is_clients = levels == [client_id, "x"] and client_id != "" and not client_id.startswith("$")
    assert permissions.may_write(topic_name) == (is_own or is_clients)
    assert permissions.may_read(topic_name) == (is_own or is_clients or levels[0] == "$SYS")


# Subscribing


@pytest.mark.parametrize(
    ("topic_filter", "granted"),
    [
        ("#", True),
        ("news/#", True),
        ("news", True),
        ("+/+/temperature", True),
        ("sensors/vault/temperature", False),
        ("sensors/vault/+", False),
        ("sensors/vault/#", False),
        ("sensors/+/temperature", True),
        ("sensors/+/humidity", False),
        ("clients/phone/state", False),
        ("$other/#", False),
        ("$SYS/#", True),
    ],
)
def test_a_filter_is_granted_if_anything_of_it_may_be_read(topic_filter: str, granted: bool) -> None:
    assert who(EXAMPLE).may_read_some(topic_filter) == granted


# What is written wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("topic read a", "line 1: a rule stands in a section"),
        ("everyone\n\n# x\ntopic a", "line 4: a rule is"),
        ("everyone\ntopic read", "line 2: a rule is"),
        ("everyone\ntopic publish a", "line 2: a rule is"),
        ("everyone\ntopic read a/#/b", "line 2: 'a/#/b' is no topic filter"),
        ("everyone\ntopic read a+", "is no topic filter"),
        ("everyone\npattern read a/%u#", "is no topic filter"),
        ("everyone\ntopic read a/%u", "for `pattern` lines"),
        ("everyone\npattern read a/b", "for `pattern` lines"),
        ("everyone\ntopic read $share/g/a", "name the filter alone"),
        ("everyone\ntopic read $share", "name the filter alone"),
        ("everyone ana", "line 1: `everyone` stands alone"),
        ("anonymous x", "line 1: `anonymous` stands alone"),
        ("user", "line 1: `user` needs a name"),
        ("users ana", "line 1: a line begins with"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named_by_its_number(text: str, said: str) -> None:
    with pytest.raises(AclError) as error:
        parse_acl(text)
    assert said in str(error.value)


def test_line_ends_and_spaces_do_not_matter() -> None:
    ana = who("  everyone\r\n\ttopic   read   a b/c  \r\n")
    assert ana.may_read("a b/c")


# How filters relate, against all short topics

LEVELS = ["a", "b", "", "$x", "z"]  # z stands for every level that no filter names
TOPIC_NAMES = [name for size in (1, 2, 3, 4) for levels in product(LEVELS, repeat=size) if (name := "/".join(levels))]
FILTERS = st.tuples(st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), max_size=3), st.sampled_from([[], ["#"]])).map(
    lambda parts: "/".join([*parts[0], *parts[1]])
)


@given(FILTERS.filter(bool), FILTERS.filter(bool))
@example("+/#", "#")
@example("#", "+/#")
@example("a/+/#", "a/#")
def test_covering_is_matching_every_topic_that_the_other_matches(topic_filter: str, other: str) -> None:
    expected = all(matches(topic_filter, name) for name in TOPIC_NAMES if matches(other, name))
    assert covers(topic_filter, other) == expected


@given(FILTERS.filter(bool), FILTERS.filter(bool))
def test_what_two_filters_share_is_a_filter_that_matches_what_both_match(topic_filter: str, other: str) -> None:
    shared = intersection(topic_filter, other)
    for name in TOPIC_NAMES:
        both = matches(topic_filter, name) and matches(other, name)
        assert both == (shared is not None and matches(shared, name))


def test_relating_long_filters_takes_time_in_their_length_and_no_recursion() -> None:
    deep = "a/" * 30_000
    assert covers(deep + "#", deep + "b/c")
    assert not covers(deep + "b", deep + "c")
    assert intersection("+/" * 30_000 + "#", deep + "b") == deep + "b"


# What is remembered


def test_a_long_topic_is_asked_about_anew_each_time() -> None:
    """Bug class: a bound on how many are remembered, and none on how long they are."""
    office = who(EXAMPLE, "back office")
    for _ in range(2):
        assert office.may_write("x" * 129)
        assert not who(EXAMPLE).may_write("x" * 129)
    assert office._remembered == {}
    assert office.may_write("x" * 128)
    assert list(office._remembered) == ["x" * 128]


def test_topics_are_remembered_up_to_a_bound() -> None:
    office = who(EXAMPLE, "back office")
    for number in range(1_000):
        assert office.may_write(str(number))
        assert len(office._remembered) <= 32


def test_what_is_remembered_of_users_is_bounded_in_bytes_however_long_their_names_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acl, "_COMPILED_BYTES_MAX", 1_100_000)
    rules = parse_acl(EXAMPLE)
    for number in range(20):
        client_id = f"{number}" + "x" * 60_000
        assert rules.permissions("ana", client_id).may_write(f"clients/{client_id}/state")
        held = [4 * len(user + client) + each.size for (user, client), each in rules._compiled.items()]
        assert sum(held) == rules._compiled_bytes <= 1_100_000
        assert rules.permissions("ana", client_id) is rules.permissions("ana", client_id)
    assert len(rules._compiled) == 2


def test_one_that_is_larger_than_the_bound_is_remembered_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acl, "_COMPILED_BYTES_MAX", 10)
    rules = parse_acl(EXAMPLE)
    for client_id in "ab":
        assert rules.permissions("ana", client_id) is rules.permissions("ana", client_id)
    assert list(rules._compiled) == [("ana", "b")]
