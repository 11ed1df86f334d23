"""What the MQTT server keeps on disk: sessions that outlive their connections, their queues, and retained messages.

Changes are handed over in transactions: either all of one is durable or nothing of it. They are committed in the order
in which they were written, many at a time, and reads see every change that was written before them. So one thing never
overtakes another: a message is in a session's queue before the read that resumes it, or after.

What a session has no room for is in one of two places, never in memory as a whole. Topics that are open to whoever
subscribed have a queue in a `QueueStorage`: the server holds counts, and reads on (`claim`) when there is room. A topic
that is a log needs none: the storage keeps how far the session is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from recado.broker.publication import Publication
from recado.mqtt.packets import SubscriptionRequest, Will


class SaveSession(NamedTuple):
    """A session began, or something of it changed. `ended_at_ms` is when its connection went; None while it has one."""

    key: int
    user: str
    client_id: str
    expiry_interval: int
    ended_at_ms: int | None
    will: Will | None


class EndSession(NamedTuple):
    """The session and everything of it is gone."""

    key: int


class SaveSubscription(NamedTuple):
    """Replaces one with the same filter. `identifier` is 0 for none."""

    key: int
    subscription: SubscriptionRequest
    identifier: int


class DeleteSubscription(NamedTuple):
    key: int
    topic_filter: str


class Retain(NamedTuple):
    """The retained message of its topic from now on."""

    publication: Publication


class ClearRetained(NamedTuple):
    topic_name: str


class Entry(NamedTuple):
    """A publish for one session: in flight at once under `packet_id`, or in its queue (0)."""

    key: int
    packet_id: int
    qos: int
    retain: bool
    identifiers: tuple[int, ...]


class Enqueue(NamedTuple):
    """`position` orders all messages of the server; each is larger than the one before. What is in flight under the
    packet id of an entry already gives way to it: the end of that one was lost."""

    position: int
    publication: Publication
    entries: Sequence[Entry]


class Acknowledged(NamedTuple):
    """A publish in flight is over: its PUBACK or PUBCOMP came, or a PUBREC that refuses it."""

    key: int
    packet_id: int


class Released(NamedTuple):
    """A QoS 2 publish in flight was received (PUBREC): only its packet id is left."""

    key: int
    packet_id: int


class Received(NamedTuple):
    """A QoS 2 publish came from the session's client: its packet id must not count again."""

    key: int
    packet_id: int


class Forgotten(NamedTuple):
    """Its PUBREL came: the packet id may be used for another one."""

    key: int
    packet_id: int


class InFlight(NamedTuple):
    """A publication of a log is in flight. Of QoS 2 that is durable before it is sent, and counts as had from then on;
    of QoS 1 it is said when the connection ends. It fails if the session has not had the log up to `after`, where
    what was sent of it before should have brought it."""

    key: int
    packet_id: int
    topic_name: str
    position: int
    qos: int
    after: int = 0


class SaveCursor(NamedTuple):
    """The session's client has all of a log up to a position. It never goes back by this."""

    key: int
    topic_name: str
    position: int


class StartAfter(NamedTuple):
    """The session's client wants a log from a position on, whatever it had before."""

    key: int
    topic_name: str
    position: int


Change = (
    SaveSession
    | EndSession
    | SaveSubscription
    | DeleteSubscription
    | Retain
    | ClearRetained
    | Enqueue
    | Acknowledged
    | Released
    | Received
    | Forgotten
    | InFlight
    | SaveCursor
    | StartAfter
)


class StoredSession(NamedTuple):
    """What a start finds of a session. `queued` and `queued_bytes` (sizes) count its queue, without what is in
    flight. `subscriptions` are pairs of a subscription and its identifier."""

    saved: SaveSession
    subscriptions: list[tuple[SubscriptionRequest, int]]
    queued: int
    queued_bytes: int


class Stored(NamedTuple):
    """What a start finds. `last_key` and `last_position` are the largest ever used."""

    sessions: list[StoredSession]
    retained: list[Publication]
    last_key: int
    last_position: int


class Delivery(NamedTuple):
    """A publish in flight. `publication` is None once it was released: only PUBREL is to be sent."""

    packet_id: int
    publication: Publication | None
    qos: int
    retain: bool
    identifiers: tuple[int, ...]


class LogPosition(NamedTuple):
    """A log of which a session has all up to `had`, and which goes on to `last`. `own` is what the session published of
    that itself and, by No Local, is not to get back."""

    topic_name: str
    had: int
    last: int
    own: frozenset[int] = frozenset()


class Resumed(NamedTuple):
    """A session's flows: its publishes in flight in the order in which they were first sent, the packet ids of QoS 2
    publishes that came and are not released yet, and the logs in which it is behind.

    What of a log was in flight at QoS 1 is handed over: the storage does not have it any more. What the user may not
    read any more is not among it."""

    inflight: list[Delivery]
    received: list[int]
    behind: Sequence[LogPosition] = ()


class Claimed(NamedTuple):
    """What went from a session's queue into flight. `removed` and `removed_bytes` count what left the queue, with
    what had expired and was dropped; `rest` tells whether something is left in it."""

    deliveries: list[Delivery]
    removed: int
    removed_bytes: int
    rest: bool


class Expired(NamedTuple):
    """What was dropped from a session's queue because it had expired. `next_ms` is when the next one of it will, as
    Unix time; 0 for never."""

    removed: int
    removed_bytes: int
    next_ms: int


class StorageFailed(Exception):
    """Nothing of what was asked was done: the disk is full, or away."""


class Storage(Protocol):
    """Everything is called on the event loop, and calls back on it."""

    async def load(self) -> Stored:
        """Once, before anything else. Raises StorageFailed."""

    def write(self, changes: Sequence[Change], done: Callable[[bool], None] | None = None) -> None:
        """One transaction. `done(True)` once it is durable; `done(False)` if nothing of it was kept."""

    async def resume(self, key: int) -> Resumed:
        """Raises StorageFailed."""

    async def close(self) -> None:
        """Commit what was written, then close. Reads, claims and the like that wait for their turn fail. Idempotent."""


class QueueStorage(Storage, Protocol):
    """A storage that also has the queues of sessions, and takes Enqueue, Retain and ClearRetained."""

    async def claim(self, key: int, packet_ids: Sequence[int], now_ms: int) -> Claimed:
        """Take up to `len(packet_ids)` publishes from the head of a session's queue into flight, in order. Those that
        have expired are dropped. Durable when it returns. Raises StorageFailed.

        As with Enqueue, what is in flight under one of `packet_ids` already gives way to the new one.
        """

    async def forget_expired(self, key: int, now_ms: int) -> Expired:
        """Drop what has expired from a session's queue, wherever in it. The server asks when it finds the queue full,
        and something in it has expired; until it returns, the queue may grow to twice its bounds. Raises
        StorageFailed."""
