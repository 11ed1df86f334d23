"""The chat sessions' storage: cursors into the conversations' logs, in the conversations' own database."""

from recado.adapters.broker.log_sessions.storage import LogSessions

__all__ = ["LogSessions"]
