"""The MQTT server's plain counters, for the metrics page."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recado.broker.counters import Counters

_COUNTS = {
    "published": "PUBLISH packets received.",
    "delivered": "PUBLISH packets written to clients.",
    "acknowledged": "PUBACKs received.",
    "fell_behind": "Times that a session had no room and went over to reading its log.",
    "read_from_log": "Deliveries that were read from the log.",
    "signals_dropped": "Signals not sent because a connection had no room.",
    "too_large_for_client": "Publishes not sent because they pass their client's own Maximum Packet Size.",
    "repeats_dropped": "Refused publishes of 3.1.1 clients that came again, were acknowledged and dropped.",
}


class BrokerCollector(Collector):
    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        for name, text in _COUNTS.items():
            yield CounterMetricFamily(f"recado_mqtt_{name}", text, value=getattr(counters, name))
        connections = GaugeMetricFamily("recado_mqtt_connections", "Open connections.", labels=["transport"])
        opened = CounterMetricFamily("recado_mqtt_connections_opened", "Connections opened.", labels=["transport"])
        for transport, total in counters.connections_total.items():
            connections.add_metric([transport], counters.connections[transport])
            opened.add_metric([transport], total)
        refusals = CounterMetricFamily("recado_mqtt_refusals", "Refusals by reason.", labels=["reason"])
        for reason, count in counters.refusals.items():
            refusals.add_metric([reason.lower()], count)
        yield from (connections, opened, refusals)
