"""What holds for topics, whatever they are: their validation, and three ways to find what matches.

An input is up to twelve topics with newlines between them, each a filter and a name as far as it is one; lone
surrogates come in as bytes that are not UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from recado.mqtt.reason_codes import ProtocolError, ReasonCode
from recado.mqtt.retained import RetainedMessages
from recado.mqtt.router import Router
from recado.mqtt.session import Session
from recado.mqtt.subscription import Subscription
from recado.mqtt.topics import (
    TOPIC_BYTES_MAX,
    checked_topic_names,
    decode_topic_name,
    has_wildcard,
    matches,
    split_share,
    validate_topic_filter,
    validate_topic_name,
)

A = TypeVar("A")
R = TypeVar("R")

TOPICS_MAX = 12
FILTER = re.compile(r"((\+|[^+#/\0]*)/)*(\+|#|[^+#/\0]*)")  # 4.7.1, as an expression
SHARED = re.compile(r"\A\$share/[^+#/\0]+/(?=.)", re.DOTALL)  # 4.8.2


def check_topics(data: bytes) -> None:
    topics = dict.fromkeys(data.decode("utf-8", "surrogateescape").split("\n")[:TOPICS_MAX])
    filters = [each for each in topics if check_filter(each)]
    names = [each for each in topics if check_name(each)]
    check_retained(filters, names)
    check_router(filters, names)
    for topic_filter in filters:
        shared = split_share(topic_filter).topic_filter
        for name in names:
            assert matches(shared, name) == matches_slowly(shared, name)


def check_retained(filters: list[str], names: list[str]) -> None:
    retained: RetainedMessages[str] = RetainedMessages()
    for name in names:
        assert retained.set(name, name) is None
    for topic_filter in (split_share(each).topic_filter for each in filters):
        found = list(retained.matching(topic_filter))
        assert sorted(found) == sorted(each for each in names if matches_slowly(topic_filter, each))
    for name in names:
        assert retained.remove(name) == name
    assert not len(retained)
    assert not retained.root.children


def check_router(filters: list[str], names: list[str]) -> None:
    """One session subscribes to all filters, and one to each alone."""
    router = Router(routes_max=3, route_targets_max=20)
    everybody = [Session("a", "all", 1), *(Session("a", each, 1) for each in filters)]
    for session in everybody:
        for topic_filter in filters if session is everybody[0] else [session.client_id]:
            assert router.subscribe(Subscription(session, topic_filter, 1, False, False, ()))
    for name in names:
        check_route(router, filters, name)
    for session in everybody:
        router.remove(session)
    assert not len(router)
    assert not router._exact
    assert not router._wildcards.root.children
    assert not any(route.subscriptions or route.groups for route in router._routes.values())


def check_route(router: Router, filters: list[str], name: str) -> None:
    parts = [split_share(each) for each in filters]
    matching = {each for each, part in zip(filters, parts, strict=True) if matches_slowly(part.topic_filter, name)}
    own = {each for each, part in zip(filters, parts, strict=True) if each in matching and part.share_name is None}
    for _ in range(2):  # as it is made, and as it is remembered
        route = router.route(name)
        found = [each.session.client_id for each in route.subscriptions]
        assert sorted(found) == sorted([*own, "all"] if own else [])
        members = [member.client_id for group in route.groups for member in group]
        assert sorted({*members} - {"all"}) == sorted(matching - own)


def check_filter(topic_filter: str) -> bool:
    reason_code, parts = refusal(validate_topic_filter, topic_filter)
    assert (parts is not None) == is_filter(topic_filter)
    if parts is None:
        assert reason_code is ReasonCode.TOPIC_FILTER_INVALID
        return False
    assert parts == split_share(topic_filter)
    assert 0 < len(topic_filter.encode()) <= TOPIC_BYTES_MAX
    prefix = "" if parts.share_name is None else f"$share/{parts.share_name}/"
    assert prefix + parts.topic_filter == topic_filter
    return True


def is_filter(topic_filter: str) -> bool:
    if not topic_filter.isascii() and any("\ud800" <= each <= "\udfff" for each in topic_filter):
        return False
    shared = topic_filter == "$share" or topic_filter.startswith("$share/")
    rest = SHARED.sub("", topic_filter, count=1)
    return bool(topic_filter) and shared == (rest != topic_filter) and FILTER.fullmatch(rest) is not None


def check_name(topic_name: str) -> bool:
    """A name is valid as text exactly when the codec takes its bytes, and it matches itself."""
    raw = topic_name.encode("utf-8", "surrogateescape")
    reason_code, _ = refusal(validate_topic_name, topic_name)
    malformed, read = refusal(decode_topic_name, raw)
    assert len(checked_topic_names) <= 4096
    if reason_code is not None:
        assert reason_code is ReasonCode.TOPIC_NAME_INVALID
        assert malformed is ReasonCode.MALFORMED_PACKET
        return False
    assert read == topic_name
    assert matches(topic_name, topic_name)
    return True


def refusal(check: Callable[[A], R], argument: A) -> tuple[ReasonCode | None, R | None]:
    try:
        return None, check(argument)
    except ProtocolError as error:
        return error.reason_code, None


def matches_slowly(topic_filter: str, topic_name: str) -> bool:
    """The specification's words on matching, one level at a time."""
    if topic_name.startswith("$") and has_wildcard(topic_filter[:1]):
        return False
    names = topic_name.split("/")
    for depth, level in enumerate(topic_filter.split("/")):
        if level == "#":
            return True  # its parent level too, which is where the names end
        if depth == len(names) or level not in ("+", names[depth]):
            return False
    return depth + 1 == len(names)


TOPIC_SEEDS = [
    *(b"a\na", b"#\na/b", b"+/b\na/b", b"a/#\na", b"/+\n/", b"$SYS/#\n$SYS/x", b"#\n$SYS", b"$share/g/a/+\na/b"),
    *(b"$share/g\na", b"$share/+/a\na", b"a/#/b\na#", b"a+\n+", b"\xc3\xa9/+\n\xc3\xa9/\xf0\x9f\x98\x80", b"\xff\n\0"),
]
TOPIC_SEEDS.append(b"\n".join(TOPIC_SEEDS[:8]))
