"""What is counted at the HTTP door. Labels are route templates, methods, statuses and error codes: never a path, an id
or anything else that a caller chose, so the number of series is bounded and nothing private is in them.
"""

from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest

from recado.http.answer import Answer

REQUESTS = Counter("recado_http_requests", "Answered requests.", ["route", "method", "status"])
REFUSALS = Counter("recado_http_refusals", "Answers that are errors, by error code.", ["code"])
SECONDS = Histogram(
    "recado_http_request_seconds",
    "Seconds from a request's head to the end of its answer.",
    ["route", "method"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
BROKER_ANSWERS = Counter(
    "recado_broker_answers", "What a broker asked about its users, and was told.", ["question", "answer"]
)

JOBS = Gauge("recado_jobs_by_state", "Jobs in the store, as of this page.", ["sink", "state"])
OLDEST_JOB = Gauge("recado_jobs_oldest_seconds", "Since the event of the oldest of them.", ["sink", "state"])

UNKNOWN_ROUTE = "unknown"
PAGES_ROUTE = "pages"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def count_request(route: str, method: str, status: int, seconds: float | None = None) -> None:
    """Without seconds for what was held: that says nothing about the server."""
    label = method if method in _METHODS else "other"
    REQUESTS.labels(route, label, status).inc()
    if seconds is not None:
        SECONDS.labels(route, label).observe(seconds)


def count_refusal(code: str) -> None:
    REFUSALS.labels(code).inc()


def count_broker_answer(question: str, is_allowed: bool) -> None:
    BROKER_ANSWERS.labels(question, "allow" if is_allowed else "deny").inc()


def show_jobs(counts: Iterable[tuple[str, str, int, int]], now_ms: int) -> None:
    """Of each sink and state how many there are, and when the event of the oldest was. The others are gone."""
    for gauge in (JOBS, OLDEST_JOB):
        gauge.clear()
    for sink, state, count, oldest_at in counts:
        JOBS.labels(sink, state).set(count)
        OLDEST_JOB.labels(sink, state).set(max(0, now_ms - oldest_at) / 1000)


def render() -> Answer:
    """Everything in the process's default registry, in Prometheus's text format."""
    headers = ((b"content-type", CONTENT_TYPE_LATEST.encode()), (b"cache-control", b"no-store"))
    return Answer(200, generate_latest(REGISTRY), headers)
