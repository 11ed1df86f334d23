"""What was committed past a position, by whichever process, each event with those it goes to.

These are the members as of the event, found from those of now by going back over who was added and removed since, all
in one snapshot. Of a conversation that was erased meanwhile they are found from those who were in it then.
"""

from collections import defaultdict
from collections.abc import Iterable

from recado.adapters.store.postgres.database import Db
from recado.adapters.store.postgres.members import MemberCache
from recado.adapters.store.postgres.statements import SQL
from recado.adapters.store.rows import event_of
from recado.chat.event import MEMBER_ADDED, MEMBER_REMOVED, Committed, Event

_EVERYTHING = 2**62
Recipients = dict[int, frozenset[str]]
"""By seq."""


async def read_past(db: Db, cache: MemberCache, after: int, up_to: int | None, limit: int) -> list[Committed]:
    """The first events past a position, and up to another if that is given."""
    async with db.transaction(isolation="repeatable_read", readonly=True):
        rows = await db.fetch(SQL["log_past"], after, _EVERYTHING if up_to is None else up_to, limit)
        if not rows:
            return []
        entries = [(position, key, name, event_of(tuple(row))) for position, key, name, _, *row in rows]
        logs: dict[int, list[Event]] = defaultdict(list)
        for _, key, _, event in entries:
            logs[key].append(event)
        recipients = await _recipients(db, cache, logs, {row[1]: row[3] for row in rows})
    return [Committed(name, event, recipients[key][event.seq], None, at, True) for at, key, name, event in entries]


async def _recipients(
    db: Db, cache: MemberCache, logs: dict[int, list[Event]], members_seqs: dict[int, int]
) -> dict[int, Recipients]:
    """By conversation's key. `members_seqs` are of the last events that changed who is a member."""
    members = {key: known for key, seq in members_seqs.items() if (known := cache.get(key, seq)) is not None}
    if unknown := [key for key in logs if key not in members]:
        for key, users in await db.fetch(SQL["last_members_of_each"], unknown):
            members[key] = frozenset(users or ())
            cache.put(key, members_seqs[key], members[key])
    changes: dict[int, list[Event]] = defaultdict(list)
    if changed := [(key, log[0].seq) for key, log in logs.items() if log[0].seq <= members_seqs[key]]:
        for key, *row in await db.fetch(SQL["membership_events_from"], *zip(*changed, strict=True)):
            changes[key].append(event_of(tuple(row)))
    return {key: recipients_of([*log, *changes[key]], members[key]) for key, log in logs.items()}


def recipients_of(events: Iterable[Event], members: frozenset[str]) -> Recipients:
    """Whom each of a log's events goes to, when these are the members after the last; `events` has at least every
    change of the members from its first on."""
    found: Recipients = {}
    for seq, event in sorted({event.seq: event for event in events}.items(), reverse=True):
        if event.type == MEMBER_REMOVED and event.user is not None:
            members |= {event.user}
        found[seq] = members
        if event.type == MEMBER_ADDED and event.user is not None:
            members -= {event.user}
    return found
