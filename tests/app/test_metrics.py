"""Every counter of the MQTT server is a metric, and every metric is described."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from recado.app.limits import DEFAULT
from recado.app.metrics import BrokerCollector, SessionsCollector, SignalsCollector
from recado.broker.counters import Counters
from recado.broker.server import Server
from recado.broker.standalone import StandaloneHooks
from recado.chat.actions import Chat
from recado.chat.stages import Stages

DOCS = Path(__file__).parents[2] / "docs"


def test_every_counter_is_a_metric() -> None:
    metrics = {metric.name for metric in BrokerCollector(Counters()).collect()}
    renamed = {"connections_total": "connections_opened"}
    counters = {f"recado_mqtt_{renamed.get(name, name)}" for name in Counters.__slots__}
    assert metrics == counters


async def test_every_metric_is_in_the_brokers_manual() -> None:
    server = Server(StandaloneHooks(), DEFAULT.broker)
    server.counters.refusals["X"] += 1
    text = (DOCS / "broker.md").read_text(encoding="utf-8")
    for collector in (BrokerCollector(server.counters), SessionsCollector(server)):
        for metric in collector.collect():
            name = metric.name + ("_total" if metric.type == "counter" else "")
            assert f"`{name}`" in text or f"`{name}{{" in text, name
    await server.drain()


async def test_every_metric_of_signals_is_in_the_manual_of_mqtt() -> None:
    nothing = cast(Any, None)
    chat = Chat(nothing, nothing, nothing, DEFAULT.chat, now_ms=lambda: 0, stages=Stages(lambda: 0))
    text = (DOCS / "mqtt.md").read_text(encoding="utf-8")
    for metric in SignalsCollector(chat).collect():
        assert f"`{metric.name}{'_total' if metric.type == 'counter' else ''}`" in text, metric.name
