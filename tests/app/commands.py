"""The `recado` command as a user runs it: a process with an environment and a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RECADO = str(Path(sys.executable).with_name("recado"))
SECRET = "tests-only-secret-of-more-than-thirty-two-bytes"
API_KEY = "tests-only-api-key-of-the-host-application"
TIMEOUT_S = 60


def environment(**settings: str) -> dict[str, str]:
    """This process's own, with these RECADO_ settings and no other."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RECADO_")}
    return {**inherited, **{f"RECADO_{name}": value for name, value in settings.items()}, "PYTHONUNBUFFERED": "1"}


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [RECADO, *arguments],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def refusal(folder: Path, *arguments: str, **settings: str) -> str:
    """What it says when it refuses to start, which is all that it says, with exit status 2."""
    ran = run(folder, *arguments, **settings)
    assert ran.returncode == 2, ran
    assert ran.stdout == ""
    assert ran.stderr.startswith("recado: "), ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stderr.removeprefix("recado: ").removesuffix("\n")
