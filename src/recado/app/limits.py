"""Every limit, its name and its number. A setting `limit.<name>` changes one; docs/configuration.md lists them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from operator import attrgetter
from typing import Any, NamedTuple

from recado.adapters.broker.mqtt.limits import DirectPathLimits, DynamicSecurityLimits, PublisherLimits
from recado.adapters.broker.sqlite import SqliteStorageLimits
from recado.adapters.push.limits import WebPushLimits
from recado.adapters.queue.sqs.limits import SqsLimits
from recado.adapters.sinks.limits import SinkLimits
from recado.adapters.store.postgres.limits import PostgresLimits
from recado.adapters.store.sqlite import SqliteLimits
from recado.adapters.tracing.limits import TraceLimits
from recado.app.config import SettingsError
from recado.broker.limits import BrokerLimits
from recado.broker.passwords import PasswordLimits
from recado.chat.policy import ChatLimits, FeedLimits
from recado.worker.limits import PushLimits, WorkerLimits


@dataclass(frozen=True, slots=True)
class HttpLimits:
    request_bytes_max: int
    """A whole HTTP request body."""
    http_connections_max: int
    """HTTP connections at a time; one more is answered 503, and closed."""
    http_pipelined_max: int
    """Requests of one connection that wait for the answers before them."""
    http_idle_s: int
    """How long an HTTP connection may stay open with nothing to do."""
    http_head_bytes_max: int
    """A request's line and headers, with what may follow a body in chunks."""
    http_headers_max: int
    """Headers of a request, with those that may follow a body in chunks."""
    http_head_s: int
    """From a connection's opening, or a request's first byte, to the end of its headers."""
    http_body_s: int
    """From there to the end of its body."""
    http_stall_s: int
    """How long a client may take nothing of its answer, also of one after which the connection closes."""
    http_buffer_bytes_max: int
    """Bytes that may wait in an HTTP connection's or a WebSocket's buffer before nothing more is written."""
    wait_max_s: int
    """The longest that a request may ask to be held."""
    sse_keepalive_s: int
    """After so long without an event, an event stream is sent a comment."""
    sse_retry_ms: int
    """How long a browser is told to wait before it opens its event stream again."""
    ws_auth_s: int
    """From a WebSocket's opening to its first frame, which has the token."""
    ws_auth_bytes_max: int
    """What a WebSocket's client may send up to the end of that frame."""
    ws_close_s: int
    """From a close frame, of whichever side, to the end of the connection."""
    ws_ping_s: int
    """From one ping to the next; a client that sends nothing in between has gone."""
    ws_frame_bytes_max: int
    """A WebSocket message of a client."""
    ws_fragments_max: int
    """Fragments of one such message."""
    ws_control_rate_max: int
    """Pings and pongs of one WebSocket's client a second."""
    ws_conversations_max: int
    """Conversations that one WebSocket follows by name."""
    token_ttl_s_max: int
    """The longest life of a token that Recado mints."""
    token_ttl_s_default: int
    """The life of a token if the host names none."""


@dataclass(frozen=True, slots=True)
class Limits:
    chat: ChatLimits
    feed: FeedLimits
    broker: BrokerLimits
    store: SqliteLimits
    postgres: PostgresLimits
    http: HttpLimits
    storage: SqliteStorageLimits
    passwords: PasswordLimits
    publisher: PublisherLimits
    dynamic_security: DynamicSecurityLimits
    direct_path: DirectPathLimits
    sqs: SqsLimits
    sinks: SinkLimits
    worker: WorkerLimits
    push: PushLimits
    web_push: WebPushLimits
    traces: TraceLimits


DEFAULT = Limits(
    chat=ChatLimits(
        body_bytes_max=16 * 1024,
        members_max=1_000,
        subject_bytes_max=512,
        metadata_bytes_max=4 * 1024,
        name_bytes_max=128,
        page_max=200,
        page_default=50,
        receipt_members_max=50,
        receipts_interval_ms=500,
        receipts_pending_max=20_000,
        receipts_batch_max=200,
        typing_for_ms=6_000,
        typing_interval_ms=2_000,
        typing_remembered_max=10_000,
        signal_rate_max=20,
        presence_grace_s=10,
        presence_renew_s=30,
        presence_page_s=75,
        presence_pages_per_user_max=20,
        presence_pages_max=50_000,
        presence_conversations_max=200,
        presence_reads_max=8,
        presence_pending_max=20_000,
        message_change_window_s=24 * 3600,
        sweep_interval_s=3600,
        push_endpoint_bytes_max=2_048,
        push_subscriptions_per_user_max=20,
        member_cache_entries_max=10_000,
    ),
    feed=FeedLimits(
        held_polls_per_user_max=100,
        streams_per_user_max=100,
        streams_max=12_000,
        stream_page=50,
        stream_page_bytes_max=64 * 1024,
        stream_signals_max=50,
        stream_closed_max=1_000,
        feed_cache_entries_max=10_000,
    ),
    broker=BrokerLimits(
        packet_bytes_max=128 * 1024,
        connect_bytes_max=16 * 1024,
        user_properties_max=1_000,
        connections_max=18_000,
        connections_per_user_max=10_000,
        connection_rate_max=10_000,
        connect_timeout_s=10,
        keep_alive_max_s=300,
        publish_rate_max=50_000,
        turn_packets_max=500,
        turn_deliveries_max=1_000,
        receive_maximum=100,
        received_max=10_000,
        inflight_max=500,
        send_buffer_bytes_max=256 * 1024,
        stall_s=60,
        subscriptions_max=1_000,
        wildcards_max=32,
        wildcard_levels_max=256,
        topic_levels_max=32,
        topic_bytes_max=1_024,
        topic_aliases_max=100,
        sessions_max=100_000,
        sessions_per_user_max=100,
        session_expiry_max_s=30 * 24 * 3600,
        queue_messages_max=10_000,
        queue_bytes_max=16 * 1024 * 1024,
        retained_messages_max=100_000,
        retained_bytes_max=256 * 1024 * 1024,
        routes_max=20_000,
        route_targets_max=1_000_000,
        cursor_delay_ms=500,
        log_cursors_max=10_000,
        recent_bytes_max=32 * 1024 * 1024,
        own_positions_max=10_000,
        frame_bytes_max=512 * 1024,
        reads_max=16,
        read_page=100,
        sys_interval_s=10,
        refusal_log_rate_max=10,
        drain_s=5,
    ),
    store=SqliteLimits(
        pending_writes_max=20_000,
        pending_sends_per_user_max=5_000,
        batch_writes_max=1_000,
        pending_reads_max=2_000,
        pending_reads_per_user_max=500,
        reader_threads=2,
        write_cache_bytes_max=32 * 1024 * 1024,
        logs_in_memory_max=10_000,
        unread_count_max=1_000,
        page_bytes_max=1024 * 1024,
        erase_rows_max=500,
        wal_truncate_interval_ms=1_000,
    ),
    postgres=PostgresLimits(
        pending_writes_max=20_000,
        pending_sends_per_user_max=5_000,
        batch_writes_max=1_000,
        pending_reads_max=2_000,
        pending_reads_per_user_max=500,
        read_connections=4,
        logs_in_memory_max=10_000,
        unread_count_max=1_000,
        page_bytes_max=1024 * 1024,
        erase_rows_max=500,
        follow_page=500,
        follow_own_max=10_000,
        due_jobs_looked_at=500,
        follow_interval_ms=5_000,
        connect_timeout_ms=5_000,
        statement_timeout_ms=10_000,
        idle_transaction_timeout_ms=5_000,
        reconnect_interval_ms=500,
        erased_notice_s=24 * 3600,
    ),
    http=HttpLimits(
        request_bytes_max=128 * 1024,
        http_connections_max=20_000,
        http_pipelined_max=20,
        http_idle_s=75,
        http_head_bytes_max=32 * 1024,
        http_headers_max=100,
        http_head_s=10,
        http_body_s=30,
        http_stall_s=60,
        http_buffer_bytes_max=64 * 1024,
        wait_max_s=60,
        sse_keepalive_s=15,
        sse_retry_ms=2_000,
        ws_auth_s=10,
        ws_auth_bytes_max=16 * 1024,
        ws_close_s=5,
        ws_ping_s=30,
        ws_frame_bytes_max=128 * 1024,
        ws_fragments_max=1_000,
        ws_control_rate_max=100,
        ws_conversations_max=1_000,
        token_ttl_s_max=30 * 24 * 3600,
        token_ttl_s_default=3600,
    ),
    storage=SqliteStorageLimits(
        pending_transactions_max=200_000,
        pending_payload_bytes_max=64 * 1024 * 1024,
        batch_transactions_max=1_000,
    ),
    worker=WorkerLimits(
        sink_lanes_max=32,
        sink_named_max=200,
        sink_pause_ms_max=5_000,
        lane_jobs_max=20,
        job_lease_s=6,
        job_deadline_s=30,
        job_attempts_max=100,
        job_backoff_ms=1_000,
        job_backoff_ms_max=3600 * 1000,
        job_error_chars_max=500,
        job_recheck_ms=1_000,
        worker_drain_s=5,
    ),
    push=PushLimits(
        push_body_bytes_max=1_000,
        push_wait_s=2,
        push_user_calls_max=20,
        push_rest_s=3,
        push_refused_rest_s=3_600,
        push_patience_s=120,
        push_failing_max=10_000,
        push_jobs_remembered_max=10_000,
    ),
    web_push=WebPushLimits(
        push_ttl_s=24 * 3600,
        push_calls_max=200,
        push_timeout_s=10,
        push_retry_after_s_max=60,
        push_services_max=1_000,
    ),
    traces=TraceLimits(trace_one_in=100, trace_spans_pending_max=2_048, trace_interval_ms=1_000, trace_timeout_s=5),
    passwords=PasswordLimits(password_threads=2, password_checks_max=200, passwords_remembered_max=10_000),
    publisher=PublisherLimits(
        broker_inflight_max=500,
        broker_waiting_max=50_000,
        broker_waiting_bytes_max=64 * 1024 * 1024,
        broker_buffer_bytes_max=256 * 1024,
        broker_packet_bytes_max=1024 * 1024,
        broker_connect_s=5,
        broker_keep_alive_s=15,
        broker_acknowledge_s=15,
        broker_retry_s=2,
        broker_losses_max=5,
    ),
    dynamic_security=DynamicSecurityLimits(
        broker_commands_max=1_000, broker_command_s=5, broker_logins_remembered_max=10_000
    ),
    direct_path=DirectPathLimits(notify_delay_ms=3_000, settle_pending_max=20_000, settle_batch_max=500),
    sqs=SqsLimits(
        queue_receivers=2,
        queue_visibility_s=4,
        queue_requeue_s=120,
        queue_relay_jobs_max=500,
        queue_relay_interval_ms=1_000,
        queue_backoff_ms_max=2_000,
        queue_requests_max=20,
        queue_connect_s=3,
        queue_answer_s=10,
    ),
    sinks=SinkLimits(
        webhook_timeout_s=10,
        webhook_answer_bytes_max=4 * 1024,
        webhook_retry_after_s_max=3600,
        capture_batch_max=1_000,
    ),
)

# `recado broker` takes what other applications send, not messages that people write.
STANDALONE = replace(
    DEFAULT,
    broker=replace(
        DEFAULT.broker,
        packet_bytes_max=1024 * 1024,
        inflight_max=100,
        connect_bytes_max=128 * 1024,
        frame_bytes_max=4 * 1024 * 1024,
        keep_alive_max_s=65_535,
        wildcards_max=1_000,
        wildcard_levels_max=4_000,
        topic_levels_max=64,
        topic_bytes_max=65_535,
        sessions_per_user_max=10_000,
    ),
)


_SIXTEEN_BITS = 65_535  # packet ids, Receive Maximum and keep alive are two bytes on the wire
_AT_MOST = dict.fromkeys(
    (
        *("receive_maximum", "inflight_max", "keep_alive_max_s", "topic_aliases_max"),
        *("broker_inflight_max", "broker_keep_alive_s"),
    ),
    _SIXTEEN_BITS,
)
_AT_MOST["queue_visibility_s"] = 12 * 3600  # SQS's own


class Relation(NamedTuple):
    """The first must not be more than the second, or than so many times the second."""

    smaller: str
    larger: str
    times: int = 1


TOKEN_RELATIONS = (Relation("http.token_ttl_s_default", "http.token_ttl_s_max"),)
STANDALONE_RELATIONS = (Relation("broker.packet_bytes_max", "broker.frame_bytes_max"),)
RELATIONS: tuple[Relation, ...] = (
    *TOKEN_RELATIONS,
    *STANDALONE_RELATIONS,
    Relation("chat.page_default", "chat.page_max"),
    Relation("chat.presence_renew_s", "chat.presence_page_s"),
    Relation("chat.body_bytes_max", "broker.packet_bytes_max"),
    Relation("chat.body_bytes_max", "http.request_bytes_max"),
    Relation("worker.job_backoff_ms", "worker.job_backoff_ms_max"),
    Relation("sinks.webhook_timeout_s", "worker.job_deadline_s"),
    Relation("push.push_wait_s", "worker.job_deadline_s"),
    Relation("web_push.push_timeout_s", "worker.job_deadline_s"),
    Relation("worker.job_lease_s", "sqs.queue_visibility_s", 2),  # it is renewed with the lease, every third of that
)


def with_changes(
    changes: Mapping[str, int], limits: Limits = DEFAULT, relations: Sequence[Relation] = RELATIONS
) -> Limits:
    """The limits with other numbers for some; `relations` are those that the command depends on. Raises SettingsError
    for an unknown name or a wrong number."""
    for name, number in changes.items():
        if not 1 <= number <= _AT_MOST.get(name, sys.maxsize):
            most = f"to {_AT_MOST[name]}" if name in _AT_MOST else "or more"
            raise SettingsError(f"limit.{name} must be 1 {most}, not {number}")
        limits = _with_change(limits, name, number)
    for smaller, larger, times in relations:
        if attrgetter(smaller)(limits) > times * attrgetter(larger)(limits):
            names = [path.partition(".")[2] for path in (smaller, larger)]
            factor = "" if times == 1 else f"{times} times "
            raise SettingsError(f"limit.{names[0]} must not be more than {factor}limit.{names[1]}")
    return limits


def _with_change(limits: Limits, name: str, number: int) -> Limits:
    groups = {part.name: getattr(limits, part.name) for part in fields(limits)}
    changed: dict[str, Any] = {
        part: replace(group, **{name: number})
        for part, group in groups.items()
        if name in {each.name for each in fields(group)}
    }
    if not changed:
        names = [each.name for group in groups.values() for each in fields(group)]
        meant = "".join(f", did you mean {each}?" for each in get_close_matches(name, names, 1))
        raise SettingsError(f"there is no limit {name!r}{meant or ';'} docs/configuration.md lists them")
    return replace(limits, **changed)
