"""The manual and the example keep up with the client."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import recado.client
from recado.client import ClientLimits
from tests.client.conftest import until
from tests.support.server import API_KEY, Server

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


def test_every_limit_is_described_with_its_number() -> None:
    rows = {line.split("`")[1]: line for line in MANUAL.splitlines() if line.startswith("| `")}
    limits = dataclasses.asdict(ClientLimits())
    numbers = {name: f"| {number:,} |" if number >= 10_000 else f"| {number:g} |" for name, number in limits.items()}
    assert {name: number for name, number in numbers.items() if number not in rows.get(name, "")} == {}


def test_every_error_and_every_call_is_described() -> None:
    errors = [name for name in recado.client.__all__ if isinstance(getattr(recado.client, name), type)]
    errors = [name for name in errors if issubclass(getattr(recado.client, name), Exception)]
    calls = [name for name in vars(recado.client.Client) if not name.startswith(("_", "on_"))]
    unexplained = [name for name in (*errors, "connect", *PUBLIC) if name not in MANUAL]
    assert unexplained == []
    assert set(PUBLIC) <= {*calls}


PUBLIC = ["send", "mark_read", "typing", "events", "events_of_all", "signals", "close", "is_connected"]


@pytest.fixture
def bot(shared_server: Server) -> Iterator[subprocess.Popen[str]]:
    """The example, in a session of its own."""
    urls = {
        "RECADO_URL": shared_server.http_url,
        "RECADO_MQTT_URL": f"mqtt://127.0.0.1:{shared_server.mqtt_port}",
        "RECADO_API_KEY": API_KEY,
    }
    program = [sys.executable, "-X", "dev", str(ROOT / "examples" / "answering_bot.py")]
    with subprocess.Popen(program, env={**os.environ, **urls}, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


async def test_the_example_answers_a_question_once(shared_server: Server, bot: subprocess.Popen[str]) -> None:
    assert bot.stdout is not None
    assert bot.stdout.readline() == "helper is listening\n"
    conversation = shared_server.host_api.create_conversation(["ana"])
    shared_server.host_api.add_member(conversation, "helper")
    ana = shared_server.api("ana")
    ana.send(conversation, "Good morning.")
    asked = ana.send(conversation, "Is it in stock?")
    await until(lambda: len(shared_server.host_api.history(conversation)) == 4)
    answer = shared_server.host_api.history(conversation)[-1]
    assert (answer["from"], answer["id"]) == ("helper", f"answer-{asked['seq']}")
    assert "Is it in stock?" in answer["body"]
