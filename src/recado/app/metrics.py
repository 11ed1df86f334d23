"""What operators ask for: the MQTT server's plain counters for the metrics page, and the pages of `recado broker`."""

from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Receive, Scope, Send

from recado.adapters.broker.mqtt import Publisher
from recado.broker.counters import Counters
from recado.broker.server import Server
from recado.chat.actions import Chat
from recado.chat.errors import ChatError
from recado.chat.feed import Feed
from recado.chat.stages import BOUNDS_MS, Elapsed, Stages
from recado.http.answer import Answer, json_answer, send_answer
from recado.http.metrics import render
from recado.http.refusals import refusal_answer

_BOUNDS = (*(str(bound / 1000) for bound in BOUNDS_MS), "+Inf")
_COUNTS = {
    "published": "PUBLISH packets received.",
    "delivered": "PUBLISH packets written to clients.",
    "acknowledged": "PUBACKs and PUBCOMPs received.",
    "fell_behind": "Times that a session had no room and went over to reading its log.",
    "read_from_log": "Deliveries that were read from the log.",
    "dropped": "QoS 0 publishes not sent because a connection had no room.",
    "queue_full": "QoS 1 and 2 publishes not kept for a session because its queue was full.",
    "expired": "Publishes dropped because their message expiry interval had passed.",
    "publish_rate_waits": "Times that a connection was not read for a while because it published too fast.",
    "too_large_for_client": "Publishes not sent because they pass their client's own Maximum Packet Size.",
    "repeats_dropped": "Refused publishes of 3.1.1 clients that came again, were acknowledged and dropped.",
    "withheld": "Publishes that waited and were not sent, because their session may not read the topic any more.",
    "wills": "Wills that were published.",
    "storage_failures": "Transactions that the storage could not keep.",
}


class BrokerCollector(Collector):
    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        for name, text in _COUNTS.items():
            yield CounterMetricFamily(f"recado_mqtt_{name}", text, value=getattr(counters, name))
        connections = GaugeMetricFamily("recado_mqtt_connections", "Open connections.", labels=["transport"])
        opened = CounterMetricFamily("recado_mqtt_connections_opened", "Connections opened.", labels=["transport"])
        for transport, total in counters.connections_total.items():
            connections.add_metric([transport], counters.connections[transport])
            opened.add_metric([transport], total)
        refusals = CounterMetricFamily("recado_mqtt_refusals", "Refusals by reason.", labels=["reason"])
        for reason, count in counters.refusals.items():
            refusals.add_metric([reason.lower()], count)
        yield from (connections, opened, refusals)


class PublisherCollector(Collector):
    """The connection to an external broker."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def collect(self) -> Iterator[Metric]:
        publisher = self._publisher
        counters = publisher.counters
        for name, text, value in (
            ("announced", "Events that were sent or wait to be, once for each recipient.", counters.announced),
            ("acknowledged", "Those that the broker has acknowledged.", counters.acknowledged),
            ("overflowed", "Those that had no room and were left to a worker.", counters.overflowed),
            ("given_up", "Those over which the broker ended one connection after the other.", counters.given_up),
            ("signals", "Signals and commands sent.", counters.signals),
            ("signals_dropped", "Those not sent: no connection, or no room.", counters.signals_dropped),
            ("connects", "Connections made.", counters.connected),
            ("losses", "Connections lost.", counters.lost),
        ):
            yield CounterMetricFamily(f"recado_broker_{name}", text, value=value)
        for name, text, value in (
            ("up", "1 with a connection.", int(publisher.is_connected)),
            ("inflight", "Publishes that are not acknowledged.", publisher.window.inflight),
            ("waiting", "Publishes that wait to be sent.", publisher.window.waiting),
        ):
            yield GaugeMetricFamily(f"recado_broker_{name}", text, value=value)


class StagesCollector(Collector):
    """What became of messages and events, and when."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    def collect(self) -> Iterator[Metric]:
        stages = self._stages
        text = "Messages that were right in form and given to the store."
        yield CounterMetricFamily("recado_messages_accepted", text, value=stages.accepted)
        text = "Seconds from an event's acceptance to its commit, publication, delivery, acknowledgement."
        seconds = HistogramMetricFamily("recado_stage_seconds", text, labels=["stage"])
        for stage in ("committed", "published", "delivered", "acknowledged"):
            elapsed: Elapsed = getattr(stages, stage)
            totals = accumulate(elapsed.counts)
            buckets = [(bound, total) for bound, total in zip(_BOUNDS, totals, strict=True)]
            seconds.add_metric([stage], buckets, elapsed.sum_ms / 1000)
        yield seconds


class SignalsCollector(Collector):
    """What the conversations make of signals, so that they cost little."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    def collect(self) -> Iterator[Metric]:
        chat = self._chat
        for name, text, value in (
            ("receipts_stored", "Delivered cursors written.", chat.receipts.stored),
            ("receipts_coalesced", "Acknowledgements that went into one that waited.", chat.receipts.coalesced),
            ("receipts_dropped", "Acknowledgements forgotten because too many waited.", chat.receipts.dropped),
            ("typing_coalesced", "Typing signals not passed on because they said nothing new.", chat.typing.coalesced),
            ("signals_rate_limited", "Signals past their user's rate.", chat.signal_rates.limited),
            ("presence_announced", "Conversations told that somebody came or went.", chat.presence.announced),
            ("presence_dropped", "Comings and goings not told because too many waited.", chat.presence.dropped),
        ):
            yield CounterMetricFamily(f"recado_{name}", text, value=value)
        yield GaugeMetricFamily("recado_users_online", "Users who are online.", value=len(chat.presence))


class FeedCollector(Collector):
    """The readers over HTTP."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def collect(self) -> Iterator[Metric]:
        feed = self._feed
        listeners = GaugeMetricFamily(
            "recado_feed_listeners", "Held polls, event streams, WebSockets.", labels=["kind"]
        )
        for kind, count in feed.counts.items():
            listeners.add_metric([kind], count)
        refused = CounterMetricFamily("recado_feed_refused", "Those that a limit refused.", labels=["limit"])
        for limit, count in feed.refused.items():
            refused.add_metric([limit], count)
        delivered = CounterMetricFamily("recado_feed_delivered", "Events handed to those readers.", labels=["kind"])
        for kind, count in feed.delivered.items():
            delivered.add_metric([kind], count)
        text = "Signals not sent because a stream had no room."
        dropped = CounterMetricFamily("recado_feed_signals_dropped", text, feed.signals_dropped)
        yield from (listeners, refused, delivered, dropped)


class SessionsCollector(Collector):
    """What the server holds, counted when it is asked for."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        server = self._server
        sessions = list(server.sessions)
        queued = sum(each.queued + len(each.queue or ()) for each in sessions)
        queued_bytes = sum(each.queued_bytes + each.queue_bytes for each in sessions)
        for name, text, value in (
            ("sessions", "Sessions, with and without a connection.", len(sessions)),
            ("queued", "QoS 1 and 2 publishes that wait for a session.", queued),
            ("queued_bytes", "Bytes of those.", queued_bytes),
            ("retained", "Retained messages of clients.", len(server.retained) - len(server.sys_topics)),
            ("retained_bytes", "Bytes of memory that they take.", server.retained.held_bytes),
            ("subscriptions", "Subscriptions.", len(server.router)),
        ):
            yield GaugeMetricFamily(f"recado_mqtt_{name}", text, value=value)


def operators_pages(
    unreadiness: Callable[[], Awaitable[str | None]], check_metrics: Callable[[Scope], None] = lambda scope: None
) -> ASGIApp:
    """`/metrics`, `/healthz` (the process is alive) and `/readyz`: 503 with what `unreadiness` says, if anything.
    `check_metrics` raises the ChatError of a request that may not read `/metrics`; the other two are for everybody."""

    async def answer_to(scope: Scope) -> Answer:
        path = scope["path"]
        if path == "/metrics":
            try:
                check_metrics(scope)
            except ChatError as refusal:
                return refusal_answer(refusal)
            return render()
        if path == "/healthz":
            return json_answer(200, {"status": "ok"})
        if path == "/readyz":
            why = await unreadiness()
            return json_answer(200 if why is None else 503, {"status": why or "ready"})
        return json_answer(404, {"error": {"code": "not_found", "message": "there is nothing at this path"}})

    async def pages(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["method"] in ("GET", "HEAD"):
            answer = await answer_to(scope)
        else:
            answer = json_answer(405, {"error": {"code": "invalid", "message": "this is for GET"}})
            answer = answer._replace(headers=(*answer.headers, (b"allow", b"GET, HEAD")))
        await send_answer(send, answer)

    return pages
