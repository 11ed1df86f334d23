"""What the comparison and its clients say to each other: one JSON object a line, over the client's stdin and stdout."""

from __future__ import annotations

import msgspec

from recado.bench.counting import Stretch
from recado.bench.parameters import Parameters
from recado.bench.tabs import Ports


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """`is_idle`: measure what it costs that nothing happens; else the messages."""

    transport: str
    is_idle: bool
    parameters: Parameters
    ports: Ports
    server_pid: int
    secret: str


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """`done` is the part of the task, 0 to 1."""

    done: float


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    text: str


class Handshake(msgspec.Struct, frozen=True):
    """Of one tab, on average: from the TCP connection to the moment from which everything reaches it."""

    bytes_up: float
    bytes_down: float
    packets_up: float
    packets_down: float


class TrafficMeasured(msgspec.Struct, frozen=True, tag="traffic"):
    """`sending` are the bytes of the connections that do nothing but send; where there are none, zeros."""

    messages: int
    stretch: Stretch
    sending_bytes_up: int
    sending_bytes_down: int
    handshake: Handshake
    arrivals_ms: list[float]
    late_ms: list[float]


class IdleStretch(msgspec.Struct, frozen=True):
    """`traffic_per_s` is that of all users, in the order of Traffic, and the radio's is the sum of theirs; over whole
    cycles, where `stretch` has all that there was. `private_bytes` are the server's at the end."""

    tabs: int
    stretch: Stretch
    traffic_per_s: list[float]
    wakeups_per_s: float
    radio_on_per_s: float
    private_bytes: int


class IdleMeasured(msgspec.Struct, frozen=True, tag="idle"):
    """`empty` is the server without any user; `private_bytes` its memory when `warm_up_users` were there."""

    users: int
    warm_up_users: int
    private_bytes: int
    empty: Stretch
    stretches: list[IdleStretch]


Said = Progress | Failed | TrafficMeasured | IdleMeasured
encode = msgspec.json.encode
decode_task = msgspec.json.Decoder(Task).decode
_said = msgspec.json.Decoder(Said)


def decode_said(line: bytes) -> Said:
    said: Said = _said.decode(line)
    return said
