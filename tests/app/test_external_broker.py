"""`recado serve` at an external broker: what it refuses to start with, and what it does not have then."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.services.mosquitto import Mosquitto
from recado.app.config import Settings, SettingsError
from tests.app.commands import SECRET, refusal
from tests.support.metrics import count_of, get_text
from tests.support.mosquitto import RecadoAtMosquitto, broker_options
from tests.support.server import Server

EXTERNAL = Settings(secret=SECRET, broker="mqtt://recado:hidden@127.0.0.1:1883", broker_auth="dynamic-security")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"broker": "http://recado:hidden@a"}, "broker is embedded, or a URL: it is mqtt://user:password@host:1883"),
        ({"broker": "rabbit"}, "broker is embedded, or a URL: it is mqtt://user:password@host:1883"),
        ({"broker": "mqtt://recado:hidden"}, "host 1 is none"),
        ({"broker_auth": "ldap"}, "broker_auth is http or dynamic-security, not 'ldap'"),
        ({"notify": "never"}, "notify is direct or worker, not 'never'"),
        ({"broker_ws_url": "https://mqtt.example.com"}, "broker_ws_url is where clients connect, ws or wss"),
        ({"broker_ws_url": "wss://ana:hidden@mqtt.example.com"}, "broker_ws_url is where clients connect, ws or wss"),
        ({"broker_ws_url": "wss://a.example/mqtt,b.example"}, "broker_ws_url is where clients connect, ws or wss"),
        ({"broker_tcp_url": "mqtt://"}, "broker_tcp_url is where clients connect, mqtt or mqtts"),
        ({"broker": "embedded", "broker_ws_url": "wss://mqtt.example.com"}, "broker_ws_url is for an external broker"),
        (
            {"secret": None, "jwks": "keys.json", "jwt_issuer": "i", "jwt_audience": "a"},
            "broker_auth dynamic-security needs RECADO_SECRET",
        ),
    ],
)
def test_a_setting_that_is_wrong_is_named_with_what_would_be_right(changes: dict[str, str | None], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        replace(EXTERNAL, **changes).check()  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_a_broker_that_asks_recado_needs_no_secret() -> None:
    replace(EXTERNAL, broker_auth="http", secret=None, jwks="keys.json", jwt_issuer="i", jwt_audience="a").check()


def refused(folder: Path, *options: str) -> str:
    line = refusal(folder, "serve", "--http-port=0", *options, SECRET=SECRET)
    assert "\n" not in line
    assert "hidden" not in line
    return line


def test_a_password_that_the_broker_refuses_ends_the_start(tmp_path: Path, mosquitto: Mosquitto) -> None:
    broker = f"--broker=mqtt://recado:hidden@127.0.0.1:{mosquitto.tcp_port}"
    line = refused(tmp_path, broker, "--broker-auth=dynamic-security")
    assert line == (
        f"the broker mqtt://127.0.0.1:{mosquitto.tcp_port} refuses the user or the password in the URL of --broker"
    )


def test_a_port_where_no_broker_is_ends_the_start(tmp_path: Path, shared_server: Server) -> None:
    line = refused(tmp_path, f"--broker=mqtt://recado:hidden@127.0.0.1:{shared_server.http_port}")
    assert f"there is no MQTT broker at mqtt://127.0.0.1:{shared_server.http_port}" in line


def test_a_broker_whose_users_recado_may_not_make_ends_the_start(tmp_path: Path, mosquitto: Mosquitto) -> None:
    mosquitto.control("createClient", "nobody", "-p", "hidden")
    broker = f"--broker=mqtt://nobody:hidden@127.0.0.1:{mosquitto.tcp_port}"
    line = refused(tmp_path, broker, "--broker-auth=dynamic-security")
    assert "does not let the user in the URL of --broker read $CONTROL/dynamic-security/v1/response" in line


def test_the_mqtt_server_of_the_process_is_off_and_so_are_its_metrics(at_mosquitto: RecadoAtMosquitto) -> None:
    server = at_mosquitto.server
    for port in (server.mqtt_port, server.ws_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert "recado_mqtt_connections" not in get_text(server, "/metrics")
    assert count_of(server, "recado_broker_up") == 1


def test_the_line_that_says_it_is_ready_names_the_broker_without_the_password(at_mosquitto: RecadoAtMosquitto) -> None:
    line = at_mosquitto.server.awaited_line('"ready"')
    assert f'"broker": "mqtt://127.0.0.1:{at_mosquitto.mosquitto.tcp_port}"' in line
    secret = at_mosquitto.mosquitto.url.split("@")[0].rpartition(":")[2]
    assert secret not in at_mosquitto.server.log


def test_http_connections_that_stand_still_are_cut_without_the_mqtt_servers_timer(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    server = Server.serve(tmp_path, *broker_options(mosquitto), "--limit.http_head_s=1")
    try:
        server.start()
        with socket.create_connection(("127.0.0.1", server.http_port), 20) as connected:
            connected.sendall(b"GET / HTTP/1.1\r\n")
            while connected.recv(1_000):
                pass
        server.stop()
    finally:
        server.close()
