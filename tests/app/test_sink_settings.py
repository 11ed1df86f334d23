"""The settings of webhooks, capture and queues: what is wrong is one line and exit status 2, before anything begins."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from recado.adapters.push.vapid import VapidKey
from recado.app import cli, logs
from recado.app.config import Settings
from recado.app.extras import MODULES, needing
from recado.app.limits import DEFAULT
from recado.app.sinks import NAMES, sinks_of
from recado.ports import Sink, Unusable
from tests.app.commands import SECRET, refusal

WEBHOOK_SECRET = "a-webhook-secret-of-the-tests-of-32-bytes-or-more"
HOOK = "--webhook-url=https://shop.example.com/recado"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--webhook-url=shop.example.com"], "webhook_url is an http:// or https:// URL"),
        (["--webhook-url=ftp://shop.example.com/"], "webhook_url is an http:// or https:// URL"),
        (["--webhook-url=http://[::1/"], "webhook_url is an http:// or https:// URL"),
        (["--webhook-url=http://127.1/"], "webhook_url is an http:// or https:// URL"),
        (["--webhook-url=http://2130706433/"], "webhook_url is an http:// or https:// URL"),
        (["--webhook-url=https://shop.example.com:0/"], "webhook_url is an http:// or https:// URL"),
        (["--webhook-url=https://ana:geheim@shop.example.com/"], "webhook_url has no user, no password"),
        (["--webhook-url=https://shop.example.com/#x"], "webhook_url has no user, no password and no fragment"),
        (["--webhook-url=http://127.0.0.1:9000/?key=geheim"], "127.0.0.1, which is no public address: webhook_private"),
        (["--webhook-url=http://localhost/"], "localhost, which is no public address"),
        (["--webhook-url=http://[::ffff:10.0.0.1]/"], "which is no public address"),
        ([HOOK, "--webhook-secret=short"], "webhook_url needs RECADO_WEBHOOK_SECRET, with at least 32 bytes"),
        ([HOOK, "--webhook-secret="], "webhook_url needs RECADO_WEBHOOK_SECRET, with at least 32 bytes"),
        (["--capture-queue=events"], "capture_queue is sqs://name"),
        (["--queue=rabbit"], "queue is embedded, or sqs://name"),
        (["--queue=sqs://key:geheim@jobs"], "queue has no credentials in it"),
        (["--queue=sqs:/key:geheim"], "queue is embedded, or sqs://name"),
        (["--queue=sqs://key:geheim/jobs"], "queue: an account is 12 digits"),
        (["--queue=sqs://jobs?geheim="], "queue takes region and endpoint after the ?, and nothing else"),
        (["--queue=sqs://jobs?region=geheim!"], "queue: a region is such as eu-west-1"),
        (["--queue=sqs://jobs.fifo"], "queue: a FIFO queue would let one message wait for another"),
        (["--queue=sqs://jobs", "--capture-queue=sqs://jobs"], "capture_queue must not be the queue"),
        (["--limit.queue_visibility_s=50000"], "limit.queue_visibility_s must be 1 to 43200"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_status_2(
    flags: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "set_up", lambda *_: None)  # it would hold this test's stderr for those after it
    monkeypatch.setenv("RECADO_SECRET", SECRET)
    monkeypatch.setenv("RECADO_WEBHOOK_SECRET", WEBHOOK_SECRET)
    with pytest.raises(SystemExit) as ended:
        cli.app(["serve", *flags])
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert "geheim" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_capture_file_in_no_folder_is_one_line_at_the_start(tmp_path: Path) -> None:
    flags = ["--capture-file=nowhere/events.jsonl", "--http-port=0", "--mqtt-port=0", "--ws-port=0"]
    line = refusal(tmp_path, "serve", *flags, SECRET=SECRET)
    assert line == "capture_file nowhere/events.jsonl cannot be used: No such file or directory"


def test_a_sink_has_jobs_only_if_it_is_configured() -> None:
    assert sinks_of(Settings(), DEFAULT) == ()
    settings = Settings(
        webhook_url="https://shop.example.com/", capture_file=Path("events.jsonl"), capture_queue="sqs://events"
    )
    assert sinks_of(settings, DEFAULT) == (Sink("webhook"), Sink("capture_file"), Sink("capture_queue"))
    everything = replace(settings, push_key=VapidKey.make(), broker="mqtt://127.0.0.1")
    assert tuple(sink.name for sink in sinks_of(everything, DEFAULT)) == NAMES


@pytest.mark.parametrize(
    ("module", "flags", "extra"),
    [
        (
            "aiobotocore",
            ["--capture-queue=sqs://events"],
            "capture_queue needs the extra: pip install '.[sqs]' in a clone of the repository",
        ),
        ("aiohttp", [HOOK], "webhook_url needs the extra: pip install '.[webhooks]' in a clone of the repository"),
        (
            "opentelemetry",
            ["--traces=http://localhost:4318"],
            "traces needs the extra: pip install '.[otel]' in a clone of the repository",
        ),
    ],
)
def test_a_missing_extra_is_one_line_that_says_how_to_get_it(
    module: str, flags: list[str], extra: str, tmp_path: Path
) -> None:
    """In a process where the module is hidden from the start."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    ports = ["--http-port=0", "--mqtt-port=0", "--ws-port=0"]
    ran = subprocess.run(
        [str(Path(sys.executable).with_name("recado")), "serve", *flags, *ports],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "RECADO_SECRET": SECRET, "RECADO_WEBHOOK_SECRET": WEBHOOK_SECRET},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (2, f"recado: {extra}\n")


def test_only_what_is_missing_is_said_to_be() -> None:
    with pytest.raises(ZeroDivisionError), needing("sqs", "queue"):
        raise ZeroDivisionError
    with pytest.raises(Unusable), needing("sqs", "queue"):
        raise ModuleNotFoundError(name="botocore.exceptions")


@pytest.mark.parametrize("module", ["recado.adapters.queue.sqs.cilent", "asyncpg"])
def test_a_module_that_is_missing_for_another_reason_stays_a_fault(module: str) -> None:
    with pytest.raises(ModuleNotFoundError), needing("sqs", "queue"):
        raise ModuleNotFoundError(name=module)


def test_every_extra_that_a_server_may_have_says_which_modules_it_brings() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (production,) = project["optional-dependencies"]["production"]
    assert f"recado[{','.join(sorted(MODULES))}]" == production
