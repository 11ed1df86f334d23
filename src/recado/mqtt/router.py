"""Who gets a publication: the sessions by exact topic, and those with wildcards by user.

A publication here always has an audience, the users who may see it. So a wildcard costs nothing to anyone else: it is
looked at only when its own user is in an audience. A session with overlapping filters gets one copy, at the highest
QoS that it was granted [MQTT5-3.3.4-2].
"""

from __future__ import annotations

from collections.abc import Iterator

from recado.mqtt.packets import SubscriptionRequest
from recado.mqtt.session import Session
from recado.mqtt.topics import has_wildcard


class Router:
    def __init__(self) -> None:
        self._exact: dict[str, dict[Session, SubscriptionRequest]] = {}
        self._wildcards: dict[str, dict[Session, None]] = {}

    def subscribe(self, session: Session, subscription: SubscriptionRequest) -> None:
        """Add a subscription, or replace the one with the same filter [MQTT5-3.8.4-3]."""
        topic_filter = subscription.topic_filter
        if has_wildcard(topic_filter):
            session.wildcards[topic_filter] = subscription
            self._wildcards.setdefault(session.user, {})[session] = None
        else:
            session.subscriptions[topic_filter] = subscription
            self._exact.setdefault(topic_filter, {})[session] = subscription

    def unsubscribe(self, session: Session, topic_filter: str) -> bool:
        """True if there was such a subscription."""
        if session.wildcards.pop(topic_filter, None) is not None:
            if not session.wildcards:
                self._remove_wildcards(session)
            return True
        if session.subscriptions.pop(topic_filter, None) is None:
            return False
        self._remove_exact(session, topic_filter)
        return True

    def remove(self, session: Session) -> None:
        """The session ended: none of its subscriptions is left."""
        for topic_filter in session.subscriptions:
            self._remove_exact(session, topic_filter)
        if session.wildcards:
            self._remove_wildcards(session)
        session.subscriptions.clear()
        session.wildcards.clear()

    def matches(self, topic_name: str, audience: frozenset[str]) -> Iterator[tuple[Session, SubscriptionRequest]]:
        """Each session of the audience that subscribed to `topic_name`, once, and the subscription that counts."""
        exact = self._exact.get(topic_name, _NOBODY)
        for session, subscription in exact.items():
            if session.user in audience:
                yield session, (session.granted(topic_name) or subscription) if session.wildcards else subscription
        if self._wildcards:
            yield from self._by_wildcard(topic_name, audience, exact)

    def _by_wildcard(
        self, topic_name: str, audience: frozenset[str], exact: dict[Session, SubscriptionRequest]
    ) -> Iterator[tuple[Session, SubscriptionRequest]]:
        wildcards = self._wildcards
        users = audience if len(audience) <= len(wildcards) else [user for user in wildcards if user in audience]
        matched: dict[str, bool] = {}
        for user in users:
            for session in wildcards.get(user, _NOBODY):
                if session not in exact and (subscription := session.granted(topic_name, matched)) is not None:
                    yield session, subscription

    def _remove_exact(self, session: Session, topic_filter: str) -> None:
        sessions = self._exact[topic_filter]
        del sessions[session]
        if not sessions:
            del self._exact[topic_filter]

    def _remove_wildcards(self, session: Session) -> None:
        sessions = self._wildcards[session.user]
        del sessions[session]
        if not sessions:
            del self._wildcards[session.user]


_NOBODY: dict[Session, SubscriptionRequest] = {}
