"""Recado: a self-hosted realtime conversation server."""

__version__ = "0.1.0"
