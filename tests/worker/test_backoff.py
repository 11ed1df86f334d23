"""How long a job waits for its next attempt."""

from __future__ import annotations

from dataclasses import replace

from recado.app.limits import DEFAULT
from recado.worker.backoff import delay_ms

LIMITS = replace(DEFAULT.worker, job_backoff_ms=1_000, job_backoff_ms_max=3_600_000)


def test_at_any_time_a_job_waits_for_about_an_eighth_of_the_time_that_it_has_been_failing() -> None:
    failing_since_ms = 0
    for attempt in range(1, 60):
        wait = delay_ms(attempt, None, LIMITS)
        assert wait <= 1_000 + failing_since_ms / 6
        failing_since_ms += wait
    assert failing_since_ms > 3_600_000


def test_no_wait_is_longer_than_the_longest_however_many_attempts_there_were() -> None:
    assert max(delay_ms(attempt, None, LIMITS) for attempt in range(1, 10_000)) <= 3_600_000
    assert delay_ms(1, 10_000_000, LIMITS) == 3_600_000


def test_jobs_that_failed_together_are_not_tried_together() -> None:
    waits = [delay_ms(20, None, LIMITS) for _ in range(1_000)]
    assert max(waits) > 1.1 * min(waits)


def test_what_a_sink_asks_for_is_the_least_that_it_gets() -> None:
    assert delay_ms(1, 7.5, LIMITS) == 7_500
    assert delay_ms(60, 0.1, LIMITS) > 100
