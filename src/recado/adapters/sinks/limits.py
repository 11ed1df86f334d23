"""The numbers that bound the sinks. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SinkLimits:
    webhook_timeout_s: int
    """From the beginning of a webhook's request to the end of its answer."""
    webhook_answer_bytes_max: int
    """What is read of an answer's body; a connection whose answer is longer is closed."""
    webhook_retry_after_s_max: int
    """The longest wait that an answer may ask for."""
    capture_batch_max: int
    """Lines that are written with one fsync."""
