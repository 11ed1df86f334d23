"""How the servers of the tests and of the production demo are started and ended."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.services.child_process import ChildProcess, ServiceFailed, running
from tests.support.metrics import wait_for

IMPORTS = "import os, pathlib, signal, sys"
READY = "print('hello', flush=True); pathlib.Path('ready').write_text(str(os.getpid()))"
WAIT = "signal.pause()"
FORK = """
if (child := os.fork()) == 0:
    signal.pause()
pathlib.Path('child').write_text(str(child))
"""
MakeChild = Callable[..., ChildProcess]


@pytest.fixture
def make_child(tmp_path: Path) -> MakeChild:
    """Of lines of Python, which write its pid when it is ready."""

    def make_child(*lines: str, start_timeout_s: float = 20) -> ChildProcess:
        ready = tmp_path / "ready"
        child = ChildProcess(
            "the child",
            [sys.executable, "-c", "\n".join([IMPORTS, *lines])],
            tmp_path / "log",
            lambda: ready.exists() and ready.read_text(encoding="ascii") == str(child.pid),
            start_timeout_s=start_timeout_s,
        )
        return child

    return make_child


def test_what_ends_before_it_is_ready_is_a_failure_with_what_it_printed(make_child: MakeChild) -> None:
    child = make_child("sys.exit('no room')")
    with pytest.raises(ServiceFailed, match=r"the child did not start, exit status 1:\nno room"):
        child.start()
    assert not child.is_started


def test_what_is_not_ready_in_time_is_killed(make_child: MakeChild) -> None:
    child = make_child(WAIT, start_timeout_s=0.2)
    with pytest.raises(ServiceFailed, match=f"exit status -{signal.SIGKILL.value}"):
        child.start()
    assert not child.is_started


@pytest.mark.parametrize("end", [ChildProcess.kill, ChildProcess.stop])
def test_it_is_started_again_where_it_was_and_its_log_goes_on(
    make_child: MakeChild, end: Callable[[ChildProcess], object]
) -> None:
    with running(make_child(READY, WAIT)) as child:
        first = child.pid
        end(child)
        child.start()
        assert child.pid != first
    assert child.log == "hello\nhello\n"


def test_how_it_ended_in_order_is_told(make_child: MakeChild) -> None:
    with running(make_child("signal.signal(signal.SIGINT, lambda *_: sys.exit(3))", READY, WAIT)) as child:
        assert child.stop(signal.SIGINT) == 3


def test_its_own_children_are_killed_with_it(make_child: MakeChild, tmp_path: Path) -> None:
    with running(make_child(FORK, READY, WAIT)):
        grandchild = (tmp_path / "child").read_text(encoding="ascii")
        assert is_alive(grandchild)
    wait_for(lambda: not is_alive(grandchild))


def is_alive(pid: str) -> bool:
    """A zombie is not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
