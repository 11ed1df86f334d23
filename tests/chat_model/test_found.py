"""What the search found, each in the shortest way in which it went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from recado.mqtt.codec import Decoder, encode
from recado.mqtt.packets import MQTT_5, Connack, Publish
from tests.broker.model.traffic import ALL
from tests.chat_model.test_conversations import ChatMachine


class Story(ChatMachine):
    """Everybody is connected, ana and bea with sessions that are kept, and bea has x at QoS 1 unless said otherwise. At
    the end all that is owed must have come."""

    def tell(self, qos: int = 1, *, no_local: bool = False, maximum: int = 3) -> None:
        self.begin([(MQTT_5, True), (MQTT_5, True), (MQTT_5, False)], [])
        self.connect("bea", MQTT_5, True, False, maximum, 0, True, True)
        self.ask_for(qos, no_local=no_local)

    def ask_for(self, qos: int, back: int | None = None, *, no_local: bool = False) -> None:
        self.subscribe("bea", "c/x", qos, no_local, back, 0, True)

    def posts(self, count: int) -> None:
        for _ in range(count):
            self.post("dora", "x")

    def bea_reads(self) -> None:
        self.server_to_client("bea", ALL)

    def bea_goes(self) -> None:
        self.run(lambda: self.lose(self.peers["bea"]))

    def asks(self, topic_filter: str, qos: int, back: int | None) -> None:
        """SUBSCRIBE is on its way."""
        self.subscribe("bea", topic_filter, qos, False, back, 0, False)

    def written(self) -> list[int | str]:
        """What bea has not read yet, once the server has all that she sent: the seq of each event, the name of the
        rest."""
        self.client_to_server("bea", ALL)
        line = self.peers["bea"].wire
        assert line is not None
        decoder = Decoder(packet_bytes_max=ALL, role="client", protocol_level=MQTT_5)
        decoder.receive(encode(Connack(False), MQTT_5) + line.to_client)
        _, *unread = iter(decoder.next_packet, None)
        return [
            json.loads(each.payload)["seq"] if isinstance(each, Publish) else type(each).__name__ for each in unread
        ]


@pytest.fixture
def story() -> Iterator[Story]:
    story = Story()
    yield story
    story.close()


def test_who_is_a_member_again_gets_nothing_of_the_time_in_between(story: Story) -> None:
    """It had no room for its removal, and read on from there."""
    story.tell(maximum=1)
    story.posts(2)
    story.remove("x", "bea")
    story.posts(1)
    story.add("x", "bea")
    story.come_to_rest()


def test_a_packet_id_of_what_may_not_come_again_is_not_given_to_something_new(story: Story) -> None:
    """The client took a new message for the one that it had got under that packet id, and dropped it."""
    story.tell(qos=2)
    story.posts(1)
    story.bea_reads()
    story.bea_goes()
    story.remove("x", "bea")
    story.everybody_connects()
    story.add("x", "bea")
    story.come_to_rest()


def test_an_own_message_that_is_stored_after_its_session_went_passes_over_nothing(story: Story) -> None:
    story.tell(no_local=True)
    story.storage_is_prompt_or_slow(is_prompt=False)
    story.posts(1)
    story.publish("bea", "x", 1, at_once=True)
    story.bea_goes()
    story.storage_is_prompt_or_slow(is_prompt=True)
    story.time_passes(2)
    story.come_to_rest()


def test_what_could_not_be_stored_in_flight_is_not_passed_over_by_the_next(story: Story) -> None:
    story.tell(qos=2)
    story.storage_is_prompt_or_slow(is_prompt=False)
    story.posts(2)
    story.run(story.held.go_on)
    story.run(lambda: story.held.commits.fail(1))
    story.come_to_rest()


@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_asked_for_again_comes_though_more_is_in_flight(story: Story, qos: int) -> None:
    story.tell(qos)
    story.posts(3)
    story.bea_reads()
    story.talk_and_answer("bea")
    story.talk_and_answer("bea")
    story.posts(3)
    story.ask_for(qos, back=6)
    story.bea_goes()
    story.come_to_rest()


def test_history_that_was_asked_for_comes_to_its_end_over_a_reconnect(story: Story) -> None:
    """From before the last member_added, too: a member may read the whole log."""
    story.tell()
    story.posts(3)
    story.remove("x", "bea")
    story.posts(2)
    story.add("x", "bea")
    story.bea_reads()
    story.answer("bea", ALL)
    story.ask_for(1, back=ALL)
    story.bea_goes()
    story.come_to_rest()


def test_nothing_comes_after_the_removal_of_what_was_still_being_stored(story: Story) -> None:
    """At QoS 2, where a publish waits for its packet id to be stored."""
    story.tell(qos=2)
    story.storage_is_prompt_or_slow(is_prompt=False)
    story.posts(1)
    story.remove("x", "bea")
    story.come_to_rest()


def test_the_removal_leaves_no_packet_id_behind_that_is_given_again_after_a_crash(story: Story) -> None:
    story.tell(qos=2)
    story.remove("x", "bea")
    story.bea_reads()
    story.work_and_crash((False, []), 0)
    story.everybody_connects()
    story.add("x", "bea")
    story.come_to_rest()


def test_who_is_removed_and_added_while_its_session_is_looked_up_gets_nothing_of_the_time_in_between(
    story: Story,
) -> None:
    """Its removal was noted as the place to read on from."""
    story.tell()
    story.bea_goes()
    story.storage_is_prompt_or_slow(is_prompt=False)
    story.connect("bea", MQTT_5, True, False, 3, 0, True, True)
    story.remove("x", "bea")
    story.storage("go_on", ALL)  # the session was looked up before, and is looked up again
    story.posts(2)
    story.add("x", "bea")
    story.storage("go_on", ALL)
    story.come_to_rest()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_of_two_subscribes_on_each_others_heels_replays_what_it_asks_for(story: Story, qos: int) -> None:
    """Though the second one's own filter is refused: bea is no member of y, but reads x."""
    story.tell(qos)
    story.posts(1)
    assert story.written() == [1]
    story.talk_and_answer("bea")
    story.talk_and_answer("bea")
    story.asks("c/x", qos, back=0)
    story.asks("c/y", qos, back=1)
    assert story.written() == ["Suback", "Suback", 1]
    story.come_to_rest()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_subscribe_that_names_no_log_repeats_nothing(story: Story, qos: int) -> None:
    """Though the one before it asked for a replay, which is over."""
    story.tell(qos)
    story.posts(1)
    story.asks("c/x", qos, back=1)
    assert story.written() == [1, "Suback", 1]
    story.talk_and_answer("bea")
    story.talk_and_answer("bea")
    story.asks("c/x", qos, back=None)
    story.asks("c/+", qos, back=None)
    assert story.written() == ["Suback", "Suback"]
    story.posts(1)
    assert story.written() == ["Suback", "Suback", 2]
    story.come_to_rest()


@pytest.mark.parametrize("is_taken_over", [True, False])
def test_a_session_that_its_client_was_told_is_gone_does_not_come_back_after_a_crash(
    story: Story, is_taken_over: bool
) -> None:
    """Its end was not on disk yet, and who came next was not made to wait for it: a second clean start that took over
    from the first, or one after DISCONNECT had ended the session."""
    story.tell()
    story.storage_is_prompt_or_slow(is_prompt=False)
    if is_taken_over:
        story.connect("bea", MQTT_5, False, True, 3, 0, True, True)
    else:
        story.disconnect("bea", True)
    story.connect("bea", MQTT_5, False, True, 3, 0, True, True)
    assert not story.peers["bea"].is_connected
    story.work_and_crash((False, []), 0)
    story.everybody_connects()
    story.come_to_rest()
