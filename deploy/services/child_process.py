"""A server as a child process: started until it is ready, ended in order or by force, and started again.

It is a process group of its own: Ctrl-C is for who started it, who stops it in its turn.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.02


class ServiceFailed(Exception):
    """A server could not be set up, started, asked or stopped; the text has what it printed."""


class Service(Protocol):
    def start(self) -> None:
        """Return once it can be used. Raises ServiceFailed."""

    def close(self) -> None:
        """End it whatever state it is in."""


S = TypeVar("S", bound=Service)


@contextmanager
def running(service: S) -> Iterator[S]:
    """Start it; at the end of the block it is ended, if it is not yet."""
    try:
        service.start()
        yield service
    finally:
        service.close()


class ChildProcess:
    """It runs in the folder of its log, which is made and which all its starts append to. It has `environment` instead
    of this process's own. `user` is as whom it runs, and whose group it has."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        is_ready: Callable[[], bool],
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        start_timeout_s: float = _START_TIMEOUT_S,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command = command
        self._is_ready = is_ready
        self._environment = environment
        self._user = user
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_started(self) -> bool:
        """And neither stopped nor killed since; it may have ended by itself."""
        return self._process is not None

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def start(self) -> None:
        """Return once it is ready. Raises ServiceFailed."""
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        """Start it without waiting for it."""
        assert self._process is None, f"{self.name} is started already"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log_path.parent,
                env=self._environment,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else (),
                process_group=0,
            )

    def wait_until_ready(self) -> None:
        """Raises ServiceFailed: it has ended, or was not ready in time and was killed."""
        process, deadline = self._running(), time.monotonic() + self._start_timeout_s
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServiceFailed(f"{self.name} did not start, exit status {process.returncode}:\n{self.log}")
            time.sleep(_POLL_S)

    def send_signal(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Have it end in order; returns its exit status. Raises ServiceFailed: it had to be killed."""
        self.send_signal(how)
        try:
            status = self._running().wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServiceFailed(f"{self.name} did not stop:\n{self.log}") from None
        self._process = None
        return status

    def kill(self) -> None:
        """SIGKILL to it and its group at once, as a crash would have it."""
        process = self._running()
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._process = None

    def close(self) -> None:
        """End it whatever state it is in."""
        if self._process is not None:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} is not started"
        return self._process
