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


@dataclass(frozen=True, slots=True)
class PushLimits:
    push_body_bytes_max: int
    """A message's body in a notice, in bytes of UTF-8; what is longer is cut."""
    push_wait_s: int
    """How long a job waits for push services to answer; the calls go on without it."""
    push_user_calls_max: int
    """Calls to push services that are under way for one user."""
    push_rest_s: int
    """From a notice that failed to the next one to the same subscription, whatever the message."""
    push_refused_rest_s: int
    """From a notice that was refused to the next one to the same subscription."""
    push_patience_s: int
    """How long a message waits for a user's subscriptions that fail; then each is tried once in so long."""
    push_failing_max: int
    """Subscriptions that are known to fail, and users whose they are."""
    push_jobs_remembered_max: int
    """Jobs that are to be retried, of which it is remembered who has been notified."""
