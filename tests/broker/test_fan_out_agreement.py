"""The fan-out does in line what most deliveries are: the client gets the same bytes as by the long way, and its session
is left the same.

Each situation is set up twice. The subscriptions of the second time do not call themselves plain, which is what the
short way asks for first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest

from recado.broker import addressing, sending
from recado.broker.holds import CONGESTED
from recado.broker.listener import Listener
from recado.broker.publication import Publication
from recado.broker.server import Server
from recado.broker.storage import Delivery
from recado.mqtt.packets import MQTT_3_1_1, MQTT_5
from recado.mqtt.properties import PropertyId
from recado.mqtt.session import LogCursor, Session
from recado.mqtt.subscription import Subscription
from tests.broker.application import LIMITS, Application
from tests.broker.model.peer import Wire
from tests.broker.model.storages import HeldStorage, MemoryStorage

TOPIC = "news/sport"
OTHER = "news/weather"
POSITION = 5
WINDOW = 2
FAR_MS = 1_000_000
NOW_NS = 1_800_000_000 * 1_000_000_000


# What a session may be in the middle of


def is_away(server: Server, wire: Wire, session: Session) -> None:
    session.connection = None


def reads_slowly(server: Server, wire: Wire, session: Session) -> None:
    wire.held |= CONGESTED


def window_is_full(server: Server, wire: Wire, session: Session) -> None:
    for _ in range(WINDOW):
        session.sending(Publication(OTHER, b"in flight", 1), 1)


def has_one_in_flight(server: Server, wire: Wire, session: Session) -> None:
    session.sending(Publication(TOPIC, b"in flight", 1, POSITION - 1), 1)


def packet_ids_wrap_around(server: Server, wire: Wire, session: Session) -> None:
    session._last_packet_id = 65_534
    session.inflight[65_535] = Publication(OTHER, b"in flight", 1)


def messages_wait(server: Server, wire: Wire, session: Session) -> None:
    sending.wait(wire, session, (Publication(TOPIC, b"waits", 1, POSITION - 1, is_last=True), 1, False, ()))


def messages_wait_and_the_window_is_full(server: Server, wire: Wire, session: Session) -> None:
    window_is_full(server, wire, session)
    messages_wait(server, wire, session)


def storage_has_more(server: Server, wire: Wire, session: Session) -> None:
    session.queued, session.queued_bytes = 1, 10


def is_behind(server: Server, wire: Wire, session: Session) -> None:
    session.fall_behind(TOPIC, POSITION - 2)


def is_behind_elsewhere(server: Server, wire: Wire, session: Session) -> None:
    session.fall_behind(OTHER, 1)


def has_read_up_to_here(server: Server, wire: Wire, session: Session) -> None:
    read(session, TOPIC, POSITION)


def has_read_up_to_the_one_before(server: Server, wire: Wire, session: Session) -> None:
    read(session, TOPIC, POSITION - 1)


def has_read_too_many_logs_and_no_room(server: Server, wire: Wire, session: Session) -> None:
    for n in range(server.limits.log_cursors_max):
        read(session, f"log/{n}", 1)
    reads_slowly(server, wire, session)


def takes_small_packets(server: Server, wire: Wire, session: Session) -> None:
    wire.packet_bytes_max = len(TOPIC)


def takes_just_this_one(server: Server, wire: Wire, session: Session) -> None:
    """At QoS 0; two bytes more are too many."""
    wire.packet_bytes_max = 2 + 2 + len(TOPIC) + len(b"new") + (wire.protocol_level == MQTT_5)


def takes_aliases(server: Server, wire: Wire, session: Session) -> None:
    wire.aliases, wire.aliases_max = {}, 1


def knows_the_alias(server: Server, wire: Wire, session: Session) -> None:
    wire.aliases, wire.aliases_max = {TOPIC: 1}, 1


def has_no_alias_left(server: Server, wire: Wire, session: Session) -> None:
    wire.aliases, wire.aliases_max = {OTHER: 1}, 1


def takes_aliases_and_small_packets(server: Server, wire: Wire, session: Session) -> None:
    takes_aliases(server, wire, session)
    takes_small_packets(server, wire, session)


def has_more_to_get_again(server: Server, wire: Wire, session: Session) -> None:
    again = Publication(TOPIC, b"again", 1, POSITION - 1)
    wire.redeliveries = deque([Delivery(session.sending(again, 1), again, 1, False, ())])


def is_at_rest(server: Server, wire: Wire, session: Session) -> None:
    pass


def read(session: Session, topic_name: str, position: int) -> None:
    cursor = session.cursors[topic_name] = LogCursor(position, position)
    cursor.behind = False


Situation = Callable[[Server, Wire, Session], None]
ALIASES: list[Situation] = [takes_aliases, knows_the_alias, has_no_alias_left, takes_aliases_and_small_packets]
SITUATIONS: list[Situation] = [
    is_at_rest,
    is_away,
    reads_slowly,
    window_is_full,
    has_one_in_flight,
    packet_ids_wrap_around,
    messages_wait,
    messages_wait_and_the_window_is_full,
    storage_has_more,
    has_more_to_get_again,
    is_behind,
    is_behind_elsewhere,
    has_read_up_to_here,
    has_read_up_to_the_one_before,
    has_read_too_many_logs_and_no_room,
    takes_small_packets,
    takes_just_this_one,
    *ALIASES,
]
OPTIONS: list[dict[str, Any]] = [{}, {"no_local": True}, {"retain_as_published": True}, {"identifiers": (3,)}]


@dataclass(frozen=True)
class Reader:
    """Who subscribed, and how. `overlaps`: also with a filter that has No Local."""

    situation: Situation
    qos: int
    level: int
    is_kept: bool
    option: int
    overlaps: bool = False

    def __str__(self) -> str:
        kept = "kept" if self.is_kept else "not kept"
        options = f"{OPTIONS[self.option]}{' and No Local' if self.overlaps else ''}"
        return f"{self.situation.__name__}, QoS {self.qos}, level {self.level}, {kept}, {options}"


def readers() -> Iterator[Reader]:
    for situation, option, level, qos, is_kept in product(
        SITUATIONS, range(len(OPTIONS)), (MQTT_3_1_1, MQTT_5), (0, 1, 2), (False, True)
    ):
        is_possible = level == MQTT_5 or not (option or situation in ALIASES)
        if is_possible and (is_kept or situation not in (is_away, storage_has_more, has_more_to_get_again)):
            yield Reader(situation, qos, level, is_kept, option)


READERS = list(readers())


class Twin:
    """A server with these readers; `is_long` has everything go the long way."""

    def __init__(self, readers: list[Reader], is_long: bool) -> None:
        application = Application(replace(LIMITS, cursor_delay_ms=FAR_MS))
        application.logs[TOPIC] = [b"%d" % n for n in range(1, POSITION + 1)]
        self.server = application.server
        self.server._ticker.cancel()
        self.storage = HeldStorage(MemoryStorage())
        self.server.storage = self.storage
        self.is_long = is_long
        self.sessions = [self._session(number, reader) for number, reader in enumerate(readers, 1)]

    def _session(self, number: int, reader: Reader) -> tuple[Session, Wire]:
        session = Session("ana", f"client-{number}", WINDOW)
        session.key = number if reader.is_kept else 0
        wire = Wire(self.server, Listener("tcp", 1), lambda: 0)
        wire.protocol_level = reader.level
        wire.session, session.connection = session, wire
        self._subscribe(Subscription(session, TOPIC, reader.qos, **OPTIONS[reader.option]))
        if reader.overlaps:
            self._subscribe(Subscription(session, "news/+", 2, no_local=True))
        reader.situation(self.server, wire, session)
        return session, wire

    def _subscribe(self, subscription: Subscription) -> None:
        if self.is_long:
            subscription.plain = False
        self.server.router.subscribe(subscription)

    async def settled(self) -> None:
        """The storage has done all that was asked of it, and what follows from it."""
        while self.storage.waiting or self.server._tasks:
            await self.storage.go_on()
            await asyncio.sleep(0)

    def all_of(self) -> list[Any]:
        return [state_of(self.server, session, wire) for session, wire in self.sessions]

    def of_the_server(self) -> list[Any]:
        changes = [plain(change) for asked in self.storage.waiting for change in asked.changes]
        counters = self.server.counters
        counts = {name: plain(getattr(counters, name)) for name in type(counters).__slots__}
        return [changes, self.server._last_position, counts]


def state_of(server: Server, session: Session, wire: Wire) -> dict[str, Any]:
    slots = [name for name in Session.__slots__ if name not in ("connection", "subscriptions")]
    state = {name: plain(getattr(session, name)) for name in slots}
    state["moved"] = dict(server.cursors._moved.get(session, {}))
    state["connection"] = (wire.held, wire.is_shut, wire.aliases, wire.handed_over, wire.is_reading)
    state["again"] = plain(wire.redeliveries)
    state["bytes"] = bytes(wire.to_client)
    return state


def plain(value: Any) -> Any:
    """The same for two things that say the same."""
    if isinstance(value, Publication):
        return (value.topic_name, value.payload, value.qos, value.position, value.retain, value.expires_at_ms)
    if isinstance(value, LogCursor):
        return (value.sent, value.known, value.own, value.behind)
    if isinstance(value, dict):
        return [(key, plain(each)) for key, each in value.items()]
    if value is None or isinstance(value, str | int | bytes):
        return value
    if hasattr(value, "__iter__"):
        return [plain(each) for each in value]
    fields = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", ())
    return [type(value).__name__, *(plain(getattr(value, name)) for name in fields)] if fields else repr(value)


@dataclass(frozen=True)
class Publishing:
    """One publication, to an audience or to whoever subscribed; `options` are the publication's."""

    has_audience: bool
    qos: int
    options: dict[str, Any]

    def __call__(self, twin: Twin, origin: Session | None = None) -> None:
        publication = Publication(TOPIC, b"new", self.qos, **self.options)
        if self.has_audience:
            twin.server.publish_to(publication, frozenset({"ana"}), origin)
        else:
            twin.server.publish(publication, origin)

    def __str__(self) -> str:
        whom = "audience" if self.has_audience else "subscribers"
        return f"to {whom} at QoS {self.qos} {','.join(self.options)}"


TO_AN_AUDIENCE: list[dict[str, Any]] = [{}, {"position": POSITION}, {"position": POSITION, "is_last": True}]
TO_WHOEVER_SUBSCRIBED: list[dict[str, Any]] = [
    {},
    {"retain": True},
    {"properties": {PropertyId.CONTENT_TYPE: "x"}},
    {"expires_at_ms": NOW_NS // 1_000_000 + 60_000},
]
EVERY_PUBLISHING = pytest.mark.parametrize(
    "publishing",
    [
        *(Publishing(True, qos, options) for options in TO_AN_AUDIENCE for qos in (0, 1, 2)),
        *(Publishing(False, qos, options) for options in TO_WHOEVER_SUBSCRIBED for qos in (0, 1, 2)),
    ],
    ids=str,
)


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: NOW_NS)


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """Whose deliveries went the long way."""
    went: list[Session] = []
    send, send_to = addressing._send, Server._send_to

    def counted_send(server: Server, subscription: Subscription, *more: Any) -> None:
        went.append(subscription.session)
        send(server, subscription, *more)

    def counted_send_to(server: Server, subscription: Subscription, *more: Any) -> None:
        went.append(subscription.session)
        send_to(server, subscription, *more)

    monkeypatch.setattr(addressing, "_send", counted_send)
    monkeypatch.setattr(Server, "_send_to", counted_send_to)
    return went


def check_agreement(short: Twin, long: Twin, readers: list[Reader]) -> None:
    for reader, one, other in zip(readers, short.all_of(), long.all_of(), strict=True):
        assert one == other, str(reader)
    assert short.of_the_server() == long.of_the_server()


@EVERY_PUBLISHING
async def test_the_short_way_and_the_long_way_write_and_leave_the_same(
    publishing: Publishing, long_ways: list[Session]
) -> None:
    taken = []
    twins = Twin(READERS, is_long=False), Twin(READERS, is_long=True)
    for twin in twins:
        long_ways.clear()
        publishing(twin)
        taken.append(len(long_ways))
    assert taken[1] == len(READERS)
    assert taken[0] < len(READERS) or "expires_at_ms" in publishing.options
    check_agreement(*twins, READERS)
    for twin in twins:
        await twin.settled()
    check_agreement(*twins, READERS)


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("option", [0, 1])
@EVERY_PUBLISHING
async def test_they_agree_on_what_the_publisher_gets_back(publishing: Publishing, option: int, overlaps: bool) -> None:
    for each in READERS:
        if each.option != option or each.level != MQTT_5:
            continue
        reader = replace(each, overlaps=overlaps)
        twins = Twin([reader], is_long=False), Twin([reader], is_long=True)
        for twin in twins:
            publishing(twin, twin.sessions[0][0])
        check_agreement(*twins, [reader])


@pytest.mark.parametrize("has_audience", [False, True])
async def test_most_deliveries_go_the_short_way(has_audience: bool, long_ways: list[Session]) -> None:
    most = [each for each in READERS if (each.situation, each.option, each.is_kept) == (is_at_rest, 0, False)]
    for qos in (0, 1, 2):
        Publishing(has_audience, qos, {})(Twin(most, is_long=False))
    assert (len(most), long_ways) == (6, [])
