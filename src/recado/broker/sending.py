"""Publishes to the client: at once, or when there is room, or again after a reconnect; and its acknowledgements.

What a session has no room for waits in one of three places: the log that it comes from, the storage if the session is
kept, else a bounded queue in memory. QoS 0 does not wait: it is dropped.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from recado.broker.holds import CONGESTED
from recado.broker.publication import Frame, Place, Publication
from recado.broker.storage import Acknowledged, Delivery, Entry, InFlight, Released
from recado.mqtt.codec import dup_head, encode, pubrel_bytes
from recado.mqtt.packets import MQTT_5, Puback, Pubcomp, Pubrec, Pubrel
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import RELEASED, Session

if TYPE_CHECKING:
    from recado.broker.connection import Connection

_log = logging.getLogger(__name__)
Waiting = tuple[Publication, int, bool, tuple[int, ...]]  # with its QoS, RETAIN and subscription identifiers


def deliver(
    connection: Connection,
    session: Session,
    publication: Publication,
    qos: int,
    retain: bool = False,
    identifiers: tuple[int, ...] = (),
) -> None:
    """Send a publication now if there is room, for a session whose queue is in memory."""
    if not qos:
        if connection.held & CONGESTED:
            connection.server.counters.dropped += 1
        else:
            _send(connection, session, publication, 0, retain, identifiers)
    elif connection.held & CONGESTED or session.queue or len(session.inflight) >= session.receive_maximum:
        wait(connection, session, (publication, qos, retain, identifiers))
    else:
        _send(connection, session, publication, qos, retain, identifiers)


def deliver_from_log(
    connection: Connection, session: Session, publication: Publication, qos: int, identifiers: tuple[int, ...]
) -> None:
    """Send a publication that has its place in a log, or leave it there."""
    position = publication.position
    assert position is not None
    if session.cursors and not session.admits(publication.topic_name, position):
        return
    if session.queue or not _send_of_log(connection, session, publication, qos, identifiers):
        if publication.is_last:
            wait(connection, session, (publication, qos, False, identifiers))
            return
        connection.server.counters.fell_behind += 1
        session.fall_behind(publication.topic_name, position)
        if session.is_behind_in_more_than(connection.server.limits.log_cursors_max):
            connection.server.cut_off(connection, ReasonCode.QUOTA_EXCEEDED, "behind in too many logs: connect again")


def read_from_log(
    connection: Connection, session: Session, publication: Publication, qos: int, identifiers: tuple[int, ...]
) -> bool:
    """Send an entry that was read from the log; False if there is no room."""
    if not _send_of_log(connection, session, publication, qos, identifiers):
        return False
    connection.server.counters.read_from_log += 1
    return True


def _send_of_log(
    connection: Connection, session: Session, publication: Publication, qos: int, identifiers: tuple[int, ...]
) -> bool:
    """Send a publication of a log if there is room. Of a kept session's at QoS 2 the packet id is stored before."""
    if connection.held & CONGESTED or (qos and len(session.inflight) >= session.receive_maximum):
        return False
    if qos < 2 or not session.key:
        _send(connection, session, publication, qos, False, identifiers)
        return True
    if len(session.inflight) > len(session.exactly_once) and _is_in_flight_at_qos_1(session, publication.topic_name):
        return False  # what is stored of QoS 2 counts as had, and all that is before it
    delivery = Delivery(session.sending(publication.held(), 2), publication, 2, False, identifiers)
    position = publication.position
    assert position is not None
    if connection.handed_over is None:
        connection.handed_over = {}
    topic_name, handed_over = publication.topic_name, connection.handed_over
    change = InFlight(session.key, delivery.packet_id, topic_name, position, 2, handed_over.get(topic_name, 0))
    handed_over[topic_name] = position
    connection.server.store(change, done=partial(_send_if_stored, connection, session, delivery))
    return True


def _is_in_flight_at_qos_1(session: Session, topic_name: str) -> bool:
    return any(
        packet_id not in session.exactly_once and getattr(publication, "topic_name", None) == topic_name
        for packet_id, publication in session.inflight.items()
    )


def _send_if_stored(connection: Connection, session: Session, delivery: Delivery, is_stored: bool) -> None:
    if not is_stored:
        connection.cannot_write()  # the next connection reads it from the log
    elif session.connection is connection and not connection.is_closing():
        assert delivery.publication is not None
        if session.inflight.get(delivery.packet_id) is delivery.publication.held():
            send_stored(connection, delivery)
        else:
            _drop_stored(connection, session, delivery.packet_id)  # its log was closed to the client meanwhile
            connection.server.read_on(connection)  # what waits comes before what is published next


def wait(connection: Connection, session: Session, waiting: Waiting, is_bounded: bool = True) -> None:
    """Keep a publication in memory until there is room; beyond the queue's bounds it is dropped."""
    limits = connection.server.limits
    if session.queue is None:
        session.queue = deque()
    size = waiting[0].size
    if is_bounded and (
        len(session.queue) >= limits.queue_messages_max or session.queue_bytes + size > limits.queue_bytes_max
    ):
        connection.server.counters.queue_full += 1
        connection.server.refusal_log.of(connection, "queue_full", "queue_full", topic=waiting[0].topic_name)
        return
    session.queue.append(waiting)
    session.queue_bytes += size


def send_waiting(connection: Connection, session: Session) -> None:
    """Send what waits in memory, as far as there is room."""
    queue = session.queue
    now_ms = time.time_ns() // 1_000_000
    while queue and not connection.held & CONGESTED:
        publication, qos, retain, identifiers = queue[0]
        if qos and not session.has_window():
            return
        queue.popleft()
        session.queue_bytes -= publication.size
        if publication.has_expired(now_ms):
            connection.server.counters.expired += 1
        elif publication.position is not None:
            if not _send_of_log(connection, session, publication, qos, identifiers):
                queue.appendleft((publication, qos, retain, identifiers))
                session.queue_bytes += publication.size
                return
        elif not qos and connection.server.retained.get(publication.topic_name) is not publication:
            pass  # at QoS 0 only retained messages wait, and this one's successor has gone ahead of it
        elif _may_still_receive(connection, session, publication):
            _send(connection, session, publication, qos, retain, identifiers)
    if not queue:
        session.queue = None


def _may_still_receive(connection: Connection, session: Session, publication: Publication) -> bool:
    """What waited is not sent to a session that may not read its topic any more."""
    if connection.server.may_receive(session, publication.topic_name):
        return True
    connection.server.counters.withheld += 1
    return False


def _send(
    connection: Connection,
    session: Session,
    publication: Publication,
    qos: int,
    retain: bool,
    identifiers: tuple[int, ...],
) -> None:
    head, tail = frame_for(connection, publication, qos, retain, identifiers)
    if len(head) + len(tail) + (2 if qos else 0) > connection.packet_bytes_max:
        _too_large(connection, publication)
        return
    connection.server.counters.delivered += 1
    if qos:
        connection.write(head + session.sending(publication.held(), qos).to_bytes(2) + tail)
    else:
        connection.write(head + tail)


def _too_large(connection: Connection, publication: Publication) -> None:
    """It is not sent, and is over as if it were [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]."""
    connection.server.counters.too_large_for_client += 1
    aliases = connection.aliases
    if aliases and aliases.get(publication.topic_name) == len(aliases):
        del aliases[publication.topic_name]  # the newest: the client may not have been told it


def frame_for(
    connection: Connection, publication: Publication, qos: int, retain: bool, identifiers: tuple[int, ...]
) -> Frame:
    """The packet's bytes before and after its packet id, as this client gets them."""
    level = connection.protocol_level
    if level != MQTT_5 or not (identifiers or publication.expires_at_ms or connection.aliases is not None):
        return publication.frame(level, qos, retain)
    alias, is_known = _alias(connection, publication.topic_name)
    now_ms = time.time_ns() // 1_000_000 if publication.expires_at_ms else 0
    return publication.frame_5(qos, retain, identifiers, alias, is_known, now_ms)


def _alias(connection: Connection, topic_name: str) -> tuple[int, bool]:
    """The client's alias for a topic, 0 for none, and whether it knows it. The first topics get one, for good."""
    aliases = connection.aliases
    if aliases is None:
        return 0, False
    alias = aliases.get(topic_name)
    if alias is not None:
        return alias, True
    if len(aliases) >= connection.aliases_max:
        return 0, False
    aliases[topic_name] = len(aliases) + 1
    return len(aliases), False


def failed_to_deliver(connection: Connection | None) -> None:
    """One connection's trouble is nobody else's."""
    _log.exception("a publication could not be delivered")
    if connection is not None:
        connection.abort_transport()


# Sessions that are kept: what is in flight is in the storage before it is sent.


def entry_for(
    session: Session, publication: Publication, qos: int, retain: bool, identifiers: tuple[int, ...]
) -> Entry:
    """A publication's entry for a session that is kept: in flight if it has room now, else in its queue."""
    connection = session.connection
    if connection is not None and not session.queued and session.has_window() and not connection.held & CONGESTED:
        return Entry(session.key, session.sending(publication, qos), qos, retain, identifiers)
    session.queued += 1
    session.queued_bytes += publication.size
    if publication.expires_at_ms:
        earliest_ms = session.queue_expires_at_ms or publication.expires_at_ms
        session.queue_expires_at_ms = min(earliest_ms, publication.expires_at_ms)
    return Entry(session.key, 0, qos, retain, identifiers)


def send_stored(connection: Connection, delivery: Delivery, *, is_late: bool = False, is_again: bool = False) -> None:
    """Send what the storage has in flight for this session: late if it has waited, again if it was sent before."""
    packet_id, publication, qos, retain, identifiers = delivery
    if publication is None:
        connection.write(pubrel_bytes(packet_id))
        return
    session = connection.session
    assert session is not None
    give_up = _give_up if is_again else _drop_stored
    if is_late and not _may_still_receive(connection, session, publication):
        give_up(connection, session, packet_id)
        return
    head, tail = frame_for(connection, publication, qos, retain, identifiers)
    if len(head) + len(tail) + 2 > connection.packet_bytes_max:
        _too_large(connection, publication)
        give_up(connection, session, packet_id)
        return
    connection.server.counters.delivered += 1
    if is_again:
        head = dup_head(head)  # [MQTT5-3.3.1-1] [MQTT311-3.3.1-1]
    connection.write(head + packet_id.to_bytes(2) + tail)


def _drop_stored(connection: Connection, session: Session, packet_id: int) -> None:
    session.inflight.pop(packet_id, None)
    session.exactly_once.pop(packet_id, None)
    _store_end(connection, session, packet_id)


def _store_end(connection: Connection, session: Session, packet_id: int) -> None:
    """If it cannot be, the next publish may not have this packet id: the session begins anew from the storage."""
    connection.server.store(Acknowledged(session.key, packet_id), done=partial(_end_stored, connection))


def _end_stored(connection: Connection, is_stored: bool) -> None:
    if not is_stored:
        connection.cannot_write()


def send_again(connection: Connection, session: Session) -> None:
    """Send what was in flight when the session lost its last connection, in its order [MQTT5-4.4.0-1] [MQTT5-4.6.0-1]
    [MQTT311-4.4.0-1] [MQTT311-4.6.0-1], and no more at once than the client takes."""
    redeliveries = connection.redeliveries
    if not redeliveries:
        return
    unsent = sum(1 for each in redeliveries if each.publication is not None)
    while redeliveries and not connection.held & CONGESTED:
        packet_id, publication, *_ = redeliveries[0]
        if publication is not None:
            if len(session.inflight) - unsent >= session.receive_maximum:
                return
            unsent -= 1
        delivery = redeliveries.popleft()
        if packet_id not in session.inflight or (publication is not None and session.exactly_once.get(packet_id)):
            continue  # the client has acknowledged it meanwhile: it had it from the last connection
        send_stored(connection, delivery, is_late=True, is_again=True)
    if not redeliveries:
        connection.redeliveries = None


def forget_places(session: Session, topic_name: str) -> None:
    """The session leaves this log, or goes back in it: what is in flight says nothing of how far it is. What is not
    sent yet is not: its place is another one then, by which `_send_if_stored` knows."""
    for packet_id, place in session.inflight.items():
        if isinstance(place, Place) and place.topic_name == topic_name:
            session.inflight[packet_id] = msgspec.structs.replace(place, position=None)
    if session.connection is not None and session.connection.handed_over is not None:
        session.connection.handed_over.pop(topic_name, None)


def drop_log(connection: Connection, session: Session, topic_name: str) -> None:
    """The client may not have this log any more: what of it was to be sent, for the first time or again, is not."""
    forget_places(session, topic_name)
    if connection.redeliveries is None:
        return
    redeliveries, connection.redeliveries = connection.redeliveries, deque()
    for delivery in redeliveries:
        if delivery.publication is None or delivery.publication.topic_name != topic_name:
            connection.redeliveries.append(delivery)
        else:
            _give_up(connection, session, delivery.packet_id)


def _give_up(connection: Connection, session: Session, packet_id: int) -> None:
    """End a flow whose publish may not be sent again. Of QoS 2 the client may have it, and would take another publish
    under its packet id for it: that is free only after PUBREL and PUBCOMP."""
    if packet_id in session.exactly_once:
        session.exactly_once[packet_id] = True
        connection.server.store(Released(session.key, packet_id), done=partial(_release, connection, packet_id))
    else:
        _drop_stored(connection, session, packet_id)


class PendingDelivery(NamedTuple):
    """What a session gets of a publication once it is durable, and the connection that it had when it was published.
    The entry's key is 0 if it is the publisher's packet id, and nothing of this session's, that must be durable."""

    session: Session
    connection: Connection | None
    publication: Publication
    entry: Entry

    def settle(self, is_stored: bool) -> None:
        """It is durable, and is sent; or it could not be kept, and is undone."""
        if not is_stored:
            self._undo()
            return
        session, connection, publication, entry = self
        if connection is None or session.connection is not connection:
            return  # who has the session now has read this from the storage
        if not entry.key:
            deliver(connection, session, publication, entry.qos, entry.retain, entry.identifiers)
        elif not entry.packet_id:
            connection.server.read_on(connection)
        else:
            delivery = Delivery(entry.packet_id, publication, entry.qos, entry.retain, entry.identifiers)
            send_stored(connection, delivery)

    def _undo(self) -> None:
        session, connection, publication, entry = self
        if not entry.key:
            return
        if not entry.packet_id:
            session.queued -= 1
            session.queued_bytes -= publication.size
        elif session.connection is connection:
            session.inflight.pop(entry.packet_id, None)
            session.exactly_once.pop(entry.packet_id, None)


# The client's acknowledgements


def on_puback(connection: Connection, puback: Puback) -> None:
    if puback.reason_code < ReasonCode.UNSPECIFIED_ERROR:
        take_puback(connection, puback.packet_id)
        return
    session = connection.session
    assert session is not None
    publication = session.acknowledged(puback.packet_id)
    if publication is not None:
        _over(connection, session, puback.packet_id, publication)


def on_pubcomp(connection: Connection, pubcomp: Pubcomp) -> None:
    take_pubcomp(connection, pubcomp.packet_id)


def on_pubrec(connection: Connection, pubrec: Pubrec) -> None:
    if pubrec.reason_code < ReasonCode.UNSPECIFIED_ERROR:
        take_pubrec(connection, pubrec.packet_id)
        return
    session = connection.session
    assert session is not None
    if session.refused(pubrec.packet_id) is not None:  # [MQTT5-4.3.3-4]
        _over(connection, session, pubrec.packet_id)


def take_puback(connection: Connection, packet_id: int) -> None:
    """A PUBACK that says success."""
    session = connection.session
    assert session is not None
    publication = session.acknowledged(packet_id)
    if publication is None:
        return
    server = connection.server
    server.counters.acknowledged += 1
    if server.on_acknowledged is not None and publication.is_followed:
        server.on_acknowledged(session, publication)
    # Most have nothing that waits: what follows is for the others.
    if session.key or session.cursors or session.queue or session.queued or connection.redeliveries:
        _over(connection, session, packet_id, publication)


def take_pubcomp(connection: Connection, packet_id: int) -> None:
    session = connection.session
    assert session is not None
    publication = session.completed(packet_id)
    if publication is not None:
        connection.server.counters.acknowledged += 1
        _tell_acknowledged(connection, session, publication)
        _over(connection, session, packet_id)


def _tell_acknowledged(connection: Connection, session: Session, publication: Publication | Place) -> None:
    """The client has it at PUBREC already; that is when a session that is kept lets go of it."""
    server = connection.server
    if server.on_acknowledged is not None and publication is not RELEASED and publication.is_followed:
        server.on_acknowledged(session, publication)


def _over(
    connection: Connection, session: Session, packet_id: int, at_qos_1: Publication | Place | None = None
) -> None:
    """A publish is not in flight any more: there may be room for what waited."""
    server = connection.server
    if session.key:
        if at_qos_1 is not None and at_qos_1.is_last:
            pass  # the session is in this log no more
        elif at_qos_1 is not None and at_qos_1.position is not None:
            server.cursors.moved(session, at_qos_1.topic_name, at_qos_1.position)
        else:
            _store_end(connection, session, packet_id)
    waits = session.queue or connection.redeliveries
    if waits or ((session.cursors or session.queued) and session.has_freed_room()):
        server.read_on(connection)


def take_pubrec(connection: Connection, packet_id: int) -> None:
    """A PUBREC that says success."""
    session = connection.session
    assert session is not None
    is_again = session.exactly_once.get(packet_id)
    if not session.released(packet_id):
        code = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        connection.write(encode(Pubrel(packet_id, code), connection.protocol_level))
    elif is_again and session.key and session.inflight[packet_id] is not RELEASED:
        pass  # PUBREL is on its way: it is sent when the first one is durable
    elif session.key and not is_again:
        connection.server.store(Released(session.key, packet_id), done=partial(_release, connection, packet_id))
    else:
        connection.write(pubrel_bytes(packet_id))  # [MQTT5-4.3.3-4] [MQTT311-4.3.3-1]


def _release(connection: Connection, packet_id: int, is_stored: bool) -> None:
    if connection.is_closing():
        return
    if not is_stored:
        connection.cannot_write()
        return
    session = connection.session
    if session is not None and session.exactly_once.get(packet_id):
        publication, session.inflight[packet_id] = session.inflight[packet_id], RELEASED
        _tell_acknowledged(connection, session, publication)
    connection.write(pubrel_bytes(packet_id))
