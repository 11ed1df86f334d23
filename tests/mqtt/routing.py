"""Routers and sessions for the tests, and how much work a call is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from recado.mqtt.router import Router
from recado.mqtt.session import Session


def new_router() -> Router:
    return Router(routes_max=100, route_targets_max=1_000)


def new_session(user: str = "ana", client_id: str = "phone", key: int = 0) -> Session:
    session = Session(user, client_id, 10)
    session.key = key
    return session


def come_or_go(router: Router, session: Session) -> None:
    """The session gets a connection, or loses the one that it has."""
    if session.connection is None:
        session.connection = object()
        router.attached(session)
    else:
        session.connection = None
        router.detached(session)


def steps(function: Callable[[], Any]) -> int:
    """How many lines of Python the call runs: a measure of work that no busy machine disturbs."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines
