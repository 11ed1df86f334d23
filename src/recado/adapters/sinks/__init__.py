"""Sinks: where events go behind the commit. A worker hands each its entries, in order."""
