"""SIGTERM: exit status 0, and what was accepted was acknowledged and is there after the restart."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.client import HTTPException
from pathlib import Path

import pytest

from recado.app import cli, wiring
from recado.app.config import Settings
from tests.support.connection import Login
from tests.support.paho_python import PahoPython
from tests.support.server import Server

SHUTTING_DOWN = 0x8B


def test_a_server_that_is_told_to_stop_under_load_loses_nothing_that_it_acknowledged(server: Server) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    acknowledged: set[str] = set()
    sent = threading.Semaphore(0)

    def send(prefix: str) -> None:
        api = server.api("ana")
        for n in range(2_000):
            try:
                answer = api.call(
                    "POST", f"/conversations/{conversation}/messages", {"id": f"{prefix}{n}", "body": "x"}
                )
            except (OSError, HTTPException):
                return
            if answer.status != 201:
                assert answer.status == 503, answer
                return
            acknowledged.add(f"{prefix}{n}")
            sent.release()

    watching = PahoPython(Login(server.mqtt_port, server.ws_url, "bruno", server.token("bruno")))
    assert watching.connect() == 0
    watching.subscribe("c/+")
    senders = [threading.Thread(target=send, args=(prefix,)) for prefix in "abc"]
    for sender in senders:
        sender.start()
    for _ in range(60):
        assert sent.acquire(timeout=20)

    server.stop()

    for sender in senders:
        sender.join(timeout=60)
        assert not sender.is_alive()
    assert watching.disconnected.get(timeout=20) == SHUTTING_DOWN
    watching.close()
    assert "Traceback" not in server.log
    server.start()
    log = server.api("bruno").history(conversation)
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert acknowledged <= {event["id"] for event in log}
    assert len(acknowledged) >= 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once_leaves_one_file_and_starts_again(tmp_path: Path, number: signal.Signals) -> None:
    server = Server.serve(tmp_path)
    server.start()
    try:
        server.stop(number)
        assert not (tmp_path / "recado.db-wal").exists()
    finally:
        server.close()


@pytest.fixture
def switch_interval() -> Iterator[None]:
    """The command changes this process's; it is put back."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switch_interval")
def test_ctrl_c_while_a_server_starts_stops_it_in_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_in_order: list[bool] = []

    @asynccontextmanager
    async def running(settings: Settings) -> AsyncIterator[None]:
        os.kill(os.getpid(), signal.SIGINT)
        yield
        stopped_in_order.append(True)

    monkeypatch.setattr(wiring, "running", running)
    cli._run(cli._serve(Settings(secret="x" * 32)))
    assert stopped_in_order == [True]


@pytest.mark.usefixtures("switch_interval")
def test_a_start_that_waits_for_something_is_ended_by_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    undone: list[bool] = []

    @asynccontextmanager
    async def running(settings: Settings) -> AsyncIterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 10)
            yield
        finally:
            undone.append(True)

    monkeypatch.setattr(wiring, "running", running)
    cli._run(cli._serve(Settings(secret="x" * 32)))
    assert undone == [True]
