"""The numbers that bound the MQTT server. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    packet_bytes_max: int
    """An MQTT packet of a connected client. Told to MQTT 5 clients as Maximum Packet Size."""
    connect_bytes_max: int
    """A CONNECT packet, from anyone."""
    user_properties_max: int
    """User properties in one packet."""
    connections_max: int
    """Open connections, of all transports."""
    connections_per_user_max: int
    """The same of one user."""
    connect_timeout_s: int
    """From the transport's opening to a whole CONNECT."""
    keep_alive_max_s: int
    """The longest keep alive; who asks for more, or for none, gets this one in MQTT 5."""
    receive_maximum: int
    """QoS 1 publishes of one connection that are not acknowledged yet. Told to MQTT 5 clients; beyond it the server
    stops reading from others."""
    inflight_max: int
    """QoS 1 deliveries to one connection that it has not acknowledged; an MQTT 5 client may ask for less."""
    send_buffer_bytes_max: int
    """Bytes that wait in one connection's transport; beyond it the connection falls behind."""
    stall_s: int
    """How long a connection whose buffer is full may take nothing of it."""
    subscriptions_max: int
    """Topic filters of one session."""
    wildcards_max: int
    """Topic filters with wildcards among them."""
    topic_levels_max: int
    topic_bytes_max: int
    log_cursors_max: int
    """Logs that one session may be behind in."""
    own_positions_max: int
    """A session's own publishes in one log that it is behind in, remembered for No Local."""
    frame_bytes_max: int
    """A WebSocket frame; it may hold several packets."""
    log_reads_max: int
    """Sessions that read on from the log at the same time."""
    log_page: int
    """Events in one such read."""
    drain_s: int
    """How long a stopping server lets commits end and buffers empty."""
