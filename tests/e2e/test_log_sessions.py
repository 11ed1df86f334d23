"""Sessions that are kept, in conversations: the log is the queue, and the session a cursor into it."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from recado.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from recado.mqtt.properties import PropertyId
from tests.support.raw_mqtt import RawClient
from tests.support.server import Server

HOUR = 3600
MISSED = 150  # more than a window of 100 and a page of 100


class Sessions:
    """Connects members with sessions that are kept, and sends and removes for the others."""

    def __init__(self, server: Server, closer: ExitStack) -> None:
        self.server = server
        self._closer = closer
        self.conversation = server.host_api.create_conversation(["ana", "bruno"])
        self.topic = f"c/{self.conversation}"
        self._client_id = f"phone-{self.conversation}"

    def connect(self, *, level: int = MQTT_5, user: str = "bruno", receive_maximum: int | None = None) -> RawClient:
        """The user's phone, with the same client id each time; the first time it finds no session."""
        properties = {PropertyId.SESSION_EXPIRY_INTERVAL: HOUR} if level == MQTT_5 else {}
        if receive_maximum is not None:
            properties[PropertyId.RECEIVE_MAXIMUM] = receive_maximum
        options: dict[str, Any] = {"client_id": self._client_id, "clean_start": False, "level": level}
        return self._closer.enter_context(closing(RawClient(self.server, user, properties=properties, **options)))

    def send(self, *bodies: str, conversation: str | None = None) -> None:
        ana = self.server.api("ana")
        for body in bodies:
            ana.send(conversation or self.conversation, body)

    def restart(self) -> None:
        self.server.kill()
        self.server.start()


@pytest.fixture
def sessions(server: Server) -> Iterator[Sessions]:
    with ExitStack() as closer:
        yield Sessions(server, closer)


@pytest.fixture
def shared(shared_server: Server) -> Iterator[Sessions]:
    """On the server that others use too: it is not killed."""
    with ExitStack() as closer:
        yield Sessions(shared_server, closer)


def subscribe(client: RawClient, topic_filter: str, qos: int = 1, **options: Any) -> None:
    client.send(Subscribe(1, [SubscriptionRequest(topic_filter, qos, **options)]))
    assert client.expect(Suback).reason_codes == [qos]


def taken(client: RawClient, count: int, *, acknowledge: bool = True) -> list[Publish]:
    """The next publishes, of QoS 1 if each is acknowledged at once."""
    publishes = []
    for _ in range(count):
        publish = client.expect(Publish)
        publishes.append(publish)
        if acknowledge:
            client.send(Puback(publish.packet_id))
    return publishes


def nothing_comes(client: RawClient) -> None:
    client.send(Pingreq())
    assert isinstance(client.receive(), Pingresp)


def seqs(publishes: list[Publish]) -> list[int]:
    return [json.loads(publish.payload)["seq"] for publish in publishes]


# What was missed


@pytest.mark.parametrize("level", [MQTT_3_1_1, MQTT_5])
@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_sent_while_the_client_was_away_comes_in_order_and_once(
    shared: Sessions, level: int, qos: int
) -> None:
    bruno = shared.connect(level=level)
    assert not bruno.connack.session_present
    shared.send("before")
    bruno = shared.connect(level=level)
    assert bruno.connack.session_present
    subscribe(bruno, shared.topic, qos)
    bruno.close()
    shared.send(*map(str, range(MISSED)))
    bruno = shared.connect(level=level)
    assert bruno.connack.session_present
    if qos == 1:
        assert seqs(taken(bruno, MISSED)) == list(range(2, MISSED + 2))
    else:
        assert seqs(exactly_once(bruno, MISSED)) == list(range(2, MISSED + 2))
    nothing_comes(bruno)
    bruno.close()
    bruno = shared.connect(level=level)
    nothing_comes(bruno)


def exactly_once(client: RawClient, count: int) -> list[Publish]:
    """Take so many publishes of QoS 2, whatever comes between them, to the end of their flows."""
    publishes: list[Publish] = []
    completed = 0
    while completed < count:
        packet = client.receive()
        if isinstance(packet, Publish):
            publishes.append(packet)
            client.send(Pubrec(packet.packet_id))
        else:
            assert isinstance(packet, Pubrel), packet
            client.send(Pubcomp(packet.packet_id))
            completed += 1
    return publishes


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_missed_comes_after_a_kill_of_the_server_too(sessions: Sessions, qos: int) -> None:
    bruno = sessions.connect()
    subscribe(bruno, "c/+", qos)
    sessions.send("one")
    assert seqs(taken(bruno, 1) if qos == 1 else exactly_once(bruno, 1)) == [1]
    bruno.close()
    sessions.send("two", "three")
    sessions.restart()
    sessions.send("four")
    bruno = sessions.connect()
    assert bruno.connack.session_present
    got = taken(bruno, 3) if qos == 1 else exactly_once(bruno, 3)
    assert seqs(got) in ([2, 3, 4], [1, 2, 3]), "at QoS 1 an acknowledgement may be lost by a kill"
    if qos == 2:
        assert seqs(got) == [2, 3, 4]


def test_a_wildcard_brings_what_was_said_in_conversations_that_began_meanwhile(shared: Sessions) -> None:
    bruno = shared.connect()
    subscribe(bruno, "c/+")
    bruno.close()
    new = shared.server.host_api.create_conversation(["ana", "bruno"])
    joined = shared.server.host_api.create_conversation(["ana"])
    shared.send("in the new one", conversation=new)
    shared.send("before bruno", conversation=joined)
    shared.server.host_api.add_member(joined, "bruno")
    shared.send("after", conversation=joined)
    bruno = shared.connect()
    got = [(each.topic_name, json.loads(each.payload).get("seq")) for each in taken(bruno, 3)]
    assert sorted(got) == sorted([(f"c/{new}", 1), (f"c/{joined}", 2), (f"c/{joined}", 3)])
    nothing_comes(bruno)


def test_subscribing_again_skips_nothing_and_repeats_nothing(shared: Sessions) -> None:
    """Clients subscribe after each CONNECT, whether or not their session was there."""
    bruno = shared.connect()
    subscribe(bruno, "c/+")
    bruno.close()
    shared.send("one", "two")
    bruno = shared.connect()
    bruno.send(Subscribe(7, [SubscriptionRequest("c/+", 1), SubscriptionRequest(shared.topic, 1)]))
    packets = [bruno.receive() for _ in range(3)]
    assert seqs([each for each in packets if isinstance(each, Publish)]) == [1, 2]
    bruno.close()
    shared.send("three")
    bruno = shared.connect()
    assert seqs(taken(bruno, 3)) == [1, 2, 3]


def test_who_unsubscribes_and_subscribes_again_starts_live(shared: Sessions) -> None:
    bruno = shared.connect()
    subscribe(bruno, "c/+")
    bruno.send(Unsubscribe(2, ["c/+"]))
    bruno.expect(Unsuback)
    shared.send("not for bruno")
    subscribe(bruno, shared.topic)
    bruno.close()
    shared.send("for bruno")
    bruno = shared.connect()
    assert seqs(taken(bruno, 1)) == [2]
    nothing_comes(bruno)


def test_after_moves_the_cursor_of_a_kept_session(shared: Sessions) -> None:
    bruno = shared.connect()
    shared.send("one", "two", "three")
    after = {PropertyId.USER_PROPERTY: [("after", f"{shared.conversation}=1")]}
    bruno.send(Subscribe(1, [SubscriptionRequest(shared.topic, 1)], after))
    bruno.expect(Suback)
    bruno.close()
    bruno = shared.connect()
    assert seqs(taken(bruno, 2)) == [2, 3]


def test_a_position_past_the_end_of_a_log_is_its_end(shared: Sessions) -> None:
    """What was sent after the client had gone did not come until the log had reached that position."""
    shared.send("one", "two")
    bruno = shared.connect()
    after = {PropertyId.USER_PROPERTY: [("after", f"{shared.conversation}=1000")]}
    bruno.send(Subscribe(1, [SubscriptionRequest(shared.topic, 1)], after))
    bruno.expect(Suback)
    shared.send("three")
    assert seqs(taken(bruno, 1)) == [3]
    bruno.close()
    shared.send("four")
    bruno = shared.connect()
    assert seqs(taken(bruno, 1)) == [4]
    nothing_comes(bruno)


def test_at_qos_0_a_kept_session_starts_live(shared: Sessions) -> None:
    bruno = shared.connect()
    subscribe(bruno, shared.topic, 0)
    bruno.close()
    shared.send("missed")
    bruno = shared.connect()
    nothing_comes(bruno)
    shared.send("live")
    assert seqs([bruno.expect(Publish)]) == [2]


# What was in flight


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_in_flight_comes_again_under_its_packet_ids_and_marked(shared: Sessions, qos: int) -> None:
    bruno = shared.connect()
    subscribe(bruno, shared.topic, qos)
    shared.send("one", "two")
    first = taken(bruno, 2, acknowledge=False)
    bruno.close()
    shared.send("three")
    bruno = shared.connect()
    again = taken(bruno, 3, acknowledge=False)
    assert [(each.packet_id, each.payload, each.dup) for each in again[:2]] == [
        (each.packet_id, each.payload, True) for each in first
    ]
    assert (seqs(again[2:]), again[2].dup) == ([3], False)
    assert again[2].packet_id not in {each.packet_id for each in first}


def test_a_qos_2_publish_in_flight_survives_a_kill_and_is_not_made_anew(sessions: Sessions) -> None:
    bruno = sessions.connect()
    subscribe(bruno, sessions.topic, 2)
    sessions.send("sent", "released")
    sent, released = taken(bruno, 2, acknowledge=False)
    bruno.send(Pubrec(released.packet_id))
    assert bruno.receive() == Pubrel(released.packet_id)
    sessions.restart()
    bruno = sessions.connect()
    assert bruno.receive() == Pubrel(released.packet_id)
    again = bruno.expect(Publish)
    assert (again.packet_id, again.payload, again.dup) == (sent.packet_id, sent.payload, True)
    for packet in (Pubcomp(released.packet_id), Pubrec(sent.packet_id)):
        bruno.send(packet)
    assert bruno.receive() == Pubrel(sent.packet_id)
    bruno.send(Pubcomp(sent.packet_id))
    sessions.send("third")
    assert seqs([bruno.expect(Publish)]) == [3]


def test_a_qos_2_message_is_one_message_though_the_server_was_killed_before_its_release(sessions: Sessions) -> None:
    bruno = sessions.connect()
    bruno.send(Publish(sessions.topic, b"hello", 2, packet_id=9))
    assert bruno.receive() == Pubrec(9)
    sessions.restart()
    bruno = sessions.connect()
    assert bruno.connack.session_present
    bruno.send(Publish(sessions.topic, b"hello", 2, dup=True, packet_id=9))
    assert bruno.receive() == Pubrec(9)
    bruno.send(Pubrel(9))
    assert bruno.receive() == Pubcomp(9)
    bruno.send(Publish(sessions.topic, b"another", 2, packet_id=9))
    assert bruno.receive() == Pubrec(9)
    assert [event["body"] for event in sessions.server.api("ana").history(sessions.conversation)] == [
        "hello",
        "another",
    ]


# Membership


def test_a_removed_member_gets_nothing_of_what_waited_or_was_in_flight(shared: Sessions) -> None:
    bruno = shared.connect()
    subscribe(bruno, "c/+")
    shared.send("in flight")
    assert seqs(taken(bruno, 1, acknowledge=False)) == [1]
    bruno.close()
    shared.send("waits")
    shared.server.host_api.remove_member(shared.conversation, "bruno")
    bruno = shared.connect()
    assert bruno.connack.session_present
    nothing_comes(bruno)
    shared.server.host_api.add_member(shared.conversation, "bruno")
    shared.send("again a member")
    assert seqs(taken(bruno, 2)) == [4, 5]


def test_who_is_added_again_while_away_starts_at_its_new_membership(shared: Sessions) -> None:
    bruno = shared.connect()
    subscribe(bruno, "c/+")
    bruno.close()
    shared.send("one")
    shared.server.host_api.remove_member(shared.conversation, "bruno")
    shared.send("not for bruno")
    shared.server.host_api.add_member(shared.conversation, "bruno")
    shared.send("five")
    bruno = shared.connect()
    assert seqs(taken(bruno, 2)) == [4, 5]


@pytest.mark.parametrize("how", ["removed", "erased"])
def test_the_last_event_comes_to_a_member_who_had_no_room_for_it(shared: Sessions, how: str) -> None:
    bruno = shared.connect(receive_maximum=2)
    subscribe(bruno, shared.topic)
    shared.send("one", "two", "three", "four")
    first = taken(bruno, 2, acknowledge=False)
    if how == "removed":
        shared.server.host_api.remove_member(shared.conversation, "bruno")
    else:
        shared.server.host_api.call("DELETE", f"/conversations/{shared.conversation}").expect(204)
    nothing_comes(bruno)
    for publish in first:
        bruno.send(Puback(publish.packet_id))
    (last,) = taken(bruno, 1)
    kind = "member_removed" if how == "removed" else "conversation_erased"
    assert json.loads(last.payload)["type"] == kind
    nothing_comes(bruno)
    if how == "removed":
        shared.server.host_api.add_member(shared.conversation, "bruno")
        shared.send("seven")
        assert seqs(taken(bruno, 2)) == [6, 7], "and nothing of what came before"


# Options


def test_no_local_holds_for_what_the_session_sent_before_it_went(shared: Sessions) -> None:
    bruno = shared.connect()
    subscribe(bruno, shared.topic, 1, no_local=True)
    bruno.send(Publish(shared.topic, b"my own", 1, packet_id=5))
    assert bruno.receive() == Puback(5)
    shared.send("of ana")
    assert seqs(taken(bruno, 1)) == [2]
    bruno.send(Publish(shared.topic, b"my own again", 1, packet_id=5))
    assert bruno.receive() == Puback(5)
    bruno.close()
    bruno = shared.connect()
    nothing_comes(bruno)


def test_no_local_holds_for_what_a_session_sent_that_did_not_read(sessions: Sessions) -> None:
    bruno = sessions.connect()
    subscribe(bruno, sessions.topic, 1, no_local=True)
    sessions.send("not acknowledged")
    bruno.expect(Publish)
    bruno.send(Publish(sessions.topic, b"my own", 1, packet_id=5))
    assert bruno.receive() == Puback(5)
    sessions.send("after my own")
    sessions.restart()
    bruno = sessions.connect()
    assert seqs(taken(bruno, 2)) == [1, 3]
    nothing_comes(bruno)


def test_a_session_that_ends_with_its_connection_has_nothing_to_read_on(shared: Sessions) -> None:
    bruno = shared.connect()
    subscribe(bruno, shared.topic)
    bruno.send(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 0}))
    assert bruno.socket.recv(1) == b""
    shared.send("one")
    assert not shared.connect().connack.session_present


def test_a_session_of_the_same_client_id_belongs_to_another_user(shared: Sessions) -> None:
    bruno = shared.connect()
    subscribe(bruno, shared.topic)
    bruno.close()
    shared.send("for bruno")
    carla = shared.connect(user="carla")
    assert not carla.connack.session_present
    nothing_comes(carla)


# The end of a user's sessions


def end_sessions(sessions: Sessions, user: str) -> int:
    return sessions.server.host_api.call("DELETE", f"/users/{user}/sessions").status


def test_a_session_that_the_host_ended_is_not_there_after_a_kill_of_the_server(sessions: Sessions) -> None:
    bruno = sessions.connect()
    subscribe(bruno, sessions.topic)
    assert end_sessions(sessions, "bruno") == 204
    sessions.restart()
    bruno = sessions.connect()
    assert not bruno.connack.session_present
    sessions.send("not asked for")
    nothing_comes(bruno)


def test_the_host_is_not_told_that_a_session_has_ended_as_long_as_the_disk_does_not_have_it(
    sessions: Sessions,
) -> None:
    bruno = sessions.connect()
    subscribe(bruno, sessions.topic)
    with full_disk(sessions.server):
        assert [end_sessions(sessions, "bruno") for _ in range(2)] == [503, 503]
    assert end_sessions(sessions, "bruno") == 204
    sessions.restart()
    assert not sessions.connect().connack.session_present


@contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """The server's files may not grow past where its write-ahead log is now."""
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    log_bytes = (server.directory / "recado.db-wal").stat().st_size
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (log_bytes, hard))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))
