"""The changes and the reads, run by the one writing thread inside its transaction.

What every message makes (its rows, its acknowledgement) is gathered over the whole batch and written with a few
statements: each statement that runs gives the interpreter's lock away, and gets it back late while the event loop is
busy (12 us a message, with its acknowledgement, where a statement a row took 15). `flush` writes it, deletions first;
whatever looks at those rows, or changes one that was gathered, flushes before.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import apsw
import msgspec

from recado.adapters.broker.sqlite.rows import (
    Row,
    delivery_of,
    identifiers_bytes,
    publication_of,
    row_of,
    session_of,
    subscription_of,
    will_bytes,
)
from recado.adapters.broker.sqlite.statements import SQL, for_rows
from recado.broker.storage import (
    Acknowledged,
    Change,
    Claimed,
    ClearRetained,
    DeleteSubscription,
    Delivery,
    EndSession,
    Enqueue,
    Expired,
    Forgotten,
    Received,
    Released,
    Resumed,
    Retain,
    SaveSession,
    SaveSubscription,
    Stored,
    StoredSession,
)
from recado.mqtt.packets import SubscriptionRequest

_GATHERED_ROWS_MAX = 5_000
_STATEMENT_ROWS_MAX = 64
_LAST_PLACE = 2**63 - 1


class Writer:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._execute = db.cursor().execute
        self._apply: dict[type, Callable[[Any], None]] = {
            SaveSession: self._save_session,
            EndSession: self._end_session,
            SaveSubscription: self._save_subscription,
            DeleteSubscription: lambda change: self._run("delete_subscription", *change),
            Retain: lambda change: self._run("retain", *row_of(change.publication)),
            ClearRetained: lambda change: self._run("clear_retained", change.topic_name),
            Enqueue: self._enqueue,
            Acknowledged: self._acknowledge,
            Released: self._release,
            Received: lambda change: self._mark_received(change, True),
            Forgotten: lambda change: self._mark_received(change, False),
        }
        self._keys: set[int] = set()
        self._place = 0
        self._known = False
        self._forget_gathered()

    def _forget_gathered(self) -> None:
        self._messages: list[Row] = []
        self._queued: list[Row] = []
        self._inflight: dict[int, Row] = {}  # by id; the rows without it
        self._acknowledged: list[int] = []
        self._released: list[int] = []
        self._received: dict[int, bool] = {}  # by id: taken, or free again

    def _look_up(self) -> None:
        self._keys = {key for (key,) in self._execute(SQL["session_keys"])}
        self._place = self._value("last_place")
        self._known = True

    def begin(self) -> None:
        self._execute("BEGIN IMMEDIATE")
        if not self._known:
            self._look_up()

    def commit(self) -> None:
        self.flush()
        self._execute("COMMIT")

    def touch(self) -> None:
        """Write something that changes nothing: the commit fails if none would succeed."""
        (version,) = self._execute("PRAGMA user_version").fetchall()[0]
        self._execute(f"PRAGMA user_version = {version}")

    def roll_back(self) -> None:
        self._forget_gathered()
        self._known = False
        if self._db.in_transaction:
            self._execute("ROLLBACK")

    # Changes

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._apply[type(change)](change)

    def _save_session(self, session: SaveSession) -> None:
        self._run("save_session", *session[:-1], will_bytes(session.will))
        self._keys.add(session.key)

    def _end_session(self, session: EndSession) -> None:
        self.flush()
        self._run("delete_queued", session.key)
        self._run("delete_inflight", *_ids_of(session.key))
        self._run("delete_received", *_ids_of(session.key))
        self._run("delete_session", session.key)
        self._keys.discard(session.key)

    def _save_subscription(self, change: SaveSubscription) -> None:
        asked = change.subscription
        granted = (asked.qos, asked.no_local, asked.retain_as_published, asked.retain_handling, change.identifier)
        self._run("save_subscription", change.key, asked.topic_filter, *granted)

    def _enqueue(self, message: Enqueue) -> None:
        """What is for a session that has ended meanwhile is for nobody."""
        entries = [entry for entry in message.entries if entry.key in self._keys]
        if not entries:
            return
        if not self._inflight.keys().isdisjoint(entry.key << 16 | entry.packet_id for entry in entries):
            self.flush()  # what is sent under the same packet id comes in the place of the former
        position = message.position
        self._messages.append((position, message.publication.size, *row_of(message.publication)))
        for key, packet_id, qos, retain, identifiers in entries:
            self._place += 1
            row = (self._place, position, qos, retain, identifiers_bytes(identifiers))
            if packet_id:
                self._inflight[key << 16 | packet_id] = row
            else:
                self._queued.append((key, *row))
        if len(self._queued) + len(self._inflight) > _GATHERED_ROWS_MAX:
            self.flush()

    def _acknowledge(self, change: Acknowledged) -> None:
        packet = change.key << 16 | change.packet_id
        if packet in self._inflight:
            self.flush()
        self._acknowledged.append(packet)

    def _release(self, change: Released) -> None:
        packet = change.key << 16 | change.packet_id
        if packet in self._inflight:
            self.flush()
        self._released.append(packet)

    def _mark_received(self, change: Received | Forgotten, taken: bool) -> None:
        if change.key in self._keys:
            self._received[change.key << 16 | change.packet_id] = taken

    def flush(self) -> None:
        """Write what was gathered. Deletions come first: the packet id of one may be the next one's. What is in use
        still, as its acknowledgement was lost, is freed: better one message less than a session that gets none."""
        self._run_for("release", self._released)
        self._run_for("acknowledge", [*self._acknowledged, *self._inflight])
        self._run_for("forget", [packet for packet, taken in self._received.items() if not taken])
        self._run_for("receive", [packet for packet, taken in self._received.items() if taken])
        self._insert("insert_messages", self._messages)
        self._insert("insert_inflight", [(packet, *row) for packet, row in self._inflight.items()])
        self._insert("insert_queued", self._queued)
        self._forget_gathered()

    # Reads

    def load(self, now_ms: int) -> Stored:
        self.flush()
        subscriptions: dict[int, list[tuple[SubscriptionRequest, int]]] = {}
        for key, *subscription, identifier in self._execute(SQL["all_subscriptions"]):
            subscriptions.setdefault(key, []).append((subscription_of(tuple(subscription)), identifier))
        sessions = [
            StoredSession(session_of(tuple(saved)), subscriptions.get(saved[0], []), queued, queued_bytes)
            for *saved, queued, queued_bytes in self._execute(SQL["all_sessions"])
        ]
        self._run("delete_expired_retained", now_ms)
        retained = [publication_of(row) for row in self._execute(SQL["all_retained"])]
        return Stored(
            sessions, retained, self._value("largest_ever", "sessions"), self._value("largest_ever", "messages")
        )

    def resume(self, key: int) -> Resumed:
        self.flush()
        inflight = [delivery_of(row[0] & 0xFFFF, row[1:]) for row in self._execute(SQL["inflight_of"], _ids_of(key))]
        received = [packet & 0xFFFF for (packet,) in self._execute(SQL["received_of"], _ids_of(key))]
        return Resumed(inflight, received)

    def claim(self, key: int, packet_ids: Sequence[int], now_ms: int) -> Claimed:
        self.flush()
        if not packet_ids:
            return Claimed([], 0, 0, self._has_more(key))
        head: list[Row] = self._execute(SQL["queue_head"], (key, now_ms, len(packet_ids))).fetchall()
        deliveries: list[Delivery] = []
        for packet_id, (_, *row) in zip(packet_ids, head, strict=False):
            self._place += 1
            position, qos, retain, identifiers, *_ = row
            self._inflight[key << 16 | packet_id] = (self._place, position, qos, retain, identifiers)
            deliveries.append(delivery_of(packet_id, tuple(row)))
        self.flush()  # so that the messages are still pointed at when they leave the queue
        up_to = head[-1][0] if len(head) == len(packet_ids) else _LAST_PLACE
        removed, removed_bytes = self._row("count_queued", key, up_to)
        self._run("delete_queued_up_to", key, up_to)
        return Claimed(deliveries, removed, removed_bytes, self._has_more(key))

    def forget_expired(self, key: int, now_ms: int) -> Expired:
        self.flush()
        removed, removed_bytes = self._row("count_expired", key, now_ms)
        if removed:
            self._run("delete_expired", key, key, now_ms)
        return Expired(removed, removed_bytes, self._value("next_expiry", key))

    def _has_more(self, key: int) -> bool:
        return bool(self._value("queue_has_more", key))

    # Statements

    def _run(self, statement: str, *parameters: object) -> None:
        self._execute(SQL[statement], parameters)

    def _run_for(self, statement: str, ids: list[int]) -> None:
        if ids:
            self._run(statement, msgspec.json.encode(ids).decode())

    def _insert(self, statement: str, rows: list[Row]) -> None:
        """In statements of 64, 32 ... rows, so that there are few to prepare."""
        start = 0
        while start < len(rows):
            count = min(_STATEMENT_ROWS_MAX, 1 << (len(rows) - start).bit_length() - 1)
            values = tuple(chain.from_iterable(rows[start : start + count]))
            self._execute(for_rows(statement, count), values)
            start += count

    def _value(self, statement: str, *parameters: object) -> int:
        value: int = self._row(statement, *parameters)[0]
        return value

    def _row(self, statement: str, *parameters: object) -> Row:
        """The one row that there must be."""
        row: Row
        (row,) = self._execute(SQL[statement], parameters).fetchall()
        return row


def _ids_of(key: int) -> tuple[int, int]:
    """The first and the last id of a session, in the tables that pack it with a packet id."""
    return key << 16, key << 16 | 0xFFFF
