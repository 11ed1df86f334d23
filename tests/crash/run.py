"""The crash suite as a command: rounds until the time is up, one line of JSON each, then a summary.

`python -m tests.crash.run --seed 7 --seconds 300` (or `make crash SEED=7 SECONDS=300`). The seed decides what breaks
when and who sends what; how it interleaves is up to the machine. Exit status 1 at the first round with a fault, whose
seed and traces are printed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.crash.judge import FAULTS, Fault
from tests.crash.rounds import Outcome, Round, keeps_sessions
from tests.support.server import Server

ROUND_S = 20.0
FAULTS_SHOWN = 10
LINE_MAX = 300


def figures(outcome: Outcome) -> dict[str, Any]:
    """What one round's line says; `kept_sessions` 0 means that the server keeps none."""
    return {
        "seconds": round(outcome.seconds, 1),
        "kills": outcome.kills,
        "full_disk": outcome.disturbances["full_disk"],
        "slow_store": outcome.disturbances["slow_store"],
        "pauses": outcome.disturbances["pause"],
        "drops": outcome.drops,
        "member_changes": outcome.member_changes,
        "kept_sessions": outcome.kept_sessions,
        **outcome.verdict.figures,
        "http_500": outcome.server_errors,
        "caught_up": outcome.caught_up,
    }


def told(fault: Fault) -> str:
    lines = (f"{fault.kind}: {fault.text}", *(f"    {line}" for line in fault.trace))
    return "\n".join(line[:LINE_MAX] for line in lines)


def run(directory: Path, seed: str, seconds: float, round_s: float = ROUND_S) -> int:
    """Exit status."""
    server = Server.serve(directory)
    total: Counter[str] = Counter()
    status = 0
    began_s = time.monotonic()
    server.start()
    try:
        keeps = keeps_sessions(server)
        while status == 0 and (not total or time.monotonic() - began_s < seconds):
            number = total["rounds"] + 1
            try:
                outcome = Round(server, directory / "recado.db", seed, number, keeps).run(round_s)
            except AssertionError as error:
                print(f"seed {seed}, round {number}: could not go on: {error}", flush=True)
                return 1
            said = figures(outcome)
            print(json.dumps({"round": number, **said}), flush=True)
            total.update({"rounds": 1, **{name: n for name, n in said.items() if type(n) is int}})
            if outcome.verdict.faults:
                status = 1
                print(f"seed {seed}, round {number}:")
                for fault in outcome.verdict.faults[:FAULTS_SHOWN]:
                    print(told(fault))
        server.stop()
    finally:
        server.close()
    total["faults"] = sum(total[kind] for kind in FAULTS)
    print(json.dumps({"summary": {"seed": seed, "seconds": round(time.monotonic() - began_s), **total}}), flush=True)
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description="Break the server for a while and see what it kept.")
    parser.add_argument("--seed", default="", help="what to break when; default: another one each time")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--round-seconds", type=float, default=ROUND_S, help="how long things break in one round")
    options = parser.parse_args()
    seed = options.seed or str(random.randrange(1_000_000))
    print(json.dumps({"seed": seed}), flush=True)
    with tempfile.TemporaryDirectory(prefix="recado-crash-") as directory:
        return run(Path(directory), seed, options.seconds, options.round_seconds)


if __name__ == "__main__":
    sys.exit(main())
