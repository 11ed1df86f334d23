"""Who gets a publication, of all that subscribed.

There are two ways to ask. `route` is for topics that are open to whoever subscribed: the answer is remembered until a
subscription changes it. `matches` is for a publication with an audience, the users who may see it: wildcards are kept
by user too, so one costs nothing to anyone who is not in the audience with it.

A session with overlapping filters gets one copy [MQTT5-3.3.4-2]; each shared group gets one more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from recado.mqtt.subscription import SharedGroup, Subscription, merge
from recado.mqtt.topics import TopicTree, has_wildcard, matches, split_share

if TYPE_CHECKING:
    from recado.mqtt.session import Session


TOPIC_REMEMBERED_MAX = 128
"""Characters of a topic name whose route is remembered: topics may be long, and routes are many."""


def levels_of(topic_filter: str) -> int:
    return topic_filter.count("/") + 1


class Route:
    """Who gets what is published to one topic: each session of `subscriptions`, and one member of each group."""

    __slots__ = ("groups", "subscriptions", "targets")

    def __init__(self, subscriptions: list[Subscription], groups: list[SharedGroup], targets: int) -> None:
        self.subscriptions = subscriptions
        self.groups = groups
        self.targets = targets
        """How many subscriptions it refers to, also inside merged ones and groups."""


class _Subscribers:
    """Of one topic filter: the sessions with a subscription of their own, and the groups by share name."""

    __slots__ = ("groups", "sessions")

    def __init__(self) -> None:
        self.sessions: dict[Session, Subscription] = {}
        self.groups: dict[str, SharedGroup] = {}


class _Own:
    """Of one session: its shared groups by filter, and how many filters with wildcards, of how many levels."""

    __slots__ = ("groups", "wildcard_levels", "wildcards")

    def __init__(self) -> None:
        self.groups: dict[str, SharedGroup] = {}
        self.wildcards = 0
        self.wildcard_levels = 0


class Router:
    """`routes_max` topics are remembered at most, and `route_targets_max` subscriptions in their routes together; long
    topics never are.

    `may_receive`, if set, is asked for each session when a route is made; `forget_routes` when its answers change.
    """

    def __init__(self, routes_max: int, route_targets_max: int) -> None:
        self.may_receive: Callable[[Session, str], bool] | None = None
        self._routes_max = routes_max
        self._route_targets_max = route_targets_max
        self._exact: dict[str, _Subscribers] = {}
        self._wildcards: TopicTree[_Subscribers] = TopicTree()
        self._wildcards_by_user: dict[str, dict[Session, dict[str, Subscription]]] = {}
        self._own: dict[Session, _Own] = {}  # of those who share or have wildcards
        self._routes: dict[str, Route] = {}
        self._targets = 0
        self._length = 0

    def __len__(self) -> int:
        """The subscriptions of all sessions."""
        return self._length

    # Subscriptions

    def subscribe(self, subscription: Subscription) -> bool:
        """Add a subscription, or replace the session's with the same filter [MQTT5-3.8.4-3] [MQTT311-3.8.4-3].

        The filter is a valid one. True if the subscription is new.
        """
        session = subscription.session
        share_name, topic_filter = split_share(subscription.topic_filter)
        is_new = subscription.topic_filter not in session.subscriptions
        session.subscriptions[subscription.topic_filter] = subscription
        self._length += is_new
        subscribers = self._subscribers(topic_filter)
        if share_name is not None:
            if (group := subscribers.groups.get(share_name)) is None:
                group = subscribers.groups[share_name] = SharedGroup(share_name, topic_filter)
            group.add(subscription)
            self._own_of(session).groups[subscription.topic_filter] = group
        else:
            subscribers.sessions[session] = subscription
            if has_wildcard(topic_filter):
                own = self._wildcards_by_user.setdefault(session.user, {}).setdefault(session, {})
                own[topic_filter] = subscription
        if is_new and has_wildcard(topic_filter):
            self._count_wildcard(session, subscription.topic_filter, 1)
        self._forget(topic_filter)
        return is_new

    def unsubscribe(self, session: Session, topic_filter: str) -> bool:
        """True if there was such a subscription."""
        if session.subscriptions.pop(topic_filter, None) is None:
            return False
        self._remove(session, topic_filter)
        return True

    def remove(self, session: Session) -> None:
        """The session ended: none of its subscriptions is left."""
        for topic_filter in session.subscriptions:
            self._remove(session, topic_filter)
        session.subscriptions.clear()

    def attached(self, session: Session) -> None:
        """The session has got a connection: the groups that it is in go round to it."""
        for group in self._own.get(session, _NOTHING).groups.values():
            group.attached(session)

    def detached(self, session: Session) -> None:
        """The session has lost its connection."""
        for group in self._own.get(session, _NOTHING).groups.values():
            group.detached(session)

    def wildcards(self, session: Session) -> int:
        """How many of the session's filters have a wildcard, shared ones too."""
        return self._own.get(session, _NOTHING).wildcards

    def wildcard_levels(self, session: Session) -> int:
        """How many levels those filters have together: what the session can make a publication cost at most."""
        return self._own.get(session, _NOTHING).wildcard_levels

    def _own_of(self, session: Session) -> _Own:
        return self._own.get(session) or self._own.setdefault(session, _Own())

    def _count_wildcard(self, session: Session, subscribed_filter: str, number: int) -> None:
        own = self._own_of(session)
        own.wildcards += number
        own.wildcard_levels += number * levels_of(subscribed_filter)

    def _subscribers(self, topic_filter: str) -> _Subscribers:
        is_wildcard = has_wildcard(topic_filter)
        subscribers = self._wildcards.get(topic_filter) if is_wildcard else self._exact.get(topic_filter)
        if subscribers is None:
            subscribers = _Subscribers()
            if is_wildcard:
                self._wildcards.set(topic_filter, subscribers)
            else:
                self._exact[topic_filter] = subscribers
        return subscribers

    def _remove(self, session: Session, subscribed_filter: str) -> None:
        share_name, topic_filter = split_share(subscribed_filter)
        subscribers = self._subscribers(topic_filter)
        if share_name is not None:
            group = self._own_of(session).groups.pop(subscribed_filter)
            group.discard(session)
            if not len(group):
                del subscribers.groups[share_name]
        else:
            del subscribers.sessions[session]
            if has_wildcard(topic_filter):
                self._remove_from_user(session, topic_filter)
        if has_wildcard(topic_filter):
            self._count_wildcard(session, subscribed_filter, -1)
        if (own := self._own.get(session)) is not None and not (own.wildcards or own.groups):
            del self._own[session]
        if not subscribers.sessions and not subscribers.groups:
            self._remove_filter(topic_filter)
        self._length -= 1
        self._forget(topic_filter)

    def _remove_from_user(self, session: Session, topic_filter: str) -> None:
        sessions = self._wildcards_by_user[session.user]
        del sessions[session][topic_filter]
        if not sessions[session]:
            del sessions[session]
        if not sessions:
            del self._wildcards_by_user[session.user]

    def _remove_filter(self, topic_filter: str) -> None:
        if has_wildcard(topic_filter):
            self._wildcards.remove(topic_filter)
        else:
            del self._exact[topic_filter]

    # Topics open to whoever subscribed

    def route(self, topic_name: str) -> Route:
        """Who gets what is published to a valid topic name. The caller does not change it, and does not keep it."""
        return self._routes.get(topic_name) or self._remember(topic_name, self._make_route(topic_name))

    def forget_routes(self) -> None:
        """Make every route anew at its next use."""
        # This costs as much as there are routes, each of which cost more to make: so a wildcard subscription costs
        # nothing where nothing was published since the last one. And no route holds on to a session that ended.
        self._routes.clear()
        self._targets = 0

    def _forget(self, topic_filter: str) -> None:
        if not self._routes:
            return
        if has_wildcard(topic_filter):
            self.forget_routes()
        elif (route := self._routes.pop(topic_filter, None)) is not None:
            self._targets -= route.targets

    def _make_route(self, topic_name: str) -> Route:
        found = _matching(self._wildcards, topic_name)
        if (exact := self._exact.get(topic_name)) is not None:
            found.append(exact)
        subscriptions = list(found[0].sessions.values()) if len(found) == 1 else _merged(found)
        groups = [group for subscribers in found for group in subscribers.groups.values()]
        targets = sum(len(subscribers.sessions) for subscribers in found) + sum(map(len, groups))
        if (may_receive := self.may_receive) is not None:
            subscriptions = [each for each in subscriptions if may_receive(each.session, topic_name)]
            groups = _allowed(groups, topic_name, may_receive)
        return Route(subscriptions, groups, targets)

    def _remember(self, topic_name: str, route: Route) -> Route:
        if route.targets > self._route_targets_max or len(topic_name) > TOPIC_REMEMBERED_MAX:
            return route
        if len(self._routes) >= self._routes_max or self._targets + route.targets > self._route_targets_max:
            self.forget_routes()
        self._routes[topic_name] = route
        self._targets += route.targets
        return route

    # Topics with an audience

    def matches(self, topic_name: str, audience: frozenset[str]) -> Iterator[tuple[Session, Subscription]]:
        """Each session of the audience that subscribed to `topic_name`, once, and the subscription that counts.

        Shared subscriptions have no part in this, and `may_receive` is not asked: the audience says who may.
        """
        subscribers = self._exact.get(topic_name)
        exact = _NOBODY if subscribers is None else subscribers.sessions
        wildcards = self._wildcards_by_user
        matched: dict[str, bool] = {}
        for session, subscription in exact.items():
            if session.user in audience:
                filters = wildcards[session.user].get(session) if session.user in wildcards else None
                if filters is None:
                    yield session, subscription
                else:
                    yield session, _granted(subscription, filters, topic_name, matched) or subscription
        if not wildcards:
            return
        for user in audience if len(audience) <= len(wildcards) else [each for each in wildcards if each in audience]:
            for session, filters in wildcards.get(user, _NO_SESSIONS).items():
                if session not in exact and (found := _granted(None, filters, topic_name, matched)) is not None:
                    yield session, found

    def granted(self, session: Session, topic_name: str) -> Subscription | None:
        """The subscription under which the session gets `topic_name`, merged if several match; shared ones never do."""
        subscribers = self._exact.get(topic_name)
        exact = None if subscribers is None else subscribers.sessions.get(session)
        return _granted(exact, self._wildcards_of(session), topic_name, {})

    def _wildcards_of(self, session: Session) -> dict[str, Subscription]:
        return self._wildcards_by_user.get(session.user, _NO_SESSIONS).get(session, _NO_FILTERS)


_NOTHING = _Own()  # never changed
_NOBODY: dict[Session, Subscription] = {}
_NO_SESSIONS: dict[Session, dict[str, Subscription]] = {}
_NO_FILTERS: dict[str, Subscription] = {}


def _granted(
    exact: Subscription | None, filters: dict[str, Subscription], topic_name: str, matched: dict[str, bool]
) -> Subscription | None:
    """What counts of a session's exact subscription and of those of its filters that match.

    `matched` remembers filters for this topic: most sessions have the same ones, and matching is the dear part.
    """
    found = exact
    several: list[Subscription] | None = None
    for topic_filter, subscription in filters.items():
        if (does_match := matched.get(topic_filter)) is None:
            does_match = matched[topic_filter] = matches(topic_filter, topic_name)
        if not does_match:
            continue
        if found is None:
            found = subscription
        elif several is None:
            several = [found, subscription]
        else:
            several.append(subscription)
    return found if several is None else merge(several)


def _matching(wildcards: TopicTree[_Subscribers], topic_name: str) -> list[_Subscribers]:
    """The filters with wildcards that match, each once. Goes down all of them together, level by level: at most each
    level of each filter is visited, once."""
    found = []
    levels = [wildcards.root]
    for depth, name in enumerate(topic_name.split("/")):
        admits_wildcards = depth > 0 or not name.startswith("$")  # [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]
        below = []
        for level in levels:
            children = level.children
            if name in children:
                below.append(children[name])
            if admits_wildcards and "+" in children:
                below.append(children["+"])
            if admits_wildcards and "#" in children:
                found.append(children["#"].value)
        levels = below
        if not levels:
            break
    for level in levels:
        found.append(level.value)
        if "#" in level.children:  # "a/#" matches "a" too
            found.append(level.children["#"].value)
    return [subscribers for subscribers in found if subscribers is not None]


def _merged(found: list[_Subscribers]) -> list[Subscription]:
    """Each session's subscription, merged where it has several."""
    merged: dict[Session, Subscription] = {}
    overlapping: dict[Session, list[Subscription]] = {}
    for subscribers in found:
        for session, subscription in subscribers.sessions.items():
            if session in merged:
                overlapping.setdefault(session, [merged[session]]).append(subscription)
            else:
                merged[session] = subscription
    for session, several in overlapping.items():
        merged[session] = merge(several)
    return list(merged.values())


def _allowed(
    groups: list[SharedGroup], topic_name: str, may_receive: Callable[[Session, str], bool]
) -> list[SharedGroup]:
    """The groups with the members that may get this topic; without those where nobody may."""
    allowed = []
    for group in groups:
        members = frozenset(session for session in group if may_receive(session, topic_name))
        if len(members) == len(group):
            allowed.append(group)
        elif members:
            allowed.append(group.restricted_to(members))
    return allowed
