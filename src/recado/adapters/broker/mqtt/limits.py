"""The numbers that bound what an external broker may cost this process. Chosen in `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublisherLimits:
    broker_inflight_max: int
    """Publishes that the broker has been sent and has not acknowledged."""
    broker_waiting_max: int
    """Publishes that wait for that, or for the broker to come back; an event is one for each recipient."""
    broker_waiting_bytes_max: int
    """Bytes of those and of what is not acknowledged: topics, and payloads once for each recipient."""
    broker_buffer_bytes_max: int
    """Bytes that may wait in the connection's buffer before nothing more is written."""
    broker_packet_bytes_max: int
    """A packet that the broker sends."""
    broker_connect_s: int
    """From the try to connect to the broker's answer."""
    broker_keep_alive_s: int
    """How long the broker may be silent: then the connection is cut."""
    broker_acknowledge_s: int
    """How long it may acknowledge nothing of what it was sent: then, too."""
    broker_retry_s: int
    """The longest wait before connecting again."""
    broker_losses_max: int
    """Connections that may be lost while the same publish is the next to be acknowledged: then it is given up here."""


@dataclass(frozen=True, slots=True)
class DynamicSecurityLimits:
    broker_commands_max: int
    """Commands to the broker that wait for their answers."""
    broker_command_s: int
    """How long each of them may."""
    broker_logins_remembered_max: int
    """Users whose login is remembered, for when the broker does not answer."""


@dataclass(frozen=True, slots=True)
class DirectPathLimits:
    notify_delay_ms: int
    """How long workers leave an event to the process that committed it, with `--notify direct`."""
    settle_pending_max: int
    """Jobs that are done and wait to be settled in the store."""
    settle_batch_max: int
    """Those that go to the store in one call."""
