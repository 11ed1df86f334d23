"""Sessions against a model: whatever is cut, late, lost or broken, QoS 1 loses nothing, QoS 2 doubles nothing, and each
publisher's publishes to a topic keep their order.

The server is real, its connections are without sockets: every byte of either side goes through when a rule says so. The
storage does its work, fails, or is lost in a crash when a rule says so. SESSION_MODEL_EXAMPLES makes the search longer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from recado.adapters.broker.sqlite import SqliteStorage
from recado.app.limits import DEFAULT
from recado.broker.holds import CONGESTED
from recado.broker.listener import Listener
from recado.broker.server import Server
from recado.broker.standalone import StandaloneHooks
from recado.broker.storage import QueueStorage
from recado.mqtt.packets import MQTT_3_1_1, MQTT_5, Connect, Disconnect, SubscriptionRequest
from recado.mqtt.properties import Properties, PropertyId
from tests.broker.model.expectations import MATCHES, SHARED, Expectations
from tests.broker.model.peer import OUTGOING_MAX, Wire
from tests.broker.model.session_peer import Outgoing, SessionPeer
from tests.broker.model.storages import HeldStorage, MemoryStorage
from tests.broker.model.traffic import ALL, Traffic, Work
from tests.contracts.storages import STORAGE_LIMITS

LIMITS = replace(
    DEFAULT.broker,
    receive_maximum=OUTGOING_MAX,
    inflight_max=5,
    topic_aliases_max=1,
    reads_max=1,
    read_page=2,
    drain_s=1,
)
NEVER_S = LIMITS.session_expiry_max_s
EXPIRIES = st.sampled_from([0, 20, NEVER_S])
COUNTS = st.one_of(st.integers(1, 40), st.just(ALL))
SMALL_COUNTS = st.one_of(st.integers(1, 3), st.just(ALL))
MOSTLY = st.sampled_from([True, True, True, False])
LEVELS = st.sampled_from([MQTT_5, MQTT_5, MQTT_3_1_1])
PEERS = st.sampled_from(["ana", "bea", "cai"])
TOPICS = st.sampled_from(["t/a", "t/a", "t/b", "s/x"])
ACTS = st.one_of(
    st.tuples(st.just("publish"), PEERS, TOPICS, st.sampled_from([2, 2, 2, 1, 1, 0]), MOSTLY),
    st.tuples(st.just("publish"), PEERS, TOPICS, st.sampled_from([2, 1]), st.just(True)),
    st.tuples(st.just("answer"), PEERS, SMALL_COUNTS),
    st.tuples(st.just("client_to_server"), PEERS, COUNTS),
    st.tuples(st.just("server_to_client"), PEERS, COUNTS),
    st.tuples(st.just("server_to_client"), PEERS, st.just(ALL)),
    st.tuples(st.just("storage_goes_on"), SMALL_COUNTS),
    st.tuples(st.just("storage_is_prompt_or_slow"), st.booleans()),
    st.tuples(st.just("everybody_answers")),
    st.tuples(st.just("congest_or_not"), PEERS),
    st.tuples(st.just("ghost"), COUNTS, st.booleans()),
)
WORK = st.tuples(MOSTLY, st.lists(ACTS, max_size=10))
EXPECTED_REFUSALS = {"SERVER_BUSY", "KEEP_ALIVE_TIMEOUT", "STALLED", "CONNECT_TIMEOUT", "SERVER_UNAVAILABLE"}
_START_S = 1_800_000_000


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record)


class SessionMachine(Traffic[Wire], RuleBasedStateMachine):
    open_storage: Callable[[], QueueStorage]

    def __init__(self) -> None:
        super().__init__()
        self.second = 0
        self.real_time_ns = time.time_ns
        time.time_ns = lambda: (_START_S + self.second) * 1_000_000_000
        self.records = _Records()
        logging.getLogger().addHandler(self.records)
        self.runner = asyncio.Runner()
        self.expected = Expectations(lambda: self.second)
        self.peers: dict[str, SessionPeer] = {
            name: SessionPeer(name, expected=self.expected) for name in ("ana", "bea", "cai")
        }
        self.ghosts: list[Wire] = []
        self.is_prompt = True
        self.behind = self.runner.run(self._opened())
        self.runner.run(self._start())

    async def _opened(self) -> QueueStorage:
        return type(self).open_storage()

    async def _start(self) -> None:
        self.storage = HeldStorage(self.behind)
        self.storage.on_failed = self.expected.storage_failed
        self.server = Server(StandaloneHooks(allow_anonymous=True), LIMITS, self.storage)
        self.server._ticker.cancel()
        self.listener = Listener("tcp", 1_000)
        await self.server.start()

    def run(self, act: Callable[[], Any]) -> None:
        """Do it on the loop, then let the server do what it can."""

        async def acted() -> None:
            result = act()
            if result is not None:
                await result
            await self._settle()
            while self.is_prompt and self.storage.waiting:
                await self.storage.go_on()
                await self._settle()

        self.runner.run(acted())
        for peer in self.peers.values():
            if peer.wire is not None and peer.wire.is_shut and not peer.wire.to_client:
                self.lose(peer)
        for wire in self.ghosts:
            if wire.is_shut:
                wire.drop()
        self.expected.time_passed()

    async def _settle(self) -> None:
        turns = 12  # more than any chain of tasks and callbacks takes
        while turns:
            await asyncio.sleep(0)
            turns = 12 if self.storage.under_way else turns - 1

    def lose(self, peer: SessionPeer) -> None:
        if peer.wire is not None:
            peer.wire.drop()
        peer.lose()
        self.expected.unconfirmed(peer)
        self.expected.nothing_more_from(peer)

    @initialize(
        connected=st.lists(st.tuples(LEVELS, EXPIRIES), min_size=2, max_size=3),
        subscribed=st.lists(
            st.tuples(PEERS, st.sampled_from(list(MATCHES)), st.sampled_from([2, 2, 1, 0])), min_size=2, max_size=5
        ),
    )
    def begin(self, connected: list[tuple[int, int]], subscribed: list[tuple[str, str, int]]) -> None:
        for name, (level, expiry) in zip(self.peers, connected, strict=False):
            self.connect(name, level, level == MQTT_3_1_1 and not expiry, expiry, 3, 0, False, True)
        for name, topic_filter, qos in subscribed:
            self.subscribe(name, topic_filter, qos, False, 0, True)

    # Connections

    @rule(
        name=PEERS,
        level=LEVELS,
        clean_start=st.sampled_from([False, False, True]),
        expiry=EXPIRIES,
        receive_maximum=st.integers(1, 5),
        aliases=st.integers(0, 1),
        is_cut=st.booleans(),
        at_once=MOSTLY,
    )
    def connect(
        self,
        name: str,
        level: int,
        clean_start: bool,
        expiry: int,
        receive_maximum: int,
        aliases: int,
        is_cut: bool,
        at_once: bool,
    ) -> None:
        """Also while the server has not noticed yet that the last connection is gone."""
        peer = self.peers[name]
        if peer.wire is not None:
            if is_cut or not peer.is_connected:  # an older CONNECT that comes late would win
                peer.wire.drop()
            else:
                self.ghosts.append(peer.wire)
            peer.lose()
            self.expected.unconfirmed(peer)
            self.expected.nothing_more_from(peer)
            self.expected.time_passed()
        clean_start = clean_start or peer.must_start_clean
        if level != MQTT_5:
            expiry = 0 if clean_start else NEVER_S
        wire = Wire(self.server, self.listener, lambda: self.second)
        wire.opened()
        self.expected.connects(peer, wire, clean_start, expiry)
        properties: Properties = {
            PropertyId.SESSION_EXPIRY_INTERVAL: expiry,
            PropertyId.RECEIVE_MAXIMUM: receive_maximum,
            PropertyId.TOPIC_ALIAS_MAXIMUM: aliases,
        }
        connect = Connect(name, level, clean_start, properties=properties if level == MQTT_5 else {})
        self.run(lambda: peer.connects(wire, connect))
        if at_once:
            self.talk(name)

    def everybody_connects(self) -> None:
        """Again, with the session that there is."""
        for name, peer in self.peers.items():
            if peer.wire is None:
                life = self.expected.lives.get(name)
                expiry = NEVER_S if life is None else life.expiry_max
                self.connect(name, peer.level, False, expiry, 4, 0, False, True)

    @rule(work=WORK, name=PEERS)
    def work_and_drop(self, work: Work, name: str) -> None:
        self.work(work)
        self.drop(name)

    def drop(self, name: str) -> None:
        self.run(lambda: self.lose(self.peers[name]))

    @rule(work=WORK, name=PEERS, ends_session=st.booleans())
    def work_and_disconnect(self, work: Work, name: str, ends_session: bool) -> None:
        self.work(work)
        self.disconnect(name, ends_session)

    def disconnect(self, name: str, ends_session: bool) -> None:
        peer = self.peers[name]
        wire = peer.wire
        if wire is None or not peer.is_connected or wire.is_shut:
            return
        told = ends_session and peer.level == MQTT_5
        peer.send(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 0} if told else {}))
        self.client_to_server(name, ALL)
        if told and wire.was_told_the_end() and peer.name in self.expected.lives:
            self.expected.over(peer)
        self.run(lambda: self.lose(peer))

    @rule(work=WORK)
    def work(self, work: Work) -> None:
        """The clients publish and answer, bytes get through, and the storage writes."""
        self.do(work)

    def everybody_answers(self) -> None:
        for name in self.peers:
            self.answer(name, ALL)
            self.talk(name)

    def congest_or_not(self, name: str) -> None:
        wire = self.peers[name].wire
        if wire is not None and not wire.is_lost:
            self.run(wire.writable if wire.held & CONGESTED else wire.congest)

    # What the clients do

    def publish(self, name: str, topic_name: str, qos: int, at_once: bool) -> None:
        peer = self.peers[name]
        if peer.is_connected and len(peer.outgoing) < OUTGOING_MAX:
            peer.publish(Outgoing(self.expected.publishes(peer, topic_name, qos), topic_name, qos))
        if at_once:
            self.client_to_server(name, ALL)

    @rule(
        name=PEERS,
        topic_filter=st.sampled_from(list(MATCHES)),
        qos=st.sampled_from([0, 1, 1, 2, 2, 2]),
        no_local=st.sampled_from([False, False, True]),
        identifier=st.integers(0, 2),
        at_once=MOSTLY,
    )
    def subscribe(self, name: str, topic_filter: str, qos: int, no_local: bool, identifier: int, at_once: bool) -> None:
        peer = self.peers[name]
        if self.may_ask(peer, topic_filter):
            request = SubscriptionRequest(
                topic_filter, qos, no_local and peer.level == MQTT_5 and topic_filter != SHARED
            )
            self.expected.subscribes(peer, request)
            peer.subscribe(request, identifier)
            if at_once:
                self.talk(name)

    def may_ask(self, peer: SessionPeer, topic_filter: str) -> bool:
        """One at a time for each filter, and not of a server that has closed already."""
        return peer.is_connected and peer.name in self.expected.lives and not peer.waits_for(topic_filter)

    @rule(name=PEERS, topic_filter=st.sampled_from(list(MATCHES)))
    def unsubscribe(self, name: str, topic_filter: str) -> None:
        peer = self.peers[name]
        if self.may_ask(peer, topic_filter):
            self.expected.unsubscribes(peer, topic_filter)
            peer.unsubscribe(topic_filter)

    # What the server meets

    @rule(seconds=st.sampled_from([1, 9, 30]))
    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second += 1
            self.run(self._tick)

    def _tick(self) -> None:
        self.server._tick()
        self.server._ticker.cancel()

    def storage_is_prompt_or_slow(self, is_prompt: bool) -> None:
        self.is_prompt = is_prompt
        self.run(lambda: None)

    def storage_goes_on(self, count: int) -> None:
        if self.storage.waiting:
            self.run(lambda: self.storage.go_on(count))

    @rule(work=WORK, count=SMALL_COUNTS)
    def work_and_fail(self, work: Work, count: int) -> None:
        """The disk is full for the first of what the storage has to do."""
        self.is_prompt = False
        self.work(work)
        if self.storage.waiting:
            self.run(lambda: self.storage.fail(count))

    @rule(work=WORK, is_killed=MOSTLY)
    def work_and_restart(self, work: Work, is_killed: bool) -> None:
        """kill -9, and a start on what was committed; or SIGTERM and a start."""
        self.work(work)
        if is_killed:
            self.storage.crash()
        else:
            self.run(self._drain)
        self._all_gone()

    async def _drain(self) -> None:
        draining = asyncio.ensure_future(self.server.drain())
        await self._settle()
        for peer in self.peers.values():
            if peer.wire is not None:
                peer.take(ALL)
                self.lose(peer)
        for wire in self.ghosts:
            wire.drop()
        await draining
        await self.storage.close()
        await self._settle()
        self.storage.is_dead = True

    def _all_gone(self) -> None:
        self.check_server()
        for wire in [peer.wire for peer in self.peers.values() if peer.wire is not None] + self.ghosts:
            wire.is_lost = True
            wire.shut()
        self.ghosts.clear()
        for peer in self.peers.values():
            peer.lose()
            self.expected.unconfirmed(peer)
            self.expected.nothing_more_from(peer)
        self.expected.restarted()
        self.expected.time_passed()
        for peer in self.peers.values():
            if (life := self.expected.lives.get(peer.name)) is None or life.wire is None:
                peer.forget()
                peer.must_start_clean = True
        self.run(self._start_again)

    async def _start_again(self) -> None:
        for task in list(self.server._tasks):
            task.cancel()
        await self._settle()
        await self._start()

    # The end

    def check_server(self) -> None:
        assert set(self.server.counters.refusals) <= EXPECTED_REFUSALS, self.server.counters.refusals
        logged = [f"{record.getMessage()} {record.exc_info}" for record in self.records.found]
        assert not logged, logged

    def teardown(self) -> None:
        try:
            self.calm()
            self.expected.check_all_arrived()
            for name in self.peers:  # an acknowledgement that could not be stored is asked for again
                self.drop(name)
            self.calm()
            self.check_nothing_is_left()
        finally:
            time.time_ns = self.real_time_ns
            logging.getLogger().removeHandler(self.records)
            self.runner.run(self.behind.close())
            self.runner.close()

    def calm(self) -> None:
        """Nothing more goes wrong: each session gets a connection, and everything that waits goes through."""
        self.is_prompt = True
        self.time_passes(2)
        for _ in range(500):
            for wire in self.ghosts:
                wire.drop()
            self.ghosts.clear()
            is_quiet = True
            for name, peer in self.peers.items():
                if peer.wire is None:
                    self.connect(name, MQTT_5, False, NEVER_S, 1, 0, False, False)
                    is_quiet = False
                assert peer.wire is not None
                if peer.wire.held & CONGESTED:
                    self.congest_or_not(name)
                is_quiet = is_quiet and not (peer.wire.to_server or peer.wire.to_client or peer.answers)
                self.talk(name)
                self.answer(name, ALL)
            is_quiet = is_quiet and not self.storage.waiting
            self.run(self.storage.go_on)
            if is_quiet:
                return
        raise AssertionError("the server never comes to rest")

    def check_nothing_is_left(self) -> None:
        self.check_server()
        for session in self.server.sessions:
            assert (session.inflight, session.exactly_once, session.incoming) == ({}, {}, {})
            assert (session.received, session.queue) == ({}, None)
            assert (session.queued, session.queued_bytes) == (0, 0)
            flows = self.runner.run(self.behind.resume(session.key))
            assert (flows.inflight, flows.received) == ([], [])
        stored = self.runner.run(self.behind.load())
        assert [each.queued for each in stored.sessions] == [0] * sum(
            session.key > 0 for session in self.server.sessions
        )
        for peer in self.peers.values():
            assert not peer.outgoing
            self.connect(peer.name, MQTT_5, True, 0, 5, 0, False, True)
            self.disconnect(peer.name, True)
        self.run(self.storage.go_on)
        assert (list(self.server.sessions), len(self.server.router), self.server.sessions.kept) == ([], 0, 0)
        assert self.runner.run(self.behind.load()).sessions == []


def _in_sqlite() -> QueueStorage:
    return SqliteStorage.open(None, STORAGE_LIMITS)


@pytest.mark.timeout(600)  # what fails is made smaller
@pytest.mark.parametrize(
    ("open_storage", "examples"), [(MemoryStorage, 120), (_in_sqlite, 40)], ids=["memory", "sqlite"]
)
def test_no_session_loses_doubles_or_disorders_what_it_is_owed(
    open_storage: Callable[[], QueueStorage], examples: int
) -> None:
    machine = type("Machine", (SessionMachine,), {"open_storage": staticmethod(open_storage)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("SESSION_MODEL_EXAMPLES", examples)),
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
