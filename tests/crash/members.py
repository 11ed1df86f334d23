"""What every client of the crash suite is, whichever library makes it, and what each of them sends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from tests.crash.history import Door, Publish, Receiver, Trespass, now_ms
from tests.crash.phases import Actor, Phases


class Sender(Actor):
    """One that sends, over whatever it be. Its facts are in `publishes` and `trespasses`."""

    def __init__(self, name: str, seed: str, phases: Phases) -> None:
        super().__init__(name, seed, phases)
        self.publishes: list[Publish] = []
        self.trespasses: list[Trespass] = []

    @property
    def is_idle(self) -> bool:
        """Everything that it sent or asked for has its answer."""
        raise NotImplementedError


class Member(Sender):
    """Receives as well, over connections that it loses. `sends_to` are the conversations that it publishes to."""

    def __init__(self, receiver: Receiver, sends_to: Sequence[str], seed: str, phases: Phases) -> None:
        super().__init__(receiver.name, seed, phases)
        self.receiver = receiver
        self.repeatable: deque[Publish] = deque(maxlen=20)
        """Newest messages with an id: what another door may send again."""
        self.drops = 0
        self._sends_to = list(sends_to)
        self._comes_back = threading.Event()

    def come_back(self) -> None:
        """Have it drop the connection once more and return."""
        self._comes_back.set()

    @property
    def is_there(self) -> bool:
        """Connected, and subscribed. It is idle only if it is there."""
        raise NotImplementedError

    def seen_up_to(self, conversation: str) -> int:
        return max((each.seq for each in tuple(self.receiver.sights) if each.conversation == conversation), default=0)

    def _new_publish(self, door: Door, qos: int, has_id: bool) -> Publish:
        """A message for one of its conversations, with a body that no other message has."""
        name = f"{self.name}-{len(self.publishes)}"
        body = f"{name} " + "x" * self._random.randrange(400)
        conversation = self._random.choice(self._sends_to)
        publish = Publish(conversation, self.receiver.user, body, name if has_id else None, door, qos, now_ms())
        publish.connection = len(self.receiver.connections)
        self.publishes.append(publish)
        if has_id:
            self.repeatable.append(publish)
        return publish
