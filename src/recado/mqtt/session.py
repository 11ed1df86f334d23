"""One session on the server's side, sans-I/O: its subscriptions, its QoS flows, and how far it has read of each log.

A session belongs to (user, client id). A publication that has a position in its topic's log needs no queue: a session
that has no room keeps one `LogCursor` for that topic and reads on when it has. Nobody else waits for it.
"""

from __future__ import annotations

from typing import Any

from recado.mqtt.packets import SubscriptionRequest
from recado.mqtt.reason_codes import ReasonCode
from recado.mqtt.topics import has_wildcard, matches

PACKET_IDS = 65_535
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
    """`connection` is the shell's, None while there is none; `receive_maximum` bounds what waits for a PUBACK."""

    __slots__ = (
        "_freed",
        "_last_packet_id",
        "client_id",
        "connection",
        "cursors",
        "incoming",
        "inflight",
        "receive_maximum",
        "subscriptions",
        "user",
        "wildcards",
    )

    def __init__(self, user: str, client_id: str, receive_maximum: int) -> None:
        self.user = user
        self.client_id = client_id
        self.receive_maximum = receive_maximum
        self.connection: Any = None
        self.subscriptions: dict[str, SubscriptionRequest] = {}
        self.wildcards: dict[str, SubscriptionRequest] = {}
        self.cursors: dict[str, LogCursor] = {}
        self.inflight: set[int] = set()
        self.incoming: dict[int, tuple[ReasonCode, str] | None] = {}
        self._last_packet_id = 0
        self._freed = 0

    # Outgoing, QoS 1

    def has_window(self) -> bool:
        return len(self.inflight) < self.receive_maximum  # [MQTT5-3.3.4-9]

    def window(self) -> int:
        return self.receive_maximum - len(self.inflight)

    def take_packet_id(self) -> int:
        """A packet id that is not in use [MQTT5-2.2.1-4]; ask `has_window` before."""
        packet_id = self._last_packet_id % PACKET_IDS + 1
        while packet_id in self.inflight:
            packet_id = packet_id % PACKET_IDS + 1
        self._last_packet_id = packet_id
        self.inflight.add(packet_id)
        return packet_id

    def acknowledged(self, packet_id: int) -> bool:
        """The peer's PUBACK came; True after each half of the window, which is when reading a log on is worth it."""
        self.inflight.discard(packet_id)
        self._freed += 1
        if self._freed * 2 < self.receive_maximum:
            return False
        self._freed = 0
        return True

    # Incoming, QoS 1

    def received(self, packet_id: int) -> None:
        """A PUBLISH came; it is answered in its turn, when `settle` says how."""
        self.incoming[packet_id] = None

    def settle(self, packet_id: int, reason_code: ReasonCode, text: str = "") -> list[tuple[int, ReasonCode, str]]:
        """Say how a PUBLISH ended. Returns the acknowledgements that are due now, in the order of the PUBLISHes."""
        incoming = self.incoming
        incoming[packet_id] = (reason_code, text)
        due = []
        for pending_id, outcome in incoming.items():  # [MQTT5-4.6.0-2]
            if outcome is None:
                break
            due.append((pending_id, *outcome))
        for pending_id, _, _ in due:
            del incoming[pending_id]
        return due

    # Logs

    def start_after(self, topic_name: str, position: int) -> None:
        """Replay a topic's log after `position`, then go on live."""
        self.cursors[topic_name] = LogCursor(position)

    def fall_behind(self, topic_name: str, position: int) -> None:
        """There was no room to send `position`: it and what follows will be read from the log."""
        self.cursors[topic_name] = LogCursor(position - 1, known=position)

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

    def skip(self, topic_name: str, position: int | None, own_positions_max: int) -> None:
        """The session published this itself under No Local: it is not sent, now or from the log.

        Beyond `own_positions_max` a session that does not read gets its own copies when it does.
        """
        cursor = self.cursors.get(topic_name)
        if position is None or cursor is None:
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

    def next_behind(self) -> tuple[str, LogCursor] | None:
        """A topic to read on in; the one read longest ago first if the caller calls `read_later` after each page."""
        for topic_name, cursor in self.cursors.items():
            if cursor.behind:
                return topic_name, cursor
        return None

    def read_later(self, topic_name: str) -> None:
        self.cursors[topic_name] = self.cursors.pop(topic_name)

    # Subscriptions

    def has_room_for(self, topic_filter: str, subscriptions_max: int, wildcards_max: int) -> bool:
        """Whether a subscription may be added; one that replaces another always may."""
        if topic_filter in self.subscriptions or topic_filter in self.wildcards:
            return True
        if has_wildcard(topic_filter) and len(self.wildcards) >= wildcards_max:
            return False
        return len(self.subscriptions) + len(self.wildcards) < subscriptions_max

    def granted(self, topic_name: str, matched: dict[str, bool] | None = None) -> SubscriptionRequest | None:
        """The subscription under which the session gets `topic_name`: the one with the highest QoS if several match.

        `matched` remembers filters for this topic: most sessions have the same ones, and matching is the dear part.
        """
        best = self.subscriptions.get(topic_name)
        if matched is None:
            matched = {}
        for topic_filter, subscription in self.wildcards.items():
            if (found := matched.get(topic_filter)) is None:
                found = matched[topic_filter] = matches(topic_filter, topic_name)
            if found and (best is None or subscription.qos > best.qos):
                best = subscription
        return best
