"""`recado demo`: keys that are its owner's alone, the same URLs and conversation at each start, and free ports."""

from __future__ import annotations

import json
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.app.commands import RECADO, environment, refusal
from tests.support.demo import Demo

PORTS = re.compile(r"tcp port (\d+), WebSocket port (\d+)")
URL = re.compile(r"http://127\.0\.0\.1:(\d+)/#demo=([\w-]+)")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    demo.server.close()


def test_a_second_start_has_the_same_urls_and_goes_on_with_the_same_conversation(demo: Demo, tmp_path: Path) -> None:
    demo.start()
    urls, conversation = dict(demo.urls), demo.conversation
    demo.apis["ana"].send(conversation, "Chegou!", "k1")
    history = demo.apis["bruno"].history(conversation)
    demo.server.stop()

    demo.start()

    assert demo.urls == urls
    assert set(urls) == {"ana", "bruno"}
    assert demo.conversation == conversation
    assert demo.apis["bruno"].history(conversation) == history
    assert [event["from"] for event in history] == ["ana", "bruno", "ana"]
    keys = tmp_path / "data" / "keys.json"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert set(json.loads(keys.read_text())) == {"secret", "codes"}


def test_a_code_is_exchanged_for_a_token_and_anything_else_is_refused(demo: Demo) -> None:
    demo.start()
    for body, status in (
        (b'{"code":"wrong"}', 401),
        (b'{"code":""}', 401),
        (b"{}", 400),
        (b"not json", 400),
        (b'{"code":7}', 400),
        (b'{"code":"' + b"x" * 5_000 + b'"}', 400),
        (b"\xff", 400),
    ):
        connection = HTTPConnection("127.0.0.1", demo.server.http_port, timeout=20)
        connection.request("POST", "/demo/token", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == status, body
        assert set(json.loads(response.read())["error"]) == {"code", "message"}
        connection.close()


@contextmanager
def running_demo(folder: Path, *flags: str) -> Iterator[str]:
    """A demo on its default ports; what it printed until it said where MQTT is."""
    arguments = [RECADO, "demo", f"--data={folder / 'data'}", *flags]
    process = subprocess.Popen(arguments, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        printed = ""
        while not PORTS.search(printed):
            line = process.stdout.readline()
            assert line, f"it ended: {printed}"
            printed += line
        yield printed
    finally:
        process.kill()
        process.communicate()


def test_where_the_usual_ports_are_taken_the_demo_takes_free_ones(tmp_path: Path) -> None:
    usual = {"http": 8000, "mqtt": 1883, "ws": 8083}
    held = []
    for port in usual.values():
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            pass  # someone else holds it, which is as good
        held.append(listener)
    try:
        with running_demo(tmp_path) as printed:
            found = PORTS.search(printed)
            assert found is not None
            urls = URL.findall(printed)
            ports = {int(found[1]), int(found[2]), int(urls[0][0])}
            assert len(urls) == 2
            assert len(ports) == 3
            assert not ports & set(usual.values())
            for port in ports:
                socket.create_connection(("127.0.0.1", port), timeout=20).close()
    finally:
        for listener in held:
            listener.close()


def test_a_port_that_was_asked_for_is_not_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(tmp_path, "demo", f"--http-port={port}", "--mqtt-port=0", "--ws-port=0")
    assert f"port {port}" in line
    assert "--http-port" in line


def test_a_demo_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "file" in refusal(tmp_path, "demo", "--data=file/data", "--http-port=0", "--mqtt-port=0", "--ws-port=0")


def test_demo_keys_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("")
    assert "keys.json" in refusal(tmp_path, "demo", "--data=.", "--http-port=0", "--mqtt-port=0", "--ws-port=0")
