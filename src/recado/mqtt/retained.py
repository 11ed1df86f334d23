"""The retained messages of all topics: one for each, found by topic name or by filter.

What is kept is the caller's choice of type, T; it is never None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from recado.mqtt.topics import Level, TopicTree, has_wildcard

T = TypeVar("T")


class RetainedMessages(TopicTree[T]):
    """`set`, `remove`, `get` and `len()` are the tree's, by topic name [MQTT5-3.3.1-5] [MQTT311-3.3.1-5]."""

    def matching(self, topic_filter: str) -> Iterator[T]:
        """Each value whose topic matches a valid filter (without `$share/`), once, in no promised order.

        Visits only levels that match so far, and needs memory for the filter's depth alone. The tree must not change
        meanwhile: who changes it makes a list first.
        """
        if has_wildcard(topic_filter):
            return self._walk(topic_filter.split("/"))
        value = self.get(topic_filter)
        return iter(()) if value is None else iter((value,))

    def _walk(self, levels: list[str]) -> Iterator[T]:
        open_ended = levels[-1] == "#"
        if open_ended:
            levels.pop()
        # One iterator for each level on the way from the root to where the walk is.
        path: list[Iterator[Level[T]]] = [iter((self.root,))]
        while path:
            level = next(path[-1], None)
            if level is None:
                path.pop()
                continue
            depth = len(path) - 1
            if depth < len(levels):
                path.append(iter(_below(level, levels[depth], is_root=depth == 0)))
                continue
            if level.value is not None:
                yield level.value
            if open_ended:
                path.append(iter(_below(level, "+", is_root=depth == 0)))


def _below(level: Level[T], name: str, is_root: bool) -> Iterable[Level[T]]:
    children = level.children
    if name != "+":
        return (children[name],) if name in children else ()
    if is_root:  # [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]
        return (child for child_name, child in children.items() if not child_name.startswith("$"))
    return children.values()
