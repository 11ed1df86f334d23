"""Publications with an audience: they go to the sessions of these users, as far as they subscribed.

A session without room keeps nothing of one that has its place in a log: it reads on there. Only the last one that it
may have of a log waits in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recado.broker import sending
from recado.broker.holds import CONGESTED
from recado.broker.publication import Publication
from recado.mqtt.session import Session
from recado.mqtt.subscription import Subscription

if TYPE_CHECKING:
    from recado.broker.server import Server


def publish_to(server: Server, publication: Publication, audience: frozenset[str], origin: object) -> int:
    """See `Server.publish_to`."""
    counters = server.counters
    delivered = counters.delivered
    level = qos = -1
    head = tail = b""
    held = publication.held()
    for session, subscription in server.router.matches(publication.topic_name, audience):
        connection = session.connection
        granted_qos = subscription.qos if subscription.qos < publication.qos else publication.qos
        try:
            # What most deliveries are, in line: no options, caught up, nothing to store, room to send. It does what
            # `_send` does, in half of the time.
            if (
                connection is not None
                and subscription.plain
                and connection.aliases is None
                and not session.cursors
                and not session.queue
                and not connection.held & CONGESTED
                and not (granted_qos == 2 and session.key)
            ):
                if connection.protocol_level != level or granted_qos != qos:
                    level, qos = connection.protocol_level, granted_qos
                    head, tail = publication.frame(level, qos)
                if len(head) + len(tail) + (2 if qos else 0) <= connection.packet_bytes_max:
                    if not qos:
                        counters.delivered += 1
                        connection.write(head)
                        continue
                    if len(session.inflight) < session.receive_maximum:
                        counters.delivered += 1
                        connection.write(head + session.sending(held, qos).to_bytes(2) + tail)
                        continue
            _send(server, subscription, publication, granted_qos, origin)
        except Exception:
            sending.failed_to_deliver(connection)
    return counters.delivered - delivered


def _send(server: Server, subscription: Subscription, publication: Publication, qos: int, origin: object) -> None:
    session = subscription.session
    if session is origin:
        own = subscription.own()
        if own is None:
            _skip(server, session, publication)
            return
        subscription = own
        qos = min(own.qos, publication.qos)
    connection = session.connection
    if connection is None:
        if qos and publication.position is not None and not publication.is_last:
            server.sessions.missed(session, publication.topic_name, publication.position)
    elif publication.position is None:
        sending.deliver(connection, session, publication, qos, False, subscription.identifiers)
    else:
        sending.deliver_from_log(connection, session, publication, qos, subscription.identifiers)


def _skip(server: Server, session: Session, publication: Publication) -> None:
    if publication.position is not None:
        session.skip(publication.topic_name, publication.position, server.limits.own_positions_max)
        if session.key and session.connection is not None:  # what it missed while it was away comes before
            server.cursors.moved(session, publication.topic_name, publication.position)
