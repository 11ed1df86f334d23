"""Which store a database's URL names, and what a process without its driver says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.app.commands import SECRET, TIMEOUT_S, environment

WITHOUT_DRIVER = "import sys; sys.modules['asyncpg'] = None; from recado.app.cli import main; main()"
IMPORTED = "import sys, recado.app.cli; print('asyncpg' in sys.modules)"


def run_python(folder: Path, program: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    ran = subprocess.run(
        command, cwd=folder, env=environment(**settings), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


def test_postgresql_without_its_extra_is_one_line_that_names_it_and_exit_status_2(tmp_path: Path) -> None:
    url = "postgresql://recado:password@127.0.0.1/recado"
    ran = run_python(tmp_path, WITHOUT_DRIVER, "serve", "--http-port=0", SECRET=SECRET, DATABASE=url)
    assert ran.returncode == 2
    assert ran.stderr == "recado: database needs the extra: pip install '.[postgres]' in a clone of the repository\n"


def test_a_driver_is_imported_only_for_its_database(tmp_path: Path) -> None:
    assert run_python(tmp_path, IMPORTED).stdout == "False\n"
