"""Enhanced authentication (4.12): at CONNECT in one step or more, and again on the open connection."""

from __future__ import annotations

import pytest

from recado.mqtt.packets import Auth, Connack, Connect, Disconnect, Packet, Pingreq, Publish
from recado.mqtt.properties import Properties
from recado.mqtt.properties import PropertyId as P
from recado.mqtt.reason_codes import ReasonCode as R
from tests.conformance.client import Client
from tests.conformance.hooks import ASKED, METHOD, WELCOME, WORD
from tests.conformance.node import Node


def said(data: bytes | None, method: str = METHOD) -> Properties:
    properties: Properties = {P.AUTHENTICATION_METHOD: method}
    return properties if data is None else {**properties, P.AUTHENTICATION_DATA: data}


def answer(data: bytes, reason_code: R = R.CONTINUE_AUTHENTICATION, method: str = METHOD) -> Auth:
    return Auth(reason_code, said(data, method))


async def asked(node: Node) -> Client:
    """A client in the middle of an authentication."""
    client = await node.client()
    await client.send(Connect("ana", properties=said(None)))
    assert await client.expect(Auth) == answer(ASKED)
    return client


async def authenticated(node: Node) -> Client:
    return await node.connected(properties=said(WORD))


async def test_one_step_is_enough_if_connect_says_enough(node: Node) -> None:
    """[MQTT5-4.12.0-5]"""
    client = await authenticated(node)
    assert client.connack.properties[P.AUTHENTICATION_METHOD] == METHOD
    assert client.connack.properties[P.AUTHENTICATION_DATA] == WELCOME


async def test_the_server_asks_for_what_it_needs_and_connack_ends_it(node: Node) -> None:
    """[MQTT5-4.12.0-2] [MQTT5-4.12.0-5] [MQTT5-3.2.0-1] [MQTT5-3.15.2-1]"""
    client = await asked(node)
    assert node.hooks.connected == []
    await client.send(answer(WORD))
    connack = await client.expect(Connack)
    assert connack.reason_code is R.SUCCESS
    assert connack.properties[P.AUTHENTICATION_METHOD] == METHOD
    assert connack.properties[P.AUTHENTICATION_DATA] == WELCOME
    await client.ping()


async def test_a_wrong_answer_is_refused_and_the_connection_ends(node: Node) -> None:
    """[MQTT5-4.12.0-4] [MQTT5-3.1.4-2] [MQTT5-4.13.2-1]"""
    client = await asked(node)
    await client.send(answer(b"abracadabra"))
    (connack,) = await client.rest()
    assert isinstance(connack, Connack)
    assert connack.reason_code is R.NOT_AUTHORIZED
    assert node.hooks.connected == []


async def test_a_method_that_the_server_does_not_know_is_refused(node: Node) -> None:
    """[MQTT5-4.12.0-1]"""
    client = await node.client()
    connack = await client.connect_as("ana", properties=said(WORD, "other"))
    assert connack.reason_code is R.BAD_AUTHENTICATION_METHOD
    assert await client.rest() == []


@pytest.mark.parametrize(
    "wrong", [answer(WORD, R.REAUTHENTICATE), answer(WORD, R.SUCCESS), answer(WORD, method="other")]
)
async def test_an_answer_that_does_not_go_on_with_the_same_method_ends_the_connection(node: Node, wrong: Auth) -> None:
    """[MQTT5-4.12.0-3] [MQTT5-4.12.0-5]"""
    client = await asked(node)
    await client.send(wrong)
    for packet in await client.rest():
        assert isinstance(packet, Connack)
        assert packet.reason_code >= R.UNSPECIFIED_ERROR
    assert node.hooks.connected == []


@pytest.mark.parametrize("packet", [Publish("a", b"x"), Pingreq()])
async def test_nothing_but_auth_and_disconnect_may_come_before_connack(node: Node, packet: Packet) -> None:
    """[MQTT5-3.1.2-30] [MQTT5-3.1.4-6]"""
    watcher = await node.connected("watcher")
    await watcher.subscribe_to("#")
    client = await asked(node)
    await client.send(packet, answer(WORD))
    assert not [each for each in await client.rest() if not isinstance(each, Connack) or each.reason_code == R.SUCCESS]
    await node.hears_nothing(watcher)


async def test_a_client_may_give_up_in_the_middle(node: Node) -> None:
    """[MQTT5-3.1.2-30]"""
    client = await asked(node)
    await client.send(Disconnect())
    assert await client.rest() == []
    assert node.hooks.connected == []


async def test_who_named_no_method_hears_of_none(node: Node) -> None:
    """[MQTT5-4.12.0-6]"""
    client = await node.connected()
    assert P.AUTHENTICATION_METHOD not in client.connack.properties
    assert P.AUTHENTICATION_DATA not in client.connack.properties


@pytest.mark.parametrize("reason_code", [R.CONTINUE_AUTHENTICATION, R.REAUTHENTICATE])
async def test_who_named_no_method_may_not_send_auth(node: Node, reason_code: R) -> None:
    """[MQTT5-4.12.0-7] [MQTT5-4.13.1-1]"""
    client = await node.connected()
    await client.send(answer(WORD, reason_code))
    disconnect = await client.end()
    assert disconnect is not None
    assert disconnect.reason_code is R.PROTOCOL_ERROR


# Again, on the open connection


async def test_a_client_may_authenticate_again_while_everything_goes_on(node: Node) -> None:
    """[MQTT5-4.12.1-1] [MQTT5-4.12.0-2] [MQTT5-4.12.0-5]"""
    client = await authenticated(node)
    await client.subscribe_to("a", 1)
    await client.send(Auth(R.REAUTHENTICATE, said(None)))
    assert await client.expect(Auth) == answer(ASKED)
    await client.publish_to("a", b"meanwhile", 1)
    assert (await client.receive()).payload == b"meanwhile"
    await client.send(answer(WORD))
    assert await client.expect(Auth) == answer(WELCOME, R.SUCCESS)
    await client.ping()


async def test_one_step_is_enough_here_too(node: Node) -> None:
    """[MQTT5-4.12.1-1]"""
    client = await authenticated(node)
    await client.send(answer(WORD, R.REAUTHENTICATE))
    assert await client.expect(Auth) == answer(WELCOME, R.SUCCESS)


async def test_a_failure_to_authenticate_again_ends_the_connection(node: Node) -> None:
    """[MQTT5-4.12.1-2] [MQTT5-4.13.2-1]"""
    client = await authenticated(node)
    await client.send(answer(b"abracadabra", R.REAUTHENTICATE))
    disconnect = await client.end()
    assert disconnect is not None
    assert disconnect.reason_code is R.NOT_AUTHORIZED


@pytest.mark.parametrize(
    "wrong", [answer(WORD, R.REAUTHENTICATE, "other"), answer(WORD, R.CONTINUE_AUTHENTICATION), Auth(R.REAUTHENTICATE)]
)
async def test_authenticating_again_needs_the_method_of_connect_and_the_code_for_it(node: Node, wrong: Auth) -> None:
    """[MQTT5-4.12.1-1] [MQTT5-4.12.0-5] [MQTT5-4.13.1-1]"""
    client = await authenticated(node)
    await client.send(wrong)
    disconnect = await client.end()
    assert disconnect is not None
    assert disconnect.reason_code in (R.PROTOCOL_ERROR, R.BAD_AUTHENTICATION_METHOD)
