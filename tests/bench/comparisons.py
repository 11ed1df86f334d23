"""A comparison with made-up figures, for what only reads one."""

from __future__ import annotations

from recado.bench.parameters import Asked, parameters
from recado.bench.results import SCHEMA, Comparison, IdleCost, MessageCost, TransportCost
from recado.bench.task import Handshake
from recado.bench.transports import TRANSPORTS

MACHINE = {"cpu": "a processor", "cores": 2, "memory_bytes": 2**34, "system": "Linux"}
PARTS = ("recado", "python", "uvloop", "uvicorn", "httptools", "picows", "websockets", "apsw")


def message_cost(bytes_up: float = 500.0, server_cpu_ms: float = 800.0) -> MessageCost:
    return MessageCost(
        messages=100,
        seconds=2.0,
        bytes_up=bytes_up,
        bytes_down=400.0,
        sending_bytes_up=300.0,
        sending_bytes_down=200.0,
        packets_up=4.0,
        packets_down=5.0,
        bytes_with_tcp_ip_estimate=bytes_up + 400.0 + 9 * 52,
        requests=1.0,
        requests_per_s=50.0,
        server_cpu_ms_per_1000=server_cpu_ms,
        client_cpu_ms_per_1000=300.0,
        latency_p50_ms=1.5,
        latency_p99_ms=9.0,
        late_p99_ms=0.5,
        server_waited_ms_per_s=3.0,
    )


def idle_cost(tabs: int, users: int = 200, server_cpu_ms: float = 1.2) -> IdleCost:
    return IdleCost(
        tabs=tabs,
        users=users,
        connections=users * tabs,
        seconds=10.0,
        bytes_up=96.0 * tabs,
        bytes_down=48.0 * tabs,
        packets_up=24.0 * tabs,
        packets_down=12.0 * tabs,
        bytes_with_tcp_ip_estimate=tabs * (144 + 36 * 52),
        requests=60.0 * tabs,
        radio_wakeups=12.0,
        radio_on_s=14.4,
        server_cpu_ms=server_cpu_ms * tabs,
        client_cpu_ms=1.0,
        server_memory_bytes=8_192.0 * tabs,
        server_waited_ms_per_s=3.0,
    )


def transport_cost(name: str, message: MessageCost | None = None, users: int = 200) -> TransportCost:
    transport = TRANSPORTS[name]
    idle = [idle_cost(1, users), idle_cost(3, users)]
    handshake = Handshake(700.0, 200.0, 6.0, 5.0)
    return TransportCost(name, transport.title, transport.sends_by, handshake, message or message_cost(), idle)


def comparison(full: bool = False, users: int = 200, **messages: MessageCost) -> Comparison:
    """Every transport; `messages` are the costs of those that are to have others, by name with _ for -."""
    return Comparison(
        schema=SCHEMA,
        made_at="2026-11-23T20:00:00+00:00",
        command="recado bench compare",
        machine=MACHINE,
        versions=dict.fromkeys(PARTS, "1.0"),
        parameters=parameters(Asked(full=full)),
        transports=[transport_cost(name, messages.get(name.replace("-", "_")), users) for name in TRANSPORTS],
    )
