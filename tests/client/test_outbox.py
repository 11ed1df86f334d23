"""Messages on their way up, over connections that end at any moment."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from recado.client.outbox import Outbox, Sending

WINDOW_MAX = 3


class AnyOrder(RuleBasedStateMachine):
    """The server commits what reaches it, by id; its answers may be lost with the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox: Outbox[str] = Outbox()
        self.count = 0
        self.pending: dict[str, Sending[str]] = {}
        self.is_open = False
        self.on_wire: dict[int, str] = {}
        self.before: dict[int, str] = {}
        self.window = 0
        self.committed: list[str] = []
        self.is_kept = False

    @rule()
    def send(self) -> None:
        self.count += 1
        sending = Sending("c/x", f"{self.count}".encode(), f"{self.count}")
        self.pending[f"{self.count}"] = sending
        self.outbox.add(sending)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.outbox.give_up(self.pending.pop(data.draw(st.sampled_from(sorted(self.pending)))))

    @precondition(lambda self: not self.is_open)
    @rule(is_session_present=st.booleans(), window=st.integers(1, WINDOW_MAX))
    def connect(self, is_session_present: bool, window: int) -> None:
        """A server that was started again may take fewer at once."""
        self.before = {**self.before, **self.on_wire} if is_session_present else {}
        self.on_wire.clear()
        self.is_open = True
        self.window = window
        self.outbox.opened(window, is_session_present)

    @precondition(lambda self: self.is_open)
    @rule()
    def lose(self) -> None:
        self.is_open = False
        self.outbox.lost()

    @rule()
    def write(self) -> None:
        item = self.outbox.next()
        if item is None:
            return
        packet_id, sending, _ = item
        assert self.is_open
        assert packet_id not in self.on_wire
        message_id = sending.payload.decode()
        assert message_id not in self.on_wire.values()
        self.on_wire[packet_id] = message_id
        self.before.pop(packet_id, None)
        if message_id not in self.committed:
            self.committed.append(message_id)

    @precondition(lambda self: self.is_open and self.on_wire)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        packet_id = data.draw(st.sampled_from(sorted(self.on_wire)))
        message_id = self.on_wire.pop(packet_id)
        waiter = self.outbox.acknowledged(packet_id)
        assert waiter == (message_id if message_id in self.pending else None)
        self.pending.pop(message_id, None)

    @precondition(lambda self: self.is_open and self.before)
    @rule(data=st.data())
    def answer_what_came_before(self, data: st.DataObject) -> None:
        """In the same session, before it is sent again."""
        packet_id = data.draw(st.sampled_from(sorted(self.before)))
        message_id = self.before.pop(packet_id)
        waiter = self.outbox.acknowledged(packet_id)
        assert waiter == (message_id if message_id in self.pending else None)
        self.pending.pop(message_id, None)

    @invariant()
    def the_window_holds(self) -> None:
        assert len(self.on_wire) <= self.window

    @invariant()
    def what_is_pending_is_not_forgotten(self) -> None:
        assert len(self.outbox) >= len(self.pending)

    def teardown(self) -> None:
        """On a last connection that lasts, everything that somebody waits for is committed and answered."""
        if self.is_open:
            self.lose()
        self.connect(is_session_present=False, window=WINDOW_MAX)
        while (item := self.outbox.next()) is not None:
            packet_id, sending, _ = item
            self.committed.append(sending.payload.decode())
            waiter = self.outbox.acknowledged(packet_id)
            assert waiter is not None
            del self.pending[waiter]
        assert not self.pending
        assert not len(self.outbox)


TestAnyOrder = AnyOrder.TestCase


def test_after_a_lost_connection_what_was_in_flight_goes_first_in_its_order() -> None:
    outbox: Outbox[str] = Outbox()
    for name in "abc":
        outbox.add(Sending("c/x", name.encode(), name))
    outbox.opened(2, False)
    assert _written(outbox) == ["a", "b"]
    outbox.lost()
    assert outbox.next() is None
    outbox.opened(3, False)
    assert _written(outbox) == ["a", "b", "c"]


def test_in_the_same_session_it_keeps_its_packet_id_and_is_marked_as_a_duplicate() -> None:
    outbox: Outbox[str] = Outbox()
    outbox.add(Sending("c/x", b"a", "a"))
    outbox.opened(2, False)
    first = outbox.next()
    assert first is not None
    outbox.lost()
    outbox.opened(2, True)
    again = outbox.next()
    assert again is not None
    assert (again[0], again[2]) == (first[0], True)
    assert outbox.next() is None


def test_a_smaller_window_holds_for_what_is_sent_again() -> None:
    outbox: Outbox[str] = Outbox()
    for name in "abcd":
        outbox.add(Sending("c/x", name.encode(), name))
    outbox.opened(3, False)
    assert _written(outbox) == ["a", "b", "c"]
    outbox.lost()
    outbox.opened(2, True)
    assert _written(outbox) == ["a", "b"]
    outbox.acknowledged(1)
    assert _written(outbox) == ["c"]
    outbox.acknowledged(2)
    assert _written(outbox) == ["d"]


def test_what_is_answered_before_it_is_sent_again_is_not_sent_again() -> None:
    outbox: Outbox[str] = Outbox()
    for name in "abc":
        outbox.add(Sending("c/x", name.encode(), name))
    outbox.opened(3, False)
    assert _written(outbox) == ["a", "b", "c"]
    outbox.lost()
    outbox.opened(3, True)
    assert outbox.acknowledged(2) == "b"
    assert _written(outbox) == ["a", "c"]


def test_who_is_drained_is_who_still_waits() -> None:
    outbox: Outbox[str] = Outbox()
    sendings = [Sending("c/x", name.encode(), name) for name in "abc"]
    for sending in sendings:
        outbox.add(sending)
    outbox.opened(1, False)
    outbox.next()
    outbox.give_up(sendings[0])
    assert list(outbox.drain()) == ["b", "c"]
    assert not len(outbox)


def _written(outbox: Outbox[str]) -> list[str]:
    written = []
    while (item := outbox.next()) is not None:
        written.append(item[1].payload.decode())
    return written
