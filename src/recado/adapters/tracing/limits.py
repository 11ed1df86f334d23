"""The numbers that bound what traces may cost. Chosen in `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TraceLimits:
    trace_one_in: int
    """Of so many events one is traced."""
    trace_spans_pending_max: int
    """Spans that wait for the collector."""
    trace_interval_ms: int
    """How long a span may wait before it is sent with others."""
    trace_timeout_s: int
    """How long one sending may take, and the last one when the process stops."""
