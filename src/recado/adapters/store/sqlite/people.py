"""What users are called, the pages that they have open, and where they want to be called: each in the transaction of
who asks.
"""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from recado.adapters.store.rows import Row
from recado.adapters.store.sqlite.statements import SQL
from recado.chat.errors import TooLarge, no_such_conversation
from recado.ports import PushSubscription, PushTarget

_ENDED_PAGES = 100  # are deleted with each page that is noted: more than one, so that they do not pile up

# Writes


def put_user(db: apsw.Connection, user: str, name: str | None) -> None:
    if name is None:
        db.execute(SQL["delete_name"], (user,))
    else:
        db.execute(SQL["put_name"], (user, name))


def set_muted(db: apsw.Connection, conversation: str, user: str, muted: bool) -> bool:
    key = _value(db, "conversation_state", conversation)
    if key is None or _value(db, "read_up_to", key, user) is None:
        raise no_such_conversation(conversation)
    db.execute(SQL["set_muted"], (muted, key, user))
    return db.changes() > 0


def note_page(
    db: apsw.Connection, user: str, page: str, visible: bool | None, at: int, until: int, pages_max: int
) -> None:
    db.execute(SQL["delete_ended_pages"], (at, _ENDED_PAGES))
    if visible is None:
        db.execute(SQL["delete_page"], (user, page))
    else:
        db.execute(SQL["put_page"], (user, page, visible, until))
        db.execute(SQL["delete_pages_beyond"], (user, pages_max))


def put_push_subscription(db: apsw.Connection, user: str, subscription: PushSubscription, at: int, most: int) -> bool:
    """True if it is new."""
    owner = _value(db, "subscription_owner", subscription.endpoint)
    if owner != user and (_value(db, "count_subscriptions", user) or 0) >= most:
        raise TooLarge(f"a user may have {most} push subscriptions: delete one that is not needed any more")
    row = (subscription.endpoint, user, subscription.p256dh, subscription.auth, at)
    db.execute(SQL["put_subscription"], row)
    return owner is None


def delete_push_subscription(db: apsw.Connection, user: str | None, endpoint: str) -> None:
    db.execute(SQL["delete_subscription"], (endpoint, user))


def forget(db: apsw.Connection, user: str) -> None:
    """Everything that is known of the user beside its conversations."""
    for statement in ("delete_name", "delete_pages_of", "delete_subscriptions_of"):
        db.execute(SQL[statement], (user,))


# Reads


def names(db: apsw.Connection, users: Sequence[str]) -> dict[str, str]:
    rows: list[Row] = db.execute(SQL["names_of"], (_array(users),)).fetchall()
    return {row[0]: row[1] for row in rows}


def pages(db: apsw.Connection, users: Sequence[str], now: int) -> dict[str, bool]:
    return {user: bool(visible) for user, visible in db.execute(SQL["open_pages"], (_array(users), now))}


def push_targets(db: apsw.Connection, conversation: str, seq: int, recipients: Sequence[str]) -> list[PushTarget]:
    rows = db.execute(SQL["push_targets"], (_array(recipients), conversation, seq))
    return [PushTarget(user, PushSubscription(*subscription)) for user, *subscription in rows]


def _array(users: Sequence[str]) -> str:
    return msgspec.json.encode(users).decode()


def _value(db: apsw.Connection, statement: str, *parameters: str | int) -> Any:
    """The first column of the one row, None if there is none."""
    row = db.execute(SQL[statement], parameters).fetchone()
    return None if row is None else row[0]
