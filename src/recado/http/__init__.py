"""The HTTP door: one ASGI application that turns calls into chat actions, and chat errors into statuses.

`calls.CALLS` is the one table of what may be called; the routes and `/openapi.json` are both made from it. Of ours it
imports `recado.chat` alone: the store, the broker and the keys reach it through `Chat` and `Access`.
"""

from recado.http.door import create_app
from recado.http.settings import Access, ClientBroker, HttpSettings

__all__ = ["Access", "ClientBroker", "HttpSettings", "create_app"]
