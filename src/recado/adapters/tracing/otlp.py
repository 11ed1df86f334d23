"""Traces for a collector of OpenTelemetry (OTLP over HTTP): one trace for each event that is followed.

The ids of the trace and of its first span follow from the conversation and the seq, and so does whether the event is
followed. So every process that has to do with an event adds to the same trace, and nothing is stored or sent along for
it. A thread of the SDK's sends; what it cannot keep up with is dropped. A span has no body, no token and no user.
"""

from __future__ import annotations

import asyncio
import random
from hashlib import blake2b

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from recado import __version__
from recado.adapters.tracing.limits import TraceLimits
from recado.chat.stages import COMMIT

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NS_PER_MS = 1_000_000
_BATCH_MAX = 512
_OK, _FAILED = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


class OtlpTracer:
    """A `recado.chat.stages.Tracer`. `service` tells the kinds of processes apart."""

    def __init__(self, endpoint: str, service: str, limits: TraceLimits) -> None:
        self._one_in = limits.trace_one_in
        self._timeout_s = limits.trace_timeout_s
        self._resource = Resource.create({"service.name": service, "service.version": __version__})
        pending_max = limits.trace_spans_pending_max
        self._exporter = OTLPSpanExporter(endpoint, timeout=limits.trace_timeout_s)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=pending_max,
            schedule_delay_millis=limits.trace_interval_ms,
            max_export_batch_size=min(_BATCH_MAX, pending_max),
        )

    def follows(self, conversation: str, seq: int) -> bool:
        return int.from_bytes(_digest(conversation, seq)[:4]) % self._one_in == 0

    def span(self, name: str, conversation: str, seq: int, start_ms: int, end_ms: int, failed: bool = False) -> None:
        digest = _digest(conversation, seq)
        first = _context(digest, int.from_bytes(digest[16:]))
        is_first = name == COMMIT
        self._processor.on_end(
            ReadableSpan(
                name,
                context=first if is_first else _context(digest, random.getrandbits(64)),
                parent=None if is_first else first,
                resource=self._resource,
                attributes={"recado.conversation": conversation, "recado.seq": seq},
                kind=SpanKind.INTERNAL,
                status=_FAILED if failed else _OK,
                start_time=start_ms * _NS_PER_MS,
                end_time=max(start_ms, end_ms) * _NS_PER_MS,
            )
        )

    async def close(self) -> None:
        """Send what waits, as far as the collector takes it in time."""
        ending = asyncio.ensure_future(asyncio.to_thread(self._processor.shutdown))
        await asyncio.wait([ending], timeout=self._timeout_s)
        if not ending.done():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it ends the tries that are left
        await ending


def _digest(conversation: str, seq: int) -> bytes:
    """16 bytes for the trace, 8 for its first span."""
    return blake2b(f"{conversation}/{seq}".encode(), digest_size=24).digest()


def _context(digest: bytes, span_id: int) -> SpanContext:
    return SpanContext(int.from_bytes(digest[:16]), span_id or 1, is_remote=True, trace_flags=_SAMPLED)
