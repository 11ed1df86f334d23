"""What a server tells its operators: its pages and what its metrics count; and what memory its process takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from tests.support.server import API_KEY, Server

MIB = 1024 * 1024
GROWTH_MAX = 40 * MIB
"""Of resident memory, while clients misbehave: many times less than what they send or do not read."""
WAIT_TIMEOUT_S = 20


def resident_bytes(server: Server) -> int:
    pages = Path(f"/proc/{server.pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def get_text(server: Server, path: str) -> str:
    """The page at that path, as the host gets it: behind a proxy nobody else gets the metrics."""
    with closing(HTTPConnection("127.0.0.1", server.http_port, timeout=20)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {API_KEY}"})
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()


def count_of(server: Server, metric: str) -> int:
    """The number behind a metric's name with its labels; 0 if nothing was counted under it yet."""
    text = get_text(server, "/metrics")
    assert f"# TYPE {metric.partition('{')[0]} " in text, f"there is no metric {metric}"
    counted = text.partition(f"\n{metric} ")[2]
    return int(float(counted.split()[0])) if counted else 0


def listeners(server: Server, kind: str) -> int:
    """Held polls, event streams or WebSockets: `poll`, `sse`, `ws`."""
    return count_of(server, f'recado_feed_listeners{{kind="{kind}"}}')


def cuts(server: Server, limit: str) -> int:
    """HTTP connections that passed that limit."""
    return count_of(server, f'recado_http_connections_cut_total{{limit="{limit}"}}')


def wait_for(condition: Callable[[], bool]) -> None:
    """Until what no client is told holds."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
