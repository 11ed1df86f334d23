"""What the MQTT server counts: plain integers, because the hot path pays for each; the metrics page reads them."""

from collections import Counter


class Counters:
    __slots__ = (
        "acknowledged",
        "connections",
        "connections_total",
        "delivered",
        "dropped",
        "expired",
        "fell_behind",
        "publish_rate_waits",
        "published",
        "queue_full",
        "read_from_log",
        "refusals",
        "repeats_dropped",
        "storage_failures",
        "too_large_for_client",
        "wills",
        "withheld",
    )

    def __init__(self) -> None:
        self.connections: Counter[str] = Counter()
        """Open connections by listener."""
        self.connections_total: Counter[str] = Counter()
        self.published = 0
        """Publishes received from clients."""
        self.delivered = 0
        """Publishes written to clients."""
        self.acknowledged = 0
        """PUBACKs and PUBCOMPs received."""
        self.fell_behind = 0
        """Times that a session had no room and went over to reading the log."""
        self.read_from_log = 0
        """Deliveries that were read from the log."""
        self.dropped = 0
        """QoS 0 publishes not written because their connection had no room."""
        self.queue_full = 0
        """QoS 1 and 2 publishes not kept for a session because its queue was full."""
        self.expired = 0
        """Publishes dropped for a session because their message expiry interval had passed."""
        self.publish_rate_waits = 0
        """Times that a connection was not read for the rest of a second because it published too fast."""
        self.too_large_for_client = 0
        """Publishes not sent because they pass the Maximum Packet Size that their client named."""
        self.repeats_dropped = 0
        """Refused publishes of 3.1.1 clients that came again and were acknowledged and dropped."""
        self.wills = 0
        """Wills that were published."""
        self.withheld = 0
        """Publishes that waited, and were not sent because their session may not read the topic any more."""
        self.storage_failures = 0
        """Transactions that the storage could not keep."""
        self.refusals: Counter[str] = Counter()
        """Refusals by reason code."""
