"""The command line as a process: what it says, with which exit status, and where a setting comes from."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from deploy.services.child_process import running
from recado.app import cli
from tests.app.commands import API_KEY, SECRET, refusal, run
from tests.support.server import Server

SECRETS = {name: f"{name}-secret-that-has-thirty-two-bytes-or-more" for name in ("flag", "environment", "file")}


def signed_with(token: str) -> str:
    """Which of SECRETS signed it."""
    for name, secret in SECRETS.items():
        try:
            jwt.decode(token.strip(), secret, algorithms=["HS256"])
        except jwt.InvalidSignatureError:
            continue
        return name
    raise AssertionError("none of them")


# Where a setting comes from


@pytest.mark.parametrize(
    ("given", "wins"),
    [(("flag", "environment", "file"), "flag"), (("environment", "file"), "environment"), (("file",), "file")],
)
def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, given: tuple[str, ...], wins: str
) -> None:
    (tmp_path / "recado.toml").write_text(f'secret = "{SECRETS["file"]}"\n' if "file" in given else "")
    flags = [f"--secret={SECRETS['flag']}"] if "flag" in given else []
    settings = {"SECRET": SECRETS["environment"]} if "environment" in given else {}
    ran = run(tmp_path, "token", "ana", *flags, **settings)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert signed_with(ran.stdout) == wins


# token


def test_token_prints_a_users_token_with_the_life_that_was_asked_for(tmp_path: Path) -> None:
    ran = run(tmp_path, "token", "ana", "--ttl-s=90", SECRET=SECRET)
    claims = jwt.decode(ran.stdout.strip(), SECRET, algorithms=["HS256"])
    assert ran.stdout.count("\n") == 1
    assert claims["sub"] == "ana"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["token", "a b"], "user id must be"),
        (["token", "ana", "--ttl-s=0"], "ttl_s is 1 to"),
        (["token", "ana", "--ttl-s=99999999"], "ttl_s is 1 to"),
    ],
)
def test_a_token_that_cannot_be_made_is_one_line_of_why(tmp_path: Path, arguments: list[str], said: str) -> None:
    line = refusal(tmp_path, *arguments, SECRET=SECRET)
    assert said in line
    assert "\n" not in line


# Wrong settings


def test_a_missing_secret_says_how_to_make_one_and_what_it_says_works(tmp_path: Path) -> None:
    said = refusal(tmp_path, "serve")
    assert "RECADO_SECRET is not set" in said
    assert "export RECADO_SECRET=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')" in said
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--secret=short", "RECADO_SECRET must have at least 32 bytes"),
        ("--api-key=short", "RECADO_API_KEY must have at least 32"),
        ("--api-key=" + "é" * 40, "RECADO_API_KEY must be ASCII"),
        ("--database=postgres://x", "database: a PostgreSQL server's is postgresql://"),
        ("--database=postgresql://ana:p@ss@h/recado", "%40 for #, /, : and @ in a password"),
        ("--database=postgresql://h:port/recado", "database: a PostgreSQL server's is postgresql://"),
        ("--database=mysql://ana:geheim@h/recado", "or postgresql://user:password@host/database"),
        ("--database=mysql:ana:geheim", "database is sqlite:/// and a path, as sqlite:///recado.db"),
        ("--database=ana:geheim@h/recado", "database is sqlite:/// and a path, as sqlite:///recado.db"),
        ("--database=sqlite:///", "database is sqlite:///"),
        ("--public-url=chat.example.com", "public_url is https://host"),
        ("--public-url=https://[chat.example.com", "public_url is https://host"),
        ("--public-url=https://ana:geheim@chat.example.com", "without a user and a path"),
        ("--public-url=https://ana:geheim@chat.example.com/path", "public_url is https://host"),
        ("--allowed-origins=shop.example.com", "allowed origin"),
        ("--allowed-origins=https://ana:geheim@shop.example.com/path", "allowed origin"),
        ("--allowed-origins=https://ana:geheim@shop.example.com", "without a user and a path"),
        ("--log-format=xml", "log_format is"),
        ("--log-level=loud", "log_level is"),
        ("--http-port=70000", "http_port is 0 to 65535"),
        ("--mqtt-port=-1", "mqtt_port is 0 to 65535"),
        ("--jwks=keys.json", "jwks needs jwt_issuer and jwt_audience"),
    ],
)
def test_a_setting_that_is_wrong_in_itself_is_one_line_and_exit_status_2(
    flag: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECADO_SECRET", SECRET)
    with pytest.raises(SystemExit) as ended:
        cli.app(["serve", flag])
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert "geheim" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://ana:geheim@h/keys", "http:ana:geheim@h", "https://h:geheim/keys", "https://["])
def test_a_url_of_keys_that_is_none_or_has_a_password_is_refused_without_being_repeated(
    tmp_path: Path, url: str
) -> None:
    flags = [f"--jwks={url}", "--jwt-issuer=i", "--jwt-audience=a"]
    line = refusal(tmp_path, "serve", *flags)
    assert line == "jwks is an https:// or http:// URL without a user and a password, or a path"


@pytest.mark.parametrize("value", ['["postgresql://ana:geheim@h/recado"]', '{ url = "geheim" }', "4711"])
def test_a_text_that_is_none_in_the_file_is_refused_without_being_repeated(tmp_path: Path, value: str) -> None:
    (tmp_path / "recado.toml").write_text(f"database = {value}\n")
    assert refusal(tmp_path, "serve", SECRET=SECRET) == "database in recado.toml is one text, in quotes"


@pytest.mark.parametrize("arguments", [["serve", "--nonsense"], ["jobs", "list", "--state=nonsense"], ["nonsense"]])
def test_a_command_line_that_means_nothing_is_one_line_and_exit_status_2(tmp_path: Path, arguments: list[str]) -> None:
    line = refusal(tmp_path, *arguments, SECRET=SECRET)
    assert "nonsense" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--log-level=loud"], "log_level is"),
        (["--limit.no_such=1"], "no limit 'no_such'"),
        (["--limit.body_bytes_max=0"], "limit.body_bytes_max"),
        (["--database=sqlite:///missing/recado.db"], "missing"),
        (["--jwks=keys.json", "--jwt-issuer=i", "--jwt-audience=a"], "keys.json"),
        (["--host=no.such.host.invalid"], "cannot listen"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_server_that_cannot_start_is_one_line_and_exit_status_2(tmp_path: Path, flags: list[str], said: str) -> None:
    line = refusal(tmp_path, "serve", "--http-port=0", "--mqtt-port=0", "--ws-port=0", *flags, SECRET=SECRET)
    assert said in line
    assert "\n" not in line


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another server listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("flag", ["http-port", "mqtt-port", "ws-port"])
def test_a_port_in_use_is_named_with_the_flag_that_changes_it(tmp_path: Path, taken: int, flag: str) -> None:
    ports = {"http-port": 0, "mqtt-port": 0, "ws-port": 0, flag: taken}
    line = refusal(tmp_path, "serve", *(f"--{name}={port}" for name, port in ports.items()), SECRET=SECRET)
    assert f"port {taken}" in line
    assert f"--{flag}" in line
    assert "\n" not in line


# A running server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = ("--limit.body_bytes_max=100", "--limit.members_max", "2")
    with running(Server.serve(tmp_path_factory.mktemp("server"), *limits)) as server:
        yield server
        server.stop()


def test_a_second_server_on_the_same_database_names_the_first(server: Server, tmp_path: Path) -> None:
    flags = ["--http-port=0", "--mqtt-port=0", "--ws-port=0", f"--database=sqlite:///{server.directory}/recado.db"]
    assert f"(pid {server.pid})" in refusal(tmp_path, "serve", *flags, SECRET=SECRET)


def test_a_changed_limit_holds(server: Server) -> None:
    conversation = server.host_api.create_conversation(["ana"])
    api = server.api("ana")
    assert api.call("POST", f"/conversations/{conversation}/messages", {"body": "x" * 100}).status == 201
    assert api.call("POST", f"/conversations/{conversation}/messages", {"body": "x" * 101}).status == 413
    assert server.host_api.call("PUT", "/conversations/full", {"members": ["a", "b", "c"]}).status == 413


def test_a_live_server_is_backed_up_by_a_command_that_overwrites_nothing(server: Server, tmp_path: Path) -> None:
    conversation = server.host_api.create_conversation(["ana"])
    server.api("ana").send(conversation, "precious", "k1")
    database = f"sqlite:///{server.directory}/recado.db"

    ran = run(tmp_path, "backup", "copy.db", DATABASE=database)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"copy.db: {(tmp_path / 'copy.db').stat().st_size} bytes, checked\n"
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert ("precious",) in copy.execute("SELECT body FROM events").fetchall()
    copy.close()
    assert "exists" in refusal(tmp_path, "backup", "copy.db", DATABASE=database)
    assert "no database" in refusal(tmp_path, "backup", "other.db", DATABASE="sqlite:///missing.db")


def test_what_was_printed_says_where_it_listens_and_holds_no_secret(server: Server) -> None:
    ready = server.awaited_line("ready")
    for port in (server.http_port, server.mqtt_port, server.ws_port):
        assert str(port) in ready
    server.api("ana").call("GET", "/session").expect(200)
    for secret in (SECRET, API_KEY, server.token("ana").split(".")[2]):
        assert secret not in server.log
