"""What waited for room, sent on once there is some: from memory, from the storage, and from the logs.

At most one task per session does it, while there is something to read and room to send it; a page at a time, so that
the others, in line, get their turn.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from recado.broker import sending
from recado.broker.holds import CONGESTED
from recado.broker.hooks import LogPage, Refused
from recado.broker.publication import Publication
from recado.broker.storage import Claimed, StorageFailed
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.session import RESERVED, LogCursor, Session

_PAUSE_S = 0.002  # after each whole page of a log: the loop and the store are there for the others too

if TYPE_CHECKING:
    from recado.broker.connection import Connection
    from recado.broker.server import Server


def read_on(server: Server, connection: Connection) -> None:
    """Send on, if there is room and nobody does so already."""
    session = connection.session
    if session is None or session.connection is not connection or connection.held & CONGESTED:
        return
    if connection.redeliveries:
        sending.send_again(connection, session)
    if session.queue:
        sending.send_waiting(connection, session)
    if not (session.cursors or session.queued):
        return
    if connection.is_reading:
        connection.reads_again = True  # it may have seen already that there was nothing
        return
    if session.has_window() and (session.queued or session.next_behind() is not None):
        connection.is_reading = True
        server.spawn(_read(server, connection, session))


async def _read(server: Server, connection: Connection, session: Session) -> None:
    connection.reads_again = False
    try:
        await _read_pages(server, connection, session)
    finally:
        connection.is_reading = False
    if connection.reads_again:
        read_on(server, connection)


async def _read_pages(server: Server, connection: Connection, session: Session) -> None:
    while session.has_window() and session.connection is connection and not connection.held & CONGESTED:
        async with server.reads:  # for one page
            if session.connection is not connection or not session.has_window():
                continue  # it has changed while this was in line
            if session.queued:
                goes_on, is_whole = await _claim(server, connection, session), False
            elif (behind := session.next_behind()) is not None:
                goes_on, is_whole = await _read_log(server, connection, session, *behind)
            else:
                return
        if not goes_on:
            return
        if is_whole:
            await asyncio.sleep(_PAUSE_S)


# The storage's queue


async def _claim(server: Server, connection: Connection, session: Session) -> bool:
    """Send one page of the session's queue; False if it cannot be read now."""
    packet_ids = [session.sending(RESERVED, 1) for _ in range(_page(server, session))]
    try:
        claimed = await server.queues.claim(session.key, packet_ids, time.time_ns() // 1_000_000)
    except StorageFailed:
        connection.disconnect(ReasonCode.SERVER_BUSY, "the server cannot read now; connect again")
        return False
    session.queued -= claimed.removed
    session.queued_bytes -= claimed.removed_bytes
    server.counters.expired += claimed.removed - len(claimed.deliveries)
    if session.connection is not connection:
        return False  # who has the session now reads from the storage what is in flight
    _send_claimed(connection, session, packet_ids, claimed)
    return bool(claimed.removed or claimed.rest)  # if not, the next ones are not in the storage yet


def _page(server: Server, session: Session) -> int:
    """How many publishes to claim: as the window allows, and about as many as the transport's buffer takes."""
    average_bytes = session.queued_bytes // session.queued + 1
    fit = server.limits.send_buffer_bytes_max // average_bytes + 1
    return min(session.window(), server.limits.read_page, fit)


def _send_claimed(connection: Connection, session: Session, packet_ids: list[int], claimed: Claimed) -> None:
    for packet_id in packet_ids:
        session.inflight.pop(packet_id, None)  # they were only kept free
    for delivery in claimed.deliveries:
        session.inflight[delivery.packet_id] = delivery.publication
        if delivery.qos == 2:
            session.exactly_once[delivery.packet_id] = False
        sending.send_stored(connection, delivery, is_late=True)


# Logs


async def _read_log(
    server: Server, connection: Connection, session: Session, topic_name: str, cursor: LogCursor
) -> tuple[bool, bool]:
    """Send one page of a log. The first is False if there is no room for all of it, or it cannot be read now; the
    second is True if the page was a whole one, and there is more."""
    try:
        limit = min(server.limits.read_page, session.window())
        if limit < 1 or connection.held & CONGESTED:
            return False, False
        known = cursor.known
        page = await server.hooks.read_log(session.user, topic_name, cursor.sent, limit)
    except Refused as refusal:
        server.counters.refusals[refusal.reason_code.name] += 1
        if refusal.reason_code is ReasonCode.SERVER_BUSY:
            connection.disconnect(refusal.reason_code, refusal.text)
            return False, False
        # If something of it was published to the session meanwhile, the user may read it by now.
        if session.cursors.get(topic_name) is cursor and cursor.known == known:
            del session.cursors[topic_name]
        return True, False
    if session.connection is not connection:
        return False, False
    if session.cursors.get(topic_name) is not cursor:
        return True, False
    goes_on = _send_page(server, connection, session, topic_name, cursor, page)
    return goes_on, len(page.entries) >= server.limits.read_page and cursor.behind


def _send_page(
    server: Server, connection: Connection, session: Session, topic_name: str, cursor: LogCursor, page: LogPage
) -> bool:
    subscription = server.router.granted(session, topic_name)
    if subscription is None:
        del session.cursors[topic_name]
        return True
    qos = subscription.qos
    for position, payload in page.entries:
        if position in cursor.own:
            cursor.own.discard(position)
            cursor.sent = position
            continue
        publication = Publication(topic_name, payload, qos, position)
        if not sending.read_from_log(connection, session, publication, qos, subscription.identifiers):
            return False
        cursor.sent = position
    if not page.entries:
        cursor.sent = page.last_position  # also for a cursor past the end: it goes on live from here
    if cursor.sent >= page.last_position:
        session.caught_up(topic_name)
    session.read_later(topic_name)
    return True
