"""What a broker has not acknowledged: nothing is lost, nothing overtakes, and all of it is bounded."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from recado.adapters.broker.mqtt.window import Announcement, Outgoing, Window
from recado.mqtt.codec import Decoder
from recado.mqtt.packets import Connect, Publish

INFLIGHT_MAX = 4
WAITING_MAX = 10
LOSSES_MAX = 3


def new_window(bytes_max: int = 1_000_000) -> Window:
    return Window(INFLIGHT_MAX, WAITING_MAX, bytes_max, LOSSES_MAX)


def publishes(data: bytes) -> list[Publish]:
    """As a broker decodes them."""
    decoder = Decoder(packet_bytes_max=1_000_000, role="server")
    decoder.receive(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01x" + data)
    found = []
    while (packet := decoder.next_packet()) is not None:
        if not isinstance(packet, Connect):
            assert isinstance(packet, Publish)
            found.append(packet)
    return found


class Ends:
    """How announcements ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, bool]] = []

    def announced(self, name: str, topics: int = 1) -> list[Outgoing]:
        announcement = Announcement(topics, lambda is_acknowledged: self.ends.append((name, is_acknowledged)))
        return [Outgoing(f"{name}/{number}", b"x", announcement) for number in range(topics)]


def test_an_event_is_done_when_the_last_of_its_recipients_is_acknowledged() -> None:
    window, ends = new_window(), Ends()
    assert window.add(ends.announced("a", 3))
    sent = publishes(window.take(10_000))
    assert [each.topic_name for each in sent] == ["a/0", "a/1", "a/2"]
    for publish in sent[:2]:
        assert window.acknowledge(publish.packet_id)
    assert ends.ends == []
    assert window.acknowledge(sent[2].packet_id)
    assert ends.ends == [("a", True)]
    assert window.is_empty


def test_an_acknowledgement_of_nothing_that_is_under_way_counts_for_nothing() -> None:
    window, ends = new_window(), Ends()
    window.add(ends.announced("a"))
    (publish,) = publishes(window.take(10_000))
    assert not window.acknowledge(publish.packet_id + 1)
    assert window.acknowledge(publish.packet_id)
    assert not window.acknowledge(publish.packet_id)
    assert ends.ends == [("a", True)]


def test_an_event_goes_in_whole_or_not_at_all() -> None:
    window, ends = new_window(), Ends()
    assert window.add(ends.announced("a", WAITING_MAX - 1))
    assert not window.add(ends.announced("b", 2))
    assert window.waiting == WAITING_MAX - 1
    assert window.add(ends.announced("c", 1))


def test_bytes_are_bounded_until_they_are_acknowledged() -> None:
    ends = Ends()
    (one,) = ends.announced("a")
    window = new_window(bytes_max=2 * one.size)
    assert window.add(ends.announced("a"))
    assert window.add(ends.announced("b"))
    assert not window.add(ends.announced("c"))
    sent = publishes(window.take(10_000))
    assert not window.add(ends.announced("c"))
    window.acknowledge(sent[0].packet_id)
    assert window.add(ends.announced("c"))


def test_a_publish_over_which_connections_are_lost_again_and_again_is_given_up_and_those_behind_it_go_on() -> None:
    window, ends = new_window(), Ends()
    window.add(ends.announced("poison"))
    window.add(ends.announced("good"))
    for _ in range(LOSSES_MAX - 1):
        assert [each.topic_name for each in publishes(window.take(10_000))] == ["poison/0", "good/0"]
        assert not window.lose()
    window.take(10_000)
    assert window.lose()
    assert ends.ends == [("poison", False)]
    assert [each.topic_name for each in publishes(window.take(10_000))] == ["good/0"]


def test_an_event_that_is_given_up_is_told_once_though_the_rest_of_it_arrives() -> None:
    window, ends = new_window(), Ends()
    window.add(ends.announced("a", 2))
    for _ in range(LOSSES_MAX):
        window.take(10_000)
        window.lose()
    (left,) = publishes(window.take(10_000))
    assert left.topic_name == "a/1"
    window.acknowledge(left.packet_id)
    assert ends.ends == [("a", False)]


class WindowMachine(RuleBasedStateMachine):
    """Against the plain idea of it: a list of what is to be acknowledged, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.window = new_window()
        self.ends = Ends()
        self.owed: list[str] = []  # topics, in the order in which they were taken
        self.under_way: dict[int, str] = {}
        self.taken = 0
        self.losses: Counter[str] = Counter()

    @rule(topics=st.integers(1, 4))
    def add(self, topics: int) -> None:
        outgoing = self.ends.announced(str(self.taken), topics)
        has_room = len(self.owed) - len(self.under_way) + topics <= WAITING_MAX
        assert self.window.add(outgoing) == has_room
        if has_room:
            self.owed += [f"{self.taken}/{number}" for number in range(topics)]
            self.taken += 1

    @rule(bytes_max=st.sampled_from([1, 20, 10_000]))
    def take(self, bytes_max: int) -> None:
        sent = publishes(self.window.take(bytes_max))
        waiting = [topic for topic in self.owed if topic not in self.under_way.values()]
        assert [each.topic_name for each in sent] == waiting[: len(sent)]
        assert all(each.qos == 1 for each in sent)
        assert {each.packet_id for each in sent}.isdisjoint(self.under_way)
        self.under_way |= {each.packet_id: each.topic_name for each in sent}

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        packet_id = data.draw(st.sampled_from(sorted(self.under_way)))
        assert self.window.acknowledge(packet_id)
        self.owed.remove(self.under_way.pop(packet_id))

    @precondition(lambda self: self.losses[next(iter(self.under_way.values()), "")] < LOSSES_MAX - 1)
    @rule()
    def lose(self) -> None:
        for topic in list(self.under_way.values())[:1]:
            self.losses[topic] += 1
        assert not self.window.lose()
        self.under_way.clear()

    @invariant()
    def agrees(self) -> None:
        assert self.window.inflight == len(self.under_way) <= INFLIGHT_MAX
        assert self.window.waiting == len(self.owed) - len(self.under_way)
        done = {topic.partition("/")[0] for topic in self.owed}
        assert self.ends.ends == [(name, True) for name, _ in self.ends.ends]
        assert sorted(name for name, _ in self.ends.ends) == sorted(set(map(str, range(self.taken))) - done)


WindowMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestWindow = WindowMachine.TestCase
