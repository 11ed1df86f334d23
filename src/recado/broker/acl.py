"""Who may publish and read what: the access control file of the stand-alone server, parsed and asked. Pure.

A file is sections (`user NAME`, `anonymous`, `everyone`) of lines `topic ACCESS FILTER` and `pattern ACCESS FILTER`.
What no line allows is refused, and a `deny` wins over every line that allows.

`%u` and `%c` in a pattern stand for the user name and the client id, each inside one level. A value that could reach
further (it holds `+`, `#` or `/`, is empty, or begins a topic with `$`) allows nothing: so nobody gains by a name.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, get_args

from recado.mqtt.reason_codes import ProtocolError
from recado.mqtt.topics import SHARE_PREFIX, has_wildcard, matches, validate_topic_filter

Access = Literal["read", "write", "readwrite", "deny"]
ANONYMOUS = ""  # who connected without a user name
SYS = "$SYS"
_SYS_FILTER = "$SYS/#"
_PLACE = re.compile("%[uc]")
_BEYOND_A_LEVEL = frozenset("+#/")
_COMPILED_MAX = 10_000
_COMPILED_BYTES_MAX = 128 * 1024 * 1024
_REMEMBERED_MAX = 32
_REMEMBERED_CHARACTERS_MAX = 128
_REMEMBERED_BYTES = 100 + 4 * _REMEMBERED_CHARACTERS_MAX
_FILTER_BYTES = 100  # beside its text, in a few tuples and a set
_RULE_FORM = "a rule is `topic` or `pattern`, then read, write, readwrite or deny, then a topic filter"


class AclError(Exception):
    """A line that cannot be meant; the text begins with its number."""


class Rule(NamedTuple):
    access: Access
    topic_filter: str
    is_pattern: bool = False


class Permissions:
    """What one user with one client id may do."""

    __slots__ = ("_denied", "_readable", "_remembered", "_writable", "size")

    def __init__(self, readable: list[str], writable: list[str], denied: list[str]) -> None:
        self._readable = _Filters(readable)
        self._writable = _Filters(writable)
        self._denied = _Filters(denied)
        self._remembered: dict[str, bool] = {}
        texts = [each for filters in (self._readable, self._writable, self._denied) for each in filters.all]
        self.size = sum(_FILTER_BYTES + 4 * len(each) for each in texts) + _REMEMBERED_MAX * _REMEMBERED_BYTES
        """About how many bytes of memory this takes at most."""

    def may_read(self, topic_name: str) -> bool:
        return self._readable.match(topic_name) and not self._denied.match(topic_name)

    def may_write(self, topic_name: str) -> bool:
        """Remembered for some topics, if they are not long: a client publishes to few, and again and again."""
        may = self._remembered.get(topic_name)
        if may is None:
            may = self._writable.match(topic_name) and not self._denied.match(topic_name)
            if len(topic_name) <= _REMEMBERED_CHARACTERS_MAX:
                if len(self._remembered) >= _REMEMBERED_MAX:
                    self._remembered.clear()
                self._remembered[topic_name] = may
        return may

    def may_read_some(self, topic_filter: str) -> bool:
        """Whether a filter matches anything that may be read: what two filters share is a filter, so a deny that
        covers that leaves nothing of it. Denies that cover it only together are left to the deliveries."""
        shared = (intersection(topic_filter, each) for each in self._readable.all)
        return any(each is not None and not self._denied.cover(each) for each in shared)


class _Filters:
    """Filters without wildcards are names: asking for one costs a look-up."""

    __slots__ = ("all", "_names", "_wildcards")  # noqa: RUF023

    def __init__(self, topic_filters: list[str]) -> None:
        self.all = tuple(dict.fromkeys(topic_filters))
        self._names = frozenset(each for each in self.all if not has_wildcard(each))
        self._wildcards = tuple(each for each in self.all if has_wildcard(each))

    def match(self, topic_name: str) -> bool:
        return topic_name in self._names or any(matches(each, topic_name) for each in self._wildcards)

    def cover(self, topic_filter: str) -> bool:
        return any(covers(each, topic_filter) for each in self.all)


class Acl:
    """The rules of a file. Until a line names `$SYS`, everybody may read `$SYS/#`."""

    def __init__(self, everyone: list[Rule], users: dict[str, list[Rule]]) -> None:
        """`users` has the rules of each user name, and under `ANONYMOUS` those of who has none."""
        self._everyone = everyone
        self._users = users
        self._compiled: dict[tuple[str, str], Permissions] = {}
        self._compiled_bytes = 0
        every_rule = [*everyone, *(rule for rules in users.values() for rule in rules)]
        self._sys_is_open = not any(rule.topic_filter.split("/")[0] == SYS for rule in every_rule)
        self._client_ids_matter = any(rule.is_pattern and "%c" in rule.topic_filter for rule in every_rule)

    def permissions(self, user: str, client_id: str) -> Permissions:
        """Compiled once for each user, or for each client id if a pattern asks for it."""
        key = (user, client_id if self._client_ids_matter else "")
        found = self._compiled.get(key)
        if found is None:
            found = self._compile(user, client_id)
            self._compiled_bytes += _bytes_of(key, found)
            while self._compiled and (
                len(self._compiled) >= _COMPILED_MAX or self._compiled_bytes > _COMPILED_BYTES_MAX
            ):
                oldest = next(iter(self._compiled))
                self._compiled_bytes -= _bytes_of(oldest, self._compiled.pop(oldest))
            self._compiled[key] = found
        return found

    def _compile(self, user: str, client_id: str) -> Permissions:
        readable, writable, denied = ([_SYS_FILTER] if self._sys_is_open else []), [], []
        for rule in (*self._everyone, *self._users.get(user, ())):
            topic_filter = _filled(rule, user, client_id)
            if topic_filter is None:
                continue
            if rule.access == "deny":
                denied.append(topic_filter)
            if rule.access in ("read", "readwrite"):
                readable.append(topic_filter)
            if rule.access in ("write", "readwrite"):
                writable.append(topic_filter)
        return Permissions(readable, writable, denied)


def _bytes_of(key: tuple[str, str], permissions: Permissions) -> int:
    return 4 * (len(key[0]) + len(key[1])) + permissions.size


def _filled(rule: Rule, user: str, client_id: str) -> str | None:
    """The rule's filter for this user; None if it says nothing to them."""
    if not rule.is_pattern:
        return rule.topic_filter
    values = {"%u": user, "%c": client_id}
    levels: list[str] = []
    for level in rule.topic_filter.split("/"):
        used = [values[place] for place in _PLACE.findall(level)]
        if not all(used):
            return None
        if any(_BEYOND_A_LEVEL.intersection(value) for value in used):
            # A deny fails closed: it denies all that the pattern could have named.
            return "/".join([*levels, "#"]) if rule.access == "deny" else None
        filled = _PLACE.sub(lambda place: values[place.group()], level)  # once: a value is not filled in again
        if not levels and used and filled.startswith("$") and rule.access != "deny":
            return None
        levels.append(filled)
    return "/".join(levels)


# The file


def parse_acl(text: str) -> Acl:
    """Raises AclError."""
    everyone: list[Rule] = []
    users: dict[str, list[Rule]] = {}
    section: list[Rule] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        rest = words[1].strip() if len(words) > 1 else ""
        try:
            if words[0] in ("topic", "pattern"):
                _in_section(section).append(_rule(rest, is_pattern=words[0] == "pattern"))
            else:
                user = _section_user(words[0], rest)
                section = everyone if user is None else users.setdefault(user, [])
        except AclError as error:
            raise AclError(f"line {number}: {error}") from None
    return Acl(everyone, users)


def _in_section(section: list[Rule] | None) -> list[Rule]:
    if section is None:
        raise AclError("a rule stands in a section: begin one with `user NAME`, `anonymous` or `everyone`")
    return section


def _section_user(word: str, rest: str) -> str | None:
    """Whose section begins: a user name, `ANONYMOUS`, or None for everyone's."""
    if word == "user":
        if not rest:
            raise AclError("`user` needs a name; those without one are `anonymous`")
        return rest
    if word not in ("anonymous", "everyone"):
        raise AclError(f"a line begins with user, anonymous, everyone, topic or pattern, not {word!r}")
    if rest:
        raise AclError(f"`{word}` stands alone in its line")
    return ANONYMOUS if word == "anonymous" else None


def _rule(text: str, is_pattern: bool) -> Rule:
    words = text.split(None, 1)
    if len(words) != 2 or words[0] not in get_args(Access):
        raise AclError(_RULE_FORM)
    access: Access = words[0]  # type: ignore[assignment]
    topic_filter = words[1]
    if bool(_PLACE.search(topic_filter)) != is_pattern:
        raise AclError("%u and %c are for `pattern` lines, and such a line has one of them")
    if f"{topic_filter}/".startswith(SHARE_PREFIX):
        raise AclError("name the filter alone: who may read it may share it")
    try:
        validate_topic_filter(_PLACE.sub("x", topic_filter))
    except ProtocolError as error:
        raise AclError(f"{topic_filter!r} is no topic filter: {error.text}") from None
    return Rule(access, topic_filter, is_pattern)


# What filters have to do with each other. Both are linear in the levels, and know that a wildcard at the start of a
# filter matches no topic that begins with `$` [MQTT5-4.7.2-1].


def covers(topic_filter: str, other: str) -> bool:
    """Whether every topic that `other` matches is matched by `topic_filter`."""
    if other.startswith("$") and topic_filter.startswith(("+", "#")):
        return False
    levels, others = _levels(topic_filter), _levels(other)
    for n, level in enumerate(levels):
        if level == "#":
            return True  # also of `other` ending here: a/# matches a
        if n == len(others) or others[n] == "#" or level not in ("+", others[n]):
            return False
    return len(levels) == len(others)


def intersection(topic_filter: str, other: str) -> str | None:
    """The filter of what both match, None if there is no such topic."""
    for one, another in ((topic_filter, other), (other, topic_filter)):
        if one.startswith("$") and another.startswith(("+", "#")):
            return None
    levels, others = topic_filter.split("/"), other.split("/")
    shared: list[str] = []
    for n in range(max(len(levels), len(others)) + 1):
        level = levels[n] if n < len(levels) else None
        another_level = others[n] if n < len(others) else None
        if level == "#" or another_level == "#":
            shared += others[n:] if level == "#" else levels[n:]
            break
        if level is None and another_level is None:
            break
        if level is None or another_level is None or (level != another_level and "+" not in (level, another_level)):
            return None
        shared.append(another_level if level == "+" else level)
    return "/".join(shared)


def _levels(topic_filter: str) -> list[str]:
    """A topic has a first level, so +/# says what # does."""
    return ["#"] if topic_filter == "+/#" else topic_filter.split("/")
