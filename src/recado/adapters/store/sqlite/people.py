"""Users' display names, the pages that they have open, and where they want to be notified: each in the transaction of
who asks.
"""

from collections.abc import Sequence

import apsw
import msgspec

from recado.adapters.store.rows import Row
from recado.adapters.store.sqlite.statements import SQL, value_of
from recado.chat.errors import no_such_conversation
from recado.chat.push_subscription import check_room
from recado.ports import PushSubscription, PushTarget

_ENDED_PAGES = 100  # are deleted with each page that is noted: more than one, so that they do not pile up

# Writes


def put_user(db: apsw.Connection, user: str, name: str | None) -> None:
    if name is None:
        db.execute(SQL["delete_name"], (user,))
    else:
        db.execute(SQL["put_name"], (user, name))


def set_muted(db: apsw.Connection, conversation: str, user: str, muted: bool) -> bool:
    key = value_of(db, "living_key", conversation)
    if key is None or value_of(db, "is_member", key, user) is None:
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
    owner = value_of(db, "subscription_owner", subscription.endpoint)
    if owner != user:
        check_room(value_of(db, "count_subscriptions", user), most)
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
