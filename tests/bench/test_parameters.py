"""What a comparison may be asked for, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from recado.bench.parameters import Asked, ParametersError, idle_users_max, parameters
from recado.bench.transports import TRANSPORTS

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"users": 0}, "users is an even number of 2 to 5000"),
    ({"users": -2}, "users is an even number"),
    ({"users": 7}, "as conversations have two, not 7"),
    ({"users": 5_002}, "users is an even number of 2 to 5000"),
    ({"idle_users": 1}, "idle_users is an even number of 2 to"),
    ({"idle_users": 10_002}, "idle_users is an even number of 2 to 10000"),
    ({"period_s": -1.0}, "period_s is 0.2 to 3600 seconds, not -1"),
    ({"period_s": 0.0}, "period_s is 0.2 to 3600 seconds"),
    ({"period_s": float("nan")}, "period_s is 0.2 to 3600 seconds"),
    ({"period_s": 2.0, "seconds": 5.0}, "seconds is a whole number of times period_s (2)"),
    ({"seconds": 0.0}, "seconds is a whole number of times period_s"),
    ({"seconds": -3.0}, "seconds is a whole number of times period_s"),
    ({"seconds": float("inf")}, "seconds is a whole number of times period_s"),
    ({"body_bytes": 0}, "body_bytes is 1 to 16384, not 0"),
    ({"body_bytes": 16_385}, "body_bytes is 1 to 16384"),
    ({"interval_s": 0}, "interval_s is 1 to 60 seconds, not 0"),
    ({"interval_s": 61}, "interval_s is 1 to 60 seconds"),
    ({"transports": ["mqtt"]}, "a transport is one of polling,"),
]


@pytest.mark.parametrize(("asked", "complaint"), WRONG)
def test_a_wrong_option_is_refused_with_what_would_be_right(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ParametersError) as refused:
        parameters(Asked(**asked))
    assert complaint in str(refused.value)


def test_the_transports_that_are_named_are_compared_in_the_order_of_the_table() -> None:
    assert parameters(Asked(transports=["mqtt-tcp-qos1", "sse"])).transports == ["sse", "mqtt-tcp-qos1"]
    assert parameters(Asked()).transports == list(TRANSPORTS)


def test_a_period_that_is_given_alone_makes_the_time_a_whole_number_of_it() -> None:
    assert parameters(Asked(period_s=0.7)).seconds == pytest.approx(0.7)


def test_naive_polling_lets_no_radio_sleep_and_a_keep_alive_does() -> None:
    for full in (False, True):
        given = parameters(Asked(full=full))
        assert 1 < given.radio_tail_s < given.interval_s


def test_more_users_than_open_files_are_refused_with_what_to_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 1024))
    with pytest.raises(ParametersError, match="need 1500 open files, and the limit is 1024: raise it"):
        parameters(Asked())
    assert parameters(Asked(users=100, idle_users=100)).users == 100


def test_the_full_run_has_the_usual_keep_alive_and_as_many_idle_users_as_files_allow() -> None:
    given = parameters(Asked(full=True))
    assert given.interval_s == 60
    assert given.idle_users == idle_users_max()
