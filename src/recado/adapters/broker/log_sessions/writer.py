"""The changes and the reads, run in the transactions of the conversations' writer.

A session that subscribes starts at the ends of the logs that its filter matches, unless another filter had brought it
those already; one that unsubscribes from them forgets how far it was.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apsw
import msgspec

from recado.adapters.broker.log_sessions.statements import SQL
from recado.adapters.broker.sqlite.rows import session_of, subscription_of, will_bytes
from recado.adapters.store.sqlite.rows import Row, event_of
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
    for change in changes:
        _APPLY[type(change)](db, change)


def _save_session(db: apsw.Connection, session: SaveSession) -> None:
    db.execute(SQL["save_session"], (*session[:-1], will_bytes(session.will)))


def _save_subscription(db: apsw.Connection, change: SaveSubscription) -> None:
    asked = change.subscription
    if asked.qos:
        _start(db, change.key, asked.topic_filter)
    granted = (asked.qos, asked.no_local, asked.retain_as_published, asked.retain_handling, change.identifier)
    db.execute(SQL["save_subscription"], (change.key, asked.topic_filter, *granted))


def _start(db: apsw.Connection, key: int, topic_filter: str) -> None:
    had = _Reach(_acknowledging_filters(db, key))
    wanted = _Reach([topic_filter])
    if had.everything:
        return
    if wanted.everything:
        db.execute(SQL["start_in_all"], (key, msgspec.json.encode(sorted(had.conversations)).decode()))
    for conversation in wanted.conversations - had.conversations:
        db.execute(SQL["start_in_one"], (key, conversation))


def _delete_subscription(db: apsw.Connection, change: DeleteSubscription) -> None:
    had = _Reach(_acknowledging_filters(db, change.key))
    db.execute(SQL["delete_subscription"], change)
    left = _Reach(_acknowledging_filters(db, change.key))
    if left.everything:
        return
    if had.everything:
        db.execute(SQL["forget_all"], (change.key, msgspec.json.encode(sorted(left.conversations)).decode()))
    for conversation in had.conversations - left.conversations:
        db.execute(SQL["forget_one"], (change.key, conversation))


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
    SaveSubscription: _save_subscription,
    DeleteSubscription: _delete_subscription,
    InFlight: _save_inflight,
    SaveCursor: _save_cursor,
    StartAfter: _start_after,
    Acknowledged: _run("acknowledge"),
    Released: _run("release"),
    Received: _run("receive"),
    Forgotten: _run("forget"),
}


class _Reach:
    """Which logs some topic filters match: everything, or these conversations."""

    def __init__(self, topic_filters: Iterable[str]) -> None:
        self.everything = False
        self.conversations: set[str] = set()
        for topic_filter in topic_filters:
            conversation = topic_filter.removesuffix("/#").split("/")[1:2]
            if not conversation or has_wildcard(conversation[0]):
                self.everything = self.everything or matches(topic_filter, _ROOT + "any")
            elif matches(topic_filter, _ROOT + conversation[0]):
                self.conversations.add(conversation[0])


def _acknowledging_filters(db: apsw.Connection, key: int) -> list[str]:
    return [topic_filter for (topic_filter,) in db.execute(SQL["acknowledging_filters"], (key,))]


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
    reach = _Reach(_acknowledging_filters(db, key))
    rows: list[Row] = []
    if reach.everything:
        rows += db.execute(SQL["behind"], (key,))
    for conversation in () if reach.everything else reach.conversations:
        rows += db.execute(SQL["behind_in"], (key, conversation))
    return [LogPosition(_ROOT + each, had, last, frozenset(own.get(each, ()))) for each, had, last in rows]


def _publication(conversation: str | None, event: Sequence[Any]) -> Publication | None:
    if conversation is None:
        return None
    return Publication(_ROOT + conversation, encode_event(event_of(tuple(event))), _QOS_MAX, event[0])
