"""Users' display names, the pages that they have open, and where they want to be notified."""

from collections.abc import Sequence

from recado.adapters.store.postgres.database import Db
from recado.adapters.store.postgres.statements import SQL
from recado.chat.errors import no_such_conversation
from recado.chat.push_subscription import check_room
from recado.ports import PushSubscription, PushTarget

_ENDED_PAGES = 100  # are deleted with each page that is noted: more than one, so that they do not pile up
_SUBSCRIPTIONS_LOCK = 1  # tells this store's advisory locks apart


async def put_user(db: Db, user: str, name: str | None) -> None:
    if name is None:
        await db.execute(SQL["delete_name"], user)
    else:
        await db.execute(SQL["put_name"], user, name)


async def names(db: Db, users: Sequence[str]) -> dict[str, str]:
    return {row[0]: row[1] for row in await db.fetch(SQL["names_of"], users)}


async def set_muted(db: Db, conversation: str, user: str, muted: bool) -> bool:
    changed = await db.fetchval(SQL["set_muted"], conversation, user, muted)
    if changed is None:
        raise no_such_conversation(conversation)
    return bool(changed)


async def note_page(db: Db, user: str, page: str, visible: bool | None, at: int, until: int, pages_max: int) -> None:
    if visible is None:
        await db.execute(SQL["delete_page"], user, page)
    else:
        async with db.transaction():
            await db.execute(SQL["put_page"], user, page, visible, until, at, _ENDED_PAGES)
            await db.execute(SQL["delete_pages_beyond"], user, pages_max)


async def pages(db: Db, users: Sequence[str], now: int) -> dict[str, bool]:
    return {row[0]: row[1] for row in await db.fetch(SQL["open_pages"], users, now)}


async def put_push_subscription(db: Db, user: str, subscription: PushSubscription, at: int, most: int) -> bool:
    async with db.transaction():
        await db.execute(SQL["lock_subscriptions"], _SUBSCRIPTIONS_LOCK, user)
        owner = await db.fetchval(SQL["subscription_owner"], subscription.endpoint)
        if owner != user:
            check_room(await db.fetchval(SQL["count_subscriptions"], user), most)
        row = (subscription.endpoint, user, subscription.p256dh, subscription.auth, at)
        await db.execute(SQL["put_subscription"], *row)
        return owner is None


async def delete_push_subscription(db: Db, user: str | None, endpoint: str) -> None:
    await db.execute(SQL["delete_subscription"], endpoint, user)


async def push_targets(db: Db, conversation: str, seq: int, recipients: Sequence[str]) -> list[PushTarget]:
    rows = await db.fetch(SQL["push_targets"], conversation, seq, recipients)
    return [PushTarget(user, PushSubscription(*subscription)) for user, *subscription in rows]


async def forget(db: Db, user: str) -> None:
    """Everything that is known of the user beside its conversations."""
    async with db.transaction():
        for statement in ("delete_name", "delete_pages_of", "delete_subscriptions_of"):
            await db.execute(SQL[statement], user)
