"""Getting in, staying in, coming back; and what ends a client for good."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import re
import socket
import ssl
import struct
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from deploy.services.ports import free_ports
from recado.broker.tls import TlsCertificates
from recado.client import (
    ClientLimits,
    Closed,
    CutOff,
    NotAuthenticated,
    ProtocolFailure,
    TakenOver,
    Unreachable,
    connect,
)
from recado.mqtt.packets import Connack, Connect
from recado.mqtt.properties import PropertyId
from recado.mqtt.reason_codes import ReasonCode
from tests.broker.certificates import Certificate
from tests.client.conftest import QUICK, take, until
from tests.client.relay import Relay
from tests.client.scripted import Peer, Scripted
from tests.support.server import Server


async def test_a_token_that_ends_is_renewed_on_the_open_connection(shared_server: Server, conversation: str) -> None:
    provided = 0

    async def provide() -> str:
        nonlocal provided
        provided += 1
        return shared_server.token("ana", ttl_s=3)

    async with (
        Relay(shared_server.mqtt_port) as relay,
        connect(f"mqtt://127.0.0.1:{relay.port}", provide, limits=QUICK) as client,
    ):
        events = client.events(conversation)
        started_at = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < started_at + 4.5:
            await client.send(conversation, "still here")
            await anext(events)
            await asyncio.sleep(0.1)
        assert provided > 2
        assert relay.connections == 1


async def test_a_token_without_a_provider_ends_the_client_when_it_ends(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async with connect(mqtt_url, shared_server.token("ana", ttl_s=2.5), limits=QUICK) as client:
        with pytest.raises(NotAuthenticated) as ended:
            await anext(client.events(conversation))
        assert ended.value.code is ReasonCode.MAXIMUM_CONNECT_TIME
        for _ in range(3):
            with pytest.raises(NotAuthenticated) as again:
                await client.send(conversation, "x")
        assert len(again.traceback) < 6  # it does not grow


async def test_a_provider_whose_token_is_refused_is_asked_once_more(shared_server: Server, mqtt_url: str) -> None:
    tokens = iter(["forged", shared_server.token("ana"), "too many"])

    async def provide() -> str:
        return next(tokens)

    async with connect(mqtt_url, provide) as client:
        assert client.user == "ana"
    assert next(tokens) == "too many"


async def test_a_provider_that_has_no_better_token_ends_the_client(mqtt_url: str) -> None:
    asked = 0

    async def provide() -> str:
        nonlocal asked
        asked += 1
        return "forged"

    with pytest.raises(NotAuthenticated) as refused:
        async with connect(mqtt_url, provide):
            pass
    assert refused.value.code is ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert asked == 2


async def test_the_error_of_a_provider_is_raised_at_the_start_and_waited_out_later(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    async def fails() -> str:
        raise LookupError("no session")

    with pytest.raises(LookupError, match="no session"):
        async with connect(mqtt_url, fails):
            pass

    outcomes = iter([shared_server.token("ana", ttl_s=2.5), None, None, shared_server.token("ana")])

    async def fails_twice() -> str:
        token = next(outcomes)
        if token is None:
            raise LookupError("not now")
        return token

    async with connect(mqtt_url, fails_twice, limits=QUICK) as client:
        events = client.events(conversation)
        await until(lambda: not client.is_connected)
        await client.send(conversation, "with the second token")
        assert (await anext(events)).body == "with the second token"


async def test_a_server_that_lets_in_and_then_refuses_is_not_asked_for_ever() -> None:
    async def provide() -> str:
        return "token"

    async def changes_its_mind(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        peer.disconnect(ReasonCode.NOT_AUTHORIZED)

    limits = ClientLimits(backoff_first_s=0.02)
    async with Scripted(changes_its_mind) as server, connect(server.url, provide, limits=limits) as client:
        with pytest.raises(NotAuthenticated):
            await anext(client.events("x"))
        assert server.connections == 2


async def test_where_nobody_listens_the_first_connection_fails_in_time() -> None:
    (port,) = free_ports(1)
    for url in (f"mqtt://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/mqtt"):
        with pytest.raises(Unreachable, match=r"within 0\.3 s") as unreachable:
            async with connect(url, "token", limits=ClientLimits(opening_s=0.3, backoff_first_s=0.01)):
                pass
        assert isinstance(unreachable.value.__cause__, ConnectionError)


@pytest.mark.parametrize("scheme", ["mqtt", "ws"])
async def test_a_server_that_does_not_answer_is_left(scheme: str) -> None:
    are_open = 0

    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal are_open
        are_open += 1
        while await reader.read(65_536):
            pass
        are_open -= 1
        writer.close()

    limits = ClientLimits(opening_s=1, connect_s=0.1, backoff_first_s=0.01)
    async with _listening(says_nothing) as port:
        with pytest.raises(Unreachable):
            async with connect(f"{scheme}://127.0.0.1:{port}", "token", limits=limits):
                pass
        await until(lambda: not are_open)


@pytest.mark.parametrize(
    "answer", ["", "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n{accept}\r\n\r\n"]
)
@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_websocket_that_ends_in_its_handshake_or_just_after_it_is_followed_by_another(
    answer: str, is_reset: bool
) -> None:
    connections = 0

    async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = re.findall(r"(?i)sec-websocket-key: (.*)\r", head)[0]
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # RFC 6455, 1.3
        writer.write(answer.format(accept=f"Sec-WebSocket-Accept: {b64encode(digest).decode()}").encode())
        if is_reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    limits = dataclasses.replace(QUICK, connect_s=1_000, opening_s=1)
    async with _listening(ends) as port:
        with pytest.raises(Unreachable) as unreachable:
            async with connect(f"ws://127.0.0.1:{port}/mqtt", "token", limits=limits):
                pass
    assert connections > 3
    assert unreachable.value.__cause__ is not None


async def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(shared_server: Server, tmp_path: Path) -> None:
    certificate = Certificate.make(tmp_path, "server")
    shown = TlsCertificates(certificate.certificate, certificate.key).context
    async with Relay(shared_server.mqtt_port, shown) as relay:
        for url in (f"mqtts://127.0.0.1:{relay.port}", f"wss://127.0.0.1:{relay.port}/mqtt"):
            with pytest.raises(ssl.SSLCertVerificationError):
                async with connect(url, "token"):
                    pass


@pytest.mark.parametrize(
    "url", ["http://h", "h:1883", "mqtt://", "mqtt://user:secret@h", "ws:///mqtt", "mqtt://h:0", ""]
)
def test_a_url_that_is_none_of_the_four_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL"):
        connect(url, "token")


async def test_a_client_whose_session_was_taken_over_does_not_fight_for_it(
    shared_server: Server, mqtt_url: str, conversation: str
) -> None:
    token = shared_server.token("ana")
    async with connect(mqtt_url, token, session="bot") as first:
        events = first.events(conversation)
        async with connect(mqtt_url, token, session="bot") as second:
            with pytest.raises(TakenOver):
                await anext(events)
            with pytest.raises(TakenOver):
                await first.send(conversation, "x")
            await second.send(conversation, "mine now")


async def test_a_client_that_the_host_cut_off_stays_away(shared_server: Server, mqtt_url: str) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "dora"])
    async with connect(mqtt_url, shared_server.token("dora"), limits=QUICK) as dora:
        events = dora.events(conversation)
        await dora.send(conversation, "here")
        shared_server.host_api.call("DELETE", "/users/dora/sessions").expect(204)
        with pytest.raises(CutOff):
            await take(events, 2)
        assert not dora.is_connected


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (ReasonCode.ADMINISTRATIVE_ACTION, CutOff),
        (ReasonCode.PROTOCOL_ERROR, ProtocolFailure),
        (ReasonCode.NOT_AUTHORIZED, NotAuthenticated),
    ],
)
async def test_an_end_that_is_meant_ends_the_client(code: ReasonCode, error: type[Exception]) -> None:
    async def ends(peer: Peer) -> None:
        await peer.accept()
        await peer.subscribed()
        peer.disconnect(code)

    async with Scripted(ends) as server, connect(server.url, "token", limits=QUICK) as client:
        with pytest.raises(error):
            await anext(client.events("x"))
        assert server.connections == 1


@pytest.mark.parametrize("code", [ReasonCode.SERVER_BUSY, ReasonCode.CONNECTION_RATE_EXCEEDED])
async def test_a_server_that_is_busy_is_asked_again(code: ReasonCode) -> None:
    async def is_busy(peer: Peer) -> None:
        assert isinstance(await peer.next(), Connect)
        peer.send(Connack(reason_code=code))

    async def lets_in(peer: Peer) -> None:
        await peer.accept()
        await peer.rest()

    async with Scripted(is_busy, is_busy, lets_in) as server, connect(server.url, "token", limits=QUICK):
        assert server.connections == 3


async def test_a_connection_that_went_dead_is_found_out_and_replaced(shared_server: Server, conversation: str) -> None:
    limits = ClientLimits(keep_alive_s=1, answer_s=0.2, backoff_first_s=0.01, connect_s=0.5)
    async with (
        Relay(shared_server.mqtt_port) as relay,
        connect(f"mqtt://127.0.0.1:{relay.port}", shared_server.token("ana"), limits=limits) as client,
    ):
        events = client.events(conversation, after=0)
        await client.send(conversation, "1")
        await anext(events)
        relay.is_deaf = True
        shared_server.api("bruno").send(conversation, "2")
        await until(lambda: not client.is_connected)
        relay.is_deaf = False
        assert (await anext(events)).body == "2"


async def test_an_idle_connection_is_kept_with_pings(shared_server: Server) -> None:
    limits = ClientLimits(keep_alive_s=1, answer_s=5)
    async with (
        Relay(shared_server.mqtt_port) as relay,
        connect(f"mqtt://127.0.0.1:{relay.port}", shared_server.token("ana"), limits=limits) as client,
    ):
        await asyncio.sleep(4.5)  # three times what the server waits for a client that is silent
        assert client.is_connected
        assert relay.connections == 1


async def test_connect_says_what_the_client_can_take() -> None:
    said: list[Connect] = []

    async def listens(peer: Peer) -> None:
        said.append(await peer.accept())
        await peer.rest()

    async with (
        Scripted(listens) as server,
        connect(server.url, "the token"),
        connect(server.url, "the token", session="bot"),
    ):
        await until(lambda: len(said) == 2)
    one, kept = said
    assert (one.clean_start, kept.clean_start, kept.client_id) == (True, False, "bot")
    assert one.client_id.startswith("py-")
    assert one.properties[PropertyId.AUTHENTICATION_METHOD] == "token"
    assert one.properties[PropertyId.AUTHENTICATION_DATA] == b"the token"
    assert one.properties[PropertyId.RECEIVE_MAXIMUM] == 100
    assert PropertyId.SESSION_EXPIRY_INTERVAL not in one.properties
    assert kept.properties[PropertyId.SESSION_EXPIRY_INTERVAL] == 7 * 24 * 3600


async def test_an_idle_client_has_one_task(shared_server: Server, mqtt_url: str, conversation: str) -> None:
    before = asyncio.all_tasks()
    async with connect(mqtt_url, shared_server.token("ana")) as client:
        events = client.events(conversation)
        await client.send(conversation, "x")
        await anext(events)
        assert len(asyncio.all_tasks() - before) == 1
    assert asyncio.all_tasks() == before
    with pytest.raises(Closed):
        await anext(events)


async def test_a_client_is_opened_once_and_used_while_it_is_open(shared_server: Server, mqtt_url: str) -> None:
    client = connect(mqtt_url, shared_server.token("ana"))
    with pytest.raises(Closed, match="not open yet"):
        client.events("x")
    async with client:
        pass
    with pytest.raises(RuntimeError, match="opened once"):
        async with client:
            pass


def test_it_works_on_uvloop(shared_server: Server) -> None:
    conversation = shared_server.host_api.create_conversation(["ana", "bruno"])

    async def talk(url: str) -> list[str | None]:
        async with connect(url, shared_server.token("ana")) as ana, connect(url, shared_server.token("bruno")) as bruno:
            events = bruno.events(conversation)
            await bruno.send(conversation, "1")
            await ana.send(conversation, "2")
            return [event.body for event in await take(events, 2)]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for url in (f"mqtt://127.0.0.1:{shared_server.mqtt_port}", shared_server.ws_url):
            assert runner.run(talk(url)) == ["1", "2"]


INTERRUPTED = """
import asyncio, sys
from recado.client import connect

async def main(url, token, conversation):
    async with connect(url, token) as client:
        asyncio.create_task(client.send("nobody", "x"))
        async with connect(url, token) as other:
            events = other.events(conversation)
            waiting = asyncio.create_task(anext(events))
            await client.send(conversation, "x")
            await waiting
            async for event in client.events(conversation, after=0):
                raise KeyboardInterrupt

try:
    asyncio.run(main(*sys.argv[1:]), debug=True)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("transport", ["mqtt", "ws"])
def test_a_program_that_is_interrupted_ends_without_a_warning(shared_server: Server, transport: str) -> None:
    conversation = shared_server.host_api.create_conversation(["ana"])
    url = f"mqtt://127.0.0.1:{shared_server.mqtt_port}" if transport == "mqtt" else shared_server.ws_url
    program = [sys.executable, "-X", "dev", "-c", INTERRUPTED, url, shared_server.token("ana"), conversation]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.stdout, ended.returncode) == ("interrupted\n", 0), ended.stderr
    assert "was destroyed" not in ended.stderr
    assert "Warning" not in ended.stderr


@asynccontextmanager
async def _listening(
    accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_lost_connection_is_told_to_the_log(
    shared_server: Server, conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "recado.client")
    async with (
        Relay(shared_server.mqtt_port) as relay,
        connect(f"mqtt://127.0.0.1:{relay.port}", shared_server.token("ana"), limits=QUICK) as client,
    ):
        relay.cut()
        await client.send(conversation, "x")
    assert "ended" in caplog.text
    assert shared_server.token("ana")[:20] not in caplog.text
