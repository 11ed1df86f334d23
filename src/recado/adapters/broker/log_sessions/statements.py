"""The named statements of `statements.sql`: `SQL["save_session"]`."""

from recado.adapters.store.statements import load

SQL = load(__package__)
