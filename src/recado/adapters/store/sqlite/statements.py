"""The store's statements by name: `SQL["insert_event"]`."""

from typing import Any

import apsw

from recado.adapters.store.statements import load

SQL = load(__package__)


def value_of(db: apsw.Connection, statement: str, *parameters: str | int) -> Any:
    """The one column of the one row that there may be, None if there is none. The statement runs to its end."""
    return next((value for (value,) in db.execute(SQL[statement], parameters).fetchall()), None)
