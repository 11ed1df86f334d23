"""When a store says that there may be jobs: on the event loop, once the events that cause them are committed."""

import asyncio
from collections.abc import Callable, Sequence

from recado.chat.event import Committed
from recado.ports import Sink


class JobNotices:
    """Calls `tell` for what was committed: at once if a job of it is due, else when the first one is."""

    def __init__(self, sinks: Sequence[Sink], tell: Callable[[], None]) -> None:
        self._tell = tell
        self._at_once = [sink for sink in sinks if not sink.delay_ms]
        self._delay_s = min((sink.delay_ms / 1000 for sink in sinks if sink.delay_ms), default=None)
        self._timer: asyncio.TimerHandle | None = None

    def committed(self, committed: Sequence[Committed]) -> None:
        if any(sink.wants(entry.event) for sink in self._at_once for entry in committed):
            self._tell()
        if self._delay_s is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._tell()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
