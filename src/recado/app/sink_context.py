"""What a sink's handler may need of the process that it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recado.app.config import Settings
from recado.app.limits import Limits
from recado.chat.stages import Tracer
from recado.ports import Broker, Store


@dataclass(frozen=True, slots=True)
class SinkContext:
    """`broker` is this process's own, and `is_here` tells which users are connected to it; a worker has neither."""

    settings: Settings
    limits: Limits
    store: Store
    broker: Broker | None = None
    is_here: Callable[[str], bool] = lambda user: False
    tracer: Tracer | None = None
