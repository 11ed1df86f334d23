"""One line in the log for each refusal, at info, and no more than some a second: whoever is refused may be an attacker,
and must not fill the disk. What is beyond is counted, and one line tells how many when the second is over.

A line has the fields that are known of address, listener, user, client_id, topic, and a reason; never a password, a
token or a payload. Each is cut, and escaped if a terminal could take it for a command.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

_log = logging.getLogger(__name__)
_FIELD_CHARACTERS_MAX = 256


class _Session(Protocol):
    user: str
    client_id: str


class _Listener(Protocol):
    name: str


class _Connection(Protocol):
    @property
    def peer(self) -> str: ...
    @property
    def listener(self) -> _Listener: ...
    @property
    def session(self) -> _Session | None: ...


def fields(**values: str | None) -> dict[str, str]:
    """What may be logged of these, without those that are not known."""
    return {name: _shown(value) for name, value in values.items() if value}


def fields_of(connection: _Connection) -> dict[str, str]:
    """Who is at the other end, as far as it is known."""
    session = connection.session
    user, client_id = (None, None) if session is None else (session.user, session.client_id)
    return fields(address=connection.peer, listener=connection.listener.name, user=user, client_id=client_id)


def _shown(text: str) -> str:
    text = text[:_FIELD_CHARACTERS_MAX]
    return text if text.isprintable() else repr(text)


class RefusalLog:
    def __init__(self, rate_max: int) -> None:
        self._rate_max = rate_max
        self._logged = 0
        self._left_out = 0
        self._second: asyncio.TimerHandle | None = None

    def of(self, connection: _Connection, event: str, reason: str, **values: str | None) -> None:
        """`event` happened to this connection; the reason is a short word for it, as the metrics have it. `values` are
        more fields by their names, and win over what is known of the connection."""
        if self._has_room():
            _log.info(event, extra={**fields_of(connection), **fields(**values, reason=reason.lower())})

    def log(self, event: str, reason: str, **values: str | None) -> None:
        """The same, where there is no connection (yet); `values` are fields by their names."""
        if self._has_room():
            _log.info(event, extra=fields(**values, reason=reason.lower()))

    def _has_room(self) -> bool:
        if not _log.isEnabledFor(logging.INFO):
            return False
        if self._second is None:
            self._second = asyncio.get_running_loop().call_later(1, self._end_second)
        if self._logged >= self._rate_max:
            self._left_out += 1
            return False
        self._logged += 1
        return True

    def _end_second(self) -> None:
        if self._left_out:
            _log.info("refusals_left_out", extra={"count": self._left_out, "limit": "refusal_log_rate_max"})
        self._logged = self._left_out = 0
        self._second = None

    def close(self) -> None:
        """Tell what was left out up to now."""
        if self._second is not None:
            self._second.cancel()
            self._end_second()
