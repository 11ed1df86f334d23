"""The sink `notify`: a worker tells the broker of an event. It is the second way there, and the only one for
`--notify worker`.
"""

from __future__ import annotations

import asyncio

from recado.adapters.broker.mqtt.announcer import Announcer
from recado.chat.event import encode_event
from recado.ports import JobEvent, TryLater

_NO_ROOM_S = 1.0


class NotifyHandler:
    """A `recado.ports.SinkHandler`. While the broker is away it waits for it, as long as its caller lets it: what it
    was given stays on its way, and the next attempt waits for the same."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        """Returns when the broker has acknowledged all of it."""
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(is_acknowledged: bool) -> None:
            if not ended.done():  # who waits may have gone
                ended.set_result(is_acknowledged)

        payload = encode_event(entry.event)
        if not self._announcer.announce(conversation, entry.event.seq, payload, entry.recipients, done):
            raise TryLater("too much waits for the broker already", _NO_ROOM_S)
        if not await ended:
            raise TryLater("the broker ends the connection over this publish, or it was stopped")

    async def close(self) -> None:
        """The connection is somebody else's."""
