"""`recado bench compare` as a user runs it: real servers and clients, every transport, and nothing left behind."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from recado.bench.plots import plots
from recado.bench.report import PAGE
from recado.bench.results import Comparison
from recado.bench.transports import TRANSPORTS
from tests.app.commands import RECADO, environment, refusal
from tests.bench.comparisons import comparison

SMALL = ("--users", "4", "--period-s", "0.5", "--idle-users", "4", "--interval-s", "1")
BODY_BYTES = 100
START_TIMEOUT_S = 30.0
END_TIMEOUT_S = 20.0


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """What it leaves behind is left in the folder's `temporary`."""
    (folder / "temporary").mkdir()
    process = subprocess.Popen(
        [RECADO, "bench", "compare", *arguments],
        cwd=folder,
        env={**environment(), "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()


def left_behind(folder: Path) -> list[str]:
    """Folders, and servers and clients that were told of one."""
    return [str(path) for path in (folder / "temporary").iterdir()] + processes_of(folder)


def processes_of(folder: Path) -> list[str]:
    """By what their command lines and their environments say."""
    return [text for text in texts_of_processes() if str(folder / "temporary") in text and "recado" in text]


def texts_of_processes() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended just now
            found.append("".join((path / name).read_text(errors="replace") for name in ("cmdline", "environ")))
    return found


def test_a_small_run_measures_every_transport_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with started(tmp_path, *SMALL, "--json", "figures.json", "--report", "report") as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert all(transport.title in output for transport in TRANSPORTS.values())

    found = msgspec.json.decode((tmp_path / "figures.json").read_bytes(), type=Comparison)
    assert [each.name for each in found.transports] == list(TRANSPORTS)
    for each in found.transports:
        message = each.message
        assert message.messages == 4
        assert message.bytes_up > BODY_BYTES, each.title
        assert message.bytes_down > 2 * BODY_BYTES, each.title
        assert 0 < message.latency_p50_ms <= message.latency_p99_ms
        assert message.server_cpu_ms_per_1000 > 0
        assert (message.requests >= 1) == (each.sends_by == "HTTP"), each.title
        assert [idle.tabs for idle in each.idle] == [1, 3]
        assert all(idle.packets_down > 0 for idle in each.idle), each.title
    assert {path.stem for path in (tmp_path / "report").glob("*.svg")} == {plot.name for plot in plots(found)}
    assert (tmp_path / "report" / PAGE).exists()
    assert left_behind(tmp_path) == []
    check_idle(found)


def check_idle(found: Comparison) -> None:
    """What an idle tab does in a minute is known; each of three tabs does the same."""
    of = {each.name: each.idle for each in found.transports}
    for number, tabs in enumerate((1, 3)):
        assert of["polling"][number].requests == pytest.approx(60 * tabs, rel=0.03)
        assert of["mqtt-tcp-qos1"][number].bytes_up == pytest.approx(60 * 2 * tabs, rel=0.03)  # PINGREQ has two bytes
        assert of["mqtt-ws-qos1"][number].bytes_up == pytest.approx(60 * 8 * tabs, rel=0.03)  # six more of a frame
        assert of["sse"][number].bytes_up == 0
    assert of["polling"][0].radio_on_s == pytest.approx(60, rel=0.03)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nothing_behind_and_writes_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, *SMALL, "--json", "figures.json") as process:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not any("recado.bench.load" in text for text in processes_of(tmp_path)):
            assert time.monotonic() < deadline, "it measures nothing"
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=END_TIMEOUT_S)
    assert process.returncode == 130
    assert errors == "recado: stopped: nothing was written\n"
    assert not (tmp_path / "figures.json").exists()
    assert left_behind(tmp_path) == []


REFUSED = [
    (("--users", "0"), "users is an even number of 2 to 5000"),
    (("--users", "3"), "users is an even number of 2 to 5000, as conversations have two, not 3"),
    (("--transport", "carrier-pigeon"), "a transport is one of polling, long-polling,"),
    (("--json", "no/such/folder/figures.json"), "there is no folder"),
    (("--report", "/proc/report"), "the report cannot be written into /proc/report"),
]


@pytest.mark.parametrize(("options", "complaint"), REFUSED)
def test_a_wrong_option_is_one_clear_line(tmp_path: Path, options: tuple[str, ...], complaint: str) -> None:
    assert refusal(tmp_path, "bench", "compare", *options).startswith(complaint)


def test_without_matplotlib_a_report_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    ran = subprocess.run(
        [RECADO, "bench", "compare", "--report", "report"],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=END_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 2
    assert "pip install '.[bench]'" in ran.stderr
    assert not (tmp_path / "report").exists()


def test_two_files_of_different_options_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "one.json", comparison())
    write(tmp_path / "other.json", comparison(full=True))
    assert "not made with the same options" in refusal(tmp_path, "bench", "agree", "one.json", "other.json")


def test_a_file_that_is_no_comparison_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{}")
    said = refusal(tmp_path, "bench", "agree", "one.json", "one.json")
    assert said.startswith("one.json is not what `recado bench compare --json` writes")


def write(file: Path, found: Comparison) -> None:
    file.write_bytes(msgspec.json.encode(found))
