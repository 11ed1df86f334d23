"""Events on their way to their recipients' topics. Who asks for one that is under way already shares its end, so that
the direct path and a worker in the same process do not send it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from recado.adapters.broker.mqtt.publisher import Publisher

Done = Callable[[bool], None]
_Key = tuple[str, int]  # conversation, seq


class Announcer:
    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self._under_way: dict[_Key, list[Done]] = {}

    def announce(self, conversation: str, seq: int, payload: bytes, recipients: Collection[str], done: Done) -> bool:
        """Send an event to each recipient; False if there is no room for it. `done` is told True when the broker has
        acknowledged all of it, False if it was given up; with nobody to tell, at once."""
        key = (conversation, seq)
        if (waiting := self._under_way.get(key)) is not None:
            waiting.append(done)
            return True
        if not recipients:
            done(True)
            return True
        topic_names = [events_topic(user, conversation) for user in recipients]
        if not self.publisher.announce(topic_names, payload, partial(self._ended, key)):
            return False
        self._under_way[key] = [done]
        return True

    def _ended(self, key: _Key, is_acknowledged: bool) -> None:
        for done in self._under_way.pop(key):
            done(is_acknowledged)


def events_topic(user: str, conversation: str) -> str:
    return f"u/{user}/c/{conversation}"


def live_topic(user: str, conversation: str) -> str:
    return f"u/{user}/c/{conversation}/live"
