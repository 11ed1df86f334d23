"""What a worker counts, by sink: the settings name those, so the number of series is bounded."""

from prometheus_client import Counter, Gauge, Histogram

DONE, FAILED, DEAD, RELEASED = OUTCOMES = ("done", "failed", "dead", "released")
CLAIMED = Counter("recado_jobs", "Claimed jobs, by what became of them.", ["sink", "outcome"])
RUNNING = Gauge("recado_jobs_running", "Conversations that this process's worker is at.", ["sink"])
SECONDS = Histogram(
    "recado_job_seconds",
    "Seconds from an event's acceptance to the end of its job.",
    ["sink"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0, 86400.0),
)


def show_from_the_start(sink: str) -> None:
    """So that a sink that has done nothing yet is a zero, and not missing."""
    RUNNING.labels(sink)
    SECONDS.labels(sink)
    for outcome in OUTCOMES:
        CLAIMED.labels(sink, outcome)
