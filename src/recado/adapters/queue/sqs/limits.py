"""The numbers that bound what is done with SQS. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqsLimits:
    queue_receivers: int
    """Requests that wait for messages at a time, of one worker."""
    queue_visibility_s: int
    """How long a message is hidden from other workers, unless its worker is still at it."""
    queue_requeue_s: int
    """After so long, a message is sent again for a job that is due and has not been done."""
    queue_relay_jobs_max: int
    """Jobs that are read and sent at a time."""
    queue_relay_interval_ms: int
    """From one look for jobs that are due to the next, if nothing was committed meanwhile."""
    queue_backoff_ms_max: int
    """The longest wait before SQS is tried again while it cannot be reached."""
    queue_requests_max: int
    """Requests to SQS at a time, beside those that wait for messages; of a worker, of a relay and of a capture each."""
    queue_connect_s: int
    """From the try to connect to SQS to a connection."""
    queue_answer_s: int
    """From a request to SQS to its answer, beyond the time that it waits for messages."""
