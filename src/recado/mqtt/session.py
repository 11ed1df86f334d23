"""One session on the server's side, sans-I/O: its subscriptions, its QoS flows, and how far it has read of each log.

A session belongs to (user, client id). It is kept after its connection if its expiry interval is not 0; then `key`
names it in the storage, which holds its queue and what is in flight while it has no connection.

A publication that has a position in its topic's log needs no queue at all: a session that has no room keeps one
`LogCursor` for that topic and reads on when it has. Nobody else waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Set
from typing import Any, Final

from recado.mqtt.packets import Will
from recado.mqtt.reason_codes import ReasonCode, protocol_error
from recado.mqtt.subscription import Subscription

PACKET_IDS = 65_535
NEVER = 0xFFFF_FFFF  # a session expiry interval [MQTT5 3.1.2.11.2]
RESERVED: Final = object()  # in flight soon: its packet id is kept free
RELEASED: Final = object()  # in flight since before a restart, with nothing but its PUBREL left to send
_NONE: set[int] = set()  # shared by the cursors that have none of their own; never changed


class LogCursor:
    """How far a session is in one topic's log: everything up to `sent` was sent to it.

    `behind` means that the rest must be read from the log; `known` is the newest position that was published meanwhile.
    `own` are those that the session published itself and, by No Local, does not get back.
    """

    __slots__ = ("behind", "known", "own", "sent")

    def __init__(self, sent: int, known: int = 0) -> None:
        self.sent = sent
        self.known = known
        self.own = _NONE
        self.behind = True


class Session:
    """`connection` is the shell's, None while there is none; `receive_maximum` bounds what waits for the peer's
    acknowledgement.

    `inflight` has what was sent at QoS 1 and 2 and is not over, in the order of sending; `exactly_once` has the QoS 2
    among them: False until PUBREC, then True until PUBCOMP. `incoming` has the peer's publishes that are not answered
    yet, `received` those of QoS 2 whose PUBREC was sent and whose PUBREL has not come. `queue` holds in memory what
    there is no room for now; for a session that is kept `queued` counts what the storage holds instead, and nothing of
    that expires before `queue_expires_at_ms` (Unix time), or ever if that is 0. `claimant` is a
    connection that is about to get the session, `lapse` what will become of a session without one.
    """

    __slots__ = (
        "_freed",
        "_last_packet_id",
        "claimant",
        "client_id",
        "connection",
        "cursors",
        "exactly_once",
        "expiry_interval",
        "incoming",
        "inflight",
        "key",
        "lapse",
        "queue",
        "queue_bytes",
        "queue_expires_at_ms",
        "queued",
        "queued_bytes",
        "receive_maximum",
        "received",
        "subscriptions",
        "user",
        "will",
    )

    def __init__(self, user: str, client_id: str, receive_maximum: int, expiry_interval: int = 0) -> None:
        self.user = user
        self.client_id = client_id
        self.receive_maximum = receive_maximum
        self.expiry_interval = expiry_interval
        self.key = 0
        self.connection: Any = None
        self.lapse: Any = None
        self.will: Will | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.cursors: dict[str, LogCursor] = {}
        self.inflight: dict[int, Any] = {}
        self.exactly_once: dict[int, bool] = {}
        self.incoming: dict[int, tuple[int, ReasonCode, str] | None] = {}
        self.received: dict[int, None] = {}
        self.queue: deque[Any] | None = None
        self.queue_bytes = 0
        self.queue_expires_at_ms = 0
        self.queued = 0
        self.queued_bytes = 0
        self.claimant: Any = None
        self._last_packet_id = 0
        self._freed = 0

    # Outgoing, QoS 1 and 2

    def has_window(self) -> bool:
        return len(self.inflight) < self.receive_maximum  # [MQTT5-3.3.4-9]

    def window(self) -> int:
        return self.receive_maximum - len(self.inflight)

    def sending(self, publication: Any, qos: int) -> int:
        """A packet id that is not in use [MQTT5-2.2.1-4] [MQTT311-2.3.1-4]; ask `has_window` before."""
        inflight = self.inflight
        packet_id = self._last_packet_id % PACKET_IDS + 1
        while packet_id in inflight:
            packet_id = packet_id % PACKET_IDS + 1
        self._last_packet_id = packet_id
        inflight[packet_id] = publication
        if qos == 2:
            self.exactly_once[packet_id] = False
        return packet_id

    def acknowledged(self, packet_id: int) -> Any:
        """PUBACK came. Returns what was in flight, None if nothing was. Raises ProtocolError for a QoS 2 publish."""
        if self.exactly_once and packet_id in self.exactly_once:
            raise protocol_error(f"PUBACK for packet id {packet_id}, which was sent at QoS 2")
        self._freed += 1
        return self.inflight.pop(packet_id, None)

    def released(self, packet_id: int) -> bool:
        """PUBREC came: from here on only PUBREL is sent [MQTT5-4.3.3-5] [MQTT311-4.3.3-1]. False if the packet id is
        not in flight."""
        exactly_once = self.exactly_once
        if packet_id not in exactly_once:
            if packet_id in self.inflight:
                raise protocol_error(f"PUBREC for packet id {packet_id}, which was sent at QoS 1")
            return False
        exactly_once[packet_id] = True
        return True

    def refused(self, packet_id: int) -> Any:
        """PUBREC with a failure came: the publish is over. Returns what was in flight, None if nothing was."""
        if not self.released(packet_id):
            return None
        del self.exactly_once[packet_id]
        self._freed += 1
        return self.inflight.pop(packet_id)

    def completed(self, packet_id: int) -> Any:
        """PUBCOMP came. Returns what was in flight, None if nothing was. Raises ProtocolError without a PUBREC."""
        is_released = self.exactly_once.get(packet_id)
        if is_released is None:
            return None
        if not is_released:
            raise protocol_error(f"PUBCOMP for packet id {packet_id} without a PUBREC")
        del self.exactly_once[packet_id]
        self._freed += 1
        return self.inflight.pop(packet_id)

    def has_freed_room(self) -> bool:
        """True after each eighth of the window, or when nothing is in flight: then reading on is worth it. No more than
        that, as what the peer leaves unacknowledged for long is not to hold up the rest."""
        if self._freed * 8 < self.receive_maximum and self.inflight:
            return False
        self._freed = 0
        return True

    # Incoming, QoS 1 and 2

    def expect(self, packet_id: int) -> None:
        """A PUBLISH came; it is answered in its turn, when `settle` says how."""
        self.incoming[packet_id] = None

    def settle(
        self, packet_id: int, qos: int, reason_code: ReasonCode, text: str = ""
    ) -> list[tuple[int, int, ReasonCode, str]]:
        """Say how a PUBLISH ended. Returns the acknowledgements that are due now, as (packet id, QoS, code, text), in
        the order of the PUBLISHes [MQTT5-4.6.0-2] [MQTT5-4.6.0-3] [MQTT311-4.6.0-2] [MQTT311-4.6.0-3]."""
        incoming = self.incoming
        incoming[packet_id] = (qos, reason_code, text)
        due = []
        for pending_id, outcome in incoming.items():
            if outcome is None:
                break
            due.append((pending_id, *outcome))
        for pending_id, _, _, _ in due:
            del incoming[pending_id]
        return due

    # Logs

    def start_after(self, topic_name: str, position: int) -> None:
        """Replay a topic's log after `position`, then go on live."""
        self.cursors[topic_name] = LogCursor(position)

    def fall_behind(self, topic_name: str, position: int) -> None:
        """There was no room to send `position`: it and what follows will be read from the log."""
        self.cursors[topic_name] = LogCursor(position - 1, known=position)

    def resume_log(self, topic_name: str, had: int, last: int, own: Set[int]) -> None:
        """The session has a log up to `had`, and it goes on to `last` at least; it published `own` of that itself."""
        noted = self.cursors.get(topic_name)
        known = last if noted is None else max(last, noted.known)
        if had < known:
            cursor = self.cursors[topic_name] = LogCursor(had, known)
            cursor.own = set(own)

    def admits(self, topic_name: str, position: int) -> bool:
        """Whether a publication of a log may be sent now. Not if the session is behind, or was sent it from the log."""
        cursor = self.cursors.get(topic_name)
        if cursor is None:
            return True
        if cursor.behind:
            cursor.known = max(cursor.known, position)
            return False
        if position <= cursor.sent:
            return False
        del self.cursors[topic_name]
        return True

    def skip(self, topic_name: str, position: int, own_positions_max: int) -> None:
        """The session published this itself under No Local: it is not sent, now or from the log.

        Beyond `own_positions_max` a session that does not read gets its own copies when it does.
        """
        cursor = self.cursors.get(topic_name)
        if cursor is None:
            return
        cursor.known = max(cursor.known, position)
        if not cursor.behind:
            cursor.sent = max(cursor.sent, position)
        elif cursor.own is _NONE:
            cursor.own = {position}
        elif len(cursor.own) < own_positions_max:
            cursor.own.add(position)

    def caught_up(self, topic_name: str) -> None:
        """The log was read to its end: go live, unless more was published meanwhile."""
        cursor = self.cursors[topic_name]
        cursor.behind = cursor.known > cursor.sent

    def is_behind_in_more_than(self, logs: int) -> bool:
        cursors = self.cursors
        return len(cursors) > logs and sum(cursor.behind for cursor in cursors.values()) > logs

    def next_behind(self) -> tuple[str, LogCursor] | None:
        """A topic to read on in; the one read longest ago first if the caller calls `read_later` after each page."""
        for topic_name, cursor in self.cursors.items():
            if cursor.behind:
                return topic_name, cursor
        return None

    def read_later(self, topic_name: str) -> None:
        self.cursors[topic_name] = self.cursors.pop(topic_name)

    # Resuming

    def let_go(self) -> None:
        """The connection is gone: the storage has the flows of a session that is kept, and nobody needs the others."""
        self.inflight.clear()
        self.exactly_once.clear()
        self.incoming.clear()
        self.received.clear()
        self.cursors.clear()
        self.queue = None
        self.queue_bytes = 0
        self._freed = 0

    def resume(self, inflight: Sequence[tuple[int, Any, int]], received: Sequence[int]) -> None:
        """Take up the flows again: (packet id, publication or RELEASED, QoS), in the order of sending."""
        for packet_id, publication, qos in inflight:
            self.inflight[packet_id] = publication
            if qos == 2:
                self.exactly_once[packet_id] = publication is RELEASED
        self.received.update(dict.fromkeys(received))
