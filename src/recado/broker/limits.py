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
    """Open connections, of all listeners."""
    connections_per_user_max: int
    """Sessions of one user, with or without a connection; anonymous clients are no user."""
    connection_rate_max: int
    """CONNECTs a second, of all listeners."""
    connect_timeout_s: int
    """From the transport's opening to a whole CONNECT, and for each answer in an enhanced authentication."""
    keep_alive_max_s: int
    """The longest keep alive; who asks for more, or for none, gets this one in MQTT 5."""
    publish_rate_max: int
    """Publishes a second of one connection; beyond it the server stops reading until the next second."""
    turn_packets_max: int
    """Packets of one connection that are handled at once, before the others get their turn."""
    turn_deliveries_max: int
    """Deliveries that they may cause."""
    receive_maximum: int
    """Publishes of one connection that are under way. Told to MQTT 5 clients; beyond it the server stops reading from
    others."""
    received_max: int
    """QoS 2 publishes of a session that wait for their PUBREL, over all its connections."""
    inflight_max: int
    """QoS 1 and 2 deliveries to one connection that it has not acknowledged; an MQTT 5 client may ask for less."""
    send_buffer_bytes_max: int
    """Bytes that wait in one connection's transport; beyond it the connection falls behind."""
    stall_s: int
    """How long a connection whose buffer is full may take nothing of it."""
    subscriptions_max: int
    """Topic filters of one session."""
    wildcards_max: int
    """Topic filters with wildcards among them."""
    wildcard_levels_max: int
    """The levels of those together: what a session can make a publish cost."""
    topic_levels_max: int
    topic_bytes_max: int
    topic_aliases_max: int
    """Topic aliases of one connection, each way."""
    sessions_max: int
    """Sessions that are kept after their connection."""
    sessions_per_user_max: int
    """One user's among them, with or without a connection; one more ends the one that is longest without. Anonymous
    clients are no user."""
    session_expiry_max_s: int
    """How long a session is kept after its connection; who asks for more gets this, and 3.1.1 clients too."""
    queue_messages_max: int
    """QoS 1 and 2 publishes that wait for one session; what comes beyond it is dropped for that session."""
    queue_bytes_max: int
    """Their bytes: payload, topic and properties."""
    retained_messages_max: int
    retained_bytes_max: int
    """The bytes of memory that they take: payload, topic and its levels, properties."""
    routes_max: int
    """Topic names whose receivers are remembered."""
    route_targets_max: int
    """Receivers that are remembered, over all topic names."""
    cursor_delay_ms: int
    """How long what a kept session's client has acknowledged of a log may wait to be stored; a crash meanwhile sends it
    again."""
    log_cursors_max: int
    """Logs that one session may be behind in."""
    recent_bytes_max: int
    """The newest entries of logs that are kept in memory, at most `read_page` of each, for those who are a little
    behind."""
    own_positions_max: int
    """A session's own publishes in one log that it is behind in, remembered for No Local."""
    frame_bytes_max: int
    """A WebSocket frame; it may hold several packets."""
    reads_max: int
    """Sessions that read on, from their queue or from a log, at the same time; and those that are taken up again, which
    are counted apart."""
    read_page: int
    """Publishes in one such read, of a queue or a log."""
    sys_interval_s: int
    """How often the `$SYS` topics are brought up to date."""
    refusal_log_rate_max: int
    """Lines a second that tell of refusals in the log."""
    drain_s: int
    """How long a stopping server lets commits end and buffers empty."""
