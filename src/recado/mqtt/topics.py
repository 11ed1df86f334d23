"""Topic names and topic filters: what is valid, what matches, and a tree that holds many of either.

Everything is linear and nothing recurses.

The validators raise ProtocolError with 0x90 (names) or 0x8F (filters), which is also what an answer to one bad filter
in a SUBSCRIBE says. Their limits come from the caller, who owns them: `bytes_max` of UTF-8, `levels_max` levels.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

from recado.mqtt.properties import decode_string
from recado.mqtt.reason_codes import ProtocolError, ReasonCode, malformed

T = TypeVar("T")

SHARE_PREFIX = "$share/"
TOPIC_BYTES_MAX = 65_535


class ShareFilter(NamedTuple):
    """A filter as subscribed to, in its parts: `share_name` is None for a subscription that is not shared."""

    share_name: str | None
    topic_filter: str


# Topic names come again and again: a name already checked costs one dict look-up instead of decoding and three
# searches, and brings its hash along for the router. Bounded: 4096 names of up to 128 bytes, then it starts afresh.
checked_topic_names: dict[bytes, str] = {}
_CHECKED_NAMES_MAX = 4096
_CHECKED_NAME_BYTES_MAX = 128


def decode_topic_name(raw: bytes) -> str:
    """Return the topic name of a PUBLISH or a will; ProtocolError (0x81) where it is none."""
    topic_name = decode_string(raw)  # [MQTT5-3.3.2-1] [MQTT5-3.1.3-11]
    if not raw:
        raise malformed("an empty topic name")  # [MQTT5-4.7.3-1] [MQTT311-4.7.3-1]
    if has_wildcard(topic_name):
        raise malformed("a topic name has a wildcard")  # [MQTT5-3.3.2-2] [MQTT311-3.3.2-2]
    if len(raw) <= _CHECKED_NAME_BYTES_MAX:
        if len(checked_topic_names) >= _CHECKED_NAMES_MAX:
            checked_topic_names.clear()
        checked_topic_names[raw] = topic_name
    return topic_name


def validate_topic_name(
    topic_name: str, *, bytes_max: int = TOPIC_BYTES_MAX, levels_max: int = TOPIC_BYTES_MAX
) -> None:
    """Raise ProtocolError (0x90) unless a PUBLISH or a will may carry this topic name."""
    _validate(topic_name, ReasonCode.TOPIC_NAME_INVALID, bytes_max, levels_max)
    if has_wildcard(topic_name):
        raise ProtocolError(ReasonCode.TOPIC_NAME_INVALID, "a topic name has a wildcard")  # [MQTT5-3.3.2-2]


def validate_topic_filter(
    topic_filter: str, *, bytes_max: int = TOPIC_BYTES_MAX, levels_max: int = TOPIC_BYTES_MAX
) -> ShareFilter:
    """Raise ProtocolError (0x8F) unless this is a valid filter, shared or not; return its parts."""
    _validate(topic_filter, ReasonCode.TOPIC_FILTER_INVALID, bytes_max, levels_max)
    parts = split_share(topic_filter)
    if has_wildcard(parts.topic_filter):
        _validate_wildcards(parts.topic_filter)
    return parts


def split_share(topic_filter: str) -> ShareFilter:
    """Split `$share/<name>/<filter>`; ProtocolError (0x8F) where the name or the filter is missing or wrong."""
    if not topic_filter.startswith(SHARE_PREFIX) and topic_filter != "$share":
        return ShareFilter(None, topic_filter)
    share_name, _, shared_filter = topic_filter[len(SHARE_PREFIX) :].partition("/")
    if not share_name or has_wildcard(share_name):  # [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]
        raise ProtocolError(ReasonCode.TOPIC_FILTER_INVALID, "a share name is empty or has a wildcard")
    if not shared_filter:
        raise ProtocolError(ReasonCode.TOPIC_FILTER_INVALID, "a shared filter is empty")  # [MQTT5-4.8.2-2]
    return ShareFilter(share_name, shared_filter)


def has_wildcard(topic_filter: str) -> bool:
    return "#" in topic_filter or "+" in topic_filter


def matches(topic_filter: str, topic_name: str) -> bool:
    """Tell whether a valid filter (without `$share/`) matches a valid topic name."""
    if topic_filter == topic_name:
        return True
    if not has_wildcard(topic_filter):
        return False
    if topic_name.startswith("$") and topic_filter.startswith(("+", "#")):
        return False  # [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]
    return _levels_match(topic_filter.split("/"), topic_name.split("/"))


def _levels_match(filter_levels: list[str], name_levels: list[str]) -> bool:
    if filter_levels[-1] == "#":
        del filter_levels[-1]
        if len(filter_levels) > len(name_levels):
            return False
    elif len(filter_levels) != len(name_levels):
        return False
    pairs = zip(filter_levels, name_levels, strict=False)  # what "#" stands for is left over
    return all(level in ("+", name) for level, name in pairs)


def _validate(topic: str, reason_code: ReasonCode, bytes_max: int, levels_max: int) -> None:
    if not topic:
        raise ProtocolError(reason_code, "an empty topic")  # [MQTT5-4.7.3-1] [MQTT311-4.7.3-1]
    if "\0" in topic:
        raise ProtocolError(reason_code, "a topic has a null character")  # [MQTT5-4.7.3-2] [MQTT311-4.7.3-2]
    if topic.count("/") >= levels_max:
        raise ProtocolError(reason_code, f"a topic has more than {levels_max} levels")
    try:
        topic_bytes = len(topic.encode())
    except UnicodeEncodeError:
        raise ProtocolError(reason_code, "a topic has a lone surrogate") from None  # [MQTT5-1.5.4-1]
    if topic_bytes > bytes_max:
        raise ProtocolError(reason_code, f"a topic is longer than {bytes_max} bytes")  # [MQTT5-4.7.3-3]


def _validate_wildcards(topic_filter: str) -> None:
    levels = topic_filter.split("/")
    for level in levels:
        if level not in ("+", "#") and has_wildcard(level):
            text = "a wildcard does not stand alone in its level"  # [MQTT5-4.7.1-2] [MQTT311-4.7.1-3]
            raise ProtocolError(ReasonCode.TOPIC_FILTER_INVALID, text)
    if "#" in levels[:-1]:
        text = '"#" is not in the last level'  # [MQTT5-4.7.1-1] [MQTT311-4.7.1-2]
        raise ProtocolError(ReasonCode.TOPIC_FILTER_INVALID, text)


class Level(Generic[T]):
    """A level of a TopicTree: the levels below it by name, and what the topic that ends here has, if one does."""

    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, Level[T]] = _NO_CHILDREN
        self.value: T | None = None


_NO_CHILDREN: dict[str, Level[Any]] = {}  # shared by the levels that have none; never changed


class TopicTree(Generic[T]):
    """A value, never None, for each of many topic names, or of many filters: by the whole of it, or level by level.

    A wildcard is a level like any other: "+" and "#" in `children` are those of filters.
    """

    __slots__ = ("_ends", "root")

    def __init__(self) -> None:
        self.root: Level[T] = Level()
        self._ends: dict[str, Level[T]] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def get(self, topic: str) -> T | None:
        end = self._ends.get(topic)
        return None if end is None else end.value

    def set(self, topic: str, value: T) -> T | None:
        """Returns the value that was there before."""
        end = self._ends.get(topic)
        if end is None:
            end = self._ends[topic] = self._grow(topic)
        before, end.value = end.value, value
        return before

    def remove(self, topic: str) -> T | None:
        """Returns the value that was there. Of the topic's levels, those that nothing else needs go too."""
        end = self._ends.pop(topic, None)
        if end is None:
            return None
        value, end.value = end.value, None
        self._prune(topic)
        return value

    def _grow(self, topic: str) -> Level[T]:
        level = self.root
        for name in topic.split("/"):
            if level.children is _NO_CHILDREN:
                level.children = {}
            if (child := level.children.get(name)) is None:
                child = level.children[name] = Level()
            level = child
        return level

    def _prune(self, topic: str) -> None:
        path = [self.root]
        names = topic.split("/")
        for name in names:
            path.append(path[-1].children[name])
        while names and path[-1].value is None and not path[-1].children:
            path.pop()
            del path[-1].children[names.pop()]
