"""The programs of the system's packages: where they are, and what they print."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from deploy.services.child_process import ServiceFailed

_TIMEOUT_S = 60.0


def program(name: str, needed: str, first: Iterable[Path] = ()) -> str:
    """Its path: Debian has servers where only root's PATH leads. It is looked for in `first` first; `needed` is what
    to install. Raises ServiceFailed."""
    folders = [*map(str, first), os.environ.get("PATH", ""), "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        raise ServiceFailed(f"there is no {name} here: install {needed}")
    return found


def output_of(
    command: Sequence[str],
    text: str = "",
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    folder: Path | None = None,
    trouble: str | None = None,
) -> str:
    """Run it with `text` as its input; returns what it prints. `trouble` in its errors is a failure, too, whatever
    its exit status. Raises ServiceFailed."""
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
        cwd=folder,
        env=environment,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
    )
    if done.returncode or (trouble is not None and trouble in done.stderr):
        raise ServiceFailed(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
