"""The numbers that bound the conversations. Their values are chosen in one place, `recado.app.limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatLimits:
    body_bytes_max: int
    """A message's body, in bytes of UTF-8."""
    members_max: int
    """Members of one conversation."""
    subject_bytes_max: int
    """A conversation's subject, in bytes of UTF-8."""
    metadata_bytes_max: int
    """A conversation's metadata, in bytes of JSON."""
    name_bytes_max: int
    """A user's display name, in bytes of UTF-8."""
    page_max: int
    """Events, or conversations, in one answer."""
    page_default: int
    """The same when the caller names no limit."""
    receipt_members_max: int
    """Above so many members, there are no receipts and no presence."""
    receipts_interval_ms: int
    """At least so long from one writing of delivered cursors to the next."""
    receipts_pending_max: int
    """Delivered cursors that wait for it."""
    receipts_batch_max: int
    """Delivered cursors that go to the store in one call."""
    typing_for_ms: int
    """How long somebody is shown as typing, unless it is renewed."""
    typing_interval_ms: int
    """Renewals within so long are not passed on."""
    typing_remembered_max: int
    """Who was last shown as typing, and where, for that."""
    signal_rate_max: int
    """Signals of one user in a second."""
    presence_grace_s: int
    """From the end of a user's last connection until the user is offline."""
    presence_renew_s: int
    """How often a page that is open has to say so."""
    presence_page_s: int
    """How long it counts as open after it has."""
    presence_pages_per_user_max: int
    """A user's pages that count; of more, those that end first are forgotten."""
    presence_pages_max: int
    """Everybody's pages that are remembered in memory, so that it is told when they have gone."""
    presence_conversations_max: int
    """A user's conversations, the most active first, whose members are told that it comes and goes."""
    presence_reads_max: int
    """Users at a time for whom the store is asked whom to tell."""
    presence_pending_max: int
    """Users who have come or gone and of whom nobody has been told yet."""
    message_change_window_s: int
    """How long a sender may edit and delete its message."""
    sweep_interval_s: int
    """From one search for messages past their retention to the next."""
    push_endpoint_bytes_max: int
    """The URL of a push subscription."""
    push_subscriptions_per_user_max: int
    """Push subscriptions of one user."""
    member_cache_entries_max: int
    """Conversations whose members are remembered in memory."""


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """Of those who read on over HTTP: held polls, event streams, WebSockets."""

    held_polls_per_user_max: int
    """Requests of one user that are held at a time."""
    streams_per_user_max: int
    """Event streams and WebSockets of one user."""
    streams_max: int
    """Those of all users."""
    stream_page: int
    """Events that one of them is sent at a time, or that are read for it."""
    stream_page_bytes_max: int
    """Bytes of JSON in that, which wait for a client that does not read; one event at least."""
    stream_signals_max: int
    """Signals that wait for one of them to take them."""
    stream_closed_max: int
    """Conversations that are closed to the user while one of them does not read on."""
    feed_cache_entries_max: int
    """Ends of logs, and users who have everything, remembered so that asking again costs no read."""
