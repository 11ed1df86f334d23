"""What one test has: a server, users whom no other test knows, and readers and senders that are closed after it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from tests.contracts.transports import TRANSPORTS
from tests.contracts.transports.contract import ANSWER_TIMEOUT_S, Arrival, JsonObject, Reader, Sender
from tests.support.server import Server

BY_NAME, ALL = FOLLOWS = ("by name", "all")


@dataclass
class Stage:
    server: Server
    closer: ExitStack
    _suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def users(self, *names: str) -> list[str]:
        return [f"{name}-{self._suffix}" for name in names]

    def conversation(self, *members: str) -> str:
        return self.server.host_api.create_conversation(list(members))

    def reader(self, transport: str, user: str, ttl_s: float = 3600) -> Reader:
        """One that is not connected yet."""
        reader = TRANSPORTS[transport].new_reader(self.server, user, self.server.token(user, ttl_s))
        return self.closer.enter_context(closing(reader))

    def following(self, transport: str, user: str, conversation: str, after: int | None = None) -> Reader:
        reader = self.reader(transport, user)
        reader.follow(conversation, after)
        return reader

    def following_all(self, transport: str, user: str, cursor: str | None = None) -> Reader:
        reader = self.reader(transport, user)
        reader.follow_all(cursor)
        return reader

    def following_either(self, how: str, transport: str, user: str, conversation: str) -> Reader:
        """One conversation by its name, or everything of the user, as one of FOLLOWS says."""
        if how == BY_NAME:
            return self.following(transport, user, conversation)
        return self.following_all(transport, user)

    def sender(self, transport: str, user: str) -> Sender:
        sender = TRANSPORTS[transport].new_sender(self.server, user, self.server.token(user))
        return self.closer.enter_context(closing(sender))

    def say(self, conversation: str, user: str, *bodies: str) -> None:
        for body in bodies:
            self.server.api(user).send(conversation, body)

    def log(self, conversation: str) -> list[JsonObject]:
        return self.server.host_api.history(conversation)

    @contextmanager
    def talking(self, transport: str, conversation: str, user: str) -> Iterator[Talk]:
        """Somebody sends, one message after the other, as long as the block lasts."""
        talk = Talk(self.sender(transport, user), conversation)
        talk.thread.start()
        try:
            yield talk
        finally:
            talk.is_over.set()
            talk.thread.join(ANSWER_TIMEOUT_S)
        assert talk.failure is None, talk.failure


class Talk:
    def __init__(self, sender: Sender, conversation: str) -> None:
        self.is_over = threading.Event()
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self._run)
        self._sender = sender
        self._conversation = conversation
        self._sent = 0
        self._went_on = threading.Condition()

    def wait_for(self, count: int) -> None:
        """Until so many more are acknowledged."""
        with self._went_on:
            target = self._sent + count
            assert self._went_on.wait_for(lambda: self._sent >= target, ANSWER_TIMEOUT_S), self.failure

    def _run(self) -> None:
        try:
            while not self.is_over.is_set():
                self._sender.send(self._conversation, f"{self._sent}", f"talk-{self._sent}")
                with self._went_on:
                    self._sent += 1
                    self._went_on.notify_all()
        except Exception as failure:
            self.failure = failure


def next_event(reader: Reader) -> JsonObject:
    while (arrival := reader.next()).is_signal:
        pass
    return arrival.content


def next_signal(reader: Reader, kind: str) -> JsonObject:
    """The next one of that type."""
    while not (arrival := reader.next()).is_signal or arrival.content["type"] != kind:
        pass
    return arrival.content


def events(reader: Reader, count: int) -> list[JsonObject]:
    return [next_event(reader) for _ in range(count)]


def seqs(of: Iterable[JsonObject]) -> list[int]:
    return [event["seq"] for event in of]


def up_to(reader: Reader, seq: int) -> list[int]:
    """The seqs that come, up to that one."""
    came = [next_event(reader)["seq"]]
    while came[-1] < seq:
        came.append(next_event(reader)["seq"])
    return came


def before_a_marker(stage: Stage, reader: Reader, *members: str) -> list[Arrival]:
    """What comes before the first message of another conversation, of those members."""
    conversation = stage.conversation(*members)
    stage.say(conversation, members[0], "marker")
    arrivals = []
    while (arrival := reader.next()).conversation != conversation:
        arrivals.append(arrival)
    return arrivals
