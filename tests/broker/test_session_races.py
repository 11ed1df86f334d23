"""What a crash, a full disk or a slow one did to sessions at one moment: each was found by the model of sessions.

The storage does what waits in it when the test says so; connections are without sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from recado.broker.listener import Listener
from recado.broker.server import Server
from recado.broker.standalone import StandaloneHooks
from recado.mqtt.codec import Decoder, encode
from recado.mqtt.packets import (
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
)
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.application import LIMITS
from tests.broker.model.peer import Wire
from tests.broker.model.storages import HeldStorage, MemoryStorage

KEPT_S = 1_000


class Client:
    """One connection of bare packets."""

    def __init__(self, server: Server) -> None:
        self.wire = Wire(server, Listener("tcp", 10), lambda: 0)
        self.wire.opened()
        self._decoder = Decoder(packet_bytes_max=10_000, role="client", protocol_level=MQTT_5)

    async def send(self, *packets: Packet) -> None:
        self.wire.receive(b"".join(encode(packet, MQTT_5) for packet in packets))
        await turns()

    async def connect(
        self, client_id: str, kept_s: int = KEPT_S, clean: bool = False, receive_maximum: int = 9
    ) -> None:
        properties: dict[PropertyId, Any] = {
            PropertyId.SESSION_EXPIRY_INTERVAL: kept_s,
            PropertyId.RECEIVE_MAXIMUM: receive_maximum,
        }
        await self.send(Connect(client_id, MQTT_5, clean, properties=properties))

    def got(self) -> list[Packet]:
        """What the server has sent since the last time."""
        self._decoder.receive(bytes(self.wire.to_client))
        self.wire.to_client.clear()
        packets = []
        while (packet := self._decoder.next_packet()) is not None:
            packets.append(packet)
        return packets

    def connack(self) -> tuple[ReasonCode, bool]:
        (connack,) = self.got()
        assert isinstance(connack, Connack)
        return connack.reason_code, connack.session_present

    async def drop(self) -> None:
        self.wire.drop()
        await turns()


class Bench:
    """`storage` does nothing before `go_on`."""

    def __init__(self) -> None:
        self.behind = MemoryStorage()

    async def start(self) -> None:
        self.storage = HeldStorage(self.behind)
        self.server = Server(StandaloneHooks(allow_anonymous=True), LIMITS, self.storage)
        self.server._ticker.cancel()
        await self.server.start()

    async def crash(self) -> None:
        self.storage.crash()
        await self.start()

    async def go_on(self) -> None:
        while self.storage.waiting:
            await self.storage.go_on()
            await turns()

    async def fail(self) -> None:
        self.storage.fail(len(self.storage.waiting))
        await turns()

    async def connected(
        self, client_id: str, kept_s: int = KEPT_S, clean: bool = False, receive_maximum: int = 9
    ) -> Client:
        client = Client(self.server)
        await client.connect(client_id, kept_s, clean, receive_maximum)
        await self.go_on()
        return client

    async def subscribed(self, client_id: str, kept_s: int = KEPT_S) -> Client:
        client = await self.connected(client_id, kept_s)
        await client.send(Subscribe(1, [SubscriptionRequest("a/b", 2)]))
        await self.go_on()
        assert isinstance(client.got()[-1], Suback)
        return client

    async def seconds(self, count: int) -> None:
        for _ in range(count):
            self.server.deadlines.advance()
        await turns()


async def turns() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.start()
    yield bench
    for connection in list(bench.server._connections):
        connection.abort_transport()
    for task in list(bench.server._tasks):
        task.cancel()


def payloads(packets: list[Packet]) -> list[bytes]:
    return [packet.payload for packet in packets if isinstance(packet, Publish)]


# What CONNACK says


async def test_no_client_is_told_of_a_session_that_a_crash_could_take_back(bench: Bench) -> None:
    client = Client(bench.server)
    await client.connect("ana")
    assert client.got() == []
    await bench.crash()
    client = await bench.connected("ana")
    assert client.connack() == (ReasonCode.SUCCESS, False)
    await bench.crash()
    assert (await bench.connected("ana")).connack() == (ReasonCode.SUCCESS, True)


@pytest.mark.parametrize("kept_s", [0, KEPT_S])
async def test_a_session_that_a_clean_start_has_ended_does_not_come_back_after_a_crash(
    bench: Bench, kept_s: int
) -> None:
    await bench.subscribed("ana")
    client = Client(bench.server)
    await client.connect("ana", kept_s, clean=True)
    assert client.got() == []
    await bench.go_on()
    assert client.connack() == (ReasonCode.SUCCESS, False)
    await bench.crash()
    assert [each.client_id for each in bench.server.sessions] == ["ana"] * (kept_s > 0)
    assert len(bench.server.router) == 0


async def test_a_session_whose_end_could_not_be_stored_does_not_come_back(bench: Bench) -> None:
    """Two sessions of one client were taken up at the next start, and one of them got everything for ever."""
    await (await bench.subscribed("ana")).drop()
    await bench.go_on()
    refused = Client(bench.server)
    await refused.connect("ana", clean=True)
    await bench.fail()
    assert refused.connack() == (ReasonCode.SERVER_UNAVAILABLE, False)
    assert refused.wire.is_shut
    assert (await bench.connected("ana", clean=True)).connack() == (ReasonCode.SUCCESS, False)
    assert len(bench.behind.sessions) == 2
    await bench.crash()
    assert (len(list(bench.server.sessions)), len(bench.server.router)) == (1, 0)
    await bench.go_on()
    assert len(bench.behind.sessions) == 1


async def test_the_end_of_a_session_is_stored_later_if_the_disk_is_full_now(bench: Bench) -> None:
    client = await bench.connected("ana")
    await client.send(Disconnect(properties={PropertyId.SESSION_EXPIRY_INTERVAL: 0}))
    await bench.fail()
    assert len(bench.behind.sessions) == 1
    await bench.seconds(2)
    await bench.go_on()
    assert len(bench.behind.sessions) == 0


async def test_a_client_whose_session_cannot_be_stored_is_refused(bench: Bench) -> None:
    """It was connected without one, and its QoS 2 publishes counted again."""
    client = Client(bench.server)
    await client.connect("ana")
    await bench.fail()
    assert client.connack() == (ReasonCode.SERVER_UNAVAILABLE, False)
    assert (list(bench.server.sessions), bench.server.sessions.kept) == ([], 0)


@pytest.mark.parametrize("kept_s", [0, KEPT_S])
@pytest.mark.parametrize("clean", [False, True])
async def test_a_second_connect_wins_over_one_whose_session_is_still_being_stored(
    bench: Bench, kept_s: int, clean: bool
) -> None:
    await (await bench.connected("ana")).drop()
    first, second = Client(bench.server), Client(bench.server)
    await first.connect("ana", kept_s, clean=True)
    await second.connect("ana", KEPT_S, clean)
    await bench.go_on()
    assert (first.got(), first.wire.is_shut) == ([], True)
    assert second.connack() == (ReasonCode.SUCCESS, False)
    (session,) = bench.server.sessions
    assert session.connection is second.wire
    assert (list(bench.behind.sessions), bench.server.sessions.kept) == ([session.key], 1)


async def test_a_connection_that_is_lost_while_its_session_is_being_stored_leaves_none(bench: Bench) -> None:
    client = Client(bench.server)
    await client.connect("ana")
    await client.drop()
    await bench.go_on()
    assert (list(bench.server.sessions), bench.behind.sessions, bench.server.sessions.kept) == ([], {}, 0)


async def test_a_session_that_has_a_connection_again_does_not_expire_for_the_time_before_it(bench: Bench) -> None:
    """After a crash it counted as gone since its last connection but one, if the disk was full at the last CONNECT."""
    await (await bench.connected("ana")).drop()
    await bench.go_on()
    (kept,) = bench.behind.sessions.values()
    assert kept.saved.ended_at_ms is not None
    refused = Client(bench.server)
    await refused.connect("ana")
    bench.storage.fail(1)
    await bench.go_on()
    assert refused.connack() == (ReasonCode.SERVER_UNAVAILABLE, False)
    assert kept.saved.ended_at_ms is not None
    again = Client(bench.server)
    await again.connect("ana")
    assert again.got() == []
    await bench.go_on()
    assert again.connack() == (ReasonCode.SUCCESS, True)
    assert kept.saved.ended_at_ms is None


async def test_a_session_that_a_lost_connection_had_claimed_expires_when_it_would_have(bench: Bench) -> None:
    await (await bench.connected("ana")).drop()
    await bench.go_on()
    (kept,) = bench.behind.sessions.values()
    before = kept.saved
    client = Client(bench.server)
    await client.connect("ana", kept_s=7)
    await client.drop()
    await bench.go_on()
    assert kept.saved == before


# What UNSUBSCRIBE leaves


async def test_a_subscription_stays_as_long_as_its_session_if_its_end_could_not_be_stored(bench: Bench) -> None:
    client = await bench.subscribed("ana")
    await client.send(Unsubscribe(2, ["a/b"]))
    assert len(bench.server.router) == 0
    await bench.fail()
    assert isinstance(client.got()[-1], Disconnect)
    assert len(bench.server.router) == 1


async def test_a_session_that_ends_while_it_unsubscribes_leaves_no_subscription_if_the_disk_is_full(
    bench: Bench,
) -> None:
    """The router had it for ever, with a session that nobody could end."""
    client = await bench.subscribed("ana")
    await client.send(Unsubscribe(2, ["a/b"]))
    await Client(bench.server).connect("ana", clean=True)
    await bench.fail()
    assert len(bench.server.router) == 0


# What is sent again


async def test_pubrels_are_sent_again_before_publishes_that_receive_maximum_holds_back(bench: Bench) -> None:
    """The publish waited for the room that only the PUBREL behind it could make: neither was ever sent."""
    client = await bench.subscribed("ana")
    sender = await bench.connected("bruno")
    await sender.send(Publish("a/b", b"1", 1, packet_id=1), Publish("a/b", b"2", 2, packet_id=2))
    await bench.go_on()
    second = [packet for packet in client.got() if isinstance(packet, Publish)][1]
    await client.send(Pubrec(second.packet_id))
    await bench.go_on()
    assert client.got() == [Pubrel(second.packet_id)]
    await client.drop()
    again = await bench.connected("ana", receive_maximum=1)
    connack, *sent = again.got()
    assert isinstance(connack, Connack)
    assert sent[0] == Pubrel(second.packet_id)


async def test_a_qos_2_publish_that_could_not_be_stored_has_reached_nobody_when_it_comes_again(bench: Bench) -> None:
    """Sessions in memory had it already, and got it twice."""
    client = await bench.subscribed("ana", kept_s=0)
    sender = await bench.connected("bruno")
    await sender.send(Publish("a/b", b"x", 2, packet_id=1))
    await bench.fail()
    assert isinstance(sender.got()[-1], Disconnect)
    assert client.got() == []
    again = await bench.connected("bruno")
    await again.send(Publish("a/b", b"x", 2, dup=True, packet_id=1))
    await bench.go_on()
    assert isinstance(again.got()[-1], Pubrec)
    assert payloads(client.got()) == [b"x"]


async def test_a_publish_that_is_stored_is_sent_and_acknowledged_whatever_becomes_of_one_receiver(
    bench: Bench,
) -> None:
    broken = await bench.subscribed("ana")
    other = await bench.subscribed("carla")
    sender = await bench.connected("bruno")
    sender.got()

    def write(data: bytes) -> None:
        raise RuntimeError("the transport has a bug")

    await sender.send(Publish("a/b", b"x", 1, packet_id=1))
    broken.wire.write = write  # type: ignore[method-assign]
    await bench.go_on()
    assert payloads(other.got()) == [b"x"]
    assert sender.got() == [Puback(1)]


async def test_what_is_stored_while_a_claim_finds_nothing_is_sent_all_the_same(bench: Bench) -> None:
    """The claim was for a publish that the disk had no room for; the next one waited until the client reconnected."""
    client = await bench.subscribed("ana")
    sender, other = await bench.connected("bruno"), await bench.connected("carla")
    client.wire.congest()
    await sender.send(Publish("a/b", b"never", 1, packet_id=1))
    client.wire.writable()
    await turns()
    await other.send(Publish("a/b", b"next", 1, packet_id=1))
    bench.storage.fail(1)
    await bench.go_on()
    assert payloads(client.got()) == [b"next"]
