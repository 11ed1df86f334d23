"""What the MQTT server counts: plain integers, because the hot path pays for each; the metrics page reads them."""

from collections import Counter


class Counters:
    __slots__ = (
        "acknowledged",
        "connections",
        "connections_total",
        "delivered",
        "fell_behind",
        "published",
        "read_from_log",
        "refusals",
        "repeats_dropped",
        "signals_dropped",
        "too_large_for_client",
    )

    def __init__(self) -> None:
        self.connections: Counter[str] = Counter()
        """Open connections by transport."""
        self.connections_total: Counter[str] = Counter()
        self.published = 0
        """Publishes received from clients."""
        self.delivered = 0
        """Publishes written to clients."""
        self.acknowledged = 0
        """PUBACKs received."""
        self.fell_behind = 0
        """Times that a session had no room and went over to reading the log."""
        self.read_from_log = 0
        """Deliveries that were read from the log."""
        self.signals_dropped = 0
        """Signals not written because their connection had no room."""
        self.too_large_for_client = 0
        """Publishes not sent because they pass the Maximum Packet Size that their client named."""
        self.repeats_dropped = 0
        """Refused publishes of 3.1.1 clients that came again and were acknowledged and dropped."""
        self.refusals: Counter[str] = Counter()
        """Refusals by reason code."""
