"""The store's statements by name: `SQL["insert_event"]`."""

from recado.adapters.store.statements import load

SQL = load(__package__)
