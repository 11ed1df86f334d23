"""Every limit, its name and its number. A setting `limit.<name>` changes one; docs/configuration.md lists them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from recado.adapters.store.sqlite import SqliteLimits
from recado.app.config import SettingsError
from recado.broker.limits import BrokerLimits
from recado.chat.policy import ChatLimits

_UNREAD_COUNT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class HttpLimits:
    request_bytes_max: int
    """A whole HTTP request body."""
    http_connections_max: int
    """HTTP connections at a time; one more is answered 503."""
    http_idle_s: int
    """How long an HTTP connection may stay open with nothing to do."""
    token_ttl_s_max: int
    """The longest life of a token that Recado mints."""
    token_ttl_s_default: int
    """The life of a token if the host names none."""


@dataclass(frozen=True, slots=True)
class Limits:
    chat: ChatLimits
    broker: BrokerLimits
    store: SqliteLimits
    http: HttpLimits


DEFAULT = Limits(
    chat=ChatLimits(
        body_bytes_max=16 * 1024,
        members_max=1_000,
        subject_bytes_max=512,
        metadata_bytes_max=4 * 1024,
        page_max=200,
        page_default=50,
        unread_count_max=_UNREAD_COUNT_MAX,
        receipt_members_max=50,
        member_cache_entries_max=10_000,
    ),
    broker=BrokerLimits(
        packet_bytes_max=128 * 1024,
        connect_bytes_max=16 * 1024,
        user_properties_max=1_000,
        connections_max=18_000,
        connect_timeout_s=10,
        keep_alive_max_s=300,
        receive_maximum=100,
        inflight_max=100,
        send_buffer_bytes_max=256 * 1024,
        subscriptions_max=1_000,
        topic_levels_max=32,
        topic_bytes_max=1_024,
        log_reads_max=16,
        log_page=100,
        drain_s=5,
    ),
    store=SqliteLimits(
        pending_writes_max=20_000,
        batch_writes_max=1_000,
        pending_reads_max=2_000,
        reader_threads=2,
        logs_in_memory_max=10_000,
        unread_count_max=_UNREAD_COUNT_MAX,
    ),
    http=HttpLimits(
        request_bytes_max=128 * 1024,
        http_connections_max=5_000,
        http_idle_s=75,
        token_ttl_s_max=30 * 24 * 3600,
        token_ttl_s_default=3600,
    ),
)


def with_changes(changes: Mapping[str, int]) -> Limits:
    """The default limits with other numbers for some. Raises SettingsError for an unknown name."""
    limits = DEFAULT
    for name, number in changes.items():
        if number < 1:
            raise SettingsError(f"limit.{name} must be 1 or more, not {number}")
        limits = _with_change(limits, name, number)
    return limits


def _with_change(limits: Limits, name: str, number: int) -> Limits:
    groups = {part.name: getattr(limits, part.name) for part in fields(limits)}
    changed: dict[str, Any] = {
        part: replace(group, **{name: number})
        for part, group in groups.items()
        if name in {each.name for each in fields(group)}
    }
    if not changed:
        raise SettingsError(f"there is no limit {name!r}; docs/configuration.md lists them")
    return replace(limits, **changed)
