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
    page_max: int
    """Events, or conversations, in one answer."""
    page_default: int
    """The same when the caller names no limit."""
    receipt_members_max: int
    """Above so many members, read receipts are stored but not signalled."""
    member_cache_entries_max: int
    """Conversations whose members are remembered in memory."""
