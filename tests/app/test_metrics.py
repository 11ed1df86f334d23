"""Every counter of the MQTT server is a metric, and every metric is described."""

from __future__ import annotations

from pathlib import Path

from recado.app.limits import DEFAULT
from recado.app.metrics import BrokerCollector, SessionsCollector
from recado.broker.counters import Counters
from recado.broker.server import Server
from recado.broker.standalone import StandaloneHooks

MANUAL = Path(__file__).parents[2] / "docs" / "broker.md"


def test_every_counter_is_a_metric() -> None:
    metrics = {metric.name for metric in BrokerCollector(Counters()).collect()}
    renamed = {"connections_total": "connections_opened"}
    counters = {f"recado_mqtt_{renamed.get(name, name)}" for name in Counters.__slots__}
    assert metrics == counters


async def test_every_metric_is_in_the_brokers_manual() -> None:
    server = Server(StandaloneHooks(), DEFAULT.broker)
    server.counters.refusals["X"] += 1
    text = MANUAL.read_text(encoding="utf-8")
    for collector in (BrokerCollector(server.counters), SessionsCollector(server)):
        for metric in collector.collect():
            name = metric.name + ("_total" if metric.type == "counter" else "")
            assert f"`{name}`" in text or f"`{name}{{" in text, name
    await server.drain()
