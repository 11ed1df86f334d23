"""What a session asked to receive: one subscription, several that overlap, and the group that shares one.

A `Subscription` never changes: subscribing again makes a new one. So routes may hold them for as long as they like.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recado.mqtt.session import Session


class Subscription:
    """`topic_filter` is as subscribed to, with `$share/<name>/`; `qos` is as granted.

    `identifiers` are the subscription identifiers to send along. `plain` says that none of the options is set: then
    the granted QoS is all that there is to know, also for what the session published itself.
    """

    __slots__ = ("identifiers", "no_local", "plain", "qos", "retain_as_published", "session", "topic_filter")

    def __init__(
        self,
        session: Session,
        topic_filter: str,
        qos: int,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifiers: tuple[int, ...] = (),
    ) -> None:
        self.session = session
        self.topic_filter = topic_filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.identifiers = identifiers
        self.plain = not (no_local or retain_as_published or identifiers)

    def own(self) -> Subscription | None:
        """What counts for a publication of the session itself; None if it is not to get it back [MQTT5-3.8.3-3]."""
        return None if self.no_local else self


class _PartlyNoLocal(Subscription):
    """Several subscriptions, of which not all have No Local: under the others the session gets its own back."""

    __slots__ = ("_own",)
    _own: Subscription

    def own(self) -> Subscription:
        return self._own


def merge(subscriptions: Sequence[Subscription]) -> Subscription:
    """One subscription that stands for some of one session that all match the same topic.

    It has the highest QoS [MQTT5-3.3.4-2] [MQTT311-3.3.5-1] and the identifiers of all [MQTT5-3.3.4-4], in ascending
    order: the order means nothing. One of the given ones, and not a new one, where that says it all.
    """
    best = subscriptions[0]
    plain = True
    for each in subscriptions:
        plain = plain and each.plain
        if each.qos > best.qos:
            best = each
    if plain or len(subscriptions) == 1:
        return best
    return _merge_options(best, subscriptions)


def _merge_options(best: Subscription, subscriptions: Sequence[Subscription]) -> Subscription:
    own = [each for each in subscriptions if not each.no_local]
    merged = (_PartlyNoLocal if 0 < len(own) < len(subscriptions) else Subscription)(
        best.session,
        best.topic_filter,
        best.qos,
        no_local=not own,
        retain_as_published=any(each.retain_as_published for each in subscriptions),
        identifiers=tuple(sorted(identifier for each in subscriptions for identifier in each.identifiers)),
    )
    if isinstance(merged, _PartlyNoLocal):
        merged.plain = False
        merged._own = merge(own)
    return merged


class SharedGroup:
    """The sessions that share one filter under one name; each publication goes to one of them.

    `members` has the one whose turn is next first. `topic_filter` is without `$share/<name>/`.
    """

    __slots__ = ("_allowed", "members", "share_name", "topic_filter")

    def __init__(self, share_name: str, topic_filter: str) -> None:
        self.share_name = share_name
        self.topic_filter = topic_filter
        self.members: OrderedDict[Session, Subscription] = OrderedDict()
        self._allowed: frozenset[Session] | None = None

    def restricted_to(self, allowed: frozenset[Session]) -> SharedGroup:
        """The same group, members and turn, for a topic that only `allowed` may receive."""
        group = SharedGroup(self.share_name, self.topic_filter)
        group.members = self.members
        group._allowed = allowed
        return group

    def next(self, ready: Callable[[Session], bool]) -> Subscription | None:
        """Whose turn it is to get a publication; None if nobody may.

        Goes round among those that are `ready` (connected, with room). If none is: among those that are kept, whose
        queues are safe, else among all.
        """
        return self._take_turn(ready) or self._take_turn(_is_kept) or self._take_turn(_is_anyone)

    def _take_turn(self, suits: Callable[[Session], bool]) -> Subscription | None:
        members, allowed = self.members, self._allowed
        # Who does not suit loses the turn: if they stayed in front, each publication would ask all of them again.
        for _ in range(len(members)):
            session = next(iter(members))
            members.move_to_end(session)
            if (allowed is None or session in allowed) and suits(session):
                return members[session]
        return None


def _is_kept(session: Session) -> bool:
    return session.key != 0


def _is_anyone(_session: Session) -> bool:
    return True
