"""What a session asked to receive: one subscription, several that overlap, and the group that shares one.

A `Subscription` never changes: subscribing again makes a new one. So routes may hold them for as long as they like.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
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

    Members with a connection and those without are kept apart, so that many who are away cost no publication anything:
    the router tells who comes and goes. Whose turn is next is the first. `topic_filter` is without `$share/<name>/`.
    """

    __slots__ = ("_absent", "_allowed", "_present", "share_name", "topic_filter")

    def __init__(self, share_name: str, topic_filter: str) -> None:
        self.share_name = share_name
        self.topic_filter = topic_filter
        self._present: OrderedDict[Session, Subscription] = OrderedDict()
        self._absent: OrderedDict[Session, Subscription] = OrderedDict()
        self._allowed: frozenset[Session] | None = None

    def __len__(self) -> int:
        return len(self._present) + len(self._absent)

    def __iter__(self) -> Iterator[Session]:
        """The members."""
        return chain(self._present, self._absent)

    def add(self, subscription: Subscription) -> None:
        """A new member, who is the last in turn, or another subscription of one."""
        session = subscription.session
        (self._absent if session.connection is None else self._present)[session] = subscription

    def discard(self, session: Session) -> None:
        self._present.pop(session, None)
        self._absent.pop(session, None)

    def attached(self, session: Session) -> None:
        """A member has got a connection."""
        if (subscription := self._absent.pop(session, None)) is not None:
            self._present[session] = subscription

    def detached(self, session: Session) -> None:
        """A member has lost its connection."""
        if (subscription := self._present.pop(session, None)) is not None:
            self._absent[session] = subscription

    def restricted_to(self, allowed: frozenset[Session]) -> SharedGroup:
        """The same group, members and turn, for a topic that only `allowed` may receive."""
        group = SharedGroup(self.share_name, self.topic_filter)
        group._present, group._absent = self._present, self._absent
        group._allowed = allowed
        return group

    def next(self, ready: Callable[[Session], bool]) -> Subscription | None:
        """Whose turn it is to get a publication; None if nobody may.

        Goes round among those that are `ready` (connected, with room). If none is: among those that are kept, whose
        queues are safe, the connected ones first, else among all.
        """
        present, absent = self._present, self._absent
        return (
            self._take_turn(present, ready)
            or self._take_turn(present, _is_kept)
            or self._take_turn(absent, _is_kept)
            or self._take_turn(present, _is_anyone)
            or self._take_turn(absent, _is_anyone)
        )

    def _take_turn(
        self, members: OrderedDict[Session, Subscription], suits: Callable[[Session], bool]
    ) -> Subscription | None:
        allowed = self._allowed
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
