"""One round of the crash suite: people in conversations, everything breaks for a while, all comes to rest, the verdict.

A round has users and conversations of its own, named after it; the server and its database stay for all rounds. Before
the first message every client is there and subscribed; after the last disturbance each comes back once more, and has
caught up when it has seen the last message of each conversation, or when it takes too long for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from recado.mqtt.properties import PropertyId
from tests.crash.client_members import ClientKind, ClientMember
from tests.crash.disturbances import Disturber, plan
from tests.crash.history import Conversation, History, Publish, now_ms
from tests.crash.http_callers import Host, HttpSender
from tests.crash.judge import Verdict, judge
from tests.crash.members import Member, Sender
from tests.crash.mqtt_members import Kind, MqttMember
from tests.crash.phases import Phases
from tests.support.raw_mqtt import RawClient
from tests.support.server import Server

READY_TIMEOUT_S = 30.0
REST_TIMEOUT_S = 60.0
CAUGHT_UP_TIMEOUT_S = 30.0

# Users and what they connect with. The first are members throughout.
Users = dict[str, tuple[Kind | ClientKind, ...]]
STABLE: Users = {
    "ana": (Kind("kept1", "5", 1, kept=True), Kind("tab", "5", 1)),
    "bruno": (Kind("kept2", "5", 2, kept=True), ClientKind("python", 1)),
    "carla": (Kind("kept1", "3.1.1", 1, kept=True, topics=()),),
    "davi": (Kind("kept2", "3.1.1", 2, kept=True, topics=("c/#",)),),
    "eva": (Kind("after1", "5", 1, resumes=True), ClientKind("python-kept", 2, kept=True, named=True)),
    "fabio": (Kind("after2", "5", 2, resumes=True, window=4),),
    "gina": (Kind("live1", "3.1.1", 1), ClientKind("python-ws", 1, door="ws", named=True)),
    "hugo": (Kind("live0", "5", 0, topics=("#",)), Kind("kept0", "3.1.1", 0, kept=True)),
}
FLOATING: Users = {
    "ivo": (Kind("kept1", "5", 1, kept=True, window=2), Kind("after1", "5", 1, resumes=True, window=3)),
    "julia": (Kind("kept2", "5", 2, kept=True, topics=("#",), window=1), ClientKind("python", 1)),
    "kika": (Kind("kept1", "3.1.1", 1, kept=True), Kind("live2", "5", 2)),
    "leo": (ClientKind("python-kept", 1, door="ws", kept=True),),
}
STRANGERS: Users = {
    "mala": (
        Kind("all", "5", 1, kept=True, topics=("#", "c/+", "c/+/live"), sends_per_s=1, is_stranger=True),
        Kind("named", "5", 2, topics=(), sends_per_s=1, is_stranger=True),
    ),
    "nino": (Kind("all", "3.1.1", 2, kept=True, topics=("c/#", "c/+"), sends_per_s=1, is_stranger=True),),
}
HTTP_SENDERS = ("ana", "davi", "ivo")


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    seconds: float
    kills: int
    disturbances: Counter[str]
    drops: int
    member_changes: int
    server_errors: int
    kept_sessions: int
    caught_up: bool
    """Whether the wait for the last messages ended well; what is missing is in the verdict."""


def keeps_sessions(server: Server) -> bool:
    """Whether a session outlives its connection here. MQTT 5 says so; what 3.1.1 gets is the same."""
    asked = {PropertyId.SESSION_EXPIRY_INTERVAL: 60}
    trial = RawClient(server, "trial", properties=asked)
    trial.close()
    return bool({**asked, **trial.connack.properties}[PropertyId.SESSION_EXPIRY_INTERVAL])


class Round:
    def __init__(self, server: Server, database: Path, seed: str, number: int, keeps: bool) -> None:
        self.phases = Phases()
        self._server = server
        self._database = database
        self._seed = f"{seed}/{number}"
        self._prefix = f"r{number}-"
        self._conversations = self._create_conversations()
        self._members: list[Member] = [
            *self._clients(STABLE, keeps),
            *self._clients(FLOATING, keeps),
            *self._clients(STRANGERS, keeps),
        ]
        self._senders = [self._http_sender(user) for user in HTTP_SENDERS]
        floating, strangers = ([self._prefix + user for user in users] for users in (FLOATING, STRANGERS))
        self._host = Host(
            server.host_api, server.api, self._conversations, floating, strangers, self._seed, self.phases
        )
        self._last_words: list[Publish] = []

    def run(self, seconds: float) -> Outcome:
        """Raises AssertionError if the server or a client cannot go on at all."""
        began_ms = now_ms()
        disturber = Disturber(self._server, self._database, plan(self._seed, seconds), self._seed, self.phases)
        callers = [*self._senders, self._host]
        try:
            self._set_up()
            self.phases.sending.set()
            self.phases.breaking.set()
            for each in (*callers, disturber):
                each.start()
            self._await("the disturber is not done", lambda: not disturber.is_running, seconds + 120)
            disturber.check()
            self.phases.over.wait(seconds - (now_ms() - began_ms) / 1000)
            caught_up = self._come_to_rest()
        finally:
            self.phases.over.set()
            for actor in (disturber, *callers, *self._members):
                actor.join()
        return Outcome(
            verdict=judge(self._history()),
            seconds=(now_ms() - began_ms) / 1000,
            kills=disturber.done["kill"],
            disturbances=disturber.done,
            drops=sum(each.drops for each in self._members),
            member_changes=self._host.changes,
            server_errors=sum(each.server_errors for each in callers),
            kept_sessions=sum(each.receiver.kept for each in self._members),
            caught_up=caught_up,
        )

    def _create_conversations(self) -> list[Conversation]:
        """All, half of them, and a pair that others come to; who floats is in one of the first two."""
        stable = [self._prefix + user for user in STABLE]
        floating = [self._prefix + user for user in FLOATING]
        made = []
        for name, members in (
            ("all", stable + floating[:2]),
            ("half", stable[::2] + floating[2:]),
            ("pair", stable[:2]),
        ):
            conversation = self._server.host_api.create_conversation(members, self._prefix + name)
            made.append(Conversation(conversation, frozenset(members)))
        return made

    def _clients(self, users: Users, keeps: bool) -> Iterable[Member]:
        """Who floats or is a stranger tries to send to all conversations, the others to their own."""
        server, seed, phases = self._server, self._seed, self.phases
        for short, kinds in users.items():
            user = self._prefix + short
            own = [each.id for each in self._conversations if users is not STABLE or user in each.first_members]
            for kind in kinds:
                if isinstance(kind, ClientKind):
                    yield ClientMember(kind, user, server, own, seed, phases)
                else:
                    token = server.token(user)
                    yield MqttMember(kind, user, token, server.mqtt_port, own, keeps, seed, phases)

    def _http_sender(self, short: str) -> HttpSender:
        user = self._prefix + short
        own = [each.id for each in self._conversations if short in FLOATING or user in each.first_members]
        beside = [each for each in self._members if each.receiver.user == user]
        return HttpSender(user, self._server.api(user), own, beside, self._seed, self.phases)

    def _set_up(self) -> None:
        for member in self._members:
            member.start()
        self._await("not all clients could connect and subscribe", lambda: all(each.is_there for each in self._members))

    def _come_to_rest(self) -> bool:
        self.phases.sending.clear()
        self.phases.breaking.clear()
        self._await("not all senders got their answers", self._all_is_answered, REST_TIMEOUT_S)
        for member in self._members:
            member.come_back()
        self._await("not all clients could come back", lambda: all(each.is_idle for each in self._members))
        for conversation in self._conversations:
            self._say_last_words(conversation)
        return self.phases.until(self._all_caught_up, CAUGHT_UP_TIMEOUT_S)

    def _all_is_answered(self) -> bool:
        return all(each.is_idle for each in self._everyone())

    def _everyone(self) -> list[Sender]:
        return [*self._members, *self._senders, self._host]

    def _say_last_words(self, conversation: Conversation) -> None:
        sender = sorted(set(conversation.first_members))[0]
        words = Publish(conversation.id, sender, f"last words of {conversation.id}", "last", "http", 1, now_ms())
        sent = self._server.host_api.acting_as(sender).send(conversation.id, words.body, words.id)
        words.seq, words.acknowledged = sent["seq"], True
        self._last_words.append(words)
        conversation.log = self._server.host_api.history(conversation.id)

    def _all_caught_up(self) -> bool:
        return all(
            member.seen_up_to(conversation.id) >= len(conversation.log)
            for conversation in self._conversations
            for member in self._members
            if member.receiver.misses_nothing and self._is_member(conversation, member)
        )

    def _is_member(self, conversation: Conversation, member: Member) -> bool:
        is_in = member.receiver.user in conversation.first_members
        for event in conversation.log:
            if event.get("user") == member.receiver.user:
                is_in = event["type"] == "member_added"
        return is_in

    def _await(self, what: str, condition: Callable[[], bool], timeout_s: float = READY_TIMEOUT_S) -> None:
        actors = self._everyone()
        ended = self.phases.until(lambda: condition() or any(each.failure for each in actors), timeout_s)
        for actor in actors:
            actor.check()
        late = [each.name for each in actors if not each.is_idle]
        assert ended, f"{what} within {timeout_s:.0f} s: {late}\n{self._server.log[-4000:]}"

    def _history(self) -> History:
        publishes = [publish for each in self._everyone() for publish in each.publishes]
        trespasses = [trespass for each in self._everyone() for trespass in each.trespasses]
        receivers = [each.receiver for each in self._members]
        return History(self._conversations, [*publishes, *self._last_words], receivers, trespasses)
