"""The connection to an external broker: what it does when that one is slow, silent, wrong or gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.services.ports import free_ports
from recado.adapters.broker.mqtt import Publisher, parse_address
from recado.app.limits import DEFAULT
from recado.broker.tls import TlsCertificates
from recado.mqtt.packets import Connack, Connect, Pingreq, Pingresp, Publish, Suback, Subscribe
from recado.mqtt.reason_codes import ReasonCode
from recado.ports import Unusable
from tests.adapters.mqtt_peer import TIMEOUT_S, Accepted, Peer, listening
from tests.broker.certificates import Certificate

LIMITS = replace(DEFAULT.publisher, broker_inflight_max=3, broker_waiting_max=10, broker_retry_s=1)


def publisher_for(*ports: int, **limits: int) -> Publisher:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return Publisher(parse_address(f"mqtt://recado:secret@{hosts}"), replace(LIMITS, **limits))


@asynccontextmanager
async def connected(peer: Peer, **limits: int) -> AsyncIterator[tuple[Publisher, Accepted]]:
    publisher = publisher_for(peer.port, **limits)
    starting = asyncio.create_task(publisher.start())
    accepted = await peer.accept()
    await accepted.sign_in()
    await starting
    try:
        yield publisher, accepted
    finally:
        await publisher.close(0)


class Ends:
    """How announcements ended, and a wait for it."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, bool]] = []
        self._changed = asyncio.Event()

    def of(self, name: str) -> Callable[[bool], None]:
        def done(is_acknowledged: bool) -> None:
            self.ends.append((name, is_acknowledged))
            self._changed.set()

        return done

    async def wait_for(self, *ends: tuple[str, bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while self.ends != list(ends):
                self._changed.clear()
                await self._changed.wait()


async def test_it_signs_in_with_a_clean_session_as_the_url_says() -> None:
    async with listening() as peer:
        publisher = Publisher(parse_address(f"mqtt://re%40cado:se%3Acret@127.0.0.1:{peer.port}"), LIMITS)
        starting = asyncio.create_task(publisher.start())
        connect = await (await peer.accept()).sign_in()
        await starting
        assert (connect.protocol_level, connect.clean_start, connect.keep_alive) == (
            4,
            True,
            LIMITS.broker_keep_alive_s,
        )
        assert (connect.username, connect.password) == ("re@cado", b"se:cret")
        await publisher.close(0)


async def test_an_event_is_published_to_each_topic_and_done_when_all_are_acknowledged() -> None:
    async with listening() as peer, connected(peer) as (publisher, accepted):
        ends = Ends()
        assert publisher.announce(["u/ana/c/x", "u/bob/c/x"], b"event", ends.of("event"))
        first, second = await accepted.publishes(2)
        assert [(each.topic_name, each.payload, each.qos, each.retain) for each in (first, second)] == [
            ("u/ana/c/x", b"event", 1, False),
            ("u/bob/c/x", b"event", 1, False),
        ]
        accepted.acknowledge(first)
        publisher.announce(["u/ana/c/y"], b"another", ends.of("another"))
        (third,) = await accepted.publishes(1)
        accepted.acknowledge(third)
        await ends.wait_for(("another", True))
        accepted.acknowledge(second)
        await ends.wait_for(("another", True), ("event", True))


async def test_no_more_is_under_way_than_may_be_and_the_rest_follows_in_order() -> None:
    async with listening() as peer, connected(peer) as (publisher, accepted):
        ends = Ends()
        for number in range(8):
            assert publisher.announce([f"u/ana/c/{number}"], b"", ends.of(str(number)))
        under_way = await accepted.publishes(3)
        assert (publisher.window.inflight, publisher.window.waiting) == (3, 5)
        for number in range(3, 8):
            accepted.acknowledge(under_way.pop(0))
            (following,) = await accepted.publishes(1)
            assert following.topic_name == f"u/ana/c/{number}"
            under_way.append(following)


async def test_what_has_no_room_is_refused_at_once_and_counted() -> None:
    async with listening() as peer, connected(peer) as (publisher, accepted):
        ends = Ends()
        for _ in range(3 + LIMITS.broker_waiting_max):
            assert publisher.announce(["u/ana/c/x"], b"", ends.of("taken"))
        assert not publisher.announce(["u/ana/c/x"], b"", ends.of("refused"))
        assert publisher.counters.overflowed == 1
        accepted.acknowledge(*await accepted.publishes(3))
        await accepted.publishes(3)
        assert publisher.announce(["u/ana/c/x"], b"", ends.of("taken"))


async def test_what_is_not_acknowledged_is_sent_again_before_the_rest_when_the_broker_is_back() -> None:
    async with listening() as peer, connected(peer) as (publisher, accepted):
        ends = Ends()
        for name in "abcde":
            publisher.announce([f"u/ana/c/{name}"], b"", ends.of(name))
        first, *_ = await accepted.publishes(3)
        accepted.acknowledge(first)
        await ends.wait_for(("a", True))
        await accepted.publishes(1)
        peer.close()
        publisher.announce(["u/ana/c/f"], b"", ends.of("f"))
        await peer.listen()
        again = await peer.accept()
        await again.sign_in()
        for name in "bcdef":
            (publish,) = await again.publishes(1)
            assert publish.topic_name == f"u/ana/c/{name}"
            again.acknowledge(publish)
        await ends.wait_for(*((name, True) for name in "abcdef"))
        assert publisher.counters.lost == 1


async def test_signals_are_for_who_is_there_now() -> None:
    async with listening() as peer, connected(peer) as (publisher, accepted):
        assert publisher.signal(["u/ana/c/x/live", "u/bob/c/x/live"], b"typing")
        signals = await accepted.publishes(2)
        assert [(each.topic_name, each.payload, each.qos) for each in signals] == [
            ("u/ana/c/x/live", b"typing", 0),
            ("u/bob/c/x/live", b"typing", 0),
        ]


async def test_a_signal_waits_for_no_connection() -> None:
    publisher = publisher_for(*free_ports(1))
    assert not publisher.signal(["u/ana/c/x/live", "u/bob/c/x/live"], b"typing")
    assert publisher.counters.signals_dropped == 2


async def test_signals_are_dropped_for_a_broker_that_does_not_read() -> None:
    async with listening() as peer, connected(peer) as (publisher, _):
        payload = b"x" * 10_000
        sent = 0
        while publisher.signal(["u/ana/c/x/live"], payload):
            sent += 1
            assert sent < 10_000, "nothing bounds what waits for it"


async def test_a_broker_that_is_away_is_no_reason_not_to_start() -> None:
    (port,) = free_ports(1)
    publisher = publisher_for(port)
    await publisher.start()
    ends = Ends()
    assert publisher.announce(["u/ana/c/x"], b"", ends.of("event"))
    peer = Peer()
    peer.port = port
    await peer.listen()
    accepted = await peer.accept()
    await accepted.sign_in()
    accepted.acknowledge(*await accepted.publishes(1))
    await ends.wait_for(("event", True))
    await publisher.close(0)
    peer.close()


async def test_the_other_hosts_of_a_cluster_are_tried_in_turn() -> None:
    (nobody,) = free_ports(1)
    async with listening() as peer:
        publisher = publisher_for(nobody, peer.port)
        await publisher.start()
        await (await peer.accept()).sign_in()
        await publisher.close(0)


@pytest.mark.parametrize("code", [ReasonCode.BAD_USER_NAME_OR_PASSWORD, ReasonCode.NOT_AUTHORIZED])
async def test_a_broker_that_refuses_the_password_is_an_error_at_the_start(code: ReasonCode) -> None:
    async with listening() as peer:
        starting = asyncio.create_task(publisher_for(peer.port).start())
        accepted = await peer.accept()
        await accepted.expect(Connect)
        accepted.send(Connack(reason_code=code))
        with pytest.raises(Unusable, match="refuses the user or the password") as refused:
            await starting
        assert "secret" not in str(refused.value)


async def test_a_port_where_something_else_answers_is_an_error_at_the_start() -> None:
    async with listening() as peer:
        starting = asyncio.create_task(publisher_for(peer.port).start())
        accepted = await peer.accept()
        await accepted.expect(Connect)
        accepted.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(Unusable, match="there is no MQTT broker at"):
            await starting


async def test_a_topic_that_it_may_not_read_is_an_error_at_the_start() -> None:
    async with listening() as peer:
        publisher = publisher_for(peer.port)
        publisher.listens_to = "answers"
        starting = asyncio.create_task(publisher.start())
        accepted = await peer.accept()
        await accepted.sign_in()
        subscribe = await accepted.expect(Subscribe)
        accepted.send(Suback(subscribe.packet_id, [ReasonCode.UNSPECIFIED_ERROR]))
        with pytest.raises(Unusable, match="does not let the user in the URL of --broker read answers"):
            await starting


async def test_it_listens_again_on_every_connection() -> None:
    received: asyncio.Queue[Publish] = asyncio.Queue()
    async with listening() as peer:
        publisher = publisher_for(peer.port)
        publisher.listens_to, publisher.on_publish = "answers", received.put_nowait
        starting = asyncio.create_task(publisher.start())
        for round_number in range(2):
            accepted = await peer.accept()
            await accepted.sign_in()
            assert await accepted.grant() == "answers"
            accepted.send(Publish("answers", str(round_number).encode()))
            async with asyncio.timeout(TIMEOUT_S):
                assert (await received.get()).payload == str(round_number).encode()
            accepted.lose()
        await starting
        await publisher.close(0)


async def test_a_broker_that_has_died_without_a_word_is_left() -> None:
    async with listening() as peer, connected(peer, broker_keep_alive_s=1) as (_, accepted):
        await accepted.ended()
        await (await peer.accept()).sign_in()


async def test_a_broker_that_lives_and_acknowledges_nothing_is_left() -> None:
    async with listening() as peer, connected(peer, broker_acknowledge_s=1) as (publisher, accepted):
        ends = Ends()
        publisher.announce(["u/ana/c/x"], b"", ends.of("event"))
        await accepted.publishes(1)
        await accepted.ended()
        again = await peer.accept()
        await again.sign_in()
        again.acknowledge(*await again.publishes(1))
        await ends.wait_for(("event", True))


async def test_a_broker_that_answers_pings_is_not_left() -> None:
    async with listening() as peer, connected(peer, broker_keep_alive_s=2) as (publisher, accepted):
        for _ in range(3):
            await accepted.expect(Pingreq)
            accepted.send(Pingresp())
        assert publisher.counters.lost == 0


async def test_a_publish_that_the_broker_ends_connections_over_is_given_up_and_what_is_behind_it_arrives() -> None:
    async with listening() as peer:
        publisher = publisher_for(peer.port, broker_losses_max=2)
        starting = asyncio.create_task(publisher.start())
        ends = Ends()
        publisher.announce(["u/ana/c/poison"], b"", ends.of("poison"))
        publisher.announce(["u/ana/c/good"], b"", ends.of("good"))
        for _ in range(2):
            accepted = await peer.accept()
            await accepted.sign_in()
            await accepted.publishes(1)
            accepted.lose()
        accepted = await peer.accept()
        await accepted.sign_in()
        await starting
        (good,) = await accepted.publishes(1)
        assert good.topic_name == "u/ana/c/good"
        accepted.acknowledge(good)
        await ends.wait_for(("poison", False), ("good", True))
        assert publisher.counters.given_up == 1
        await publisher.close(0)


async def test_at_the_end_it_waits_for_what_is_not_acknowledged() -> None:
    async with listening() as peer, connected(peer) as (publisher, accepted):
        ends = Ends()
        publisher.announce(["u/ana/c/x"], b"", ends.of("event"))
        closing = asyncio.create_task(publisher.close(TIMEOUT_S))
        (publish,) = await accepted.publishes(1)
        ended, _ = await asyncio.wait([closing], timeout=0.1)
        assert not ended
        accepted.acknowledge(publish)
        await closing
        assert ends.ends == [("event", True)]


async def test_at_the_end_what_is_not_acknowledged_in_time_is_given_up() -> None:
    async with listening() as peer, connected(peer) as (publisher, _):
        ends = Ends()
        publisher.announce(["u/ana/c/x"], b"", ends.of("event"))
        await publisher.close(0.01)
        assert ends.ends == [("event", False)]


async def test_mqtts_is_tls_with_a_certificate_that_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = Certificate.make(tmp_path, "broker")
    async with listening(TlsCertificates(certificate.certificate, certificate.key).context) as peer:
        address = parse_address(f"mqtts://127.0.0.1:{peer.port}")
        with pytest.raises(Unusable, match="TLS with the broker"):
            await Publisher(address, LIMITS).start()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
        publisher = Publisher(address, LIMITS)
        starting = asyncio.create_task(publisher.start())
        await (await peer.accept()).sign_in()
        await starting
        await publisher.close(0)
