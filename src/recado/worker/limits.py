"""The numbers that bound a worker. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    sink_lanes_max: int
    """Conversations of one sink that a worker is at, at a time."""
    sink_named_max: int
    """Conversations of one sink that a queue has named and that wait for the worker to look at them."""
    sink_pause_ms_max: int
    """The longest pause between the attempts at a sink that does nothing but fail."""
    lane_jobs_max: int
    """Jobs of one conversation and sink that are claimed together."""
    job_lease_s: int
    """How long a claim holds unless it is extended: so long a job waits whose worker has died."""
    job_deadline_s: int
    """How long one attempt at a job may take."""
    job_attempts_max: int
    """Attempts at a job until it is a dead letter."""
    job_backoff_ms: int
    """From the first attempt that failed to the next; each wait after that is an eighth longer than the one before."""
    job_backoff_ms_max: int
    """The longest of those waits, also of those that a sink asks for."""
    job_error_chars_max: int
    """What is kept of an error's text."""
    job_recheck_ms: int
    """After so long without a sign, the store is asked when the next job is due."""
    worker_drain_s: int
    """How long the jobs that are running have to end when the worker stops."""
