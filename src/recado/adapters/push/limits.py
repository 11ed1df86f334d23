"""The numbers that bound the requests to push services. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WebPushLimits:
    push_ttl_s: int
    """How long a push service keeps a notice for a browser that is away."""
    push_calls_max: int
    """Requests to push services at a time."""
    push_timeout_s: int
    """From the beginning of a request to its answer."""
    push_retry_after_s_max: int
    """The longest wait that an answer may ask for."""
    push_services_max: int
    """Push services whose token is remembered until it expires."""
