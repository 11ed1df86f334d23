"""What must come of each publish, and what may: kept from what the clients know alone.

A `Life` is a session as its client sees it, from the CONNACK that began it. What is not known for sure (a SUBSCRIBE
without a SUBACK, a CONNECT without a CONNACK, a session about to expire) may be so or not: then nothing is owed, and
nothing is forbidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from recado.broker.storage import Change, Enqueue, Received
from recado.mqtt.packets import Publish, SubscriptionRequest
from tests.broker.model.peer import Wire
from tests.broker.model.session_peer import SessionPeer

SHARED = "$share/g/s/#"
MATCHES = {
    "t/a": {"t/a"},
    "t/b": {"t/b"},
    "t/+": {"t/a", "t/b"},
    "t/#": {"t/a", "t/b"},
    SHARED: {"s/x"},
}
SHARED_TOPICS = MATCHES[SHARED]
_UNSURE_S = 2
Alive = Literal["yes", "no", "maybe"]


@dataclass
class _Subscribed:
    """`sure` is what holds whatever the server has seen: (QoS, No Local); `possible` each request that may hold."""

    sure: tuple[int, bool] | None = None
    possible: list[SubscriptionRequest] = field(default_factory=list)


@dataclass(eq=False)
class Life:
    peer: SessionPeer
    expiry_min: int
    expiry_max: int
    wire: Wire | None = None
    """The last connection that it surely had; `unsure_wires` may have had it since."""
    unsure_wires: list[Wire] = field(default_factory=list)
    restarted_at: int | None = None
    subscribed: dict[str, _Subscribed] = field(default_factory=dict)
    arrived: set[str] = field(default_factory=set)
    newest: dict[tuple[str, str, int, int], int] = field(default_factory=dict)

    def wires(self) -> list[Wire]:
        return [*([self.wire] if self.wire is not None else []), *self.unsure_wires]

    def has_wire(self) -> bool:
        return any(wire.ended_at is None for wire in self.wires())

    def alive(self, now: int) -> Alive:
        """Whether the server has it still, once it has no connection any more."""
        if self.expiry_max == 0:
            return "no"
        if self.has_wire():
            surely = (
                self.wire is not None
                and self.expiry_min > 0
                and (self.wire.ended_at is None or now < self.wire.ended_at + self.expiry_min - _UNSURE_S)
            )
            return "yes" if surely else "maybe"
        ended_at = max([wire.ended_at or 0 for wire in self.wires()] + [self.restarted_at or 0])
        if now > ended_at + self.expiry_max + _UNSURE_S:
            return "no"
        if self.wire is None or not self.expiry_min:
            return "maybe"
        assert self.wire.ended_at is not None
        return "yes" if now < self.wire.ended_at + self.expiry_min - _UNSURE_S else "maybe"

    def sure_qos(self, sent: Sent) -> int:
        """At which QoS it surely gets a publish; -1 if it may not get it."""
        granted = [
            subscribed.sure[0]
            for topic_filter, subscribed in self.subscribed.items()
            if subscribed.sure is not None
            and sent.topic_name in MATCHES[topic_filter]
            and not (subscribed.sure[1] and sent.publisher is self.peer)
        ]
        return min(sent.qos, max(granted)) if granted else -1

    def may_get(self, sent: Sent) -> bool:
        return any(
            sent.topic_name in MATCHES[topic_filter] and not (request.no_local and sent.publisher is self.peer)
            for topic_filter, subscribed in self.subscribed.items()
            for request in subscribed.possible
        )


@dataclass(eq=False)
class Sent:
    """`is_open` until the publisher knows that the server has it, or that nothing more of it can get there."""

    text: str
    publisher: SessionPeer
    topic_name: str
    qos: int
    number: int
    is_open: bool = True
    is_acknowledged: bool = False
    times: int = 1
    owed: set[Life] = field(default_factory=set)
    owed_to_one: frozenset[Life] | None = None
    possible: set[Life] = field(default_factory=set)
    takers: set[Life] = field(default_factory=set)


class Expectations:
    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self.lives: dict[str, Life] = {}
        self.former: dict[str, Life] = {}
        self.sent: dict[str, Sent] = {}
        self.connecting: dict[str, tuple[Wire, int, Alive]] = {}
        self.disordered: set[str] = set()
        self._numbers: dict[tuple[str, str], int] = {}

    def _open(self) -> Iterator[Sent]:
        return (sent for sent in self.sent.values() if sent.is_open)

    # Publishes

    def publishes(self, peer: SessionPeer, topic_name: str, qos: int) -> str:
        """A publish is about to be sent; returns its payload."""
        key = (peer.name, topic_name)
        number = self._numbers[key] = self._numbers.get(key, 0) + 1
        sent = Sent(f"{peer.name} {topic_name} {number}", peer, topic_name, qos, number)
        self.sent[sent.text] = sent
        for life in self.lives.values():
            if life.may_get(sent):
                sent.possible.add(life)
            if self._is_there(life) and life.sure_qos(sent) > 0:
                sent.owed.add(life)
        if topic_name in SHARED_TOPICS:
            if sent.owed == sent.possible and any(life.expiry_min for life in sent.owed):
                sent.owed_to_one = frozenset(sent.owed)
            sent.owed.clear()
        return sent.text

    def _is_there(self, life: Life) -> bool:
        if life.expiry_min == 0:
            return life.wire is not None and life.wire is life.peer.wire and life.wire.ended_at is None
        return life.alive(self.now()) == "yes"

    def sent_again(self, text: str) -> None:
        self.sent[text].times += 1

    def acknowledged(self, text: str) -> None:
        sent = self.sent[text]
        sent.is_open, sent.is_acknowledged = False, True

    def arrived(self, peer: SessionPeer, publish: Publish) -> None:
        sent = self.sent[publish.payload.decode()]
        life = self.lives.get(peer.name) or self.former[peer.name]  # sent before the server closed
        assert sent.topic_name == publish.topic_name
        assert publish.qos <= sent.qos
        assert not publish.retain
        assert life in sent.possible, f"{peer.name} gets {sent.text}, which it has not subscribed to"
        if sent.text in life.arrived:
            assert not (publish.qos == sent.qos == 2), f"{peer.name} gets {sent.text} twice at QoS 2"
            assert publish.dup or (sent.qos == 1 and sent.times > 1), f"{peer.name} gets {sent.text} twice without DUP"
            return
        life.arrived.add(sent.text)
        sent.takers.add(life)
        if sent.topic_name in SHARED_TOPICS and (sent.qos != 1 or sent.times == 1):
            assert len(sent.takers) == 1, f"{sent.text} goes to several of a group"
        key = (sent.publisher.name, sent.topic_name, sent.qos, publish.qos)
        if sent.text not in self.disordered:
            assert sent.number > life.newest.get(key, 0), f"{peer.name} gets {sent.text} out of order"
            life.newest[key] = sent.number

    def storage_failed(self, changes: Sequence[Change]) -> None:
        """What could not be kept is sent again, after what the storage had room for: only then the order is lost."""
        if any(isinstance(change, Enqueue | Received) for change in changes):
            self.disordered.update(sent.text for sent in self._open())

    # Subscriptions

    def subscribes(self, peer: SessionPeer, request: SubscriptionRequest) -> None:
        life = self.lives[peer.name]
        subscribed = life.subscribed.setdefault(request.topic_filter, _Subscribed())
        subscribed.possible.append(request)
        if subscribed.sure is not None:
            qos, no_local = subscribed.sure
            subscribed.sure = (min(qos, request.qos), no_local or request.no_local)
        for sent in self._open():
            if life.may_get(sent):
                sent.possible.add(life)
                if sent.topic_name in SHARED_TOPICS:
                    sent.owed_to_one = None
        self._owe_less(life)

    def subscribed(self, peer: SessionPeer, request: SubscriptionRequest) -> None:
        if peer.name not in self.lives:
            return
        subscribed = self.lives[peer.name].subscribed[request.topic_filter]
        subscribed.sure = (request.qos, request.no_local)
        subscribed.possible = [request]

    def unsubscribes(self, peer: SessionPeer, topic_filter: str) -> None:
        life = self.lives[peer.name]
        if topic_filter in life.subscribed:
            life.subscribed[topic_filter].sure = None
            self._owe_less(life)

    def unsubscribed(self, peer: SessionPeer, topic_filter: str) -> None:
        if peer.name in self.lives:
            self.lives[peer.name].subscribed.pop(topic_filter, None)

    def _owe_less(self, life: Life) -> None:
        for sent in self._open():
            if life.sure_qos(sent) < 1:
                self._owe_nothing(sent, life)

    @staticmethod
    def _owe_nothing(sent: Sent, life: Life) -> None:
        sent.owed.discard(life)
        if sent.owed_to_one is not None and life in sent.owed_to_one:
            sent.owed_to_one = None

    # Sessions

    def connects(self, peer: SessionPeer, wire: Wire, clean_start: bool, expiry: int) -> None:
        """CONNECT is about to be sent, on a new connection."""
        self.unconfirmed(peer)
        life = self.lives.get(peer.name)
        if clean_start and life is not None:
            self.over(peer)
            life = None
        self.connecting[peer.name] = (wire, expiry, "no" if life is None else life.alive(self.now()))
        if life is not None:
            life.expiry_min = min(life.expiry_min, expiry)

    def unconfirmed(self, peer: SessionPeer) -> None:
        """No CONNACK came to the last CONNECT: whether the server got it is not known."""
        if peer.name not in self.connecting:
            return
        wire, expiry, _ = self.connecting.pop(peer.name)
        life = self.lives.get(peer.name)
        if life is not None and life.wire is not None and life.alive(self.now()) != "yes":
            # If it has ended, there may be a new one now, and the next CONNACK would not tell: it must not be resumed.
            self.over(peer)
            peer.forget()
            peer.must_start_clean = True
            return
        if life is None:
            peer.forget()
            life = self.lives[peer.name] = Life(peer, 0, 0)
        life.unsure_wires.append(wire)
        life.expiry_max = max(life.expiry_max, expiry)
        if not life.expiry_max:
            self.over(peer)

    def connected(self, peer: SessionPeer, is_present: bool) -> None:
        wire, expiry, before = self.connecting.pop(peer.name)
        life = self.lives.get(peer.name)
        if is_present:
            assert life is not None, f"{peer.name} is told of a session that is none of its own"
            assert before != "no", f"{peer.name} is told of a session that had ended"
        else:
            assert life is None or life.alive(self.now()) != "yes", f"{peer.name}'s session is lost"
            if life is not None:
                self.over(peer)
            life = self.lives[peer.name] = Life(peer, expiry, expiry)
        life.expiry_min = life.expiry_max = expiry
        life.wire, life.unsure_wires = wire, []

    def over(self, peer: SessionPeer) -> None:
        """The session has ended: nothing is owed to it any more."""
        life = self.former[peer.name] = self.lives.pop(peer.name)
        for sent in self.sent.values():
            self._owe_nothing(sent, life)

    def nothing_more_from(self, peer: SessionPeer) -> None:
        """The connection is gone, and with it what was on its way and will not be sent again."""
        again = {outgoing.text for outgoing in peer.outgoing.values()}
        for sent in self._open():
            if sent.publisher is peer and sent.text not in again:
                sent.is_open = False

    def time_passed(self) -> None:
        """Sessions that have ended since this was called last."""
        for life in list(self.lives.values()):
            pending = self.connecting.get(life.peer.name)
            if life.has_wire() or (pending is not None and pending[0].ended_at is None):
                continue
            if life.alive(self.now()) == "no":
                self.over(life.peer)
            elif not life.expiry_min:
                for sent in self.sent.values():
                    self._owe_nothing(sent, life)

    def restarted(self) -> None:
        for life in self.lives.values():
            if life.alive(self.now()) != "no":
                life.restarted_at = self.now()

    # The end

    def check_all_arrived(self) -> None:
        for sent in self.sent.values():
            if sent.is_acknowledged:
                for life in sent.owed:
                    assert sent.text in life.arrived, f"{life.peer.name} never got {sent.text}"
                if sent.owed_to_one is not None:
                    assert sent.takers, f"nobody of the group got {sent.text}"
