"""QoS 2 in a conversation, wills that become messages, tokens renewed by AUTH, aliases, subscription identifiers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from recado.mqtt.packets import Auth, Disconnect, Pingreq, Pingresp, Puback, Pubcomp, Publish, Pubrec, Pubrel, Will
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.support.raw_mqtt import METHOD, RawClient, authentication
from tests.support.server import Server

Connect = Callable[..., RawClient]


@pytest.fixture
def connect(shared_server: Server) -> Iterator[Connect]:
    with ExitStack() as closer:

        def connect(user: str, **options: Any) -> RawClient:
            return closer.enter_context(closing(RawClient(shared_server, user, **options)))

        yield connect


def event_of(publish: Publish) -> dict[str, Any]:
    event = json.loads(publish.payload)
    assert isinstance(event, dict)
    return event


def test_a_qos_2_publish_that_comes_twice_before_its_release_is_one_message(
    connect: Connect, shared_server: Server
) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    ana, bruno = connect("ana"), connect("bruno")
    assert bruno.subscribe(f"c/{conversation}", qos=2) == ReasonCode.GRANTED_QOS_2
    for is_again in (False, True):
        ana.send(Publish(f"c/{conversation}", b"hello", 2, dup=is_again, packet_id=7))
        assert ana.receive() == Pubrec(7)
    ana.send(Pubrel(7))
    assert ana.receive() == Pubcomp(7)

    delivered = bruno.expect(Publish)
    assert (delivered.qos, event_of(delivered)["body"]) == (2, "hello")
    bruno.send(Pubrec(delivered.packet_id))
    assert bruno.receive() == Pubrel(delivered.packet_id)
    bruno.send(Pubcomp(delivered.packet_id))
    assert [event["body"] for event in shared_server.api("ana").history(conversation)] == ["hello"]


def test_a_will_becomes_a_message_of_its_user(connect: Connect, shared_server: Server) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    bruno = connect("bruno")
    bruno.subscribe(f"c/{conversation}")
    connect("ana", will=Will(f"c/{conversation}", b"I had to go", 1)).close()
    event = event_of(bruno.expect(Publish))
    assert (event["from"], event["body"]) == ("ana", "I had to go")
    assert shared_server.api("bruno").history(conversation) == [event]


def test_a_will_of_who_is_no_member_any_more_becomes_nothing(connect: Connect, shared_server: Server) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    other = shared_server.host_api.create_conversation(["carla", "bruno"])
    bruno = connect("bruno")
    ana = connect("ana", will=Will(f"c/{conversation}", b"me again", 1))
    carla = connect("carla", will=Will(f"c/{other}", b"gone", 1))
    shared_server.host_api.remove_member(conversation, "ana")
    bruno.subscribe("c/+")
    for client in (ana, carla):
        client.send(Disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE))
        assert client.socket.recv(1) == b"", "the server has taken it, and closed"
    assert event_of(bruno.expect(Publish))["body"] == "gone"
    assert [event["type"] for event in shared_server.api("bruno").history(conversation)] == ["member_removed"]


@pytest.mark.parametrize("whose", ["ana", "bruno", "nobody"])
def test_a_token_of_another_or_of_nobody_renews_nothing(connect: Connect, shared_server: Server, whose: str) -> None:
    ana = connect("ana", token=shared_server.token("ana"))
    newer = "no token" if whose == "nobody" else shared_server.token(whose)
    ana.send(Auth(ReasonCode.REAUTHENTICATE, authentication(newer)))
    if whose == "ana":
        assert ana.receive() == Auth(ReasonCode.SUCCESS, {PropertyId.AUTHENTICATION_METHOD: METHOD})
    else:
        assert ana.expect(Disconnect).reason_code == ReasonCode.NOT_AUTHORIZED


def test_a_renewed_token_outlives_the_one_of_connect(connect: Connect, shared_server: Server) -> None:
    short = shared_server.token("ana", ttl_s=3)
    renewed, forgetful = connect("ana", token=short), connect("bruno", token=shared_server.token("bruno", ttl_s=3))
    renewed.send(Auth(ReasonCode.REAUTHENTICATE, authentication(shared_server.token("ana"))))
    assert renewed.expect(Auth).reason_code == ReasonCode.SUCCESS
    assert forgetful.expect(Disconnect).reason_code == ReasonCode.MAXIMUM_CONNECT_TIME
    last = connect("carla", token=shared_server.token("carla", ttl_s=3))
    assert last.expect(Disconnect).reason_code == ReasonCode.MAXIMUM_CONNECT_TIME, "so the first would have ended too"
    renewed.send(Pingreq())
    assert isinstance(renewed.receive(), Pingresp)


def test_aliases_save_the_topic_and_identifiers_tell_the_subscription(connect: Connect, shared_server: Server) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])
    bruno = connect("bruno", properties={PropertyId.TOPIC_ALIAS_MAXIMUM: 5})
    bruno.subscribe("c/+", identifier=3)
    bruno.subscribe(f"c/{conversation}", identifier=9)
    ana = connect("ana")
    for packet_id, topic_name in ((1, f"c/{conversation}"), (2, "")):
        ana.send(Publish(topic_name, b"hi", 1, packet_id=packet_id, properties={PropertyId.TOPIC_ALIAS: 1}))
        assert ana.receive() == Puback(packet_id)
    delivered = [bruno.expect(Publish) for _ in range(2)]
    assert [each.topic_name for each in delivered] == [f"c/{conversation}", ""]
    assert {each.properties[PropertyId.TOPIC_ALIAS] for each in delivered} == {1}
    assert [each.properties[PropertyId.SUBSCRIPTION_IDENTIFIER] for each in delivered] == [[3, 9], [3, 9]]
