"""The changes and the reads, run in the transactions of the conversations' writer.

A session that subscribes starts at the ends of the logs that its filter matches, unless another filter had brought it
those already; one that unsubscribes from them forgets how far it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

import apsw
import msgspec

from recado.adapters.broker.log_sessions.statements import SQL
from recado.adapters.broker.sqlite.rows import session_of, subscription_of, will_bytes
from recado.adapters.store.rows import Row, event_of
from recado.broker.publication import Publication
from recado.broker.storage import (
    Acknowledged,
    Change,
    DeleteSubscription,
    Delivery,
    EndSession,
    Forgotten,
    InFlight,
    LogPosition,
    Received,
    Released,
    Resumed,
    SaveCursor,
    SaveSession,
    SaveSubscription,
    StartAfter,
    Stored,
    StoredSession,
)
from recado.chat.errors import Unavailable
from recado.chat.event import encode_event
from recado.mqtt.packets import SubscriptionRequest
from recado.mqtt.topics import has_wildcard, matches

_ROOT = "c/"
_QOS_MAX = 2


def apply(db: apsw.Connection, changes: Sequence[Change]) -> None:
    reaches: dict[int, _Reach] = {}  # read once, however many subscriptions change
    for change in changes:
        if isinstance(change, SaveSubscription | DeleteSubscription):
            reach = reaches.get(change.key)
            if reach is None:
                reach = reaches[change.key] = _reach_of(db, change.key)
            if isinstance(change, SaveSubscription):
                _save_subscription(db, change, reach)
            else:
                _delete_subscription(db, change, reach)
        else:
            _APPLY[type(change)](db, change)


def _save_session(db: apsw.Connection, session: SaveSession) -> None:
    db.execute(SQL["save_session"], (*session[:-1], will_bytes(session.will)))


def _save_subscription(db: apsw.Connection, change: SaveSubscription, reach: _Reach) -> None:
    asked, key = change.subscription, change.key
    logs = _logs_of(asked.topic_filter)
    is_known = reach.discard(asked.topic_filter)
    had_everything = reach.has_everything() or (is_known and logs == _EVERYTHING)
    if asked.qos:
        if logs == _EVERYTHING and not had_everything:
            db.execute(SQL["start_in_all"], (key, msgspec.json.encode(sorted(reach.conversations())).decode()))
        elif logs and logs != _EVERYTHING and not (had_everything or is_known or logs in reach.conversations()):
            db.execute(SQL["start_in_one"], (key, logs))
        reach.add(asked.topic_filter)
    granted = (asked.qos, asked.no_local, asked.retain_as_published, asked.retain_handling, change.identifier)
    db.execute(SQL["save_subscription"], (key, asked.topic_filter, *granted))


def _delete_subscription(db: apsw.Connection, change: DeleteSubscription, reach: _Reach) -> None:
    key, topic_filter = change
    logs = _logs_of(topic_filter)
    db.execute(SQL["delete_subscription"], change)
    if not reach.discard(topic_filter) or reach.has_everything():
        return
    if logs == _EVERYTHING:
        db.execute(SQL["forget_all"], (key, msgspec.json.encode(sorted(reach.conversations())).decode()))
    elif logs and logs not in reach.conversations():
        db.execute(SQL["forget_one"], (key, logs))


def _save_inflight(db: apsw.Connection, change: InFlight) -> None:
    key, packet_id, topic_name, position, qos, after = change
    conversation = topic_name.removeprefix(_ROOT)
    if after and not db.execute(SQL["has_had"], (key, conversation, after)).fetchall():
        raise Unavailable("what comes before it could not be stored")
    db.execute(SQL["save_inflight"], (key, packet_id, conversation, position, qos))
    if qos == _QOS_MAX:  # it is sent once, so it counts as had from here on
        _save_cursor(db, SaveCursor(key, topic_name, position))


def _save_cursor(db: apsw.Connection, change: SaveCursor) -> None:
    in_log = (change.key, change.topic_name.removeprefix(_ROOT), change.position)
    db.execute(SQL["save_cursor"], in_log)
    db.execute(SQL["forget_own"], in_log)


def _start_after(db: apsw.Connection, change: StartAfter) -> None:
    db.execute(SQL["start_after"], (change.key, change.topic_name.removeprefix(_ROOT), change.position))


def _run(statement: str) -> Callable[[apsw.Connection, Any], None]:
    """For changes whose fields are the statement's parameters."""

    def write(db: apsw.Connection, change: Any) -> None:
        db.execute(SQL[statement], change)

    return write


_APPLY: dict[type, Callable[[apsw.Connection, Any], None]] = {
    SaveSession: _save_session,
    EndSession: _run("end_session"),
    InFlight: _save_inflight,
    SaveCursor: _save_cursor,
    StartAfter: _start_after,
    Acknowledged: _run("acknowledge"),
    Released: _run("release"),
    Received: _run("receive"),
    Forgotten: _run("forget"),
}


_EVERYTHING = "*"  # no conversation's id


def _logs_of(topic_filter: str) -> str | None:
    """Which logs a topic filter matches: everything, one conversation, or none."""
    conversation = topic_filter.removesuffix("/#").split("/")[1:2]
    if not conversation or has_wildcard(conversation[0]):
        return _EVERYTHING if matches(topic_filter, _ROOT + "any") else None
    return conversation[0] if matches(topic_filter, _ROOT + conversation[0]) else None


class _Reach:
    """Which logs a session's filters of QoS 1 and 2 match, and how many of them each."""

    def __init__(self, topic_filters: Iterable[str]) -> None:
        self._filters = set(topic_filters)
        self._logs = Counter(filter(None, map(_logs_of, self._filters)))

    def has_everything(self) -> bool:
        return _EVERYTHING in self._logs

    def conversations(self) -> Set[str]:
        return self._logs.keys()

    def add(self, topic_filter: str) -> None:
        self._filters.add(topic_filter)
        if logs := _logs_of(topic_filter):
            self._logs[logs] += 1

    def discard(self, topic_filter: str) -> bool:
        """True if it was there."""
        if topic_filter not in self._filters:
            return False
        self._filters.discard(topic_filter)
        if logs := _logs_of(topic_filter):
            self._logs[logs] -= 1
            if not self._logs[logs]:
                del self._logs[logs]
        return True


def _reach_of(db: apsw.Connection, key: int) -> _Reach:
    return _Reach(topic_filter for (topic_filter,) in db.execute(SQL["acknowledging_filters"], (key,)))


# Reads


def load(db: apsw.Connection) -> Stored:
    subscriptions: dict[int, list[tuple[SubscriptionRequest, int]]] = {}
    for key, *subscription, identifier in db.execute(SQL["all_subscriptions"]):
        subscriptions.setdefault(key, []).append((subscription_of(tuple(subscription)), identifier))
    sessions = [
        StoredSession(session_of(tuple(row)), subscriptions.get(row[0], []), 0, 0)
        for row in db.execute(SQL["all_sessions"])
    ]
    last_key: Any
    ((last_key,),) = db.execute(SQL["last_key"]).fetchall()
    return Stored(sessions, [], last_key, 0)


def resume(db: apsw.Connection, key: int, own_max: int) -> Resumed:
    """What was in flight as it reads now, as far as the user may read it now. What is handed over is deleted here."""
    db.execute(SQL["release_closed"], (key,))
    rows: list[Row] = db.execute(SQL["inflight_of"], (key,)).fetchall()
    inflight = [
        Delivery(packet_id, _publication(conversation, event), qos, False, ())
        for packet_id, qos, conversation, *event in rows
    ]
    db.execute(SQL["delete_taken_up"], (key,))
    received = [packet_id for (packet_id,) in db.execute(SQL["received_of"], (key,))]
    return Resumed(inflight, received, _behind(db, key, own_max))


def _behind(db: apsw.Connection, key: int, own_max: int) -> list[LogPosition]:
    own: dict[str, set[int]] = {}
    for conversation, seq in db.execute(SQL["own_of"], (key, own_max)):
        own.setdefault(conversation, set()).add(seq)
    reach = _reach_of(db, key)
    rows: list[Row] = []
    if reach.has_everything():
        rows += db.execute(SQL["behind"], (key,))
    else:
        for conversation in reach.conversations():
            rows += db.execute(SQL["behind_in"], (key, conversation))
    return [LogPosition(_ROOT + each, had, last, frozenset(own.get(each, ()))) for each, had, last in rows]


def _publication(conversation: str | None, event: Sequence[Any]) -> Publication | None:
    if conversation is None:
        return None
    return Publication(_ROOT + conversation, encode_event(event_of(tuple(event))), _QOS_MAX, event[0])
