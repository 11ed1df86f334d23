"""The places that the server listens at: what each lets in, in what time, how many, and what it leaves behind."""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from recado.broker.listening import ListenerSettings, Listening, listen
from recado.broker.tls import TlsCertificates
from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_5, Connect
from tests.broker.application import LIMITS, Application
from tests.broker.certificates import Certificate
from tests.broker.client import Client
from tests.broker.places import TRANSPORTS, LoopStream, Places, running

TOPIC = "c/order"
CONNECT = encode(Connect("phone", username="ana"), MQTT_5)
UPGRADE = b"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificates"), "server")


@pytest.fixture
async def places(certificate: Certificate, tmp_path: Path) -> AsyncIterator[Places]:
    async with running(Application(replace(LIMITS, connect_timeout_s=1)), certificate, tmp_path) as places:
        yield places


# Every listener


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_of_each_listener_gets_what_is_published(places: Places, transport: str) -> None:
    listening = await places.listen(transport)
    client = await places.connected(listening)
    await client.subscribe(TOPIC)
    places.application.publish(TOPIC, "x" * 10_000)
    assert await client.take(1) == ["x" * 10_000]
    assert places.application.server.counters.connections == {transport: 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_the_client_is_can_be_told_as_long_as_it_is_there(places: Places, transport: str) -> None:
    listening = await places.listen(transport)
    stream = await places.stream(listening)
    await (await places.client(listening, stream)).connect("ana")
    (connection,) = places.application.server._connections
    assert connection.peer == ("unix" if transport == "unix" else stream.address)


async def test_a_listener_says_where_it_is(places: Places) -> None:
    tcp = await places.listen("tcp")
    unix = await places.listen("unix")
    assert (tcp.where, tcp.port > 0) == (f"127.0.0.1:{tcp.port}", True)
    assert (unix.where, unix.port) == (str(places.socket_file), 0)
    again = ListenerSettings("tcp", port=tcp.port)
    with pytest.raises(OSError, match="in use"):
        await listen(places.application.server, again)


async def test_every_address_of_a_host_has_the_same_port(places: Places) -> None:
    listening = await places.listen("tcp", host="localhost")
    for *_, address in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM):
        with socket.create_connection((str(address[0]), listening.port), 20):
            pass


# Who connects and says nothing


@pytest.mark.parametrize(
    ("transport", "said"),
    [
        ("tcp", b""),
        ("tcp", CONNECT[:-1]),
        ("unix", b""),
        ("tls", b""),
        ("tls", CONNECT[:5]),
        ("ws", b""),
        ("ws", UPGRADE),
        ("wss", UPGRADE),
    ],
)
async def test_who_does_not_send_a_whole_connect_in_time_is_closed(places: Places, transport: str, said: bytes) -> None:
    stream = await places.stream(await places.listen(transport))
    await stream.send(said)
    await places.until(lambda: places.application.server._connections)
    places.tick(2)
    assert await stream.ends()
    assert places.refusals == {"CONNECT_TIMEOUT": 1}


async def test_an_upgrade_without_a_connect_does_not_help(places: Places) -> None:
    listening = await places.listen("ws")
    client = await places.client(listening)
    places.tick(2)
    assert await client.next() is None
    assert places.refusals == {"CONNECT_TIMEOUT": 1}


@pytest.mark.parametrize("transport", ["tls", "wss"])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "half a ClientHello"])
async def test_half_a_tls_handshake_is_closed_in_time(places: Places, transport: str, said: bytes) -> None:
    listening = await places.listen(transport)
    stream = await places.raw_stream(listening)
    await stream.send(said)
    await places.until(lambda: listening.listener.opening == 1)
    assert await stream.ends()
    await places.until(lambda: listening.listener.opening == 0)
    assert places.refusals == {"TLS_HANDSHAKE": 1}


async def test_what_is_no_tls_is_refused_and_harms_nothing(places: Places) -> None:
    listening = await places.listen("tls")
    for said in (CONNECT, UPGRADE + b"\r\n", b"\xff" * 100):
        stream = await places.raw_stream(listening)
        await stream.send(said)
        while await stream.receive():
            pass
    assert places.refusals == {"TLS_HANDSHAKE": 3}
    await places.connected(listening)


# How many


async def is_refused(places: Places, listening: Listening) -> bool:
    try:
        client = await places.client(listening)
        await client.send(Connect("one-more", username="ana"))
        return await client.next() is None
    except (OSError, AssertionError):
        return True


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_listener_that_is_full_refuses_and_the_others_do_not(places: Places, transport: str) -> None:
    listening = await places.listen(transport, connections_max=2)
    other = await places.listen("ws" if transport == "tcp" else "tcp")
    first = await places.connected(listening, client_id="1")
    await places.connected(listening, client_id="2")
    assert await is_refused(places, listening)
    assert places.refusals == {"LISTENER_CONNECTIONS_MAX": 1}
    await places.connected(other, client_id="3")

    first.close()
    await places.until(lambda: listening.listener.connections == 1)
    await places.connected(listening, client_id="4")


@pytest.mark.parametrize("transport", ["tls", "wss"])
async def test_half_a_tls_handshake_counts_against_the_listener(places: Places, transport: str) -> None:
    listening = await places.listen(transport, connections_max=2)
    halves = [await places.raw_stream(listening) for _ in range(2)]
    await places.until(lambda: listening.listener.opening == 2)
    assert await is_refused(places, listening)
    assert places.refusals == {"LISTENER_CONNECTIONS_MAX": 1}
    for half in halves:
        half.close()
    await places.until(lambda: listening.listener.opening == 0)
    await places.connected(listening)


async def test_who_has_not_asked_for_the_upgrade_counts_against_the_listener(places: Places) -> None:
    listening = await places.listen("ws", connections_max=1)
    silent = await places.stream(listening)
    await places.until(lambda: listening.listener.connections == 1)
    assert await is_refused(places, listening)
    silent.close()
    await places.until(lambda: listening.listener.connections == 0)
    await places.connected(listening)


# TLS


async def certificate_shown(places: Places, listening: Listening, trusted: Certificate) -> str:
    stream = await places.stream(listening, trusted.trusted())
    name: str = dict(pair for (pair,) in stream.certificate["subject"])["commonName"]
    return name


async def test_a_reload_is_for_new_handshakes_and_open_connections_go_on(places: Places, tmp_path: Path) -> None:
    old = Certificate.make(tmp_path, "old")
    new = Certificate.make(tmp_path, "new")
    used = TlsCertificates(old.certificate, old.key)
    listening = await places.listen("tls", certificates=used)
    client = Client(await places.stream(listening, old.trusted()))
    await client.connect("ana")
    assert await certificate_shown(places, listening, old) == "old"

    old.certificate.write_bytes(new.certificate.read_bytes())
    old.key.write_bytes(new.key.read_bytes())
    used.reload()
    assert await certificate_shown(places, listening, new) == "new"
    assert await client.before_pong() == []


@pytest.mark.parametrize("broken", ["certificate", "key", "missing", "pair"])
async def test_a_reload_of_wrong_files_changes_nothing(places: Places, tmp_path: Path, broken: str) -> None:
    own = Certificate.make(tmp_path, "own")
    trusted = own.trusted()
    used = TlsCertificates(own.certificate, own.key)
    listening = await places.listen("tls", certificates=used)
    if broken == "missing":
        own.certificate.unlink()
    elif broken == "pair":  # the renewal has written one file of two
        own.certificate.write_bytes(Certificate.make(tmp_path, "other").certificate.read_bytes())
    else:
        (own.certificate if broken == "certificate" else own.key).write_text("not PEM")
    with pytest.raises(OSError, match=r".+"):
        used.reload()
    await Client(await places.stream(listening, trusted)).connect("ana")


def test_a_key_with_a_password_is_refused_and_nothing_is_asked_at_the_terminal(tmp_path: Path) -> None:
    made = Certificate.make(tmp_path, "own")
    made.lock("secret")
    with pytest.raises(ssl.SSLError):
        TlsCertificates(made.certificate, made.key)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_before_1_2_is_refused(places: Places) -> None:
    # Newer OpenSSL would refuse it by itself; with its own least security it is the server's word that counts.
    places.certificates.context.set_ciphers("DEFAULT:@SECLEVEL=0")
    listening = await places.listen("tls")
    for version, is_let_in in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = places.certificate.trusted()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        try:
            await Client(await places.stream(listening, context)).connect("ana")
        except OSError:
            assert not is_let_in
        else:
            assert is_let_in


async def test_a_tls_listener_needs_a_certificate(places: Places) -> None:
    with pytest.raises(ValueError, match="tls"):
        await listen(places.application.server, ListenerSettings("tls"))


# Unix sockets


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_the_socket_file_has_the_mode_that_was_asked_for(places: Places, mode: int) -> None:
    await places.listen("unix", socket_mode=mode)
    assert stat.S_IMODE(places.socket_file.stat().st_mode) == mode


async def test_the_socket_of_a_server_that_is_gone_is_replaced(places: Places) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(places.socket_file))
    await places.connected(await places.listen("unix"))


async def test_the_socket_of_a_server_that_listens_is_not_taken(places: Places) -> None:
    listening = await places.listen("unix")
    with pytest.raises(OSError, match="somebody listens"):
        await places.listen("unix")
    await places.connected(listening)


async def test_a_file_that_is_no_socket_is_not_touched(places: Places) -> None:
    places.socket_file.write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        await places.listen("unix")
    assert places.socket_file.read_text() == "precious"


async def test_the_socket_file_goes_with_its_listener_and_with_no_other(places: Places, tmp_path: Path) -> None:
    (await places.listen("unix")).close()
    assert not places.socket_file.exists()

    former = await places.listen("unix")
    places.socket_file.rename(tmp_path / "moved.sock")
    await places.listen("unix")
    former.close()
    assert places.socket_file.exists()


# The end


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_closed_listener_takes_nobody_and_its_connections_go_on(places: Places, transport: str) -> None:
    listening = await places.listen(transport)
    client = await places.connected(listening)
    listening.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(OSError, match=r".+"):
        await places.stream(listening)
    assert await client.before_pong() == []


async def test_a_closed_listener_gives_up_what_has_not_opened_yet(places: Places) -> None:
    listening = await places.listen("tls")
    half = await places.raw_stream(listening)
    await places.until(lambda: listening.listener.opening == 1)
    listening.close()
    assert await half.ends()
    await places.until(lambda: listening.listener.opening == 0)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_file_is_left_open(places: Places) -> None:
    listenings = [await places.listen(transport) for transport in TRANSPORTS]

    async def come_and_go() -> None:
        for listening in listenings:
            (await places.connected(listening)).close()
        half: LoopStream = await places.raw_stream(listenings[1])
        half.close()
        server = places.application.server
        await places.until(lambda: not server._connections and not any(each.listener.opening for each in listenings))

    await come_and_go()
    before = open_files()
    for _ in range(5):
        await come_and_go()
    await places.until(lambda: open_files() <= before)
