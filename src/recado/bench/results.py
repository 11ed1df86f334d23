"""What a comparison found, as it is in its JSON; docs/comparison.md#the-json describes the fields.

Everything is measured but where a name ends in `_estimate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from recado.bench.counting import Stretch
from recado.bench.parameters import Parameters
from recado.bench.task import Handshake, IdleMeasured, IdleStretch, TrafficMeasured
from recado.bench.transports import Transport

SCHEMA = 1
TCP_IP_HEADER_BYTES = 52  # IPv4 20, TCP 20, its timestamps 12


class MessageCost(msgspec.Struct, frozen=True):
    """Of one message that one of two users sends: its sending, its delivery to the other and back to the sender's own
    page, and whatever the two pages did meanwhile. `sending_…` is the part of the connections that only send."""

    messages: int
    seconds: float
    bytes_up: float
    bytes_down: float
    sending_bytes_up: float
    sending_bytes_down: float
    packets_up: float
    packets_down: float
    bytes_with_tcp_ip_estimate: float
    requests: float
    requests_per_s: float
    server_cpu_ms_per_1000: float
    client_cpu_ms_per_1000: float
    latency_p50_ms: float
    latency_p99_ms: float
    late_p99_ms: float
    server_waited_ms_per_s: float


class IdleCost(msgspec.Struct, frozen=True):
    """Of one user in one minute in which nothing happens. The server's processor time is what it took beyond that of a
    server without users; its memory is for all tabs of the user."""

    tabs: int
    users: int
    connections: int
    seconds: float
    bytes_up: float
    bytes_down: float
    packets_up: float
    packets_down: float
    bytes_with_tcp_ip_estimate: float
    requests: float
    radio_wakeups: float
    radio_on_s: float
    server_cpu_ms: float
    client_cpu_ms: float
    server_memory_bytes: float
    server_waited_ms_per_s: float


class TransportCost(msgspec.Struct, frozen=True):
    name: str
    title: str
    sends_by: Literal["HTTP", "MQTT"]
    handshake: Handshake
    message: MessageCost
    idle: list[IdleCost]


class Comparison(msgspec.Struct, frozen=True):
    """`machine` and `versions` say where it was measured."""

    schema: int
    made_at: str
    command: str
    machine: dict[str, Any]
    versions: dict[str, str]
    parameters: Parameters
    transports: list[TransportCost]


def message_cost(measured: TrafficMeasured) -> MessageCost:
    stretch, messages = measured.stretch, measured.messages
    arrivals = sorted(measured.arrivals_ms)
    return MessageCost(
        messages=messages,
        seconds=stretch.seconds,
        bytes_up=stretch.bytes_up / messages,
        bytes_down=stretch.bytes_down / messages,
        sending_bytes_up=measured.sending_bytes_up / messages,
        sending_bytes_down=measured.sending_bytes_down / messages,
        packets_up=stretch.packets_up / messages,
        packets_down=stretch.packets_down / messages,
        bytes_with_tcp_ip_estimate=_with_tcp_ip(stretch) / messages,
        requests=stretch.requests / messages,
        requests_per_s=stretch.requests / stretch.seconds,
        server_cpu_ms_per_1000=stretch.server_cpu_ns / messages / 1e3,
        client_cpu_ms_per_1000=stretch.client_cpu_ns / messages / 1e3,
        latency_p50_ms=percentile(arrivals, 50),
        latency_p99_ms=percentile(arrivals, 99),
        late_p99_ms=percentile(sorted(measured.late_ms), 99),
        server_waited_ms_per_s=stretch.server_waited_ns / stretch.seconds / 1e6,
    )


def idle_costs(measured: IdleMeasured) -> list[IdleCost]:
    costs: list[IdleCost] = []
    memory_bytes, before_bytes = 0.0, measured.private_bytes
    users_opening = measured.users - measured.warm_up_users
    for idle in measured.stretches:
        memory_bytes += (idle.private_bytes - before_bytes) / users_opening
        costs.append(_idle_cost(measured, idle, memory_bytes))
        before_bytes, users_opening = idle.private_bytes, measured.users
    return costs


def _idle_cost(measured: IdleMeasured, idle: IdleStretch, memory_bytes: float) -> IdleCost:
    stretch, empty = idle.stretch, measured.empty
    bytes_up, bytes_down, packets_up, packets_down, requests = (
        rate * 60 / measured.users for rate in idle.traffic_per_s
    )
    minutes = measured.users * stretch.seconds / 60
    of_empty_ns = empty.server_cpu_ns / empty.seconds * stretch.seconds
    return IdleCost(
        tabs=idle.tabs,
        users=measured.users,
        connections=measured.users * idle.tabs,
        seconds=stretch.seconds,
        bytes_up=bytes_up,
        bytes_down=bytes_down,
        packets_up=packets_up,
        packets_down=packets_down,
        bytes_with_tcp_ip_estimate=bytes_up + bytes_down + (packets_up + packets_down) * TCP_IP_HEADER_BYTES,
        requests=requests,
        radio_wakeups=idle.wakeups_per_s * 60 / measured.users,
        radio_on_s=idle.radio_on_per_s * 60 / measured.users,
        server_cpu_ms=(stretch.server_cpu_ns - of_empty_ns) / minutes / 1e6,
        client_cpu_ms=stretch.client_cpu_ns / minutes / 1e6,
        server_memory_bytes=memory_bytes,
        server_waited_ms_per_s=stretch.server_waited_ns / stretch.seconds / 1e6,
    )


def transport_cost(name: str, transport: Transport, traffic: TrafficMeasured, idle: IdleMeasured) -> TransportCost:
    return TransportCost(
        name, transport.title, transport.sends_by, traffic.handshake, message_cost(traffic), idle_costs(idle)
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of values in their order."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _with_tcp_ip(stretch: Stretch) -> int:
    packets = stretch.packets_up + stretch.packets_down
    return stretch.bytes_up + stretch.bytes_down + packets * TCP_IP_HEADER_BYTES
