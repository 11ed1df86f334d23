"""Sending: what is acknowledged is there, once, whatever happened to the connection; what is refused says why."""

from __future__ import annotations

import asyncio

import pytest

from recado.client import ClientLimits, Closed, Invalid, NotAMember, Refused, SendTimeout, TooLarge, connect, new_id
from recado.mqtt.packets import Disconnect, Publish
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.client.conftest import QUICK, until
from tests.client.relay import Relay
from tests.client.scripted import Peer, Scripted
from tests.support.server import Server


async def test_a_message_that_was_acknowledged_is_in_the_log_under_its_id(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async with connect(mqtt_url, shared_server.token("ana")) as client:
        assert client.user == "ana"
        assert await client.send(conversation, "Chegou!", id="k3x9") == "k3x9"
        made = await client.send(conversation, "Obrigado")
    log = shared_server.host_api.history(conversation)
    assert [(event["id"], event["body"]) for event in log] == [("k3x9", "Chegou!"), (made, "Obrigado")]


async def test_messages_of_one_client_are_stored_in_the_order_of_sending(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    bodies = [f"{n}" for n in range(300)]
    async with connect(mqtt_url, shared_server.token("ana")) as client:
        await asyncio.gather(*(client.send(conversation, body) for body in bodies))
    assert [event["body"] for event in shared_server.host_api.history(conversation)] == bodies


async def test_a_lost_acknowledgement_makes_no_second_message(shared_server: Server, conversation: str) -> None:
    async with (
        Relay(shared_server.mqtt_port) as relay,
        connect(f"mqtt://127.0.0.1:{relay.port}", shared_server.token("ana"), limits=QUICK) as client,
    ):
        relay.is_deaf = True
        sending = asyncio.create_task(client.send(conversation, "once"))
        await until(lambda: shared_server.host_api.history(conversation) != [])
        relay.is_deaf = False
        relay.cut()
        message_id = await sending
        assert relay.connections == 2
    log = shared_server.host_api.history(conversation)
    assert [(event["id"], event["body"]) for event in log] == [(message_id, "once")]


async def test_two_clients_and_two_transports_that_send_the_same_id_make_one_message(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    message_id = new_id()
    token = shared_server.token("ana")
    async with connect(mqtt_url, token) as one, connect(shared_server.ws_url, token) as other:
        await asyncio.gather(*(client.send(conversation, "twice", id=message_id) for client in (one, other)))
    shared_server.api("ana").send(conversation, "twice", message_id)
    assert [event["id"] for event in shared_server.host_api.history(conversation)] == [message_id]


async def test_each_refusal_has_its_type_and_is_not_repeated(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async with connect(mqtt_url, shared_server.token("ana")) as client:
        with pytest.raises(NotAMember):
            await client.send("no-such-conversation", "x")
        with pytest.raises(Invalid, match="empty") as invalid:
            await client.send(conversation, " ")
        assert invalid.value.code is ReasonCode.PAYLOAD_FORMAT_INVALID
        with pytest.raises(TooLarge, match="16384"):
            await client.send(conversation, "x" * 20_000)
        with pytest.raises(TooLarge, match="packets"):
            await client.send(conversation, "x" * 200_000)
        with pytest.raises(ValueError, match="conversation"):
            await client.send("no/such", "x")
        await client.send(conversation, "and goes on")
    assert len(shared_server.host_api.history(conversation)) == 1


async def test_a_send_without_an_answer_ends_at_its_deadline_and_can_be_repeated_with_its_id(
    shared_server: Server, conversation: str
) -> None:
    async with (
        Relay(shared_server.mqtt_port) as relay,
        connect(f"mqtt://127.0.0.1:{relay.port}", shared_server.token("ana"), limits=QUICK) as client,
    ):
        relay.is_deaf = True
        with pytest.raises(SendTimeout) as late:
            await client.send(conversation, "late", timeout_s=0.2)
        assert isinstance(late.value, TimeoutError)
        relay.is_deaf = False
        relay.cut()
        await client.send(conversation, "late", id=late.value.id)
    assert len(shared_server.host_api.history(conversation)) == 1


async def test_a_send_that_was_cancelled_before_it_was_written_is_never_written(
    shared_server: Server, conversation: str
) -> None:
    async with (
        Relay(shared_server.mqtt_port) as relay,
        connect(f"mqtt://127.0.0.1:{relay.port}", shared_server.token("ana"), limits=QUICK) as client,
    ):
        relay.is_closed = True
        relay.cut()
        await until(lambda: not client.is_connected)
        given_up = asyncio.create_task(client.send(conversation, "never"))
        waiting = asyncio.create_task(client.send(conversation, "at last"))
        await asyncio.sleep(0)
        given_up.cancel()
        relay.is_closed = False
        await waiting
        assert given_up.cancelled()
    assert [event["body"] for event in shared_server.host_api.history(conversation)] == ["at last"]


async def test_closing_raises_for_the_sends_that_wait_and_for_those_after_it(
    shared_server: Server, conversation: str
) -> None:
    async with Relay(shared_server.mqtt_port) as relay:
        limits = ClientLimits(pending_sends_max=2)
        async with connect(f"mqtt://127.0.0.1:{relay.port}", shared_server.token("ana"), limits=limits) as client:
            relay.is_deaf = True
            sends = [asyncio.create_task(client.send(conversation, f"{n}")) for n in range(4)]
            await asyncio.sleep(0)
        assert [type(ended) for ended in await asyncio.gather(*sends, return_exceptions=True)] == [Closed] * 4
        with pytest.raises(Closed):
            await client.send(conversation, "x")


async def test_no_more_is_under_way_than_the_server_and_the_client_allow() -> None:
    written: list[Publish] = []

    async def takes_two(peer: Peer) -> None:
        await peer.accept(properties={PropertyId.RECEIVE_MAXIMUM: 2})
        while isinstance(publish := await peer.next(), Publish):
            written.append(publish)

    async with Scripted(takes_two) as server, connect(server.url, "token") as client:
        sends = [asyncio.create_task(client.send("x", f"{n}")) for n in range(150)]
        await until(lambda: len(written) == 2)
        await client.typing("x")  # reaches the server after all that was written before
        await until(lambda: len(written) == 3)
        assert [publish.qos for publish in written] == [1, 1, 0]
        for send in sends:
            send.cancel()


async def test_a_server_that_is_busy_gets_the_message_again_on_another_connection() -> None:
    """DISCONNECT 0x89 comes instead of the acknowledgement."""
    bodies: list[bytes] = []

    async def is_busy(peer: Peer) -> None:
        await peer.accept()
        publish = await peer.next()
        assert isinstance(publish, Publish)
        bodies.append(publish.payload)
        peer.disconnect(ReasonCode.SERVER_BUSY)

    async def is_not(peer: Peer) -> None:
        await peer.accept()
        publish = await peer.next()
        assert isinstance(publish, Publish)
        bodies.append(publish.payload)
        peer.acknowledge(publish)
        await peer.rest()

    async with Scripted(is_busy, is_busy, is_not) as server, connect(server.url, "token", limits=QUICK) as client:
        await client.send("x", "keep it", id="k3x9")
        assert bodies == [b'{"id":"k3x9","body":"keep it"}'] * 3


async def test_an_unknown_refusal_is_a_refusal() -> None:
    async def refuses(peer: Peer) -> None:
        await peer.accept()
        publish = await peer.next()
        assert isinstance(publish, Publish)
        peer.acknowledge(publish, ReasonCode.UNSPECIFIED_ERROR)
        assert [type(packet) for packet in await peer.rest()] == [Disconnect]

    async with Scripted(refuses) as server, connect(server.url, "token") as client:
        with pytest.raises(Refused) as refused:
            await client.send("x", "y")
        assert refused.value.code is ReasonCode.UNSPECIFIED_ERROR


async def test_a_read_mark_is_stored_when_mark_read_returns(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    shared_server.api("ana").send(conversation, "read this")
    bruno = shared_server.api("bruno")
    assert bruno.call("GET", f"/conversations/{conversation}").body["unread_count"] == 1
    async with connect(mqtt_url, shared_server.token("bruno")) as client:
        await client.mark_read(conversation, 1)
        assert bruno.call("GET", f"/conversations/{conversation}").body["unread_count"] == 0
