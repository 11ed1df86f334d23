"""Every number that bounds the client, with its default. `connect(..., limits=ClientLimits(...))` changes some."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    opening_s: float = 30.0
    """How long the first connection may take, over all its attempts; it fails with the last one's error then."""
    connect_s: float = 10.0
    """One attempt: from opening the transport to CONNACK."""
    token_s: float = 10.0
    """How long the token provider may take."""
    renew_before_s: float = 60.0
    """How long before its end a token is renewed on the open connection; at half of its life if that is later."""
    renew_again_s: float = 5.0
    """How long after a provider failed to renew a token it is asked again."""
    keep_alive_s: int = 30
    """A ping is sent when nothing was for this long, unless the server asks for another number."""
    answer_s: float = 10.0
    """How long the server may take to answer a ping; then the connection counts as broken."""
    close_s: float = 2.0
    """How long closing waits for what is written to leave."""
    backoff_first_s: float = 0.2
    """The longest wait before the second attempt; it doubles with each, and the wait is a random part of it."""
    backoff_max_s: float = 30.0
    """As far as it doubles."""
    settled_s: float = 5.0
    """A connection that lasted this long begins the waits anew."""
    pending_sends_max: int = 100
    """Sends that wait for their acknowledgement; one more waits for room."""
    readers_max: int = 500
    """Iterators of one client that are open at a time."""
    unacknowledged_max: int = 100
    """Deliveries at QoS 1 and 2 that wait to be read, over all iterators: the server sends no more until then."""
    queue_max: int = 1_000
    """Events that wait in one iterator. What does not fit is read again from the log when it is empty."""
    signals_max: int = 100
    """Signals that wait in one iterator; the oldest make room."""
    unclaimed_s: float = 5.0
    """How long what a kept session brings waits for an iterator that reads it; then it is given up."""
    doubt_s: float = 5.0
    """How long it is quiet after a lost connection or many events until a client asks whether it is still a member."""
    resumed_max: int = 400
    """Conversations whose place `events_of_all` keeps: those that were active last."""
    packet_bytes_max: int = 1024 * 1024
    """The longest packet that the client takes; the server's own limit is below it."""
    topic_aliases_max: int = 1_000
    """Topics that the server may name by a number."""
    write_buffer_bytes: int = 256 * 1024
    """Bytes that wait in the transport; beyond it no message is sent."""
    session_expiry_s: int = 7 * 24 * 3600
    """How long the server keeps a named session without a connection."""
