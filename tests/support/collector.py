"""A collector of OpenTelemetry: it takes OTLP over HTTP as any does, and has the spans that came."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.webhook_receiver import TIMEOUT_S, Told, WebhookReceiver, receiving


@dataclass(frozen=True)
class Span:
    name: str
    service: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    start_ns: int
    end_ns: int
    attributes: dict[str, str | int]
    failed: bool


class Collector:
    def __init__(self, receiver: WebhookReceiver) -> None:
        self.url = f"http://127.0.0.1:{receiver.port}"
        self.spans: list[Span] = []
        self.raw = b""
        self._receiver = receiver

    def refuse(self, status: int) -> None:
        """Answer so from now on."""
        self._receiver.usually(Told(status))

    def wait_for(self, condition: Callable[[list[Span]], bool]) -> list[Span]:
        """Take spans until the condition holds of all that came."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition(self.spans):
            try:
                posted = self._receiver.posted.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"it did not come to that: {[span.name for span in self.spans]}") from None
            assert posted.path == "/v1/traces"
            self.raw += posted.body
            self.spans += _spans(posted.body)
        return self.spans


def _spans(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        named = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    named["service.name"],
                    span.trace_id,
                    span.span_id,
                    span.parent_span_id,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    {each.key: each.value.string_value or each.value.int_value for each in span.attributes},
                    span.status.code == span.status.STATUS_CODE_ERROR,
                )


@contextmanager
def collecting() -> Iterator[Collector]:
    with receiving() as receiver:
        yield Collector(receiver)
