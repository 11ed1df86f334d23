"""Which text is sent on to others. MQTT 1.5.4 lets every receiver close its connection on a control character or a
non-character, and libmosquitto does: forwarded, one of them would cut off every such subscriber. So they are refused
where they would be forwarded, in topic names and properties; and an empty response topic, which is no topic name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from recado.broker.hooks import Outcome
from recado.mqtt.properties import Properties, PropertyId
from recado.mqtt.reason_codes import ReasonCode

_NONCHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_REFUSED = re.compile(f"[\x01-\x1f\x7f-\x9f\ufdd0-\ufdef{_NONCHARACTERS}]")
_BAD_TOPIC_NAME = Outcome(ReasonCode.TOPIC_NAME_INVALID, "the topic name has a control character or a non-character")
_BAD_TEXT = Outcome(
    ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "a property has a control character or a non-character, or is no topic"
)
_NAMES_MAX = 4096
_NAME_LENGTH_MAX = 128


class Forwarding:
    """It remembers topic names that are good: most publishes cost one look-up, a tenth of looking at the text."""

    def __init__(self) -> None:
        self.good: set[str] = set()

    def refusal(self, topic_name: str, properties: Properties) -> Outcome | None:
        """Why a publish or a will may not be sent on, None if it may."""
        if topic_name not in self.good and not self._is_good(topic_name):
            return _BAD_TOPIC_NAME
        if properties and not all(map(_is_harmless, _texts(properties))):
            return _BAD_TEXT
        return _BAD_TEXT if properties and properties.get(PropertyId.RESPONSE_TOPIC) == "" else None

    def _is_good(self, topic_name: str) -> bool:
        if not _is_harmless(topic_name):
            return False
        if len(topic_name) <= _NAME_LENGTH_MAX:
            if len(self.good) >= _NAMES_MAX:
                self.good.clear()
            self.good.add(topic_name)
        return True


def _is_harmless(text: str) -> bool:
    return text.isprintable() or not _REFUSED.search(text)


def _texts(properties: Properties) -> Iterator[str]:
    yield properties.get(PropertyId.CONTENT_TYPE, "")
    yield properties.get(PropertyId.RESPONSE_TOPIC, "")
    for pair in properties.get(PropertyId.USER_PROPERTY, ()):
        yield from pair
