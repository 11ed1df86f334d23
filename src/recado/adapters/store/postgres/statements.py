"""The store's statements by name: `SQL["append_events"]`."""

from recado.adapters.store.statements import load

SQL = load(__package__)
