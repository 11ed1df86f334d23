"""What the threads of a round share: its phases (set up, send while things break, come to rest, end)."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable

END_TIMEOUT_S = 30.0


class Phases:
    """`sending` lets senders send, `breaking` lets clients drop and stall, and `over` ends every thread."""

    def __init__(self) -> None:
        self.sending = threading.Event()
        self.breaking = threading.Event()
        self.over = threading.Event()

    def until(self, what: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition that other threads bring about; False if it did not come in time."""
        deadline = time.monotonic() + timeout_s
        while not what():
            if time.monotonic() > deadline:
                return False
            self.over.wait(0.02)
        return True


class Over(Exception):
    """The round ended before there was an answer."""


class Actor:
    """A thread with a source of chance of its own. What ended it, if it was not the round's end, is in `failure`."""

    def __init__(self, name: str, seed: str, phases: Phases) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self._random = random.Random(f"{seed} {name}")
        self._phases = phases
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float = END_TIMEOUT_S) -> None:
        """Raises AssertionError if it does not end in time."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"{self.name} does not end"

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def check(self) -> None:
        """Raises AssertionError if it failed."""
        if self.failure is not None:
            text = "".join(traceback.format_exception(self.failure))
            raise AssertionError(f"{self.name} failed:\n{text}") from self.failure

    def _act(self) -> None:
        """What the thread does, until the round is over."""
        raise NotImplementedError

    def _run(self) -> None:
        try:
            self._act()
        except Over:
            pass
        except BaseException as error:
            self.failure = error

    def _wait(self, seconds: float) -> None:
        """Not longer than the round."""
        self._phases.over.wait(seconds)
