"""`recado broker-config rabbitmq`: what it prints is what the RabbitMQ of the tests runs with (tests/e2e)."""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

import pytest

from tests.app.commands import SECRET, refusal, run

BROKER = "mqtt://recado:the-password@mq1,mq2,mq3"
COMMAND = ("broker-config", "rabbitmq")


def test_the_three_files_let_recado_publish_and_have_users_asked_of_it(tmp_path: Path) -> None:
    ran = run(tmp_path, *COMMAND, "--recado=recado.internal:8000", f"--folder={tmp_path}", SECRET=SECRET, BROKER=BROKER)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(texts) == {"rabbitmq.conf", "enabled_plugins", "definitions.json"}
    for question in ("user", "vhost", "resource", "topic"):
        assert f"@recado.internal:8000/broker/rabbitmq/{question}\n" in texts["rabbitmq.conf"]
    assert "mqtt.allow_anonymous = false\n" in texts["rabbitmq.conf"]
    (publisher,) = json.loads(texts["definitions.json"])["users"]
    salted = b64decode(publisher["password_hash"])
    assert salted[4:] == sha256(salted[:4] + b"the-password").digest()
    assert all((path.stat().st_mode & 0o007) == 0 for path in tmp_path.iterdir())
    assert not [name for name, text in texts.items() if "the-password" in text or SECRET in text]


def test_without_a_folder_they_are_printed(tmp_path: Path) -> None:
    ran = run(tmp_path, *COMMAND, SECRET=SECRET, BROKER=BROKER)
    assert ran.returncode == 0
    for name in ("rabbitmq.conf", "enabled_plugins", "definitions.json"):
        assert f"##### {name}\n" in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "enabled_plugins").write_text("mine")
    text = refusal(tmp_path, *COMMAND, f"--folder={tmp_path}", SECRET=SECRET, BROKER=BROKER)
    assert text == f"{tmp_path}/enabled_plugins cannot be written: File exists"
    assert (tmp_path / "enabled_plugins").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "--broker mqtt://user:password@host:1883"),
        (["--broker=mqtt://mq1"], "broker must have the user and the password"),
        (["--broker=mqtt://recado@mq1"], "broker must have the user and the password"),
        ([f"--broker={BROKER}", "--recado=http://recado:8000"], "recado is host:port, not 'http://recado:8000'"),
        ([f"--broker={BROKER}", "--recado=recado"], "recado is host:port, not 'recado'"),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path: Path, options: list[str], text: str) -> None:
    assert text in refusal(tmp_path, *COMMAND, *options, SECRET=SECRET)
