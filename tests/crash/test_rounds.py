"""A short crash run: the server is killed, paused, out of disk and slow, clients drop, and no promise is broken.

`make crash` runs the same for as long as you like (docs/reliability.md).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash import run
from tests.crash.judge import FAULTS
from tests.support.api import Api, JsonObject

SEED = "short run 13"
ROUND_S = 14.0  # one of each kind of disturbance fits into it


def test_nothing_acknowledged_is_lost_and_nobody_misses_doubles_or_overhears(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run.run(tmp_path, SEED, seconds=1.0, round_s=ROUND_S)

    printed = capsys.readouterr().out
    assert status == 0, printed
    summary = json.loads(printed.splitlines()[-1])["summary"]
    assert summary["rounds"] == 1
    assert {kind: summary[kind] for kind in FAULTS} == dict.fromkeys(FAULTS, 0)
    broke = ("kills", "full_disk", "slow_store", "pauses", "drops", "member_changes", "refused")
    assert all(summary[each] for each in broke), summary
    assert summary["acknowledged"] > 100
    assert summary["delivered"] > summary["events"] > summary["acknowledged"] // 2


def test_a_fault_ends_the_run_with_its_seed_and_a_trace_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server breaks no promise for us, so the log is read without its last entry but one."""
    whole = Api.history

    def with_a_hole(self: Api, conversation: str) -> list[JsonObject]:
        log = whole(self, conversation)
        return [*log[:-2], *log[-1:]]

    monkeypatch.setattr(Api, "history", with_a_hole)
    status = run.run(tmp_path, "a hole", seconds=60.0, round_s=1.0)

    printed = capsys.readouterr().out
    assert status == 1
    assert "seed a hole, round 1" in printed
    assert "log_gaps: r1-" in printed
    assert "    log " in printed
    assert json.loads(printed.splitlines()[-1])["summary"]["rounds"] == 1
