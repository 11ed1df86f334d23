"""Web push as it is set up: the key that the command makes, and what is said when something is wrong or missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from recado.adapters.push.vapid import VapidKey
from recado.app.config import Settings, SettingsError
from recado.app.limits import DEFAULT
from recado.app.push import push_terms
from recado.app.sinks import sinks_of
from recado.ports import Sink
from tests.app.commands import SECRET, refusal, run
from tests.support.push_service import encoded

CONTACT = "mailto:ops@example.com"
KEY = VapidKey.make()
PORTS = ("--http-port=0", "--mqtt-port=0", "--ws-port=0")


def settings(**changes: str) -> Settings:
    return Settings(secret=SECRET, **{"push_key": KEY, "push_contact": CONTACT, **changes})  # type: ignore[arg-type]


def test_the_key_that_the_command_prints_is_one_that_the_server_takes(tmp_path: Path) -> None:
    first, second = run(tmp_path, "push-key"), run(tmp_path, "push-key")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout != second.stdout
    name, _, key = first.stdout.splitlines()[0].partition("=")
    assert name == "RECADO_PUSH_KEY"
    made = settings(push_key=key)
    made.check()
    terms = push_terms(made)
    assert terms is not None
    assert first.stdout.splitlines()[1].endswith(terms.public_key)


def test_without_a_key_nobody_is_notified_and_no_job_is_written() -> None:
    without = Settings(secret=SECRET)
    without.check()
    assert push_terms(without) is None
    assert sinks_of(without, DEFAULT) == ()
    assert sinks_of(settings(), DEFAULT) == (Sink("push", messages_only=True),)


@pytest.mark.parametrize("contact", [CONTACT, "https://example.com/contact"])
def test_a_contact_is_a_mail_address_or_a_page(contact: str) -> None:
    settings(push_contact=contact).check()


@pytest.mark.parametrize("contact", ["", "ops@example.com", "mailto:", "http://example.com", "https://"])
def test_a_contact_that_nobody_could_write_to_is_refused(contact: str) -> None:
    with pytest.raises(SettingsError, match="push_contact"):
        settings(push_contact=contact).check()


BAD_KEYS = {
    "no base64url": "!" * 43,
    "not ASCII": "é" * 43,
    "too short": encoded(b"x" * 31),
    "too long": encoded(b"x" * 33),
    "zero": encoded(bytes(32)),
    "past the curve's order": encoded(b"\xff" * 32),
    "empty": "",
}


@pytest.mark.parametrize("what", BAD_KEYS)
def test_a_key_that_is_none_is_refused_without_being_repeated(what: str) -> None:
    with pytest.raises(SettingsError, match="recado push-key") as refused:
        settings(push_key=BAD_KEYS[what]).check()
    assert not BAD_KEYS[what] or BAD_KEYS[what] not in str(refused.value)


def test_a_wrong_setting_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    said = refusal(tmp_path, "serve", *PORTS, SECRET=SECRET, PUSH_KEY=KEY)
    assert "push_contact" in said
    assert "\n" not in said


@pytest.mark.parametrize("module", ["pywebpush", "aiohttp"])
def test_a_missing_extra_is_one_line_and_exit_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    missing = tmp_path / "missing"
    missing.mkdir()
    (missing / f"{module}.py").write_text(f"raise ModuleNotFoundError(name={module!r})\n")
    monkeypatch.setenv("PYTHONPATH", str(missing))
    said = refusal(tmp_path, "serve", *PORTS, SECRET=SECRET, PUSH_KEY=KEY, PUSH_CONTACT=CONTACT)
    assert said.endswith("push_key needs the extra: pip install '.[push]' in a clone of the repository")
