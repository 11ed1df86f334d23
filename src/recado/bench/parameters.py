"""What a comparison runs with. The same numbers are in its JSON and on its page."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from recado.bench.transports import TRANSPORTS

T = TypeVar("T")

USERS_MAX = 5_000
SECONDS_MAX = 3_600
PERIOD_S_MIN = 0.2
BODY_BYTES_MAX = 16_384
SCENARIO_USERS = 10_000  # of the article
SCENARIO_TABS = (1, 3)
_CONNECTIONS_OF_A_USER = 2  # the page's, and the one that it sends by
FILES_OF_A_PROCESS = 500  # beside the connections: the database, the sockets that listen, what sends
IDLE_POLLS_PER_S_MAX = 1_500  # what one core answers with room to spare; naive polling has fewer idle users then


class ParametersError(Exception):
    """An option is wrong; the text says what would be right."""


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """`interval_s` is the keep-alive of whatever has one, and the `wait` of a long poll, while nothing happens."""

    transports: list[str]
    users: int
    period_s: float
    seconds: float
    body_bytes: int
    idle_users: int
    tabs: list[int]
    interval_s: int
    radio_tail_s: float
    idle_at_a_time: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line said; None is the default, which `--full` changes."""

    users: int | None = None
    idle_users: int | None = None
    period_s: float | None = None
    seconds: float | None = None
    body_bytes: int = 100
    interval_s: int | None = None
    transports: Sequence[str] = ()
    full: bool = False


def parameters(asked: Asked) -> Parameters:
    """Raises ParametersError for the first thing that is wrong."""
    full = asked.full
    users = _given(asked.users, 1_000 if full else 500)
    period_s = _given(asked.period_s, 5.0 if full else 3.0)
    interval_s = _given(asked.interval_s, 60 if full else 5)
    found = Parameters(
        transports=_transports(asked.transports),
        users=users,
        period_s=period_s,
        seconds=_given(asked.seconds, period_s * (6 if full else 1)),
        body_bytes=asked.body_bytes,
        idle_users=_given(asked.idle_users, idle_users_max() if full else min(users, 200)),
        tabs=list(SCENARIO_TABS),
        interval_s=interval_s,
        # A phone's radio stays up for some ten seconds after the last byte. Where the keep-alive is shortened, that is
        # too; but it stays longer than the second of naive polling, which lets no radio sleep.
        radio_tail_s=10.0 if interval_s >= 60 else 1.2,
        idle_at_a_time=1 if full else len(TRANSPORTS),
    )
    _check(found)
    return found


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def idle_users_max() -> int:
    """As many as the scenario has, or as the files that a process may open allow, but two."""
    most = (_files_max() - FILES_OF_A_PROCESS) // max(SCENARIO_TABS)
    return max(2, min(SCENARIO_USERS, most - most % 2))


def _files_max() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _transports(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in TRANSPORTS:
            raise ParametersError(f"a transport is one of {', '.join(TRANSPORTS)}, not {name!r}")
    return [name for name in TRANSPORTS if name in names or not names]


def _check(found: Parameters) -> None:
    for name, most in (("users", USERS_MAX), ("idle_users", SCENARIO_USERS)):
        number = getattr(found, name)
        if not 2 <= number <= most or number % 2:
            raise ParametersError(f"{name} is an even number of 2 to {most}, as conversations have two, not {number}")
    files = FILES_OF_A_PROCESS + max(_CONNECTIONS_OF_A_USER * found.users, max(found.tabs) * found.idle_users)
    if files > _files_max():
        raise ParametersError(
            f"{found.users} users and {found.idle_users} idle ones need {files} open files, and the limit is "
            f"{_files_max()}: raise it (ulimit -n), or ask for fewer (--users, --idle-users)"
        )
    if not PERIOD_S_MIN <= found.period_s <= SECONDS_MAX:
        raise ParametersError(f"period_s is {PERIOD_S_MIN} to {SECONDS_MAX} seconds, not {found.period_s:g}")
    rounds = found.seconds / found.period_s
    if not 0 < found.seconds <= SECONDS_MAX or abs(rounds - round(rounds)) > 1e-6:
        raise ParametersError(
            f"seconds is a whole number of times period_s ({found.period_s:g}), to {SECONDS_MAX}, not {found.seconds:g}"
        )
    if not 1 <= found.body_bytes <= BODY_BYTES_MAX:
        raise ParametersError(f"body_bytes is 1 to {BODY_BYTES_MAX}, not {found.body_bytes}")
    if not 1 <= found.interval_s <= 60:
        raise ParametersError(f"interval_s is 1 to 60 seconds, not {found.interval_s}")
