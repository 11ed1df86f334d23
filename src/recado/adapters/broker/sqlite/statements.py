"""The named statements of `statements.sql`: `SQL["save_session"]`."""

from functools import cache

from recado.adapters.store.statements import load

SQL = load(__package__)


@cache
def for_rows(name: str, count: int) -> str:
    """A statement that ends in one row of VALUES, for so many rows."""
    start, values, row = SQL[name].removesuffix(";").rpartition("VALUES ")
    return start + values + ", ".join([row] * count)
