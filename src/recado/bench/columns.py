"""The tables' columns: what each is called, what it means, and how it is written. Every table is made from these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from recado.bench.results import IdleCost, MessageCost
from recado.bench.scenario import Load

T = TypeVar("T")
_KIB, _MIB = 1024, 1024 * 1024


class Column(NamedTuple, Generic[T]):
    """`is_main`: has room on a narrow terminal too."""

    title: str
    meaning: str
    text: Callable[[T], str]
    is_main: bool = False


def figure(value: float) -> str:
    """Three digits that count, with separators: 0.0123, 4.56, 789, 12,300."""
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        digits = len(str(abs(round(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


MESSAGE: Sequence[Column[MessageCost]] = (
    Column(
        "bytes up",
        "from the clients to the server, headers and framing included",
        lambda m: figure(m.bytes_up),
        is_main=True,
    ),
    Column("bytes down", "from the server to the clients", lambda m: figure(m.bytes_down), is_main=True),
    Column(
        "packets",
        "TCP segments both ways, bare acknowledgements too, as the kernel counted them",
        lambda m: figure(m.packets_up + m.packets_down),
    ),
    Column(
        "with TCP/IP (est.)",
        "bytes up and down, and 52 for each packet: IPv4, TCP and its timestamps",
        lambda m: figure(m.bytes_with_tcp_ip_estimate),
    ),
    Column("requests", "HTTP requests: sending, and asking for what is new", lambda m: figure(m.requests)),
    Column("req./s", "the same in a second, at the server", lambda m: figure(m.requests_per_s)),
    Column(
        "server CPU ms/1,000",
        "processor time of the server for 1,000 messages: user, system, all threads, the commit to disk included",
        lambda m: figure(m.server_cpu_ms_per_1000),
        is_main=True,
    ),
    Column(
        "client CPU ms/1,000",
        "processor time of all clients together, which are as light as can be: a browser takes more",
        lambda m: figure(m.client_cpu_ms_per_1000),
    ),
    Column(
        "p50 ms",
        "from sending to arrival at the other user: half are faster",
        lambda m: figure(m.latency_p50_ms),
        is_main=True,
    ),
    Column("p99 ms", "the same: 99 of 100 are faster", lambda m: figure(m.latency_p99_ms), is_main=True),
)

IDLE: Sequence[Column[IdleCost]] = (
    Column("bytes up", "from the user's tabs to the server", lambda i: figure(i.bytes_up), is_main=True),
    Column("bytes down", "from the server to the user's tabs", lambda i: figure(i.bytes_down), is_main=True),
    Column("packets", "TCP segments both ways", lambda i: figure(i.packets_up + i.packets_down)),
    Column(
        "with TCP/IP (est.)",
        "bytes up and down, and 52 for each packet",
        lambda i: figure(i.bytes_with_tcp_ip_estimate),
    ),
    Column("requests", "HTTP requests", lambda i: figure(i.requests)),
    Column(
        "radio wake-ups",
        "how often a phone's radio would have to come up: bursts of bytes with more silence before them than its tail",
        lambda i: figure(i.radio_wakeups),
    ),
    Column(
        "radio on, s", "for how many of the 60 seconds it would be up", lambda i: figure(i.radio_on_s), is_main=True
    ),
    Column(
        "server CPU ms",
        "processor time of the server for this user, without what a server with nobody there takes",
        lambda i: figure(i.server_cpu_ms),
        is_main=True,
    ),
    Column("client CPU ms", "processor time of this user's clients", lambda i: figure(i.client_cpu_ms)),
    Column(
        "server memory KiB",
        "private memory that the server had more with this user's tabs than without",
        lambda i: figure(i.server_memory_bytes / _KIB),
        is_main=True,
    ),
)

SCENARIO: Sequence[Column[Load]] = (
    Column("connections", "open at the server", lambda s: f"{s.connections:,}"),
    Column("requests/s", "HTTP requests that find nothing new", lambda s: figure(s.requests_per_s), is_main=True),
    Column("Mbit/s", "both ways, with TCP and IP (estimate)", lambda s: figure(s.megabits_per_s)),
    Column("cores", "of the machine that measured, busy all the time", lambda s: figure(s.cores), is_main=True),
    Column("memory MiB", "of the server", lambda s: figure(s.memory_bytes / _MIB), is_main=True),
    Column(
        "from",
        "users that were measured, times what makes them 10,000; divided by what makes the keep-alive 60 s",
        lambda s: s.how,
    ),
)


def cells(columns: Sequence[Column[T]], row: T) -> list[str]:
    return [column.text(row) for column in columns]
