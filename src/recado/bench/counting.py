"""Readings of everything that is counted, and the difference of two: what a stretch of time cost."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterable
from contextlib import closing

import msgspec

from recado.bench.failure import RunFailed
from recado.bench.processes import cpu_ns, waited_ns
from recado.bench.wire import Traffic, Wire

_REQUESTS = re.compile(r'^recado_http_requests_total\{.*route="/v1/.*\} ([0-9.e+]+)$', re.MULTILINE)
_SCRAPE_TIMEOUT_S = 10


class Stretch(msgspec.Struct, frozen=True):
    """What happened from one reading to the next; `server_waited_ns` is for want of a core."""

    seconds: float
    server_cpu_ns: int
    client_cpu_ns: int
    server_waited_ns: int
    bytes_up: int
    bytes_down: int
    packets_up: int
    packets_down: int
    requests: int


class Reading:
    """Taken when it is made. `server_pid` is the server's; the client is this process."""

    def __init__(self, server_pid: int, wires: Iterable[Wire]) -> None:
        self._at = time.perf_counter()
        self._server_cpu_ns = cpu_ns(server_pid)
        self._client_cpu_ns = time.process_time_ns()
        self._waited_ns = waited_ns(server_pid)
        self._traffic = total(wires)

    def until(self, later: Reading) -> Stretch:
        return Stretch(
            later._at - self._at,
            later._server_cpu_ns - self._server_cpu_ns,
            later._client_cpu_ns - self._client_cpu_ns,
            later._waited_ns - self._waited_ns,
            *later._traffic.minus(self._traffic),
        )


def total(wires: Iterable[Wire]) -> Traffic:
    traffic = Traffic()
    for wire in wires:
        traffic = traffic.plus(wire.traffic())
    return traffic


def served_requests(http_port: int) -> int:
    """The requests under /v1 that the server says it has answered. It holds up the event loop."""
    with closing(http.client.HTTPConnection("127.0.0.1", http_port, timeout=_SCRAPE_TIMEOUT_S)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return round(sum(float(count) for count in _REQUESTS.findall(text)))


def check_requests(http_port: int, wires: Iterable[Wire]) -> None:
    """The server must have counted no fewer requests than were answered, and no more than were sent."""
    wires = list(wires)
    answered = sum(wire.answers for wire in wires)
    served = served_requests(http_port)
    sent = sum(wire.requests for wire in wires)
    if not answered <= served <= sent:
        raise RunFailed(f"the server counted {served} requests, where {sent} were sent and {answered} answered")
