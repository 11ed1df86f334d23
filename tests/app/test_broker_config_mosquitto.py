"""`recado broker-config mosquitto`: what it prints is a Mosquitto that serves Recado's users."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from deploy.services.child_process import running
from deploy.services.mosquitto import Mosquitto
from deploy.services.ports import free_ports
from tests.app.commands import run
from tests.support.connection import Login, next_event
from tests.support.paho_python import PahoPython
from tests.support.server import Server

TIMEOUT_S = 60


def test_it_is_as_printed_a_broker_that_recado_and_its_users_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = run(tmp_path, "broker-config", "mosquitto").stdout
    tcp_port, ws_port = free_ports(2)
    users = tmp_path / "dynamic-security.json"
    for old, new in (
        ("/var/lib/mosquitto/dynamic-security.json", str(users)),
        ("listener 1883", f"listener {tcp_port}"),
        ("listener 8083", f"listener {ws_port}"),
        ("mosquitto_ctrl -h 127.0.0.1", f"mosquitto_ctrl -h 127.0.0.1 -p {tcp_port}"),
        ("127.0.0.1:1883", f"127.0.0.1:{tcp_port}"),
    ):
        assert old in printed
        printed = printed.replace(old, new)
    commands = [line.removeprefix("#   ") for line in printed.splitlines() if line.startswith("#   ")]
    before = [
        line for line in commands if line.startswith(("ADMIN_", "RECADO_BROKER_PASSWORD=", "mosquitto_ctrl dynsec"))
    ]
    after = [line for line in commands if line.startswith("mosquitto_ctrl -h")]
    url = next(line for line in commands if line.startswith("RECADO_BROKER="))
    assert (len(before), len(after)) == (3, 7)
    passwords = tmp_path / "passwords"
    shell(
        [*before, f'echo "ADMIN_PASSWORD=$ADMIN_PASSWORD RECADO_BROKER_PASSWORD=$RECADO_BROKER_PASSWORD" > {passwords}']
    )
    (tmp_path / "mosquitto.conf").write_text(printed + ("user root\n" if os.geteuid() == 0 else ""))
    mosquitto = Mosquitto(tmp_path, tcp_port, ws_port)
    mosquitto.start()
    try:
        said = shell([f". {passwords}", *after, url, 'echo "RECADO_BROKER=$RECADO_BROKER"'])
        broker = re.findall(r"^RECADO_BROKER=(.*)$", said, re.MULTILINE)[0]
        options = (f"--broker={broker}", "--broker-auth=dynamic-security", f"--broker-ws-url={mosquitto.ws_url}")
        (tmp_path / "server").mkdir()
        with running(Server.serve(tmp_path / "server", *options)) as server:
            conversation = server.host_api.create_conversation(["ana"])
            mqtt = server.api("ana").call("GET", "/session").expect(200)["mqtt"]
            login = Login(tcp_port, mqtt["ws_url"], mqtt["username"], mqtt["password"])
            with closing(PahoPython(login, "3.1.1", "websocket")) as client:
                assert client.connect() == 0
                assert client.subscribe("#") >= 0x80
                assert client.subscribe(mqtt["topics"]["subscribe"][0]) == 1
                server.api("ana").send(conversation, "as printed")
                assert next_event(client)["body"] == "as printed"
    finally:
        mosquitto.close()


def shell(commands: list[str]) -> str:
    """Run them one after the other; each has to do what it is for."""
    done = subprocess.run(
        ["sh", "-e", "-c", "\n".join(commands)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done
    assert "rror:" not in done.stderr, done.stderr
    return done.stdout
