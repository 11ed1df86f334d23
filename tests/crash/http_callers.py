"""Users that send over HTTP, and the host application, which brings people in and takes them out meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http.client import HTTPException

from tests.crash.history import Conversation, Publish, Trespass, now_ms
from tests.crash.members import Member, Sender
from tests.crash.phases import Over, Phases
from tests.support.api import Answer, Api

PASSING = (429, 500, 503)  # 500 is none of the answers that a client should get; it is counted
GAVE_UP_S = 60.0


class Caller(Sender):
    """Makes calls until each has its answer, whatever happens to the server."""

    def __init__(self, name: str, seed: str, phases: Phases) -> None:
        super().__init__(name, seed, phases)
        self.server_errors = 0
        self._busy = False

    @property
    def is_idle(self) -> bool:
        return not self._busy

    def _act(self) -> None:
        while not self._phases.over.is_set():
            self._wait(self._random.expovariate(self._per_s()))
            self._busy = True  # before `sending` is read: who cleared it then waits for this turn to end
            if self._phases.sending.is_set():
                self._turn()
            self._busy = False

    def _per_s(self) -> float:
        raise NotImplementedError

    def _turn(self) -> None:
        raise NotImplementedError

    def _until_answered(self, call: Callable[[], Answer]) -> Answer:
        deadline = now_ms() + GAVE_UP_S * 1000
        while now_ms() < deadline:
            try:
                answer = call()
                if answer.status not in PASSING:
                    return answer
                self.server_errors += answer.status == 500
            except (OSError, HTTPException):
                pass
            if self._phases.over.is_set():
                raise Over
            self._wait(self._random.uniform(0.02, 0.2))
        raise AssertionError(f"no answer in {GAVE_UP_S:.0f} s")


class HttpSender(Caller):
    """Sends as a user, each message until it is answered. Now and then it sends what the same user has sent over MQTT,
    with its id: that must make no second event."""

    def __init__(
        self, user: str, api: Api, sends_to: Sequence[str], beside: Sequence[Member], seed: str, phases: Phases
    ) -> None:
        super().__init__(f"{user}-http", seed, phases)
        self._user = user
        self._api = api
        self._sends_to = list(sends_to)
        self._beside = list(beside)

    def _per_s(self) -> float:
        return 8.0

    def _turn(self) -> None:
        publish = self._again() or self._new()
        self.publishes.append(publish)
        path = f"/conversations/{publish.conversation}/messages"
        message = {"id": publish.id, "body": publish.body}
        answer = self._until_answered(lambda: self._api.call("POST", path, message))
        publish.answered_ms = now_ms()
        publish.refused = answer.status in (403, 404)
        if not publish.refused:
            publish.seq = answer.expect(200, 201)["seq"]
            publish.acknowledged = True

    def _again(self) -> Publish | None:
        if not self._beside or self._random.random() > 0.2:
            return None
        known = list(self._random.choice(self._beside).repeatable)
        if not known:
            return None
        first = self._random.choice(known)
        return Publish(first.conversation, first.sender, first.body, first.id, "http", 1, now_ms())

    def _new(self) -> Publish:
        message_id = f"{self._user}-http-{len(self.publishes)}"
        body = f"{message_id} " + "y" * self._random.randrange(400)
        conversation = self._random.choice(self._sends_to)
        return Publish(conversation, self._user, body, message_id, "http", 1, now_ms())


class Host(Caller):
    """Adds and removes `floating` users, one at a time. Whoever was just removed tries to read and to send, and so do
    strangers now and then."""

    def __init__(
        self,
        api: Api,
        user_api: Callable[[str], Api],
        conversations: Sequence[Conversation],
        floating: Sequence[str],
        strangers: Sequence[str],
        seed: str,
        phases: Phases,
    ) -> None:
        super().__init__("host", seed, phases)
        self.changes = 0
        self._api = api
        self._user_api = user_api
        self._conversations = list(conversations)
        self._floating = list(floating)
        self._strangers = list(strangers)
        self._members = {each.id: set(each.first_members) for each in conversations}

    def _per_s(self) -> float:
        return 4.0

    def _turn(self) -> None:
        conversation = self._random.choice(self._conversations)
        user = self._random.choice(self._floating)
        if user not in self._members[conversation.id]:
            self._add(conversation, user)
        else:
            self._remove(conversation, user)
            if self._random.random() < 0.3:
                self._add(conversation, user)  # before its clients have noticed
            else:
                self._try_to_get_in(conversation, user)
        if self._random.random() < 0.2:
            self._try_to_get_in(conversation, self._random.choice(self._strangers))

    def _add(self, conversation: Conversation, user: str) -> None:
        path = f"/conversations/{conversation.id}/members/{user}"
        self._until_answered(lambda: self._api.call("PUT", path)).expect(200, 201)
        self._members[conversation.id].add(user)
        self.changes += 1

    def _remove(self, conversation: Conversation, user: str) -> None:
        path = f"/conversations/{conversation.id}/members/{user}"
        self._until_answered(lambda: self._api.call("DELETE", path)).expect(200)
        conversation.removals.append((user, now_ms()))
        self._members[conversation.id].remove(user)
        self.changes += 1

    def _try_to_get_in(self, conversation: Conversation, user: str) -> None:
        api = self._user_api(user)
        for method, below, body in (("GET", "events", None), ("POST", "messages", {"body": f"let {user} in"})):
            path = f"/conversations/{conversation.id}/{below}"
            status = self._until_answered(lambda m=method, p=path, b=body: api.call(m, p, b)).status  # type: ignore[misc]
            if status != 404:
                what = f"{method} {below} was answered {status}"
                self.trespasses.append(Trespass(user, conversation.id, what))
