"""Conversations, memberships and sessions against a model: whatever is cut, late, lost or broken, a client that resumes
gets every event that it is owed, in order, at QoS 2 once, and nobody gets what it may not read.

The store, the actions and the MQTT server are real, in one event loop whose time is the test's. A plain run takes the
same examples each time, so that a change fails by what it changed; CHAT_MODEL_EXAMPLES=1000 searches among others. What
fails is made smaller, which may take minutes, and printed as steps. `@reproduce_failure(...)`, as printed with them,
above ChatMachine runs it again.
"""

from __future__ import annotations

import os
from math import ceil
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from recado.chat import actions
from recado.mqtt.packets import MQTT_3_1_1, MQTT_5, Disconnect
from recado.mqtt.properties import PropertyId
from tests.broker.model.peer import OUTGOING_MAX
from tests.broker.model.traffic import ALL, Work
from tests.chat_model.expectations import FILTERS
from tests.chat_model.member import Line, Outgoing
from tests.chat_model.stage import HOST, LIMITS, USERS, Stage

NAMES = st.sampled_from(list(USERS))
PEOPLE = st.sampled_from(["ana", "bea", "dora"])
CONVERSATIONS = st.sampled_from(["x", "x", "x", "y", "z"])
BYTES = st.one_of(st.integers(1, 200), st.just(ALL))
COUNTS = st.one_of(st.integers(1, 3), st.just(ALL))
MOSTLY = st.sampled_from([True, True, True, False])
LEVELS = st.sampled_from([MQTT_5, MQTT_5, MQTT_3_1_1])
QOS = st.sampled_from([2, 2, 1, 1, 0])
STEP_S = 0.625  # of what is a sum of halves, so that the clock stands at what a timer was set for, and not beside it
SUBSCRIBE = st.tuples(
    NAMES,
    st.sampled_from(FILTERS),
    QOS,
    st.sampled_from([False, False, True]),
    st.sampled_from([None, None, 0, 1, 3, 100]),
    st.integers(0, 1),
    MOSTLY,
)
Subscribe = tuple[str, str, int, bool, int | None, int, bool]
ACTS = st.one_of(
    st.tuples(st.just("publish"), NAMES, CONVERSATIONS, QOS, MOSTLY),
    st.tuples(st.just("publish_again"), NAMES, CONVERSATIONS, QOS),
    st.tuples(st.just("post"), PEOPLE, CONVERSATIONS),
    st.tuples(st.just("post"), st.just("dora"), st.just("x")),
    st.tuples(st.just("change"), PEOPLE, CONVERSATIONS, st.integers(1, 6), st.booleans()),
    st.tuples(st.just("add"), CONVERSATIONS, PEOPLE),
    st.tuples(st.just("remove"), CONVERSATIONS, PEOPLE),
    SUBSCRIBE.map(lambda subscribe: ("subscribe", *subscribe)),
    st.tuples(st.just("answer"), NAMES, COUNTS),
    st.tuples(st.just("client_to_server"), NAMES, BYTES),
    st.tuples(st.just("server_to_client"), NAMES, BYTES),
    st.tuples(st.just("talk_and_answer"), NAMES),
    st.tuples(st.just("storage"), st.sampled_from(["go_on", "commit", "commit", "tell", "look", "hear"]), COUNTS),
    st.tuples(st.just("storage_is_prompt_or_slow"), st.booleans()),
    st.tuples(st.just("ghost"), BYTES, st.booleans()),
)
WORK = st.tuples(MOSTLY, st.lists(ACTS, max_size=10))


class ChatMachine(Stage, RuleBasedStateMachine):
    # Connections

    @initialize(
        connected=st.lists(st.tuples(LEVELS, MOSTLY), min_size=3, max_size=3),
        subscribed=st.lists(st.tuples(NAMES, st.sampled_from(FILTERS[:7]), QOS), min_size=2, max_size=4),
    )
    def begin(self, connected: list[tuple[int, bool]], subscribed: list[tuple[str, str, int]]) -> None:
        self.create("x", frozenset(["ana", "bea", "dora"]))
        self.create("y", frozenset(["ana", "dora"]))
        for name, (level, is_kept) in zip(USERS, connected, strict=True):
            self.connect(name, level, is_kept, False, 3, 0, False, True)
        for name, topic_filter, qos in subscribed:
            self.subscribe(name, topic_filter, qos, False, None, 0, True)

    @rule(
        name=NAMES,
        level=LEVELS,
        is_kept=MOSTLY,
        is_clean=st.sampled_from([False, False, False, True]),
        maximum=st.integers(1, 3),
        aliases=st.integers(0, 1),
        is_cut=st.booleans(),
        at_once=MOSTLY,
    )
    def connect(
        self,
        name: str,
        level: int,
        is_kept: bool,
        is_clean: bool,
        maximum: int,
        aliases: int,
        is_cut: bool,
        at_once: bool,
    ) -> None:
        """Also while the server has not noticed yet that the last connection is gone."""
        member = self.peers[name]
        if member.wire is not None:
            if is_cut or not member.is_connected:  # an older CONNECT that comes late would win
                self.run(member.wire.drop)
            else:
                self.ghosts.append(member.wire)
            member.lose()
        is_clean = is_clean or not is_kept or (member.must_start_clean and level == MQTT_5)
        if level != MQTT_5:
            is_kept, is_clean = (is_kept, False) if is_kept and not member.must_start_clean else (False, True)
        line = Line(self.server, self.listener, lambda: int(self.now), self.expected)
        line.opened()
        self.run(lambda: member.connect(line, level, is_kept, is_clean, maximum, aliases))
        if at_once:
            self.talk(name)

    def everybody_connects(self) -> None:
        """Again, with the session that there is."""
        for name, member in self.peers.items():
            if member.wire is None:
                self.connect(name, member.level, member.is_kept, False, 3, 0, False, True)

    @rule(work=WORK, name=NAMES)
    def work_and_drop(self, work: Work, name: str) -> None:
        self.work(work)
        self.run(lambda: self.lose(self.peers[name]))

    @rule(work=WORK, name=NAMES, ends_session=st.booleans())
    def work_and_disconnect(self, work: Work, name: str, ends_session: bool) -> None:
        self.work(work)
        self.disconnect(name, ends_session)

    def disconnect(self, name: str, ends_session: bool) -> None:
        member = self.peers[name]
        line = member.wire
        if line is None or not member.is_connected or line.is_shut:
            return
        told = ends_session and member.level == MQTT_5
        if told and line.life is not None:
            line.life.end()
            member.must_start_clean = True
        member.send(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 0} if told else {}))
        self.client_to_server(name, ALL)
        self.run(lambda: self.lose(member))

    @rule(work=WORK)
    def work(self, work: Work) -> None:
        """Everybody sends, answers and changes things, bytes get through, and the storage writes."""
        self.do(work)

    def talk_and_answer(self, name: str) -> None:
        self.answer(name, ALL)
        self.talk(name)

    # What the clients do

    def publish(self, name: str, conversation: str, qos: int, at_once: bool) -> None:
        self.count += 1
        is_known = conversation in self.expected.logs
        self._publish(name, Outgoing(conversation, f"m{self.count}", f"b{self.count}", qos, is_known), at_once)

    def publish_again(self, name: str, conversation: str, qos: int) -> None:
        """Under an id that this user has used."""
        log = self.expected.logs.get(conversation)
        ids = [] if log is None else [sent for user, sent in log.ids if user == USERS[name]]
        if ids:
            self.count += 1
            self._publish(name, Outgoing(conversation, ids[-1], f"b{self.count}", qos), True)

    def _publish(self, name: str, outgoing: Outgoing, at_once: bool) -> None:
        member = self.peers[name]
        if member.is_connected and len(member.outgoing) < OUTGOING_MAX:
            member.publish(outgoing)
            if at_once:
                self.client_to_server(name, ALL)

    @rule(subscribe=SUBSCRIBE)
    def subscribes(self, subscribe: Subscribe) -> None:
        self.subscribe(*subscribe)

    def subscribe(
        self, name: str, topic_filter: str, qos: int, no_local: bool, back: int | None, identifier: int, at_once: bool
    ) -> None:
        """With `back`, after so many events before the end of the log of x, as far as it is known."""
        member = self.peers[name]
        if member.is_connected and not member.waits_for(topic_filter):  # one at a time for each filter
            after = {"x": max(0, self.expected.logs["x"].told - back)} if back is not None else {}
            member.subscribe(topic_filter, qos, no_local, after, identifier)
            if at_once:
                self.talk(name)

    @rule(name=NAMES, topic_filter=st.sampled_from(FILTERS))
    def unsubscribe(self, name: str, topic_filter: str) -> None:
        member = self.peers[name]
        if member.is_connected and not member.waits_for(topic_filter):
            member.unsubscribe(topic_filter)

    @rule(act=st.sampled_from(["create", "erase", "erase user"]), members=st.sets(PEOPLE, min_size=1))
    def host(self, act: str, members: set[str]) -> None:
        if act == "create":
            self.create_another(members)
        elif act == "erase":
            self.ask(lambda: actions.erase_conversation(self.chat, HOST, "z"))
        else:
            self.erase_user(min(members))

    # What the server meets

    @rule(seconds=st.sampled_from([STEP_S, STEP_S, 1, 20]))
    def time_passes(self, seconds: float) -> None:
        for _ in range(ceil(seconds / STEP_S)):
            self.now += STEP_S
            self.run(lambda: None)

    def storage_is_prompt_or_slow(self, is_prompt: bool) -> None:
        self.is_prompt = is_prompt
        self.run(lambda: None)

    def storage(self, step: str, count: int) -> None:
        held = self.held
        steps = {
            "commit": held.commits.commit,
            "tell": held.commits.tell,
            "look": held.reads.look,
            "hear": held.reads.tell,
        }
        if step == "go_on":
            self.run(held.go_on)
        elif not held.is_idle:
            self.run(lambda: steps[step](count))

    @rule(work=WORK, count=COUNTS)
    def work_and_fail(self, work: Work, count: int) -> None:
        """The disk is full for the first of what the storage has to do."""
        self.is_prompt = False
        self.work(work)
        self.run(lambda: self.held.commits.fail(count))

    @rule(work=WORK, committed=st.integers(0, 3))
    def work_and_crash(self, work: Work, committed: int) -> None:
        """kill -9, and a start on what was committed, of which the loop was not told."""
        self.work(work)
        self.held.commits.commit(committed)
        while self.held.commits.untold:
            self.expected.told(self.held.commits.untold.popleft()[0])
        self.expected.is_telling.clear()
        self.check_server()
        for line in [*self.expected.lines, *self.ghosts]:
            line.is_lost = True
            line.shut()
        self.ghosts.clear()
        for member in self.peers.values():
            if member.wire is not None:
                member.wire.is_lost = True
                member.wire.shut()
            member.lose()
        self.creating.clear()
        self.kill()
        self.expected.ending.clear()
        self.start()

    # The end

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            self.close()

    def come_to_rest(self) -> None:
        self.calm()
        self.expected.check_all_arrived()
        self.check_logs()
        self.check_nothing_is_left()

    def calm(self) -> None:
        """Nothing more goes wrong: each session gets a connection, and everything that waits goes through."""
        self.is_prompt = True
        self.time_passes(2)
        for _ in range(300):
            for line in self.ghosts:
                line.drop()
            self.ghosts.clear()
            is_quiet = True
            for name, member in self.peers.items():
                if member.wire is None or not (member.is_connected or member.wire.to_client or member.wire.to_server):
                    self.connect(name, MQTT_5, member.is_kept, False, 2, 0, True, False)
                    is_quiet = False
                assert member.wire is not None
                is_quiet = is_quiet and not (member.wire.to_server or member.wire.to_client or member.answers)
                self.talk_and_answer(name)
            self.time_passes(STEP_S)
            if is_quiet and self.held.is_idle:
                return
        raise AssertionError("the server never comes to rest")

    def check_logs(self) -> None:
        """What is in the store is what was committed, and each is told from its end by one more event."""
        for conversation, log in self.expected.logs.items():
            if log.is_erased:
                continue

            def check(page: Any, conversation: str = conversation) -> None:
                log = self.expected.logs[conversation]
                assert [event.seq for event in page.events] == list(range(1, len(log.entries) + 1))
                assert [event.id for event in page.events] == [entry.event.id for entry in log.entries]

            async def read(conversation: str = conversation) -> Any:
                events: list[Any] = []
                while True:
                    after = len(events)
                    page = await actions.read_events(self.chat, HOST, conversation, after, None, LIMITS.chat.page_max)
                    events += page.events
                    if len(events) >= page.last_seq:
                        return page._replace(events=events)

            self.ask(read, check)

    def check_nothing_is_left(self) -> None:
        for conversation in self.expected.logs:  # the next event of a log that was read to its end is live again
            self.add(conversation, "dora")
            self.calm()
            self.post("dora", conversation)
            self.calm()
        self.expected.check_all_arrived()
        self.check_server()
        for session in self.server.sessions:
            assert (session.inflight, session.exactly_once, session.incoming) == ({}, {}, {})
            assert (session.received, session.queue, session.cursors) == ({}, None, {})
        for name in USERS:  # who comes again gets nothing again
            self.run(lambda name=name: self.lose(self.peers[name]))  # type: ignore[misc]
            self.connect(name, MQTT_5, self.peers[name].is_kept, False, 3, 0, True, True)
            assert not self.peers[name].answers, self.peers[name].answers
            self.connect(name, MQTT_5, False, True, 3, 0, True, True)
            self.disconnect(name, True)
        self.time_passes(2)
        assert (list(self.server.sessions), len(self.server.router), self.server.sessions.kept) == ([], 0, 0)
        for table in ("sessions", "subscriptions", "cursors", "inflight", "received", "own_events"):
            assert self.held.db.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)], table


@pytest.mark.timeout(600)  # what fails is made smaller
def test_every_member_gets_what_it_is_owed_and_nobody_anything_else() -> None:
    run_state_machine_as_test(
        ChatMachine,
        settings=settings(
            max_examples=int(os.environ.get("CHAT_MODEL_EXAMPLES", 120)),
            derandomize="CHAT_MODEL_EXAMPLES" not in os.environ,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
