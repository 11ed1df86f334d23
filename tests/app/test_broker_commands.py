"""What `recado broker` and `recado passwd` say when something is wrong, and the settings' sources."""

from __future__ import annotations

import errno
import json
import os
import pty
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from recado.app.broker_node import Files, read_files
from recado.app.broker_settings import BrokerSettings
from recado.app.config import SettingsError
from recado.broker.passwords import load_passwords
from recado.mqtt.packets import Connack, Connect, Pingreq, Pingresp
from recado.mqtt.reason_codes import ReasonCode
from tests.app.brokers import Broker
from tests.app.commands import RECADO, SECRET, TIMEOUT_S, environment, refusal, run
from tests.broker.client import Client, TcpStream

ANYWHERE = {"--mqtt-port": "0", "--ws-port": "0", "--http-port": "0", "--database": "off"}


def flags(changes: dict[str, str]) -> list[str]:
    return [f"{flag}={value}" for flag, value in {**ANYWHERE, **changes}.items()]


# What cannot be meant


def test_a_broker_that_nobody_could_connect_to_says_what_to_do(tmp_path: Path) -> None:
    said = refusal(tmp_path, "broker")
    for way in ("--password-file", "recado passwd FILE USER", "RECADO_SECRET", "--jwks", "--allow-anonymous"):
        assert way in said
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mqtt_port": 70_000}, "mqtt_port is 0 to 65535"),
        ({"http_port": -1}, "http_port is 0 to 65535"),
        ({"mqtt_port": "off", "ws_port": "off"}, "every listener is off"),
        ({"mqtts_port": 8883}, "mqtts_port needs tls_cert"),
        ({"wss_port": 0}, "wss_port needs tls_cert"),
        ({"tls_cert": Path("x")}, "are for mqtts_port and wss_port"),
        ({"database": "recado.db"}, "database is sqlite:///.*as sqlite:///recado.db, or off"),
        ({"database": "/var/x.db"}, "as sqlite:////var/x.db, or off"),
        ({"database": "sqlite:///:memory:"}, "or off to keep nothing"),
        ({"listener_connections": {"mqtt": 5}}, "listener_connections are of tcp, tls, ws, wss, unix, not of 'mqtt'"),
        ({"listener_connections": {"ws": 0}}, "listener_connections.ws must be 1 or more"),
        ({"allow_anonymous": False, "secret": "short"}, "RECADO_SECRET must have at least 32"),
        ({"jwks": "keys.json"}, "jwks needs jwt_issuer"),
        ({"allowed_origins": ("shop.example.com",)}, "allowed origin"),
        ({"log_level": "loud"}, "log_level is"),
    ],
    ids=str,
)
def test_a_setting_that_is_wrong_in_itself_is_named(wrong: dict[str, object], said: str) -> None:
    settings = {"allow_anonymous": True, **wrong}
    with pytest.raises(SettingsError, match=said):
        BrokerSettings(**settings).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "right",
    [
        {"allow_anonymous": True},
        {"password_file": Path("x")},
        {"secret": SECRET},
        {"jwks": "x", "jwt_issuer": "i", "jwt_audience": "a"},
        {"allow_anonymous": True, "mqtt_port": "off", "ws_port": "off", "unix_socket": Path("x")},
        {"allow_anonymous": True, "mqtts_port": 8883, "tls_cert": Path("x")},
        {"allow_anonymous": True, "http_port": "off", "database": "off"},
    ],
    ids=str,
)
def test_a_way_in_and_a_listener_are_enough(right: dict[str, object]) -> None:
    BrokerSettings(**right).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "open_to_strangers"),
    [
        ({"host": "0.0.0.0", "allow_anonymous": True}, True),
        ({"host": "chat.example.com", "allow_anonymous": True}, True),
        ({"host": "0.0.0.0", "secret": SECRET}, False),
        ({"host": "127.0.0.1", "allow_anonymous": True}, False),
        ({"host": "::1", "allow_anonymous": True}, False),
        ({"host": "localhost", "allow_anonymous": True}, False),
        ({"host": "0.0.0.0", "allow_anonymous": True, "mqtt_port": "off", "ws_port": "off", "wss_port": 443}, False),
    ],
    ids=str,
)
def test_a_broker_that_strangers_can_use_and_read_is_told_from_one_that_they_cannot(
    settings: dict[str, object], open_to_strangers: bool
) -> None:
    assert BrokerSettings(**settings).is_open_to_strangers() == open_to_strangers  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--password-file": "no-users"}, "no-users cannot be read: No such file"),
        ({"--acl-file": "no-acl"}, "the ACL file no-acl cannot be read: No such file"),
        ({"--acl-file": "wrong"}, "the ACL file wrong, line 2: a rule is"),
        ({"--tls-cert": "wrong", "--mqtts-port": "0"}, "tls_cert wrong cannot be used"),
        (
            {"--tls-cert": "no-cert", "--tls-key": "no-key", "--wss-port": "0"},
            "tls_cert no-cert and tls_key no-key cannot",
        ),
        ({"--database": "sqlite:///missing/broker.db"}, "the database missing/broker.db cannot be made: there is no"),
        ({"--host": "no.such.host.invalid"}, "name another address with --host"),
        ({"--host": "203.0.113.1", "--mqtt-port": "1883"}, "name another address with --host"),
        ({"--config": "no-settings"}, "no-settings cannot be read: No such file"),
        ({"--config": "wrong"}, "wrong is not TOML"),
        ({"--http-host": "no.such.host.invalid"}, "name another address with --http-host"),
        ({"--unix-socket": "wrong"}, "cannot listen on wrong"),
        ({"--limit.no_such": "1"}, "no limit 'no_such'"),
        ({"--limit.paket_bytes_max": "1"}, "did you mean packet_bytes_max?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_broker_that_cannot_start_is_one_line_and_exit_status_2(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    (tmp_path / "wrong").write_text("everyone\ntopic all #\n")
    line = refusal(tmp_path, "broker", "--allow-anonymous", *flags(changes))
    assert said in line
    assert "\n" not in line


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("flag", ["http-port", "mqtt-port", "ws-port"])
def test_a_port_in_use_is_named_with_the_flag_that_changes_it(tmp_path: Path, taken: int, flag: str) -> None:
    line = refusal(tmp_path, "broker", "--allow-anonymous", *flags({f"--{flag}": str(taken)}))
    assert f"port {taken}" in line
    assert f"--{flag}" in line
    assert "\n" not in line


def test_a_file_that_is_no_text_is_no_acl(tmp_path: Path) -> None:
    (tmp_path / "acl").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        read_files(BrokerSettings(acl_file=tmp_path / "acl"))
    assert read_files(BrokerSettings()) == Files(None, None)


# Where settings come from


def test_a_broker_takes_its_settings_from_flags_the_environment_and_the_file_it_shares_with_serve(
    tmp_path: Path,
) -> None:
    (tmp_path / "recado.toml").write_text(
        'public_url = "https://chat.example.com"\npages = false\nlog-level = "debug"\nmqtt_port = "off"\n'
        "[limit]\nbody_bytes_max = 100\n[listener_connections]\ntcp = 5\n"
    )
    settings = {"WS_PORT": "off", "HTTP_PORT": "off", "DATABASE": "off", "ALLOW_ANONYMOUS": "true"}
    assert "every listener is off" in refusal(tmp_path, "broker", **settings)
    assert "listener_connections.tcp must be" in refusal(
        tmp_path, "broker", "--mqtt-port=0", **settings, LISTENER_CONNECTIONS='{"tcp": 0}'
    )


COMMANDS = [["broker"], ["serve"], ["demo"], ["token", "ana"], ["backup", "copy"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "recado.toml cannot be read: Is a directory"),
        (b"log_level = [", "recado.toml is not TOML"),
        (b"\xff", "recado.toml is not UTF-8"),
        (b"allow_anonymus = true", "'allow_anonymus' in recado.toml is no setting; did you mean allow_anonymous?"),
        (b'config = "other.toml"', "'config' in recado.toml is no setting"),
        (
            b"[broker]\nmqtt_port = 1",
            "recado.toml: there are no tables per command, put the keys of [broker] at the top",
        ),
        (b"[serve]", "put the keys of [serve] at the top"),
    ],
    ids=str,
)
def test_a_file_of_settings_that_cannot_hold_is_one_line_that_names_it(
    tmp_path: Path, command: list[str], text: bytes | None, said: str
) -> None:
    file = tmp_path / "recado.toml"
    file.mkdir() if text is None else file.write_bytes(text)
    line = refusal(tmp_path, *command)
    assert said in line
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_variable_that_is_no_setting_of_any_command_is_an_error(tmp_path: Path, command: list[str]) -> None:
    line = refusal(tmp_path, *command, ACL_FLIE="acl", PUBLIC_URL="https://chat.example.com")
    assert line == "RECADO_ACL_FLIE in the environment is no setting; did you mean RECADO_ACL_FILE?"


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_the_file_of_settings_may_be_another_one(tmp_path: Path, how: str) -> None:
    (tmp_path / "recado.toml").write_text('log_level = "loud"')
    (tmp_path / "other.toml").write_text('log_format = "xml"')
    flags = ["--config=other.toml"] if how == "flag" else []
    variables = {"CONFIG": "other.toml"} if how == "variable" else {}
    assert "log_format is" in refusal(tmp_path, "broker", "--allow-anonymous", *flags, **variables)


def test_the_key_of_another_certificate_is_named_as_what_is_wrong(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        certificate(tmp_path / name, name)
    tls = {"--mqtts-port": "0", "--tls-cert": "first/cert.pem", "--tls-key": "second/key.pem"}
    assert refusal(tmp_path, "broker", "--allow-anonymous", *flags(tls)).endswith("the key is another certificate's")


def test_a_backup_of_no_database_beside_a_brokers_says_how_to_name_that(tmp_path: Path) -> None:
    (tmp_path / "recado-broker.db").touch()
    assert "add --database sqlite:///recado-broker.db" in refusal(tmp_path, "backup", "copy")


@pytest.mark.parametrize("where", ["environment", "file"])
def test_only_settings_come_from_the_environment_and_the_file(tmp_path: Path, where: str) -> None:
    if where == "file":
        (tmp_path / "recado.toml").write_text('host = "127.0.0.1"\n')
    variables = {"USER": "ana", "TTL_S": "5", "DELETE": "true", "FILE": "users"}
    ran = run(tmp_path, "token", SECRET=SECRET, **({"URL": "ana"} if where == "environment" else {}))
    assert ran.returncode != 0, "the user is an argument, whatever RECADO_USER says"
    assert "USER" in (ran.stdout + ran.stderr).upper()
    passwd = subprocess.run(
        [RECADO, "passwd", "users", "bruno"],
        cwd=tmp_path,
        env=environment(**variables),
        input="x\n",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert passwd.returncode == 0, passwd
    assert list(load_passwords(tmp_path / "users")) == ["bruno"]


# passwd


def passwd(folder: Path, *arguments: str, typed: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [RECADO, "passwd", *arguments],
        cwd=folder,
        env=environment(),
        input=typed,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_passwd_reads_the_password_from_a_pipe_and_says_nothing(tmp_path: Path) -> None:
    ran = passwd(tmp_path, "users", "ana", typed=b"secret\n")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert stat.S_IMODE((tmp_path / "users").stat().st_mode) == 0o600
    assert passwd(tmp_path, "users", "ana", "--delete", typed=b"").returncode == 0
    assert load_passwords(tmp_path / "users") == {}


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        (["users", "a:b"], b"x", "no ':'"),
        (["users", "ana"], b"", "one line"),
        (["users", "ana"], b"a\nb\n", "one line"),
        (["users", "ana"], b"\xff", "UTF-8"),
        (["missing/users", "ana"], b"x", "cannot be written"),
        (["users", "ana", "--delete"], b"", "cannot be read"),
    ],
)
def test_passwd_says_in_one_line_what_cannot_be_done(
    tmp_path: Path, arguments: list[str], typed: bytes, said: str
) -> None:
    ran = passwd(tmp_path, *arguments, typed=typed)
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"recado: ")
    assert said in ran.stderr.decode()
    assert ran.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("again", "status"), [("secret", 0), ("other", 2)])
def test_passwd_asks_twice_at_a_terminal_and_shows_nothing(tmp_path: Path, again: str, status: int) -> None:
    ours, theirs = pty.openpty()
    asked = subprocess.Popen(
        [RECADO, "passwd", "users", "ana"],
        cwd=tmp_path,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    for question, answer in (("Password: ", "secret"), ("Again: ", again)):
        shown += read_until(ours, question.encode())
        os.write(ours, answer.encode() + b"\n")
    assert asked.wait(TIMEOUT_S) == status
    shown += rest(ours)
    os.close(ours)
    assert b"secret" not in shown
    assert (tmp_path / "users").exists() == (status == 0)


def read_until(terminal: int, text: bytes) -> bytes:
    shown = b""
    while text not in shown:
        shown += os.read(terminal, 1024)
    return shown


def rest(terminal: int) -> bytes:
    shown = b""
    try:
        while more := os.read(terminal, 1024):
            shown += more
    except OSError as error:  # how Linux says that nobody is at the other end any more
        if error.errno != errno.EIO:
            raise
    return shown


# The other listeners


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-days", "30", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True, timeout=TIMEOUT_S)
    return cert, key


def rest_of(connection: socket.socket) -> None:
    """Read until the other end has closed."""
    connection.settimeout(TIMEOUT_S)
    with suppress(ConnectionResetError):
        while connection.recv(1024):
            pass


def shown_certificate(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as tcp, context.wrap_socket(tcp) as tls:
        shown = tls.getpeercert(binary_form=True)
        assert shown is not None
        return shown


def test_a_reload_takes_up_a_new_certificate_and_keeps_the_old_one_if_that_is_wrong(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "first")
    broker = Broker(tmp_path, "--allow-anonymous", "--mqtts-port=0", f"--tls-cert={cert}", f"--tls-key={key}")
    try:
        broker.start()
        port = broker.lines("ready")[0]["mqtts_port"]
        assert b"first" in shown_certificate(port)
        certificate(tmp_path, "second")
        assert broker.reload()["event"] == "reloaded"
        assert b"second" in shown_certificate(port)
        cert.write_text("nothing")
        assert "tls_cert" in broker.reload()["error"]
        assert b"second" in shown_certificate(port)
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            rest_of(plain)
        line = broker.awaited("connection_refused")
        assert (line["reason"], line["listener"], line["detail"]) == ("tls_handshake", "tls", "HTTP_REQUEST")
        assert line["address"].startswith("127.0.0.1:")
        broker.stop()
    finally:
        broker.close()


async def test_a_reload_takes_up_the_keys_of_a_jwks(tmp_path: Path) -> None:
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    claims = {"sub": "ana", "iss": "issuer", "aud": "recado", "exp": int(time.time()) + 600}

    def publish_key(key: Ed25519PrivateKey) -> None:
        public = {**json.loads(OKPAlgorithm.to_jwk(key.public_key())), "kid": "k", "use": "sig"}
        (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public]}))

    async def said_to(key: Ed25519PrivateKey) -> ReasonCode:
        _, connack = await broker.connect("ana", jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "k"}))
        return connack.reason_code

    publish_key(first)
    flags = (f"--jwks={tmp_path / 'jwks.json'}", "--jwt-issuer=issuer", "--jwt-audience=recado", "--database=off")
    broker = Broker(tmp_path, *flags)
    try:
        broker.start()
        assert await said_to(first) == ReasonCode.SUCCESS
        assert await said_to(second) == ReasonCode.BAD_USER_NAME_OR_PASSWORD
        publish_key(second)
        assert broker.reload()["event"] == "reloaded"
        assert await said_to(second) == ReasonCode.SUCCESS
        assert await said_to(first) == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    finally:
        broker.close()


async def test_a_unix_socket_is_a_listener_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"
    broker = Broker(tmp_path, "--allow-anonymous", f"--unix-socket={path}", "--database=off")
    try:
        broker.start()
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(str(path))
        connected.setblocking(False)
        client = Client(TcpStream(connected))
        await client.send(Connect("phone"), Pingreq())
        assert (await client.expect(Connack)).reason_code == 0
        await client.expect(Pingresp)
        broker.stop()
        assert not path.exists()
    finally:
        broker.close()


async def test_a_listener_has_its_own_most_connections(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "--allow-anonymous", "--database=off", "--listener-connections.tcp=2")
    try:
        broker.start()
        first, second = [await broker.connected(client_id=client_id) for client_id in ("a", "b")]
        third = await broker.client()
        assert await third.rest() == []
        (line,) = broker.lines("connection_refused")
        assert (line["reason"], line["listener"]) == ("listener_connections_max", "tcp")
        assert line["address"].startswith("127.0.0.1:")
        assert (await first.before_pong(), await second.before_pong()) == ([], [])
    finally:
        broker.close()
