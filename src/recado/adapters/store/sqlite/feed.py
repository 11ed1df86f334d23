"""What happened past a position in all of a user's conversations, in the order of the positions.

Only the conversations whose last event is past it are looked at, and of each only the entries that may be in the page:
where they begin is found from the log's end, since mostly little is new.
"""

from collections.abc import Sequence
from typing import Any

import apsw

from recado.adapters.store.rows import Row, event_of
from recado.adapters.store.sqlite.statements import SQL
from recado.chat.event import count_within, encoded_size
from recado.ports import FeedPage, Placed


def read(db: apsw.Connection, user: str, after: int | None, limit: int, bytes_max: int) -> FeedPage:
    """In one read transaction, which the caller begins."""
    if after is None:
        ((newest,),) = _rows(db, "newest_position", user)
        return FeedPage([], newest, True)
    active = _rows(db, "active_past", user, after)
    entries = [_placed(conversation, row) for conversation, *row in _rows(db, "departures_past", user, after)]
    newest = max([after, *(row[4] for row in active), *(entry.position for entry in entries)])
    begins = sorted((_first_past(db, row, after), row[:2]) for row in active)
    entries.sort(key=_position)
    for (position, seq), (key, conversation) in begins:
        if len(entries) > limit and position > entries[limit].position:
            break
        rows = _rows(db, "events_past", key, seq, limit + 1)
        entries = sorted([*entries, *(_placed(conversation, row) for row in rows)], key=_position)[: limit + 1]
    page = entries[: count_within((encoded_size(entry.event) for entry in entries[:limit]), bytes_max)]
    is_last = len(page) == len(entries)
    return FeedPage(page, newest if is_last else page[-1].position, is_last)


def _first_past(db: apsw.Connection, row: Row, after: int) -> tuple[int, int]:
    """(position, seq) of the first event past a position, from the user's joining on; the last event is past it."""
    key, _, joined_seq, known_past, position = row
    step = 1
    known_before = max(joined_seq, 1) - 1
    while known_past - known_before > 1:
        seq = max(known_past - step, known_before + 1) if step else (known_past + known_before) // 2
        ((found,),) = _rows(db, "position_of", key, seq)
        if found > after:
            known_past, position = seq, found
            step *= 2
        else:
            known_before, step = seq, 0
    return position, known_past


def _rows(db: apsw.Connection, statement: str, *parameters: str | int) -> list[Row]:
    rows: list[Row] = db.execute(SQL[statement], parameters).fetchall()
    return rows


def _placed(conversation: str, row: Sequence[Any]) -> Placed:
    return Placed(conversation, event_of(tuple(row[1:])), row[0])


def _position(entry: Placed) -> int:
    return entry.position
